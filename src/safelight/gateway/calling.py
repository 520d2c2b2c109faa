"""One attempt: journalled, admitted, called, journalled again, and its lease handed back.

Owns the order of these steps. The attempt's row is written before its first byte leaves, in the
transaction that also counts the group's last minute over all processes: so no two of them can take
the same place, and a restart knows what was sent before it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safelight import attempts, costs, jobs, limiters
from safelight.db import Transaction
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.buying import Blocked, Unwanted
from safelight.gateway.notes import SUPERSEDED
from safelight.gateway.parts import UNTIL_CANCELLED, Parts
from safelight.gateway.turns import Turns
from safelight.pool import Lease
from safelight.pool.limiter import IMAGES, INPUT_IMAGES, REQUESTS
from safelight.types import Account, Job, Micros, Operation, Received, Stage, UpstreamCall

log = logging.getLogger("safelight.gateway")

MINUTE_MS = 60_000
RETURNED = "returned"
"""How the attempt of a line ended that came back from a vendor batch without a picture."""


class Lost(Exception):
    """The job has ended or belongs to another process: stop without a word."""


@dataclass(slots=True)
class Answer:
    """A complete upstream answer in the spool, and the attempt (epoch, k) that bought it.

    `lease` made it; None when an earlier process did. Until it is `journalled` only the spool's
    file says that it came: that is enough for whoever takes the job over, and saves a commit.
    """

    received: Received
    epoch: int
    k: int
    lease: Lease | None = None
    cost_micros: int | None = None
    journalled: bool = True


class Race(Protocol):
    """What an attempt asks about those beside it."""

    @property
    def superseded(self) -> bool:
        """Whether an attempt that is cancelled now has lost to another one."""

    @property
    def alone(self) -> bool:
        """Whether no other one is under way."""


class Calls:
    """The attempts of one job, as they are made and journalled.

    Args:
        parts: rooms below.
        turns: told when an account is free again.
        job: leased to this process.
        on_partial: sink for partial images, or None when nobody may be watching.
    """

    __slots__ = ("_job", "_made", "_on_partial", "_parts", "_turns", "trail")

    def __init__(
        self,
        parts: Parts,
        turns: Turns,
        job: Job,
        *,
        on_partial: Callable[[int, Path], None] | None,
    ) -> None:
        self._parts = parts
        self._turns = turns
        self._job = job
        self._on_partial = on_partial
        self._made = job.attempts
        self.trail = parts.notes.trail(job.id)
        """What becomes of the attempts, for whoever notes the job's end."""

    async def make(self, lease: Lease, *, deadline: float, race: Race) -> Answer:
        """Make one attempt.

        Args:
            lease: handed back when this returns or raises.
            deadline: of the job, on the clock's monotonic seconds.
            race: asked whether it has lost when the attempt is cancelled, and whether it is alone
                when it has its answer: that is then journalled by whoever makes use of it.

        Raises:
            UpstreamError: the attempt failed.
            Blocked: it did not leave; other processes have used the budget.
            Unwanted: it did not leave; the customer has cancelled the job.
            Lost: the job is not ours any more.
        """
        job, parts, account = self._job, self._parts, lease.account
        self._made += 1
        k = self._made  # a name; those of attempts that did not leave are left out
        pending, sent = True, False
        try:
            call = await self._call()
            await self._begin(lease, k)
            sent = True
            self.trail.mark("queued")
            received = await parts.upstreams[account.upstream].generate(
                account,
                call,
                spool=parts.spool.answer(job.id, job.epoch, k, partials=call.partial_images > 0),
                deadline=deadline,
                on_partial=self._on_partial if call.partial_images else None,
            )
            cost = self._cost(account, received)
            pending = False
            parts.pool.release(lease, None, cost_micros=cost, limits=received.limits)
            answer = Answer(received, job.epoch, k, lease, cost, journalled=False)
            self._mark(lease, k, "answered")
            self.trail.mark("received", bytes=received.bytes)
            if not race.alone:
                await self.journal(answer)
        except Blocked as blocked:
            pending = False
            parts.pool.blocked(lease, blocked.seconds)
            raise
        except UpstreamError as error:
            pending = False
            await self._failed(lease, k, error, deadline)
            raise
        except asyncio.CancelledError:
            if race.superseded:
                # Whole answers count as sold, even those that came a moment too late.
                sold = None if pending else True
                await self._close(job.epoch, k, outcome=SUPERSEDED, sold=sold)
                self._note(lease, SUPERSEDED)
                self._mark(lease, k, SUPERSEDED)
            raise
        finally:
            if pending:
                parts.pool.drop(lease, sent=sent)
            self._turns.look_again()
        return answer

    async def _call(self) -> UpstreamCall:
        partials = self._job.request.partial_images if self._on_partial else 0
        return await call_of(self._parts, self._job, partials=partials)

    def _cost(self, account: Account, received: Received) -> Micros | None:
        cost = costs.vendor_cost_micros(account, received.usage)
        if cost is not None:
            self._parts.notes.metrics.vendor_cost.add(account.name, by=cost)
        return cost

    async def journal(self, answer: Answer, stage: Stage = Stage.RECEIVED) -> None:
        """Journal that an answer has come, and how far it is."""

        def work(tx: Transaction) -> None:
            attempts.receive(
                tx,
                self._job.id,
                answer.epoch,
                answer.k,
                answer.received,
                cost_micros=answer.cost_micros,
            )
            if stage is not Stage.RECEIVED:
                jobs.advance(tx, self._job.id, stage)

        # A bought picture outlasts any absence of the database.
        await self._parts.write(work, job_id=self._job.id, tries=UNTIL_CANCELLED)
        answer.journalled = True

    async def reject(self, answer: Answer, error: UpstreamError) -> None:
        """Journal that a bought answer cannot be delivered: it is waste."""
        self._log(error)
        if answer.lease is not None:
            self._note(answer.lease, str(error.fault))
            self.trail.mark("verified", outcome=str(error.fault))
        await self._close(
            answer.epoch,
            answer.k,
            outcome=str(error.fault),
            sold=error.sold,
            code=error.code,
            upstream_request_id=error.upstream_request_id,
            answer=answer,
        )
        answer.received.path.unlink(missing_ok=True)

    # --- before ----------------------------------------------------------------------------------

    async def _begin(self, lease: Lease, k: int) -> None:
        """Take the group's place in this minute and journal the attempt, in one transaction."""
        job, account = self._job, lease.account

        def begin(tx: Transaction) -> int | bool | None:
            free_at = self._free_at(tx, lease)
            if free_at is not None:
                return free_at - tx.now_ms
            begun = attempts.begin(
                tx,
                job,
                k=k,
                account=account.name,
                group=account.group,
                input_images=lease.need.inputs,
            )
            return begun or (None if _unwanted(jobs.get_job(tx, job.id), job.epoch) else False)

        begun = await self._parts.write(begin, job_id=job.id)
        if begun is None:
            raise Unwanted
        if begun is False:
            raise Lost
        if begun is not True:
            raise Blocked(max(begun, 1) / 1000)

    def _free_at(self, tx: Transaction, lease: Lease) -> int | None:
        """Return when all the group's limits allow this attempt; None: now."""
        group, need = lease.account.group, lease.need
        limiter = self._parts.pool.limiters[group]
        found: list[int | None] = []
        for unit in (IMAGES, REQUESTS):
            meter = limiter.meters[unit]
            if meter.per_minute is not None:
                window_ms = round(meter.window_s * 1000)
                found.append(
                    limiters.free_at(tx, group, images=meter.capacity, window_ms=window_ms)
                )
        meter = limiter.meters[INPUT_IMAGES]
        if need.inputs and meter.per_minute is not None:
            found.append(
                limiters.inputs_free_at(
                    tx,
                    group,
                    inputs=need.inputs,
                    most=meter.capacity,
                    window_ms=round(meter.window_s * 1000),
                )
            )
        return max((at for at in found if at is not None), default=None)

    # --- after -----------------------------------------------------------------------------------

    async def _failed(self, lease: Lease, k: int, error: UpstreamError, deadline: float) -> None:
        """Journal a failed attempt and book its fault, even if the journal refuses."""
        job, group = self._job, lease.account.group
        self._log(error, lease)
        self._note(lease, str(error.fault))
        self._mark(lease, k, str(error.fault))
        granted: int | None = None

        def end(tx: Transaction) -> int | None:
            attempts.end(
                tx,
                job.id,
                job.epoch,
                k,
                outcome=str(error.fault),
                code=error.code,
                sold=error.sold,
                upstream_request_id=error.upstream_request_id,
            )
            if error.fault is not FaultClass.THROTTLED:
                return None
            return limiters.granted_before(tx, group, window_ms=MINUTE_MS)

        try:
            granted = await self._parts.write(end, job_id=job.id)
        finally:
            self._parts.pool.release(lease, error, granted=granted, deadline=deadline)

    async def _close(
        self,
        epoch: int,
        k: int,
        *,
        outcome: str,
        sold: bool | None,
        code: str | None = None,
        upstream_request_id: str | None = None,
        answer: Answer | None = None,
    ) -> None:
        def end(tx: Transaction) -> None:
            if answer is not None:
                note_unless_journalled(tx, self._job.id, answer)
            attempts.end(
                tx,
                self._job.id,
                epoch,
                k,
                outcome=outcome,
                code=code,
                sold=sold,
                upstream_request_id=upstream_request_id,
            )

        await self._parts.write(end, job_id=self._job.id)

    def _note(self, lease: Lease, outcome: str) -> None:
        account = lease.account
        self._parts.notes.attempt_failed(self.trail, account.name, account.group, outcome)

    def _mark(self, lease: Lease, k: int, outcome: str) -> None:
        account = lease.account.name
        self.trail.mark("attempt", since=lease.at, attempt=k, account=account, outcome=outcome)

    def _log(self, error: UpstreamError, lease: Lease | None = None) -> None:
        log.warning(
            "attempt failed",
            extra={
                "job_id": self._job.id,
                "account": lease.account.name if lease else None,
                "fault": str(error.fault),
                "code": error.code,
            },
        )


