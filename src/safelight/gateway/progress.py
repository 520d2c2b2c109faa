"""What happens to jobs, told step by step to whoever watches them, on any process.

Owns the look at the database, one for all watched jobs together however many watch, and the steps
of a job's history, which are made from its rows: whoever looks late, or on another process, is told
the same steps in the same order as one who watched from the start. Nothing is queued for a watcher:
each takes what it has not told yet from the newest look, so a slow reader holds no memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

import msgspec

from safelight import attempts, job_lists, jobs
from safelight.attempts import Attempt
from safelight.clock import Clock
from safelight.db import Database, Transaction
from safelight.errors import FaultClass, ShuttingDown, Unavailable
from safelight.gateway.calling import RETURNED
from safelight.gateway.notes import SUPERSEDED
from safelight.gateway.orders import PartialImage, Standing, Step
from safelight.gateway.watch import Watch
from safelight.job_lists import Line, Sign
from safelight.types import Job, JobClass, JobState, Stage

log = logging.getLogger("safelight.gateway")

LOOK_S = 0.2
"""How often the database is asked: how much later than it happened a step is told, at most."""
LOOK_SHARE, LOOK_MAX_S = 4.0, 2.0
"""The pause is so many times as long as the look, up to a bound: thousands who watch share it."""
AWAY_S = 2.0
"""How often while the database does not answer."""
LINE_S = 2.0
"""How old the places in the line may be: counting them reads all that waits."""
ASK_MAX = 500
"""Most jobs that one question names."""

ENDED = "ended"
"""The name of a job's last step."""

_REASONS = {
    FaultClass.THROTTLED: "rate_limited",
    FaultClass.QUOTA: "unavailable",
    FaultClass.AUTH: "unavailable",
    FaultClass.CAPABILITY: "not_served",
    FaultClass.FAST: "upstream_error",
    FaultClass.SLOW: "timeout",
    FaultClass.BAD_OUTPUT: "bad_picture",
    FaultClass.LOCAL: "unreachable",
    FaultClass.CLIENT: "refused",
    "lost": "interrupted",
}


class Changed(msgspec.Struct, frozen=True):
    """A job that waits has another place in the line."""

    standing: Standing


class Told(msgspec.Struct, frozen=True):
    """A step, and the job as it is known when it is told."""

    step: Step
    job: Job
    standing: Standing


Update = Told | Changed | PartialImage


def history(job: Job, made: Sequence[Attempt], *, now_ms: int) -> tuple[Step, ...]:
    """Return what has happened to a job so far, in order.

    Every state and stage that was passed is there, also one that lasted too short to be seen. For
    stages that have no time of their own it is the nearest that is known.

    Args:
        job: as it stands.
        made: its attempts, read in the same snapshot, in the order in which they were sent.
        now_ms: the time of a stage that has just been found.
    """
    steps = [Step("queued", JobState.QUEUED, None, job.created_at)]
    happened = [step for n, one in enumerate(made, 1) for step in _attempt_steps(n, one)]
    if not made and job.started_at is not None:
        happened.append(Step("started", JobState.IN_PROGRESS, None, job.started_at))
    if job.cancel_requested_at is not None:
        before = JobState.IN_PROGRESS if job.started_at is not None else JobState.QUEUED
        happened.append(Step("cancelling", before, None, job.cancel_requested_at, cancelling=True))
    steps += sorted(happened, key=lambda step: step.at)
    steps += _last_stages(job, made, now_ms)
    if job.state.terminal:
        steps.append(Step(ENDED, job.state, None, job.completed_at or now_ms))
    return tuple(steps)


def _attempt_steps(number: int, attempt: Attempt) -> list[Step]:
    name = _name(attempt)
    steps = [Step(f"{name}.sent", JobState.IN_PROGRESS, Stage.SENT, attempt.sent_at, number)]
    if attempt.ended_at is None or attempt.outcome in (None, SUPERSEDED, RETURNED):
        return steps
    if attempt.outcome == "ok":
        received = Step(
            f"{name}.received", JobState.IN_PROGRESS, Stage.RECEIVED, attempt.ended_at, number
        )
        return [*steps, received]
    reason = _REASONS.get(attempt.outcome, "upstream_error")
    failed = Step(
        f"{name}.failed", JobState.IN_PROGRESS, None, attempt.ended_at, number, reason=reason
    )
    return [*steps, failed]


