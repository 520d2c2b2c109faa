"""Which lines go to a vendor's Batch API, and how they come into a vendor batch.

Owns that choice (the operator's policy, the customer's word, the time that is left) and the
transaction's steps by which a line that was ordered a moment ago is collected. One vendor batch
carries lines of one batch of one customer: so a customer's cancel is a cancel at the vendor, and
prompts of two customers are never in one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from safelight import vendor_batches
from safelight.batches import BatchRow
from safelight.config_batches import VendorBatchesConfig
from safelight.db import Transaction
from safelight.errors import UnknownModel
from safelight.gateway.parts import Parts
from safelight.types import Account, Job
from safelight.vendor_batches import Status, VendorBatch, items

ENDPOINT = "/v1/images/generations"
"""Edits stay in the live lane: their inputs would have to lie at the vendor as files of their own,
to be sent, found again after a crash and removed, and no source says that a batch takes them."""
ASKED = "safelight_vendor_batch"
"""The key in a batch's metadata by which a customer asks for the lane, or refuses it."""
LINES_MAX = 50_000
"""Lines of one batch that may be with a vendor at one time: as many as a batch has."""
LINE_BYTES = 700
"""What a line has beside its order as we keep it."""


class Entering:
    """Chooses lines and collects them.

    Args:
        parts: rooms below.
        accounts: those that may be used.
        config: the operator's bounds.
    """

    def __init__(
        self, parts: Parts, accounts: Iterable[Account], config: VendorBatchesConfig
    ) -> None:
        self._parts = parts
        self._accounts = tuple(accounts)
        self._config = config

    def wants(self, batch: BatchRow) -> bool:
        """Return whether lines of a batch go to a vendor's Batch API now."""
        if not self._accounts or batch.endpoint != ENDPOINT or batch.model is None:
            return False
        try:
            policy = self._parts.channels.get(batch.model).vendor_batches
        except UnknownModel:
            return False
        asked = (batch.metadata or {}).get(ASKED)
        if policy == "off" or asked == "false" or (policy == "asked" and asked != "true"):
            return False
        left_ms = batch.expires_at - self._parts.clock.now_ms()
        needed_s = self._config.live_reserve_s + self._config.cancel_s + self._config.min_room_s
        return left_ms >= needed_s * 1000 and bool(self._serving(batch.model))

    def room(self, tx: Transaction, batch: BatchRow, *, under_way: int, live: int) -> int:
        """Return how many more lines of a batch may be ordered.

        Args:
            tx: a transaction.
            batch: whose lines.
            under_way: how many are ordered and have not ended.
            live: how many may be in the live lane.
        """
        if not self._accounts:
            return max(0, live - under_way)
        if self.wants(batch):
            return max(0, LINES_MAX - under_way)
        return max(0, live - (under_way - items.count_of_batch(tx, batch.id)))

    def enter(self, tx: Transaction, batch: BatchRow, placed: Sequence[Job]) -> frozenset[str]:
        """Put jobs that were placed in this transaction into the vendor batch that collects.

        Returns:
            Vendor batches that were made or closed for them: after the commit they are to be
            looked at (`VendorLane.wake`).
        """
        news: set[str] = set()
        found = vendor_batches.collecting(tx, batch.id) if placed else None
        for job in placed:
            size = LINE_BYTES + len(msgspec.json.encode(job.request))
            if found is not None and not self._fits(found, size):
                vendor_batches.pack(tx, found.id)
                news.add(found.id)
                found = None
            # Another process may have closed it since it was read.
            if found is None or not vendor_batches.add(tx, found.id, lines=1, size=size):
                found = self._new(tx, batch, job)
                news.add(found.id)
                vendor_batches.add(tx, found.id, lines=1, size=size)
            found = msgspec.structs.replace(found, lines=found.lines + 1, bytes=found.bytes + size)
            items.enter(tx, job, found.id)
        return frozenset(news)

    def collecting(self, tx: Transaction, batch: BatchRow) -> frozenset[str]:
        """Return the vendor batch that collects lines of a batch, if there is one."""
        found = vendor_batches.collecting(tx, batch.id)
        return frozenset() if found is None else frozenset({found.id})

    def _fits(self, batch: VendorBatch, size: int) -> bool:
        config = self._config
        return batch.lines < config.max_lines and batch.bytes + size <= config.max_bytes

    def _new(self, tx: Transaction, batch: BatchRow, job: Job) -> VendorBatch:
        serving = self._serving(job.request.channel)
        tier = min(one.tier for one in serving)
        account = self._parts.rng.choice([one for one in serving if one.tier == tier])
        return_at = job.deadline_at - round(self._config.live_reserve_s * 1000)
        made = VendorBatch(
            id=self._parts.new_id("vb"),
            batch_id=batch.id,
            account=account.name,
            limiter_group=account.group,
            status=Status.COLLECTING,
            created_at=tx.now_ms,
            cancel_at=return_at - round(self._config.cancel_s * 1000),
            return_at=return_at,
        )
        vendor_batches.insert(tx, made)
        return made

    def _serving(self, channel: str) -> list[Account]:
        return [one for one in self._accounts if channel in one.channels]
