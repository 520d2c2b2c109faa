"""Running one job: a bought picture verified, stored, and the one transaction that ends it.

Owns the control flow between an accepted job and its end. Every stage is journalled before the next
begins, and only the failed stage is repeated: a picture that lies in the spool is never bought
again, not even after `kill -9`. `buying` decides about attempts, `calling` makes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from safelight import images, jobs, ledger, removals
from safelight.config import ChannelConfig
from safelight.db import Transaction
from safelight.errors import (
    STORAGE_UNAVAILABLE,
    FaultClass,
    StorageError,
    UnknownModel,
    UpstreamError,
)
from safelight.gateway import ending, failures, notifying, retention
from safelight.gateway.buying import BACKOFF_FIRST_S, BACKOFF_MAX_S, Buying
from safelight.gateway.calling import (
    Answer,
    Calls,
    Lost,
    is_edit,
    note_unless_journalled,
)
from safelight.gateway.failures import Failed
from safelight.gateway.originals import Originals
from safelight.gateway.parts import UNTIL_CANCELLED, Parts
from safelight.gateway.turns import Ticket, Turns
from safelight.gateway.watch import Watch
from safelight.pool import Lease, Need
from safelight.types import BlobRef, Job, JobClass, JobFailure, Stage

log = logging.getLogger("safelight.gateway")

STORE_RETRIES = 3


class _OtherFormat(Exception):
    """A whole picture came in another format than was ordered."""


class Run:
    """One run of one job by this process.

    Args:
        parts: what a run needs.
        watch: told about partial images and the end.
        turns: gives leases.
        job: leased to this process.
        live: whether a caller may be watching: then partial images are worth their price, and the
            job goes before those that nobody waits for.
        left_s: how long it has until its deadline. From here on the monotonic clock counts.
    """

    __slots__ = (
        "_answer",
        "_buying_now",
        "_calls",
        "_deadline",
        "_delivered",
        "_going",
        "_job",
        "_live",
        "_mark",
        "_originals",
        "_parts",
        "_superseded",
        "_turns",
        "_watch",
    )

    def __init__(
        self, parts: Parts, watch: Watch, turns: Turns, job: Job, *, live: bool, left_s: float
    ) -> None:
        self._parts = parts
        self._watch = watch
        self._turns = turns
        self._job = job
        self._live = live
        self._superseded = False
        self._buying_now: Buying[Answer] | None = None
        # Whoever ordered for later may watch all the same, and has asked for partial images.
        watched = live or job.job_class is not JobClass.INTERACTIVE
        self._calls = Calls(parts, turns, job, on_partial=self._on_partial if watched else None)
        self._deadline = parts.clock.monotonic() + left_s
        self._calls.trail.mark("accepted")
        self._mark: str | None = None
        self._originals = Originals(parts)
        self._going = False
        """Whether equal bytes of another picture were removed of late, or are at this moment."""
        self._answer: Answer | None = None
        """The answer that is being made use of."""
        self._delivered = False

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
        buying: Buying[Answer] | None = None
        try:
            try:
                buying = self._buying_now = self._buying()
                self._answer = answer
                while not self._delivered:
                    if self._answer is None:
                        self._answer = await buying.buy()
                    await self._make_use_of(self._answer, buying)
                await buying.close(delivered=True)
            except Failed as end:
                self._note_refusal(end.failure)
                if buying is not None:
                    await buying.close(delivered=False)
                await self._release(end.failure)
            except asyncio.CancelledError:
                if self._superseded and self._answer is not None and not self._answer.journalled:
                    # Whole answers count as sold, even those that are of no use any more.
                    await self._calls.journal(self._answer)
                raise
            finally:
                if buying is not None:
                    await buying.abandon()
        except Lost:
            log.info("job is no longer ours", extra={"job_id": self._job.id})

    def supersede(self) -> None:
        """Say that the job has ended elsewhere: attempts that are cancelled now have lost."""
        self._superseded = True

    def stop_buying(self) -> None:
        """Make no further attempt: the customer has cancelled the job."""
        if self._buying_now is not None:
            self._buying_now.stop()

    def _note_refusal(self, failure: JobFailure) -> None:
        customer, now = self._job.customer_id, self._parts.clock.monotonic()
        refused = failure.code == failures.MODERATION
        if refused and self._parts.refusals.note(customer, now):
            log.warning("too many refused prompts", extra={"customer_id": customer})

    def _buying(self) -> Buying[Answer]:
        job, parts = self._job, self._parts
        queued = job.job_class is not JobClass.INTERACTIVE
        urgency = job.job_class
        if not queued and not self._live:
            urgency = JobClass.JOB
        if parts.refusals.too_many(job.customer_id, parts.clock.monotonic()):
            urgency = JobClass.BATCH

        return Buying(
            pool=parts.pool,
            turns=self._turns,
            clock=parts.clock,
            need=Need(
                job.request.channel,
                edits=is_edit(job),
                size=job.size_plan.canvas,
                inputs=len(job.request.inputs),
                mask=job.request.mask is not None,
            ),
            ticket=Ticket(job.customer_id, urgency),
            policy=self._policy,
            deadline=self._deadline,
            attempt=self._attempt,
            rng=parts.rng,
            alarms=parts.alarms,
            patient=queued,
        )

    def _attempt(self, lease: Lease) -> Coroutine[Any, Any, Answer]:
        return self._calls.make(lease, deadline=self._deadline, race=self)

    @property
    def superseded(self) -> bool:
        """Whether an attempt that is cancelled now has lost to another one."""
        return self._superseded or (self._buying_now is not None and self._buying_now.superseding)

    @property
    def alone(self) -> bool:
        """Whether no more than one attempt is under way."""
        return self._buying_now is None or self._buying_now.alone

    async def _make_use_of(self, answer: Answer, buying: Buying[Answer]) -> None:
        """Store a bought answer and settle; one that is not good is taken for none.

        Raises:
            Failed: there will be no better one.
        """
        try:
            blob = await self._finish(answer)
            await self._settle(answer, blob)
        except removals.Going:
            if self._going:
                await self._pause_before_storing_again()
            self._going = True
        except UpstreamError as error:
            await self._calls.reject(answer, error)
            self._answer = None
            await buying.reject(answer.lease, error)
        else:
            self._delivered = True

    async def _pause_before_storing_again(self) -> None:
        """Wait a moment.

        Raises:
            Failed: there is no time left.
        """
        if self._parts.clock.monotonic() >= self._deadline:
            raise Failed(failures.not_stored(STORAGE_UNAVAILABLE))
        await asyncio.sleep(self._parts.rng.uniform(0.5, 1.5) * BACKOFF_FIRST_S)

    def _on_partial(self, index: int, path: Path) -> None:
        self._watch.partial(self._job.id, index, path)

    # --- finishing -----------------------------------------------------------------------

    async def _finish(self, answer: Answer) -> BlobRef:
        """Verify, remake pixels where the plan or the format needs it, and store.

        Raises:
            UpstreamError: BAD_OUTPUT; the answer is no picture of the size asked for.
            Failed: the picture is good but cannot be kept.
        """
        try:
            return await self._keep(answer) or await self._remake(answer)
        except FileNotFoundError:
            await self._assert_ours()
            raise
        except images.BadPicture as error:
            raise UpstreamError(
                FaultClass.BAD_OUTPUT,
                "upstream_bad_image",
                "The upstream's picture is damaged.",
                sold=True,
            ) from error

    async def _keep(self, answer: Answer) -> BlobRef | None:
        """Verify and store an answer as it came; None: it has to be remade.

        Raises:
            UpstreamError: BAD_OUTPUT.
            images.BadPicture: the answer is no whole picture.
            Failed: the picture cannot be kept.
        """
        if self._job.size_plan.remakes:
            return None
        received = answer.received
        if answer.lease is None:
            # Of an earlier process: if the machine lost power, the disk may never have had it.
            await self._parts.pixels.decode(received.path)
        proof = images.Proof(self._check_kept)
        try:
            await self._store(received.path, received.digest, proof)
        except _OtherFormat:
            return None
        found = proof.found
        assert found is not None  # a store that keeps a given source has called its proof
        return BlobRef(
            received.digest,
            received.bytes,
            found.format,
            found.width,
            found.height,
            found.has_alpha,
        )

    async def _remake(self, answer: Answer) -> BlobRef:
        """Make the ordered pixels of an answer, and store them.

        Raises:
            UpstreamError: BAD_OUTPUT.
            images.BadPicture: the answer is no whole picture.
            Failed: the picture cannot be kept.
        """
        job, parts, path = self._job, self._parts, answer.received.path
        self._check_pixels(await parts.pixels.verify(path))
        # Worth a commit of its own only where something long follows.
        await self._calls.journal(answer, Stage.VERIFIED)
        self._calls.trail.mark("verified")
        remade = parts.spool.remade(path)
        try:
            blob = await parts.pixels.render(
                path,
                remade,
                job.size_plan,
                job.request.output_format,
                job.request.output_compression,
            )
        except StorageError as error:
            raise Failed(failures.not_stored(error.code)) from error
        await self._store(remade, blob.digest)
        await self._originals.keep(answer.received, job.id)
        return blob

    def _check_kept(self, found: images.Probe) -> None:
        """Refuse a picture that cannot be delivered as it came; called in a thread."""
        if found.format != self._job.request.output_format:
            raise _OtherFormat
        self._check_pixels(found)
        self._calls.trail.mark("verified")

    def _check_pixels(self, found: images.Probe) -> None:
        plan, measures = self._job.size_plan, (found.width, found.height)
        if plan.exact and measures != (plan.canvas_width, plan.canvas_height):
            raise UpstreamError(
                FaultClass.BAD_OUTPUT,
                "upstream_wrong_size",
                f"The upstream answered {measures[0]}x{measures[1]} where {plan.canvas} was asked.",
                sold=True,
            )

    async def _store(self, source: Path, digest: str, proof: images.Proof | None = None) -> None:
        """Store a bought picture; while there is time, a disk that refuses is asked again."""
        if self._going:
            self._mark = await self._parts.read(
                lambda tx: removals.mark_of(tx, digest), job_id=self._job.id
            )
        for again in itertools.count():
            try:
                await self._parts.storage.put(source, digest, given=True, proof=proof)
            except StorageError as error:
                code = error.code
                if not source.exists():
                    await self._assert_ours()
                log.exception("blob not stored", extra={"job_id": self._job.id})
            else:
                self._calls.trail.mark("stored")
                return
            left = self._deadline - self._parts.clock.monotonic()
            if left <= 0 and again >= STORE_RETRIES:
                break
            pause = min(BACKOFF_FIRST_S * 2 ** min(again, 5), BACKOFF_MAX_S)
            await asyncio.sleep(pause if left <= 0 else min(pause, left))
        raise Failed(failures.not_stored(code))

    async def _assert_ours(self) -> None:
        """Ask whether the answer is gone because another process has ended the job, or runs it.

        Raises:
            Lost: so it is; whoever ends a job removes what was bought for it.
        """
        job = await self._parts.read(lambda tx: jobs.get_job(tx, self._job.id), job_id=self._job.id)
        if job is None or job.state.terminal or job.epoch != self._job.epoch:
            raise Lost

    # --- the end -------------------------------------------------------------------------

    async def _settle(self, answer: Answer, blob: BlobRef) -> None:
        """Image row, job completed and settle in one transaction; a lost race changes nothing.

        Raises:
            removals.Going: the bytes were removed since they were stored; nothing was written.
        """
        image_id, transfer_id = f"{self._parts.rng.getrandbits(128):032x}", self._parts.new_id("tr")
        job = self._job

        def end(tx: Transaction) -> tuple[Job | None, bool, int]:
            told = 0
            original = self._originals.claim(tx, blob.digest, mark=self._mark)
            note_unless_journalled(tx, job.id, answer)
            done = jobs.complete(
                tx,
                job,
                epoch=answer.epoch,
                k=answer.k,
                image_id=image_id,
                blob=blob,
                link_ttl_s=self._policy.link_ttl_s,
                keep_s=self._parts.retention.keep_s(self._policy.link_ttl_s),
            )
            if done:
                if original:
                    self._originals.note(tx, image_id)
                ledger.settle(
                    tx,
                    transfer_id=transfer_id,
                    reserve_id=job.reserve_id,
                    actor="gateway",
                    reason="image delivered",
                )
                told = notifying.job_ended(tx, job)
                retention.note_settled(
                    tx, customer_id=job.customer_id, request_id=job.request_id, image_id=image_id
                )
            return jobs.get_job(tx, job.id), done, told

        ended, ours, told = await self._parts.write(end, job_id=job.id, tries=UNTIL_CANCELLED)
        answer.journalled = True
        if told:
            self._parts.news.set()
        self._note_answer(answer)
        await self._ended(ended, ours=ours)

        self._watch_margin(answer)

    def _note_answer(self, answer: Answer) -> None:
        if answer.lease is not None:
            account = answer.lease.account
            self._parts.notes.answered(
                self._calls.trail, account.name, account.group, answer.cost_micros
            )

    def _watch_margin(self, answer: Answer) -> None:
        if answer.lease is None:
            return
        channel, account = self._job.request.channel, answer.lease.account.name
        alarm = self._parts.margins.note(
            channel, account, self._job.price_micros, answer.cost_micros
        )
        if alarm is not None:
            log.warning("margin below the alarm", extra=msgspec.structs.asdict(alarm))

    async def _release(self, failure: JobFailure) -> None:
        transfer_id = self._parts.new_id("tr")
        job = self._job

        def end(tx: Transaction) -> tuple[Job | None, bool]:
            if self._answer is not None:
                note_unless_journalled(tx, job.id, self._answer)
            ours = ending.release(tx, job, failure, transfer_id=transfer_id)
            return jobs.get_job(tx, job.id), ours

        ended, ours = await self._parts.write(end, job_id=job.id, tries=UNTIL_CANCELLED)
        self._parts.news.set()
        if self._answer is not None:
            self._note_answer(self._answer)
        await self._ended(ended, ours=ours)

    async def fail_internally(self) -> None:
        """End the job after a fault of our own, so that no hold is left over."""
        with contextlib.suppress(Lost):
            await self._release(failures.internal())

    async def _ended(self, job: Job | None, *, ours: bool) -> None:
        if job is None or not job.state.terminal:
            raise Lost
        if ours:
            self._calls.trail.mark("settled")
            self._parts.notes.ended(job, self._calls.trail)
        self._watch.ended(job)
