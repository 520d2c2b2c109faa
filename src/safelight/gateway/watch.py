"""Who watches which job inside this process.

Owns in-memory broadcasting only: partial images and the end of a job. Most watched jobs run here;
those that another process runs are followed (see `following`), which tells their ends alone. What
must survive a crash is in the database.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from safelight.gateway.orders import Event, JobEnded, PartialImage
from safelight.types import Job


class Abandoned(Exception):
    """A watched job is not run by this process any more; it has not ended."""


class Watch:
    """Broadcasts the events of the jobs that this process runs or follows.

    Args:
        on_forgotten: called with a job's id when it has ended and nobody watches it any more; then
            its spool files, partial images among them, are of no use.
    """

    def __init__(self, on_forgotten: Callable[[str], None]) -> None:
        self._on_forgotten = on_forgotten
        self._ends: dict[str, asyncio.Future[Job]] = {}
        # Dictionaries for their order: who waits is told in the order of coming, in every run.
        self._followed: dict[str, None] = {}
        self._queues: defaultdict[str, dict[asyncio.Queue[Event | None], None]] = defaultdict(dict)
        self._partials: defaultdict[str, list[PartialImage]] = defaultdict(list)

    def open(self, job_id: str) -> None:
        """Say that a job is run here from now on; who followed it goes on waiting."""
        self._followed.pop(job_id, None)
        self._future(job_id)

    def follow(self, job_id: str) -> asyncio.Future[Job]:
        """Return the future of a job's end, which somebody must look for unless it runs here."""
        if job_id not in self._ends:
            self._followed[job_id] = None
        return self._future(job_id)

    def hand_over(self, job_id: str) -> bool:
        """Say that a job does not run here any more and has not ended: now it is followed.

        False when it is known to have ended.
        """
        if job_id not in self._ends:
            return False
        self._followed[job_id] = None
        return True

    def _future(self, job_id: str) -> asyncio.Future[Job]:
        if job_id not in self._ends:
            self._ends[job_id] = asyncio.get_running_loop().create_future()
        return self._ends[job_id]

    @property
    def followed(self) -> tuple[str, ...]:
        """The jobs that are waited for here and run elsewhere."""
        return tuple(self._followed)

    def end_of(self, job_id: str) -> asyncio.Future[Job] | None:
        """Return the future of a job's end; None when it is neither run nor followed here."""
        return self._ends.get(job_id)

    def partial(self, job_id: str, index: int, path: Path) -> None:
        """Tell the watchers of a job about a partial image."""
        event = PartialImage(job_id, index, path)
        self._partials[job_id].append(event)
        for queue in self._queues.get(job_id, ()):
            queue.put_nowait(event)

    def partials_of(self, job_id: str) -> tuple[PartialImage, ...]:
        """Return the partial images that a job which runs here has had so far."""
        return tuple(self._partials.get(job_id, ()))

    def ended(self, job: Job) -> None:
        """Tell everybody that a job has ended."""
        self._followed.pop(job.id, None)
        future = self._ends.pop(job.id, None)
        if future is not None and not future.done():
            future.set_result(job)
        for queue in self._queues.get(job.id, ()):
            queue.put_nowait(JobEnded(job))
        self._forget_unwatched(job.id)

    def abandon(self, job_id: str) -> None:
        """Stop running or following a job here without an end (the process is leaving)."""
        self._followed.pop(job_id, None)
        future = self._ends.pop(job_id, None)
        if future is None:
            return
        future.cancel()
        for queue in self._queues.get(job_id, ()):
            queue.put_nowait(None)

    async def events(self, job_ids: Iterable[str], ended: Iterable[Job]) -> AsyncIterator[Event]:
        """Yield the jobs' partial images and ends until all have ended.

        Args:
            job_ids: jobs that run here, whose partial images drawn so far come first, or are
                followed.
            ended: jobs that have ended already.

        Raises:
            Abandoned: the process is leaving.
        """
        waiting = dict.fromkeys(job_ids)
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        for job_id in waiting:
            for partial in self._partials.get(job_id, ()):
                queue.put_nowait(partial)
            self._queues[job_id][queue] = None
        watched = tuple(waiting)
        try:
            for job in ended:
                yield JobEnded(job)
            while waiting:
                event = await queue.get()
                if event is None:
                    raise Abandoned
                if isinstance(event, JobEnded):
                    waiting.pop(event.job.id, None)
                yield event
        finally:
            for job_id in watched:
                self._leave(job_id, queue)

    def _leave(self, job_id: str, queue: asyncio.Queue[Event | None]) -> None:
        queues = self._queues.get(job_id)
        if queues is None:
            return
        queues.pop(queue, None)
        if not queues:
            del self._queues[job_id]
        self._forget_unwatched(job_id)

    def _forget_unwatched(self, job_id: str) -> None:
        if job_id in self._ends or job_id in self._queues:
            return
        self._partials.pop(job_id, None)
        self._on_forgotten(job_id)
