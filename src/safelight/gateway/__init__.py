"""The verb: accept an order, run its jobs, give out the results.

Owns all control flow between a parsed request and its answer; knows no HTTP. `acceptance` makes an
order durable, `joining` decides what is a retry, `running` brings one job to its end, `recovery`
continues what a dead process left, `reaping` ends what is late, `following` waits for jobs that run
in another process, `progress` tells step by step what happens to jobs, `reading` answers questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from safelight import jobs
from safelight.config import LimitsConfig, QueueConfig
from safelight.db import Transaction
from safelight.errors import DeadlineExceeded, ShuttingDown, Unavailable
from safelight.gateway import joining
from safelight.gateway.acceptance import Acceptance
from safelight.gateway.calling import Answer
from safelight.gateway.cancelling import Cancelling, Noted
from safelight.gateway.draining import Draining
from safelight.gateway.following import Following
from safelight.gateway.forecast import Forecast
from safelight.gateway.intake import Intake
from safelight.gateway.key_limits import KeyLimits
from safelight.gateway.orders import Caller, Event, Order, Outlook, Queued, Standing
from safelight.gateway.parts import COMPANY_S, DATABASE_DAMAGED, Parts
from safelight.gateway.processes import Processes
from safelight.gateway.progress import Progress, Update
from safelight.gateway.reading import Reading
from safelight.gateway.room import Room
from safelight.gateway.running import Run
from safelight.gateway.turns import Turns
from safelight.gateway.watch import Abandoned, Watch
from safelight.pool import Need
from safelight.types import BlobRef, ImageRequest, Job, Quote

__all__ = ["Attachment", "Gateway"]

log = logging.getLogger("safelight.gateway")

FIRST_GUESS_S = 20.0
"""How long a picture takes while none has been measured."""
NO_LIMITS = LimitsConfig()
QUEUE = QueueConfig()
NOTE_TRIES = 5
"""How often it is tried, over some seconds, to note that an answer was delivered."""
COME_AGAIN_MIN_S, COME_AGAIN_MAX_S = 1.0, 60.0
"""Bounds of the Retry-After of an unfinished order: SDKs before 2.52 ignore a longer one."""


class Attachment:
    """One caller waiting for one order."""

    def __init__(self) -> None:
        self.done = False
        self.final = False

    def delivered(self, *, final: bool = False) -> None:
        """Say that the whole answer was written to a caller who was still there.

        With `final` it was no end but where to find one: whatever comes of it, no call repeats it.
        """
        self.done, self.final = True, final


class Gateway(Reading):
    """Accepts orders and runs their jobs.

    Args:
        parts: rooms below.
        processes: who else serves the database, and this process's name for leases and
            attachments.
        max_file_bytes: largest input picture.
        min_free_bytes: below this much free space nothing is accepted.
        max_in_flight: most jobs that run at once in this process.
        pepper: secret under which keys are stored.
        limits: of keys that have none of their own.
        queue: how many jobs may wait in the queue, and for how long.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        processes: Processes,
        pepper: bytes,
        max_file_bytes: int,
        min_free_bytes: int,
        max_in_flight: int,
        limits: LimitsConfig = NO_LIMITS,
        queue: QueueConfig = QUEUE,
    ) -> None:
        super().__init__(parts.db, parts.clock, pepper)
        self._parts = parts
        self._intake = Intake(parts, max_file_bytes=max_file_bytes)
        self._watch = Watch(parts.spool.clear)
        self._following = Following(parts.db, self._watch)
        self._forecast = Forecast(parts.pool, parts.clock)
        self._progress = Progress(
            parts.db, parts.clock, self._watch, finish_at=self._forecast.finish_at
        )
        self._turns = Turns(parts.pool, parts.clock)
        self._room = Room(max_in_flight)
        self._acceptance = Acceptance(
            parts,
            processes=processes,
            room=self._room,
            min_free_bytes=min_free_bytes,
            limits=limits,
            queue=queue,
            start=lambda job: self.start(job, live=True),
            remind=lambda placed: self.remind(placed),  # noqa: PLW0108  (it is set later)
            expected_s=self.expected_s,
        )
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._runs: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._ended_elsewhere: dict[str, Job] = {}
        self.remind: Callable[[Iterable[Job]], object] = _remind_nobody
        """Has queued jobs looked at; whoever runs the queue puts its own verb here."""
        self.cancelling = Cancelling(parts, ended=self.ended_elsewhere, unwanted=self._stop_buying)
        self.accepting = False
        self.leaving = False
        """The process was told to end. It may still accept, until balancers have noticed."""
        self.draining = Draining()
        self._damaged = False

    @property
    def running(self) -> int:
        """How many jobs run in this process now."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """How many jobs wait for an account in this process."""
        return self._turns.waiting

    @property
    def running_ids(self) -> frozenset[str]:
        """The jobs that run in this process now."""
        return frozenset(self._runs)

    @property
    def acceptance(self) -> Acceptance:
        """What makes orders durable, for those who place many in one transaction."""
        return self._acceptance

    @property
    def limits(self) -> KeyLimits:
        """How fast keys may ask."""
        return self._acceptance.limits

    @property
    def room(self) -> int:
        """How many more jobs may be in flight here."""
        return self._room.free

    # --- before spending -------------------------------------------------------------------

    def check(
        self, request: ImageRequest, *, given: frozenset[str], stream: bool = False
    ) -> ImageRequest:
        """Refuse by name what the channel does not serve; return the request in canonical form.

        Raises:
            InvalidRequest: with the parameter at fault.
        """
        return self._parts.channels.check(request, given=given, stream=stream)

    def quote(self, request: ImageRequest) -> Quote:
        """Return price and size plan of a request that `check` accepts."""
        return self._parts.channels.quote(request)

    async def outlook(self, request: ImageRequest) -> Outlook:
        """Return how fast many requests like this one would be answered now."""
        waiting = self._turns.waiting + await self._progress.queued(request.channel)
        canvas = self.quote(request).size_plan.canvas
        return self._forecast.outlook(request, canvas, waiting=waiting)

    async def stage_input(self, path: Path, *, param: str) -> BlobRef:
        """Check a caller's picture, write it anew and keep that, so that its job survives a crash.

        Raises:
            InvalidImage: it is no usable picture; names `param`.
        """
        return await self._intake.stage(path, param=param)

    # --- orders ----------------------------------------------------------------------------

    async def submit(
        self,
        request: ImageRequest,
        caller: Caller,
        *,
        given: frozenset[str],
        stream: bool = False,
        queued: Queued | None = None,
    ) -> Order:
        """Accept an order, or join the one it is a retry of. When this returns it is durable.

        With `queued` its jobs wait until a process has room for them; a retry of it joins it as it
        joins any other.

        Raises:
            InvalidRequest: the channel does not serve it.
            InsufficientBalance: nothing was written; also where a budget of the key is too small.
            RateLimited: the key asks too fast, or has too much in flight; nothing was written.
            IdempotencyKeyReused: the key belongs to another body.
            Unavailable: draining, at the bound of jobs in flight or in the queue, or the disk is
                nearly full.
        """
        request = self.check(request, given=given, stream=stream)
        if self._damaged:
            raise Unavailable(
                "The gateway's database is damaged; the operator must restore it. "
                "Nothing was charged.",
                code=DATABASE_DAMAGED,
            )
        if not self.accepting:
            raise ShuttingDown
        return await self._acceptance.accept(request, caller, queued)

    async def cancel(self, customer_id: str, job_id: str, *, noted: Noted | None = None) -> Job:
        """Cancel a customer's job, and return it as it is then.

        One for which no call is under way ends at once and costs nothing. A call that is out cannot
        be called back: no further attempt is made, and if its picture comes it is delivered and
        charged. A job that has ended stays as it is. `noted` notes it in the same transaction.

        Raises:
            NotFound: no such job, or another customer's.
            Unavailable: the database is away; nothing was changed.
        """
        return await self.cancelling.cancel(customer_id, job_id, noted=noted)

    def _stop_buying(self, job_id: str) -> None:
        if job_id in self._runs:
            self._runs[job_id][0].stop_buying()

    def refuse_all(self) -> None:
        """Accept nothing more in this process: its database is damaged. For any thread."""
        self._damaged = True
        self.accepting = False

    # --- running ---------------------------------------------------------------------------

    def start(
        self, job: Job, *, live: bool, answer: Answer | None = None, left_s: float | None = None
    ) -> asyncio.Task[None]:
        """Run a job that is leased to this process, in the background.

        Args:
            job: accepted or taken over a moment ago.
            live: whether a caller may be watching.
            answer: what an earlier process had already received.
            left_s: how long it has until its deadline, by the database's clock; None: as long as
                planned, for a job that was accepted just now.
        """
        planned_s = (job.deadline_at - job.created_at) / 1000
        # The clock may have been set back since the job was accepted.
        left_s = planned_s if left_s is None else min(left_s, planned_s)
        self._watch.open(job.id)
        self._room.occupy(job.id)
        run = Run(self._parts, self._watch, self._turns, job, live=live, left_s=left_s)
        task = asyncio.create_task(self._run(run, job, answer), name=job.id)
        self._tasks[task] = None
        self._runs[job.id] = run, task
        task.add_done_callback(lambda task: self._stopped(job.id, task))
        return task

    def _stopped(self, job_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if job_id in self._runs and self._runs[job_id][1] is task:
            del self._runs[job_id]
            self._room.give_back(job_id)
        ended = self._ended_elsewhere.pop(job_id, None)
        if ended is not None:
            self._watch.ended(ended)

    async def _run(self, run: Run, job: Job, answer: Answer | None) -> None:
        try:
            try:
                await run.run(answer)
            except Exception:  # the job must end, and its hold with it, whatever went wrong here
                log.exception("job failed inside the gateway", extra={"job_id": job.id})
                try:
                    await run.fail_internally()
                except Unavailable:  # nothing can be written any more
                    self._watch.abandon(job.id)
                    return
        except BaseException:
            if job.id not in self._ended_elsewhere:
                self._watch.abandon(job.id)
            raise
        else:
            # Unless it has ended, another process has taken it: whoever waits here waits for that.
            self._following.go_on(job.id)

    def ended_elsewhere(self, job: Job) -> None:
        """Say that a job has ended though its run here has not: stop the run, tell who waits."""
        if job.id not in self._runs:
            self._watch.ended(job)
            return
        run, task = self._runs[job.id]
        self._ended_elsewhere[job.id] = job
        run.supersede()
        task.cancel()

    async def drain(self, seconds: float) -> int:
        """Accept nothing more, give running jobs `seconds`, then leave the rest.

        Another process takes them over, or the next start. Callers who wait here for a job of
        another process are sent there when the jobs of this one are done.

        Returns:
            How many jobs were left unfinished; they keep their rows, holds and spool files.
        """
        self.accepting = False
        await self.draining.wait(lambda: self._tasks, seconds)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._following.leave()
        await self._progress.leave()
        return len(left)

    # --- watching --------------------------------------------------------------------------

    def progress(self, job: Job, *, after: str | None = None) -> AsyncGenerator[Update, None]:
        """Yield what has happened to a job and what happens from now on, until it has ended.

        Args:
            job: whichever process runs it.
            after: the name of the last step that the watcher knows; None: it knows nothing.

        Raises:
            ShuttingDown: this process is leaving; another one tells the rest.
        """
        return self._progress.follow(job.id, after=after)

    async def standings(self, found: Sequence[Job]) -> dict[str, Standing]:
        """Return where jobs stand, by id: their places in the line, and when they will end."""
        return await self._progress.standings(found)

    async def ended_within(self, job: Job, seconds: float) -> Job:
        """Return a job when it has ended, or as it stands after so many seconds, or on leaving."""
        with contextlib.suppress(TimeoutError, ShuttingDown):
            async with asyncio.timeout(seconds), aclosing(self.progress(job)) as updates:
                async for _ in updates:
                    pass
        return await self.job(job.customer_id, job.id)

    # --- waiting ---------------------------------------------------------------------------

    @asynccontextmanager
    async def attached(self, order: Order) -> AsyncIterator[Attachment]:
        """Wait as one caller of an order; leaving undelivered lets a retry claim it."""
        attachment = Attachment()
        try:
            yield attachment
        finally:
            # Shielded: a disconnect cancels the handler, but the order must not look attached.
            await asyncio.shield(self._detach(order, attachment))

    async def _detach(self, order: Order, attachment: Attachment) -> None:
        def leave(tx: Transaction) -> None:
            # A failure that the caller was told to repeat stays, for its own retry to claim.
            told = attachment.done and not joining.told_to_repeat(tx, order.request_id)
            if attachment.final or told:
                jobs.deliver_request(tx, order.request_id, retry_count=order.retry_count)
            else:
                jobs.detach_request(tx, order.request_id, retry_count=order.retry_count)

        try:
            # Again while the database is away for a moment: what is not noted as delivered may be
            # taken by the retry of an equal order.
            company_s = COMPANY_S if attachment.done else 0.0
            await self._parts.write(
                leave, job_id=order.jobs[0].id, tries=NOTE_TRIES, company_s=company_s
            )
        except Unavailable:
            # The answer is out already; at worst a retry waits for the grace, or buys anew.
            log.exception("delivery not noted", extra={"request_id": order.request_id})
        if not attachment.done:
            self._acceptance.look_again()
        self._parts.notes.left(order.jobs, delivered=attachment.done)

    async def wait(self, order: Order, *, timeout_s: float | None = None) -> tuple[Job, ...]:
        """Return the order's jobs when all have ended.

        Raises:
            DeadlineExceeded: `timeout_s` passed; the jobs go on, and it says when to come again.
            Unavailable: the process is leaving; the next one goes on with the jobs.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return tuple([await self._end(job) for job in order.jobs])
        except TimeoutError:
            raise DeadlineExceeded(
                "The picture is not finished yet; the job goes on. Send the request again to "
                f"collect it, or look at GET /v1/jobs/{order.jobs[0].id}.",
                retry_after_s=self._come_again_s(order),
            ) from None

    def _come_again_s(self, order: Order) -> float:
        """Return after how many seconds a caller who must leave now shall send its retry."""
        # SDKs repeat twice by default, so the retry after this one may be the last: rather late.
        caution = 2 if order.retry_count else 1
        now_ms = self._parts.clock.now_ms()
        expected_s = max(
            (
                min(self.expected_s(job) * caution, (job.deadline_at - now_ms) / 1000)
                for job in order.jobs
                if self._watch.end_of(job.id) is not None
            ),
            default=COME_AGAIN_MIN_S,
        )
        return min(max(expected_s, COME_AGAIN_MIN_S), COME_AGAIN_MAX_S)

    def expected_s(self, job: Job) -> float:
        """Return in how many seconds a running job will have ended, as far as one can tell.

        Most pictures are done in twice the median time. Of one that is not, or before anything was
        measured, the time it has run is the best guess at what is left.
        """
        age_s = (self._parts.clock.now_ms() - job.created_at) / 1000
        need = Need(job.request.channel, size=job.size_plan.canvas)
        typical_s = self._parts.pool.typical_s(need)
        if not typical_s:
            return max(age_s, FIRST_GUESS_S)
        return 2 * typical_s - age_s if age_s < typical_s else age_s

    async def _end(self, job: Job) -> Job:
        if job.state.terminal:
            return job
        found = await self._ended_or_watched(job)
        if found is not None:
            return found
        future = self._watch.end_of(job.id)
        assert future is not None
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.cancelled():
                raise _leaving(job) from None
            raise

    async def _ended_or_watched(self, job: Job) -> Job | None:
        """Return a job that has ended; None when its end is looked out for from now on.

        Raises:
            ShuttingDown: another process runs it, and this one is leaving.
        """
        if self._watch.end_of(job.id) is None:
            found = await self.job(job.customer_id, job.id)
            if found.state.terminal:
                return found
            try:
                self._following.follow(job.id)
            except Abandoned:
                raise _leaving(job) from None
        return None

    async def events(self, order: Order) -> AsyncIterator[Event]:
        """Yield partial images and ends of the order's jobs until all have ended.

        Of jobs that another process runs only the ends: partial images are hints, and stay there.
        """
        ended = {job.id: job for job in order.jobs if job.state.terminal}
        while True:
            running = [job for job in order.jobs if job.id not in ended]
            gone = [job for job in running if self._watch.end_of(job.id) is None]
            if not gone:
                break
            for job in gone:  # while this waits others may end: hence the loop
                found = await self._ended_or_watched(job)
                if found is not None:
                    ended[job.id] = found
        try:
            async for event in self._watch.events([job.id for job in running], ended.values()):
                yield event
        except Abandoned:
            raise _leaving(order.jobs[0]) from None


def _remind_nobody(placed: Iterable[Job]) -> None:
    """Leave queued jobs to the sweep of whoever runs the queue."""


def _leaving(job: Job) -> ShuttingDown:
    return ShuttingDown(
        f"The gateway is restarting; job {job.id} goes on. Send the request again to collect it."
    )