async def call_of(parts: Parts, job: Job, *, partials: int = 0) -> UpstreamCall:
    """Return what an adapter is asked for one attempt of a job."""
    request, plan, storage = job.request, job.size_plan, parts.storage
    # Where the pixels are remade here, a lossy canvas would be lossy twice.
    remade = plan.remakes
    return UpstreamCall(
        job_id=job.id,
        n=job.n,
        operation=request.operation,
        prompt=parts.channels.upstream_prompt(request),
        size=plan.canvas,
        output_format="png" if remade else request.output_format,
        output_compression=None if remade else request.output_compression,
        quality=request.quality,
        background=request.background,
        moderation=request.moderation,
        input_fidelity=request.input_fidelity,
        inputs=request.inputs,
        input_paths=tuple([await storage.local_path(ref.digest) for ref in request.inputs]),
        mask=request.mask,
        mask_path=await storage.local_path(request.mask.digest) if request.mask else None,
        partial_images=partials,
        user=request.user,
    )


def note_unless_journalled(tx: Transaction, job_id: str, answer: Answer) -> None:
    """Journal an answer in a transaction that makes use of it."""
    if not answer.journalled:
        attempts.note_answer(
            tx,
            job_id,
            answer.epoch,
            answer.k,
            answer.received,
            cost_micros=answer.cost_micros,
        )


def _unwanted(job: Job | None, epoch: int) -> bool:
    """Return whether a job of this epoch is open, and its customer has cancelled it."""
    if job is None or job.state.terminal or job.epoch != epoch:
        return False
    return job.cancel_requested_at is not None


def is_edit(job: Job) -> bool:
    """Return whether a job sends pictures along."""
    return job.request.operation is Operation.EDIT
