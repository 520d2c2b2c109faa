"""Who waits for an order, and what is noted when a caller has left.

Owns the one transaction of that moment: delivered, or free to be claimed by a retry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Self

from safelight import jobs
from safelight.db import Transaction
from safelight.errors import Unavailable
from safelight.gateway import joining
from safelight.gateway.orders import Order
from safelight.gateway.parts import COMPANY_S, Parts

log = logging.getLogger("safelight.gateway")

NOTE_TRIES = 5
"""How often it is tried, over some seconds, to note that an answer was delivered."""


class Attachment:
    """One caller waiting for one order, as a context; leaving undelivered lets a retry claim it.

    Args:
        parts: rooms below.
        order: waited for.
        left_without: told when the caller has left undelivered: a retry may be waiting for that.
    """

    __slots__ = ("_left_without", "_order", "_parts", "done", "final")

    def __init__(self, parts: Parts, order: Order, left_without: Callable[[], None]) -> None:
        self._parts = parts
        self._order = order
        self._left_without = left_without
        self.done = False
        self.final = False

    def delivered(self, *, final: bool = False) -> None:
        """Say that the whole answer was written to a caller who was still there.

        With `final` it was no end but where to find one: whatever comes of it, no call repeats it.
        """
        self.done, self.final = True, final

    async def __aenter__(self) -> Self:
        """Begin to wait."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        # Shielded: a disconnect cancels the handler, but the order must not look attached.
        await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        order = self._order

        def leave(tx: Transaction) -> None:
            # A failure that the caller was told to repeat stays, for its own retry to claim.
            conclusive = self.done and not joining.told_to_repeat(tx, order.request_id)
            if self.final or conclusive:
                jobs.deliver_request(tx, order.request_id, retry_count=order.retry_count)
            else:
                jobs.detach_request(tx, order.request_id, retry_count=order.retry_count)

        try:
            # Again while the database is away for a moment: what is not noted as delivered may be
            # taken by the retry of an equal order.
            company_s = COMPANY_S if self.done else 0.0
            await self._parts.write(
                leave, job_id=order.jobs[0].id, tries=NOTE_TRIES, company_s=company_s
            )
        except Unavailable:
            # The answer is out already; at worst a retry waits for the grace, or buys anew.
            log.exception("delivery not noted", extra={"request_id": order.request_id})
        if not self.done:
            self._left_without()
        self._parts.notes.left(order.jobs, delivered=self.done)
