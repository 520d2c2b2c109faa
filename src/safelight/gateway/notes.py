"""What is noted of a job's end: counts, one line in the log, one trace.

Owns that moment, once for each job, in the process that ended it. Decides nothing and writes no
row: whatever goes wrong here, the job has ended.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterable, Sequence

from safelight.clock import Clock, SystemClock
from safelight.config_watch import LogsConfig
from safelight.metrics import Metrics, status_class
from safelight.tracing import Mark, Traces
from safelight.types import ImageRecord, Job, JobClass, JobState, Micros

log = logging.getLogger("safelight.jobs")

OK = "ok"
THROTTLED = "throttled"
SUPERSEDED = "superseded"
_NO_ERROR = (THROTTLED, SUPERSEDED, "client")
"""Ends of attempts that are no errors of the upstream's: 429s are counted apart."""


class Trail:
    """What one run of a job knows that no row of it says.

    Args:
        clock: monotonic time of the marks.
        traced: whether the times of the stages are kept.
    """

    __slots__ = ("_clock", "account", "cost_micros", "failed", "marks")

    def __init__(self, clock: Clock, *, traced: bool) -> None:
        self.account: str | None = None
        """Of the answer that was delivered."""
        self.cost_micros: Micros | None = None
        self.failed: tuple[tuple[str, str], ...] = ()
        """Account and outcome of each attempt that came to nothing."""
        self.marks: list[Mark] | None = [] if traced else None
        self._clock = clock

    def mark(self, stage: str, *, since: float | None = None, **facts: str | int) -> None:
        """Note that a stage is reached now; it began then, or where the one before ended."""
        if self.marks is not None:
            self.marks.append(Mark(stage, self._clock.monotonic(), since, facts))


class Notes:
    """Notes ends for one process.

    Args:
        metrics: counts.
        clock: of the trails.
        logs: what a line says; None: there are no lines.
        prompt_key: prompts are hashed under it.
        traces: where spans go; None: nowhere.
    """

    def __init__(
        self,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        *,
        logs: LogsConfig | None = None,
        prompt_key: bytes = b"",
        traces: Traces | None = None,
    ) -> None:
        self.metrics = metrics or Metrics(clock)
        self.traces = traces
        self.on_picture: Callable[[ImageRecord], None] | None = None
        """Told about each delivered picture; the prober puts its own verb here."""
        self._clock = clock or SystemClock()
        self._logs = logs
        self._prompt_key = prompt_key

    def trail(self, job_id: str) -> Trail:
        """Return an empty trail for a run of a job."""
        traced = self.traces is not None and self.traces.wanted(job_id)
        return Trail(self._clock, traced=traced)

    def attempt_failed(self, trail: Trail, account: str, group: str, outcome: str) -> None:
        """Note that an attempt has ended without a picture that is delivered."""
        trail.failed += ((account, outcome),)
        self.metrics.attempt_ended(account, group, outcome)

    def answered(self, trail: Trail, account: str, group: str, cost_micros: Micros | None) -> None:
        """Note that an attempt has left the answer that the job ended with."""
        trail.account, trail.cost_micros = account, cost_micros
        self.metrics.attempt_ended(account, group, OK)

    def accepted(self, jobs: Iterable[Job], traceparent: str | None) -> None:
        """Note that an order was accepted here, and of which span it is a part."""
        if self.traces is not None and traceparent is not None:
            for job in jobs:
                self.traces.note_parent(job.id, traceparent)

    def left(self, jobs: Iterable[Job], *, delivered: bool) -> None:
        """Note that a caller has its answer, or has left without."""
        if self.traces is not None:
            for job in jobs:
                self.traces.answered(job.id, delivered=delivered)

    def ended(self, job: Job, trail: Trail | None = None) -> None:
        """Note that this process has ended a job; `trail` is None where no run of it did."""
        metrics, channel = self.metrics, job.request.channel
        metrics.jobs_ended.add(channel, job.state)
        if job.job_class is not JobClass.INTERACTIVE:
            # Nobody waits for it, so its end is the answer.
            status = 200 if job.failure is None else job.failure.status
            metrics.answered("queued", status_class(status))
        if job.started_at is not None:
            metrics.queue_wait.observe(_queue_s(job), channel)
        if job.state is JobState.COMPLETED:
            self._completed(job, () if trail is None else trail.failed)
        if self._logs is not None and self._logs.jobs and log.isEnabledFor(logging.INFO):
            log.info("job ended", extra=self._facts(job, trail, self._logs))
        if self.traces is not None and trail is not None and trail.marks is not None:
            self.traces.tell(job, trail.marks, trail.account)

    def _completed(self, job: Job, failed: Sequence[tuple[str, str]]) -> None:
        metrics, channel = self.metrics, job.request.channel
        metrics.settled.add(channel, by=job.price_micros)
        if self.on_picture is not None and job.image is not None:
            self.on_picture(job.image)
        seconds = _generation_s(job)
        if seconds is not None:
            metrics.generation.observe(seconds, channel)
            metrics.recent_generation.add(seconds)
        for account, outcome in failed:
            if outcome == THROTTLED:
                metrics.throttled_absorbed.add(channel)
            elif outcome not in _NO_ERROR:
                metrics.hidden_errors.add(channel, account, outcome)
                metrics.recent_hidden.add(1.0, 0.0)

    def _facts(self, job: Job, trail: Trail | None, logs: LogsConfig) -> dict[str, object]:
        prompt = job.request.prompt
        facts: dict[str, object] = {
            "job_id": job.id,
            "request_id": job.request_id,
            "customer_id": job.customer_id,
            "key_id": job.key_id,
            "channel": job.request.channel,
            "size": job.request.size,
            "plan": str(job.size_plan.method),
            "account": None if trail is None else trail.account,
            "attempts": job.attempts,
            "queue_s": None if job.started_at is None else round(_queue_s(job), 3),
            "generation_s": _generation_s(job),
            "total_s": _seconds(job.created_at, job.completed_at),
            "bytes": None if job.image is None else job.image.blob.bytes,
            "price_micros": job.price_micros if job.state is JobState.COMPLETED else 0,
            "cost_micros": None if trail is None else trail.cost_micros,
            "outcome": str(job.state),
            "code": None if job.failure is None else job.failure.code,
            "prompt_length": len(prompt),
            "prompt_hash": self._hash(prompt),
        }
        if logs.prompts:
            facts["prompt"] = prompt
        return facts

    def _hash(self, prompt: str) -> str:
        # Under a key: short prompts could be guessed from a plain hash.
        return hmac.digest(self._prompt_key, prompt.encode(), "sha256")[:8].hex()


def _queue_s(job: Job) -> float:
    # One that was not to begin before a time has waited since then.
    since = max(job.created_at, job.not_before or 0)
    return max(0.0, _seconds(since, job.started_at) or 0.0)


def _generation_s(job: Job) -> float | None:
    if job.state is not JobState.COMPLETED:
        return None
    return _seconds(job.started_at, job.completed_at)


def _seconds(since: int | None, until: int | None) -> float | None:
    """Return the seconds between two times in milliseconds; the clock may have been set back."""
    return None if since is None or until is None else max(0, until - since) / 1000