def _last_stages(job: Job, made: Sequence[Attempt], now_ms: int) -> list[Step]:
    """Return the stages behind `received`, which the row has no times of."""
    passed = {
        Stage.VERIFIED: (Stage.VERIFIED,),
        Stage.STORED: (Stage.VERIFIED, Stage.STORED),
        Stage.SETTLED: (Stage.VERIFIED, Stage.STORED),
    }
    good = [(n, one) for n, one in enumerate(made, 1) if one.outcome == "ok"]
    if not good or job.stage not in passed:
        return []
    number, attempt = next((one for one in good if one[1].settled), good[-1])
    at = job.completed_at or now_ms
    return [
        Step(f"{_name(attempt)}.{stage}", JobState.IN_PROGRESS, stage, at, number)
        for stage in passed[job.stage]
    ]


def _name(attempt: Attempt) -> str:
    return f"{attempt.epoch}.{attempt.k}"


class _Record:
    """What is known of one watched job, shared by all who watch it here."""

    def __init__(self, job: Job, made: Sequence[Attempt], sign: Sign, now_ms: int) -> None:
        self.watchers = 0
        self.standing = Standing()
        self.partials: tuple[PartialImage, ...] = ()
        self.changed = asyncio.Event()
        self.learn(job, made, sign, now_ms)

    def learn(self, job: Job, made: Sequence[Attempt], sign: Sign, now_ms: int) -> None:
        """Take a newer look at it."""
        self.job = job
        self.sign = sign
        self.steps = history(job, made, now_ms=now_ms)

    def tell(self) -> None:
        """Wake all who watch."""
        self.changed.set()
        self.changed = asyncio.Event()


class _Watcher:
    """What one watcher of a record has been told."""

    def __init__(self, record: _Record, after: str | None) -> None:
        self._record = record
        self._told = _told_until(record.steps, after)
        self._partials = 0
        self._place = record.standing.place

    @property
    def done(self) -> bool:
        """True when the end was told."""
        return ENDED in self._told

    def news(self) -> list[Update]:
        """Return what has not been told, in order; it counts as told."""
        record = self._record
        found: list[Update] = []
        for step in record.steps:
            if step.name in self._told:
                continue
            if step.stage not in (None, Stage.SENT) or step.name == ENDED:
                found += self._new_partials()  # they were drawn before that
            self._told.add(step.name)
            found.append(Told(step, record.job, record.standing))
        if self.done:
            return found
        found += self._new_partials()
        if record.standing.place != self._place:
            self._place = record.standing.place
            if self._place is not None:
                found.append(Changed(record.standing))
        return found

    def _new_partials(self) -> tuple[PartialImage, ...]:
        partials = self._record.partials[self._partials :]
        self._partials += len(partials)
        return partials


class _Look(msgspec.Struct, frozen=True):
    """What one snapshot said of some jobs."""

    signs: Mapping[str, Sign]
    jobs: Mapping[str, Job]
    attempts: Mapping[str, tuple[Attempt, ...]]


