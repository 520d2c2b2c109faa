"""Batches: many orders in one file, fed to the queue a few at a time, answered in two files.

Owns the life of a batch in OpenAI's words: validating, in_progress, finalizing and its four ends,
with cancel and expiry in between. `intake` reads the file, `feeding` makes orders of its lines,
`results` writes what came of them, `phases` goes from one to the next. A batch is worked on in
visits that the engine reminds of; each begins at what the rows say, so one that was lost or comes
twice changes nothing.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from safelight import batches, files
from safelight.batches import BatchRow, BatchStatus, Counts, Superseded
from safelight.config_batches import BatchesConfig, window_s
from safelight.db import Transaction
from safelight.engine import Engine, Work
from safelight.errors import (
    IdempotencyKeyReused,
    InvalidRequest,
    InvalidValue,
    NotFound,
    RateLimited,
    Unavailable,
)
from safelight.gateway.acceptance import Acceptance
from safelight.gateway.batching.feeding import Feeder, Remind
from safelight.gateway.batching.forms import Forms
from safelight.gateway.batching.phases import CancelJob, Phases
from safelight.gateway.filing import BATCH_PURPOSE, Filing, no_such_file
from safelight.gateway.joining import JOIN_WINDOW_MS
from safelight.gateway.parts import Parts
from safelight.gateway.vendor_lane import VendorLane
from safelight.types import Identity

log = logging.getLogger("safelight.batches")

ENDPOINTS = ("/v1/images/generations", "/v1/images/edits")
PHASES_MAX = 20
"""Phases that one visit goes through: then others have theirs."""
PAUSE_MIN_S, PAUSE_MAX_S = 1.0, 15.0
IDLE_SHARE = 0.25
"""The next look comes after this share of the time in which nothing has changed."""
SILENT_MS = 60_000
"""A batch that no visit has touched for so long is reminded of again."""
SWEEP_MAX = 1000


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a customer asks for. `keep_output_s` None: as long as configured."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    keep_output_s: int | None
    origin: str
    idempotency_key: str | None = None
    retry_count: int = 0
    """The SDK's count of its retries: a retry gets the batch that its first try made."""


