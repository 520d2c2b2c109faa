"""Running one job: attempts, verification, storage, and the one transaction that ends it.

Owns the control flow between an accepted job and its end. Every stage is journalled before the next
begins, and only the failed stage is repeated: a picture that lies in the spool is never bought
again, not even after `kill -9`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safelight import images, jobs, ledger
from safelight.channels import Channels
from safelight.clock import Clock
from safelight.config import ChannelConfig
from safelight.db import Database, Transaction
from safelight.errors import (
    FaultClass,
    ShuttingDown,
    StorageError,
    Unavailable,
    UnknownModel,
    UpstreamError,
)
from safelight.gateway import failures
from safelight.gateway.failures import Failed
from safelight.gateway.spooling import SpoolFolder
from safelight.gateway.turns import Turns
from safelight.gateway.watch import Watch
from safelight.pool import Lease, Pool
from safelight.storage import BlobStore
from safelight.types import (
    BlobRef,
    Job,
    JobFailure,
    Operation,
    PlanMethod,
    Received,
    Stage,
    UpstreamCall,
)
from safelight.upstreams import Upstream

log = logging.getLogger("safelight.gateway")

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 8.0
STORE_RETRIES = 3
WRITE_TRIES = 20
UNTIL_CANCELLED = math.inf
"""The end of a job is written however long the database refuses: a hold depends on it."""

T = TypeVar("T")


class Lost(Exception):
    """The job has ended or belongs to another process: stop without a word."""


@dataclass(frozen=True)
class Parts:
    """What a run needs; made once by the composition root."""

    db: Database
    pool: Pool
    storage: BlobStore
    pixels: images.PixelWorker
    channels: Channels
    upstreams: dict[str, Upstream]
    spool: SpoolFolder
    clock: Clock


@dataclass(frozen=True)
class Answer:
    """A complete upstream answer in the spool, and the attempt (epoch, k) that bought it.

    `account` made it; None when an earlier process did.
    """

    received: Received
    epoch: int
    k: int
    account: str | None = None


class Run:
    """One run of one job by this process.

    Args:
        parts: what a run needs.
        watch: told about partial images and the end.
        turns: gives leases.
        job: leased to this process.
        live: whether a caller may be watching, so that partial images are worth their price.
    """

    def __init__(self, parts: Parts, watch: Watch, turns: Turns, job: Job, *, live: bool) -> None:
        self._parts = parts
        self._watch = watch
        self._turns = turns
        self._job = job
        self._live = live
        self._attempts = job.attempts
        self._bad_outputs = 0
        self._tried: set[str] = set()
        left_s = (job.deadline_at - parts.clock.now_ms()) / 1000
        # The wall clock may have been set back since the job was accepted.
        planned_s = (job.deadline_at - job.created_at) / 1000
        self._deadline = parts.clock.monotonic() + min(left_s, planned_s)

    @property
    def _policy(self) -> ChannelConfig:
        """The channel's policy now.

        Raises:
            Failed: the operator has removed the channel since the job was accepted.
        """
        try:
            return self._parts.channels.get(self._job.request.channel)
        except UnknownModel:
            raise Failed(
                failures.unavailable(
                    "model_unavailable", "The operator has removed this channel meanwhile."
                )
            ) from None

    async def run(self, answer: Answer | None = None) -> None:
        """Bring the job to its end.

        Args:
            answer: what an earlier process had already received.
        """
        try:
            while True:
                if answer is None:
                    answer = await self._buy()
                try:
                    blob = await self._finish(answer)
                except UpstreamError as error:
                    await self._reject(answer, error)
                    answer = None
                    continue
                await self._settle(answer, blob)
                return
        except Failed as end:
            await self._release(end.failure)
        except Lost:
            log.info("job is no longer ours", extra={"job_id": self._job.id})

    # --- buying --------------------------------------------------------------------------

    async def _buy(self) -> Answer:
        """Make attempts until one leaves a complete answer in the spool.

        Raises:
            Failed: no attempt will.
        """
        while True:
            lease = await self._acquire()
            try:
                return await self._attempt(lease)
            except UpstreamError as error:
                await self._judge(error)

    async def _attempt(self, lease: Lease) -> Answer:
        job, parts = self._job, self._parts
        account = lease.account
        self._attempts += 1
        k = self._attempts
        handed_back = False
        try:
            call = await self._call()
            mine = await self._write(
                lambda tx: jobs.begin_attempt(
                    tx, job, k=k, account=account.name, group=account.group
                )
            )
            if not mine:
                raise Lost
            received = await parts.upstreams[account.upstream].generate(
                account,
                call,
                spool=parts.spool.answer(job.id, job.epoch, k),
                deadline=self._deadline,
                on_partial=self._on_partial if call.partial_images else None,
            )
            handed_back = True
            self._turns.hand_back(lease, None)
        except UpstreamError as error:
            handed_back = True
            self._turns.hand_back(lease, error)
            self._tried.add(account.name)
            await self._close_attempt(job.epoch, k, error)
            raise
        finally:
            if not handed_back:
                self._turns.drop(lease)
        await self._write(lambda tx: jobs.receive(tx, job.id, job.epoch, k, received))
        return Answer(received, job.epoch, k, account.name)

    def _on_partial(self, index: int, path: Path) -> None:
        self._watch.partial(self._job.id, index, path)

    async def _call(self) -> UpstreamCall:
        request, plan = self._job.request, self._job.size_plan
        storage = self._parts.storage
        # Where the pixels are remade here, a lossy canvas would be lossy twice.
        remade = plan.method in (PlanMethod.CROP, PlanMethod.RESAMPLE)
        return UpstreamCall(
            job_id=self._job.id,
            n=self._job.n,
            operation=request.operation,
            prompt=self._parts.channels.upstream_prompt(request),
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
            partial_images=request.partial_images if self._live else 0,
            user=request.user,
        )

    async def _acquire(self) -> Lease:
        return await self._turns.lease(
            self._job.request.channel,
            edits=self._job.request.operation is Operation.EDIT,
            tried=frozenset(self._tried),
            deadline=self._deadline,
            patient=self._policy.retries,
        )

    async def _judge(self, error: UpstreamError) -> None:
        """Decide after a failed attempt: return to try again, or raise the last word."""
        if error.fault is FaultClass.BAD_OUTPUT:
            self._bad_outputs += 1
        maximum = self._policy.max_attempts if self._policy.retries else 1
        again = failures.worth_retrying(
            error, attempts=self._attempts, bad_outputs=self._bad_outputs, maximum=maximum
        )
        if not again:
            if self._parts.clock.monotonic() >= self._deadline and error.fault is FaultClass.SLOW:
                raise Failed(failures.out_of_time())
            raise Failed(failures.final_failure(error, retried=self._policy.retries))
        if error.fault in (FaultClass.FAST, FaultClass.LOCAL):
            await self._back_off()

    async def _back_off(self) -> None:
        """Full jitter over 0.5 s x 2^k, at most 8 s; only a second failure waits at all."""
        exponent = self._attempts - 2
        if exponent < 0:
            return
        ceiling = min(BACKOFF_FIRST_S * 2**exponent, BACKOFF_MAX_S)
        left = self._deadline - self._parts.clock.monotonic()
        await asyncio.sleep(max(0.0, min(secrets.randbelow(1000) / 1000 * ceiling, left)))

    # --- finishing -----------------------------------------------------------------------

    async def _finish(self, answer: Answer) -> BlobRef:
        """Verify, remake pixels where the plan or the format needs it, and store.

        Raises:
            UpstreamError: BAD_OUTPUT; the answer is no picture of the size asked for.
            Failed: the picture is good but cannot be kept.
        """
        job, parts = self._job, self._parts
        try:
            probe = await parts.pixels.verify(answer.received.path)
            self._check_pixels(probe.width, probe.height)
            source = answer.received.path
            if images.needs_pixels(probe, job.size_plan, job.request.output_format):
                # Worth a commit of its own only where something long follows.
                await self._write(lambda tx: jobs.advance(tx, job.id, Stage.VERIFIED))
                source = parts.spool.remade(answer.received.path)
                blob = await parts.pixels.render(
                    answer.received.path,
                    source,
                    job.size_plan,
                    job.request.output_format,
                    job.request.output_compression,
                )
            else:
                blob = BlobRef(
                    answer.received.digest,
                    answer.received.bytes,
                    probe.format,
                    probe.width,
                    probe.height,
                    probe.has_alpha,
                )
        except images.BadPicture as error:
            raise UpstreamError(
                FaultClass.BAD_OUTPUT,
                "upstream_bad_image",
                "The upstream's picture is damaged.",
                sold=True,
            ) from error
        except StorageError as error:
            raise Failed(failures.storage_full()) from error
        await self._store(source, blob.digest)
        await self._write(lambda tx: jobs.advance(tx, job.id, Stage.STORED))
        return blob

    def _check_pixels(self, width: int, height: int) -> None:
        plan = self._job.size_plan
        if plan.exact and (width, height) != (plan.canvas_width, plan.canvas_height):
            raise UpstreamError(
                FaultClass.BAD_OUTPUT,
                "upstream_wrong_size",
                f"The upstream answered {width}x{height} where {plan.canvas} was asked.",
                sold=True,
            )

    async def _store(self, source: Path, digest: str) -> None:
        """Store a bought picture; while there is time, a disk that refuses is asked again."""
        for again in itertools.count():
            try:
                return await self._parts.storage.put(source, digest)
            except StorageError:
                log.exception("blob not stored", extra={"job_id": self._job.id})
            left = self._deadline - self._parts.clock.monotonic()
            if left <= 0 and again >= STORE_RETRIES:
                break
            pause = min(BACKOFF_FIRST_S * 2 ** min(again, 5), BACKOFF_MAX_S)
            await asyncio.sleep(pause if left <= 0 else min(pause, left))
        raise Failed(failures.storage_full())

    async def _reject(self, answer: Answer, error: UpstreamError) -> None:
        """Book a bought answer that cannot be delivered as waste, and judge what follows."""
        if answer.account is not None:
            self._tried.add(answer.account)
            self._turns.blame(answer.account, error)
        await self._close_attempt(answer.epoch, answer.k, error)
        answer.received.path.unlink(missing_ok=True)
        await self._judge(error)

    async def _close_attempt(self, epoch: int, k: int, error: UpstreamError) -> None:
        log.warning(
            "attempt failed",
            extra={"job_id": self._job.id, "fault": str(error.fault), "code": error.code},
        )
        await self._write(
            lambda tx: jobs.end_attempt(
                tx,
                self._job.id,
                epoch,
                k,
                outcome=str(error.fault),
                code=error.code,
                sold=error.sold,
                upstream_request_id=error.upstream_request_id,
            )
        )

    async def _write(self, work: Callable[[Transaction], T], *, tries: float = WRITE_TRIES) -> T:
        """Write even if the database is busy or its disk full for a while.

        Raises:
            Unavailable: it refused `tries` times, or it is closed.
        """
        made = 0
        while True:
            try:
                return await self._parts.db.write(work)
            except ShuttingDown:
                raise
            except Unavailable:
                made += 1
                if made >= tries:
                    raise
                log.exception("write refused", extra={"job_id": self._job.id})
                await asyncio.sleep(min(BACKOFF_FIRST_S * 2 ** min(made - 1, 5), BACKOFF_MAX_S))

    # --- the end -------------------------------------------------------------------------

    async def _settle(self, answer: Answer, blob: BlobRef) -> None:
        """Image row, job completed and settle in one transaction; a lost race changes nothing."""
        image_id, transfer_id = secrets.token_hex(16), f"tr_{secrets.token_hex(12)}"
        job = self._job

        def end(tx: Transaction) -> Job | None:
            done = jobs.complete(
                tx,
                job,
                epoch=answer.epoch,
                k=answer.k,
                image_id=image_id,
                blob=blob,
                link_ttl_s=self._policy.link_ttl_s,
            )
            if done:
                ledger.settle(
                    tx,
                    transfer_id=transfer_id,
                    reserve_id=job.reserve_id,
                    actor="gateway",
                    reason="image delivered",
                )
            return jobs.get_job(tx, job.id)

        await self._ended(await self._write(end, tries=UNTIL_CANCELLED))

    async def _release(self, failure: JobFailure) -> None:
        transfer_id = f"tr_{secrets.token_hex(12)}"
        job = self._job

        def end(tx: Transaction) -> Job | None:
            if jobs.fail(tx, job, failure):
                jobs.lose_attempts(tx, job.id)
                ledger.release(
                    tx,
                    transfer_id=transfer_id,
                    reserve_id=job.reserve_id,
                    actor="gateway",
                    reason=failure.code or failure.type,
                )
            return jobs.get_job(tx, job.id)

        await self._ended(await self._write(end, tries=UNTIL_CANCELLED))

    async def fail_internally(self) -> None:
        """End the job after a fault of our own, so that no hold is left over."""
        with contextlib.suppress(Lost):
            await self._release(failures.internal())

    async def _ended(self, job: Job | None) -> None:
        if job is None or not job.state.terminal:
            raise Lost
        self._watch.ended(job)