class Progress:
    """Tells what happens to jobs.

    Args:
        db: looked at.
        clock: the time of steps that have none of their own, and of forecasts.
        watch: has the partial images of jobs that run here.
        finish_at: when a job will have ended, milliseconds since 1970, for a place in the line;
            None: nobody can say.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        watch: Watch,
        *,
        finish_at: Callable[[Job, int | None], int | None],
    ) -> None:
        self._db = db
        self._clock = clock
        self._watch = watch
        self._finish_at = finish_at
        self._records: dict[str, _Record] = {}
        self._task: asyncio.Task[None] | None = None
        self._left = asyncio.Event()
        self._counting = asyncio.Lock()
        self._counted: Line | None = None
        self._counted_at = 0.0

    async def standings(self, found: Sequence[Job]) -> dict[str, Standing]:
        """Return where jobs stand, by id: their places in the line, and when they will end."""
        line = await self._line() if any(_waits(job) for job in found) else None
        return {
            job.id: self._standing(job, None if line is None else line.place_of(job))
            for job in found
        }

    async def queued(self, channel: str) -> int:
        """Return how many jobs of a channel wait for a process."""
        return (await self._line()).lengths.get(channel, 0)

    async def _line(self) -> Line:
        async with self._counting:
            now = self._clock.monotonic()
            if self._counted is None or now - self._counted_at >= LINE_S:
                self._counted = await self._db.read(job_lists.line)
                self._counted_at = now
            return self._counted

    def _standing(self, job: Job, place: int | None) -> Standing:
        if job.state.terminal:
            return Standing()
        if not _waits(job):
            place = None
        return Standing(place=place, finish_at=self._finish_at(job, place))

    async def follow(self, job_id: str, *, after: str | None) -> AsyncGenerator[Update, None]:
        """Yield what has happened to a job and what happens from now on, until it has ended.

        Args:
            job_id: an existing job's.
            after: the name of the last step already told; None, or one that is not known any
                more: all are told.

        Raises:
            ShuttingDown: this process is leaving; another one tells the rest.
            Unavailable: the database does not answer at the start.
        """
        record = await self._join(job_id)
        watcher = _Watcher(record, after)
        try:
            while True:
                changed = record.changed
                for update in watcher.news():
                    yield update
                if watcher.done:
                    return
                if self._left.is_set():
                    raise ShuttingDown
                await changed.wait()
        finally:
            record.watchers -= 1
            if not record.watchers and self._records.get(job_id) is record:
                del self._records[job_id]

    async def _join(self, job_id: str) -> _Record:
        """Return the record of a job, counted as watched, fresh from the database if it is new."""
        look = await self._db.read(lambda tx: _look(tx, [job_id], {}))
        job = look.jobs[job_id]
        standing = (await self.standings([job]))[job_id]
        # From here on nothing waits: the record must not be found without its watcher.
        record = self._records.get(job_id)
        if record is None:
            made = look.attempts.get(job_id, ())
            record = _Record(job, made, look.signs[job_id], self._clock.now_ms())
            record.standing = standing
            record.partials = self._watch.partials_of(job_id)
            self._records[job_id] = record
        record.watchers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look_while_watched(), name="progress")
        return record

    async def leave(self) -> None:
        """Tell all who watch that this process is leaving."""
        self._left.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for record in list(self._records.values()):
            record.tell()

    async def _look_while_watched(self) -> None:
        try:
            while self._records:
                began_s = self._clock.monotonic()
                well = await self._look_again()
                took_s = self._clock.monotonic() - began_s
                pause_s = min(max(LOOK_S, took_s * LOOK_SHARE), LOOK_MAX_S)
                await asyncio.sleep(pause_s if well else AWAY_S)
        finally:
            self._task = None

    async def _look_again(self) -> bool:
        """Learn what has changed; False when the database is away."""
        try:
            # Those that have ended are only read to their end by who watches them slowly.
            open_ids = [key for key, one in self._records.items() if not one.job.state.terminal]
            for start in range(0, len(open_ids), ASK_MAX):
                await self._learn(open_ids[start : start + ASK_MAX])
            await self._look_at_the_line()
        except Unavailable as error:
            log.warning("cannot look at watched jobs", extra={"reason": error.message})
            return False
        except Exception:  # one failed look must not leave the watchers waiting for ever
            log.exception("cannot look at watched jobs")
            return False
        return True

    async def _learn(self, job_ids: Sequence[str]) -> None:
        known = {key: self._records[key].sign for key in job_ids if key in self._records}
        look = await self._db.read(lambda tx: _look(tx, list(known), known))
        now_ms = self._clock.now_ms()
        for job_id in known:
            record = self._records.get(job_id)
            if record is None:
                continue
            news = False
            if job_id in look.jobs:
                job = look.jobs[job_id]
                record.learn(job, look.attempts.get(job_id, ()), look.signs[job_id], now_ms)
                record.standing = self._standing(job, record.standing.place)
                news = True
            partials = self._watch.partials_of(job_id)
            if len(partials) > len(record.partials):
                record.partials, news = partials, True
            if news:
                record.tell()

    async def _look_at_the_line(self) -> None:
        waiting = [record for record in self._records.values() if _waits(record.job)]
        if not waiting:
            return
        line = await self._line()
        for record in waiting:
            # It may have begun while the line was counted.
            if not _waits(record.job):
                continue
            standing = self._standing(record.job, line.place_of(record.job))
            if standing.place != record.standing.place:
                record.standing = standing
                record.tell()


def _waits(job: Job) -> bool:
    # A job whose caller waits is in the process that was asked, and in no line.
    return job.state is JobState.QUEUED and job.job_class is not JobClass.INTERACTIVE


def _told_until(steps: Sequence[Step], after: str | None) -> set[str]:
    names = [step.name for step in steps]
    return set(names[: names.index(after) + 1]) if after in names else set()


def _look(tx: Transaction, job_ids: Sequence[str], known: Mapping[str, Sign]) -> _Look:
    """Read the signs of jobs, and of those that have changed everything else."""
    found = job_lists.signs(tx, job_ids)
    changed = [job_id for job_id in found if known.get(job_id) != found[job_id]]
    read = {job.id: job for job in jobs.among(tx, changed)}
    return _Look(found, read, attempts.of_jobs(tx, changed))