class Batching:
    """The batches of all customers.

    Args:
        parts: rooms below.
        engine: reminds of batches.
        acceptance: places orders.
        remind: has their jobs looked at.
        cancel_job: cancels one.
        forms: reads and answers lines.
        filing: names files.
        config: the operator's bounds.
        lane: takes lines for the vendors' own Batch APIs.
        folder: where files are written before they are kept; emptied by others after a crash.
    """

    def __init__(  # noqa: PLR0913  (the parts of one room)
        self,
        parts: Parts,
        *,
        engine: Engine,
        acceptance: Acceptance,
        remind: Remind,
        cancel_job: CancelJob,
        forms: Forms,
        filing: Filing,
        config: BatchesConfig,
        lane: VendorLane,
        folder: Path,
    ) -> None:
        self._parts = parts
        self._engine = engine
        self._config = config
        self._phases = Phases(
            parts,
            Feeder(parts, acceptance, remind, forms, config, lane),
            cancel_job=cancel_job,
            forms=forms,
            filing=filing,
            config=config,
            folder=folder,
        )

    # --- what customers ask ----------------------------------------------------------------

    async def create(self, identity: Identity, new: NewBatch) -> tuple[BatchRow, Counts]:
        """Accept a batch durably, or return the one that this is a retry of.

        Its file is read later.

        Raises:
            InvalidRequest: the endpoint, the window or the file is none that a batch takes.
            IdempotencyKeyReused: the key belongs to a batch that asks for something else.
            RateLimited: the customer has as many open batches as may be.
        """
        seconds = self._check(new)
        batch_id = self._parts.new_id("batch")

        def work(tx: Transaction) -> tuple[BatchRow, Counts]:
            files.lock(tx, identity.customer_id)
            batch = self._draft(tx, identity, new, batch_id, seconds)
            earlier = _retried(tx, batch, new.retry_count)
            if earlier is not None:
                return earlier, batches.counts(tx, earlier)
            self._refuse_beyond_bounds(tx, identity.customer_id)
            batches.insert(tx, batch)
            return batch, Counts(0, 0)

        batch, counts = await self._parts.db.write(work)
        if batch.id == batch_id:
            await self._remind(batch, 0.0)
        return batch, counts

    def _draft(
        self, tx: Transaction, identity: Identity, new: NewBatch, batch_id: str, seconds: int
    ) -> BatchRow:
        file = files.get(tx, identity.customer_id, new.input_file_id)
        if file is None:
            raise _unusable(no_such_file(new.input_file_id).message)
        if file.purpose != BATCH_PURPOSE:
            raise _unusable(f"The file was uploaded for {file.purpose!r}, not for 'batch'.")
        keep_s = new.keep_output_s
        return BatchRow(
            id=batch_id,
            customer_id=identity.customer_id,
            key_id=identity.key_id,
            input_file_id=file.id,
            input_digest=file.digest,
            endpoint=new.endpoint,
            completion_window=new.completion_window,
            metadata=new.metadata,
            keep_output_s=self._config.keep_output_s if keep_s is None else keep_s,
            origin=new.origin,
            status=BatchStatus.VALIDATING,
            idempotency_key=new.idempotency_key,
            created_at=tx.now_ms,
            expires_at=tx.now_ms + seconds * 1000,
        )

    def _refuse_beyond_bounds(self, tx: Transaction, customer_id: str) -> None:
        if batches.count_open(tx, customer_id) >= self._config.max_open:
            raise RateLimited(
                f"You have {self._config.max_open} batches that have not ended, as many as may be; "
                "wait for one, or cancel one.",
                retry_after_s=60,
                should_retry=False,
            )

    def _check(self, new: NewBatch) -> int:
        """Return the window's length, seconds."""
        if new.endpoint not in ENDPOINTS:
            raise InvalidValue(
                f"Invalid value {new.endpoint[:60]!r} of 'endpoint'. "
                f"Send one of: {', '.join(ENDPOINTS)}.",
                param="endpoint",
            )
        windows = self._config.completion_windows
        seconds = window_s(new.completion_window)
        if new.completion_window not in windows or seconds is None:
            raise InvalidValue(
                f"Invalid value {new.completion_window[:60]!r} of 'completion_window'. "
                f"Send one of: {', '.join(windows)}.",
                param="completion_window",
            )
        return seconds

    async def batch(self, customer_id: str, batch_id: str) -> tuple[BatchRow, Counts]:
        """Return a customer's batch and how many of its lines have ended.

        Raises:
            NotFound: no such batch, or another customer's.
        """

        def look(tx: Transaction) -> tuple[BatchRow, Counts] | None:
            found = batches.get(tx, batch_id)
            if found is None or found.customer_id != customer_id:
                return None
            return found, batches.counts(tx, found)

        found = await self._parts.db.read(look)
        if found is None:
            raise NotFound(f"No batch has the id {batch_id!r}.", param="batch_id")
        return found

    async def page(
        self, customer_id: str, *, after: str | None, limit: int
    ) -> tuple[list[tuple[BatchRow, Counts]], bool]:
        """Return a customer's batches, newest first, and whether more follow.

        Raises:
            InvalidValue: `after` is no batch of the customer.
        """
        try:
            found = await self._parts.db.read(
                lambda tx: batches.page(tx, customer_id, after=after, limit=limit + 1)
            )
        except LookupError:
            raise InvalidValue(
                "'after' must be the id of one of your batches.", param="after"
            ) from None
        return found[:limit], len(found) > limit

    async def cancel(self, customer_id: str, batch_id: str) -> tuple[BatchRow, Counts]:
        """Let nothing more of a batch begin; what is under way at an upstream still ends.

        Raises:
            NotFound: no such batch, or another customer's.
            InvalidRequest: it has ended, or its files are being written.
        """
        batch, _ = await self.batch(customer_id, batch_id)
        done = await self._parts.db.write(lambda tx: batches.cancel(tx, batch_id))
        found = await self.batch(customer_id, batch_id)
        if not done and found[0].status not in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
            raise InvalidRequest(
                f"The batch is {found[0].status}; only one that is validating or in_progress can "
                "be cancelled.",
                code="batch_not_cancellable",
            )
        if done:
            await self._remind(batch, 0.0)
        return found

    # --- visits -----------------------------------------------------------------------------

    async def feed(self, batch_id: str) -> None:
        """Make a visit: bring a batch as far as it can go without waiting, then ask for the next.

        Raises:
            StorageError: a file or a picture cannot be read or kept; `sweep` comes back to it.
            Unavailable: the database is away.
        """
        visit = self._parts.new_id("visit")
        for _ in range(PHASES_MAX):
            batch = await self._parts.db.write(lambda tx: batches.take(tx, batch_id, visit))
            if batch is None:
                return
            try:
                moved = await self._phases.go_on(batch, visit)
            except Superseded:
                # Another visit has begun, or the status has changed: that one goes on.
                return
            if not moved:
                break
        await self._come_again(batch_id)

    async def sweep(self) -> int:
        """Remind the engine of batches that no visit has touched for a while; return how many."""

        def look(tx: Transaction) -> list[BatchRow]:
            return batches.overdue(tx, before_ms=tx.now_ms - SILENT_MS, limit=SWEEP_MAX)

        silent = await self._parts.db.read(look)
        for batch in silent:
            await self._remind(batch, 0.0)
        return len(silent)

    async def _come_again(self, batch_id: str) -> None:
        batch = await self._parts.db.read(lambda tx: batches.get(tx, batch_id))
        if batch is None or batch.status.ended:
            return
        idle_s = (self._parts.clock.now_ms() - batch.progress_at) / 1000
        await self._remind(batch, min(max(idle_s * IDLE_SHARE, PAUSE_MIN_S), PAUSE_MAX_S))

    async def _remind(self, batch: BatchRow, delay_s: float) -> None:
        visit = await self._parts.db.write(lambda tx: batches.remind(tx, batch.id))
        if visit is None:
            return
        work = Work(
            queue="batches",
            item=batch.id,
            key=f"{batch.id}/{visit}",
            partition=batch.customer_id,
            delay_s=delay_s,
        )
        try:
            await self._engine.enqueue([work])
        except Unavailable as error:
            # The batch is durable; the sweep reminds of it again.
            log.warning("batch not queued yet", extra={"reason": error.message})


def _retried(tx: Transaction, batch: BatchRow, retry_count: int) -> BatchRow | None:
    """Return the batch that a request for this one repeats, or None.

    An Idempotency-Key names it. Without one, it is the newest that asks for the same, by the SDK's
    word that this is a retry: two batches of one file would buy everything twice.
    """
    if batch.idempotency_key is not None:
        found = batches.by_idempotency_key(tx, batch.customer_id, batch.idempotency_key)
        if found is not None and not found.asks_like(batch):
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used for another batch; send a new key for a new one.",
                param="Idempotency-Key",
            )
        return found
    if retry_count < 1:
        return None
    return batches.newest_like(tx, batch, since_ms=tx.now_ms - JOIN_WINDOW_MS)


def _unusable(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_input_file", param="input_file_id")
