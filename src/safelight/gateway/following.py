"""Waiting here for jobs that other processes run.

Owns the look at the database: one for all such jobs together, however many callers wait. Only ends
are seen; partial images of those jobs are not (they are hints, and never leave their process).
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from safelight import jobs
from safelight.db import Database
from safelight.errors import Unavailable
from safelight.gateway.watch import Abandoned, Watch
from safelight.types import Job

log = logging.getLogger("safelight.gateway")

LOOK_S = 0.2
"""How often the database is asked: what a caller waits longer than where its job runs, at most."""
AWAY_S = 2.0
"""How often while the database does not answer."""
ASK_MAX = 500
"""Most jobs that one question names."""


class Following:
    """Tells the watch about the ends of jobs that run elsewhere, until they end or come here."""

    def __init__(self, db: Database, watch: Watch) -> None:
        self._db = db
        self._watch = watch
        self._task: asyncio.Task[None] | None = None
        self._left = False

    def follow(self, job_id: str) -> asyncio.Future[Job]:
        """Return the future of a job's end.

        Raises:
            Abandoned: this process is leaving.
        """
        if self._left:
            raise Abandoned
        future = self._watch.follow(job_id)
        self._begin()
        return future

    def go_on(self, job_id: str) -> None:
        """Look out for the end of a job that ran here and was taken by another process."""
        if self._left:
            self._watch.abandon(job_id)
        elif self._watch.hand_over(job_id):
            self._begin()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._look_until_none_is_left(), name="following")

    async def leave(self) -> None:
        """Tell all who wait that this process is leaving."""
        self._left = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for job_id in self._watch.followed:
            self._watch.abandon(job_id)

    async def _look_until_none_is_left(self) -> None:
        try:
            pause_s = LOOK_S
            while self._watch.followed:
                await asyncio.sleep(pause_s)
                pause_s = LOOK_S if await self._look() else AWAY_S
        finally:
            self._task = None

    async def _look(self) -> bool:
        """Tell what has ended; False when the database is away."""
        followed = self._watch.followed
        try:
            for start in range(0, len(followed), ASK_MAX):
                ended = partial(jobs.among, job_ids=followed[start : start + ASK_MAX], ended=True)
                for job in await self._db.read(ended):
                    self._watch.ended(job)
        except Unavailable as error:
            log.warning("cannot look for jobs of other processes", extra={"reason": error.message})
            return False
        except Exception:  # one failed look must not leave the callers waiting for ever
            log.exception("cannot look for jobs of other processes")
            return False
        return True
