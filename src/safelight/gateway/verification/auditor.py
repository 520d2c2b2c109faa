"""The auditor: verifies at start and on a timer, raises the alarm, stops the customer concerned.

Owns what a server does about findings. Each is looked for a second time before it counts, so that
no race of our own stops a customer. Nothing is ever corrected here: an operator looks, books an
adjustment where money is owed, and lets the customer order again (docs/ledger.md).
"""

from __future__ import annotations

import logging

from safelight.clock import Clock
from safelight.db import Database
from safelight.errors import Conflict
from safelight.gateway.verification import Finding, Report, Verification, known

log = logging.getLogger("safelight.verify")

RESTS = 3.0
"""Within a round it rests so many times as long as each snapshot took: a quarter of a core at most,
also when a process starts and has other things to do."""
LARGEST_SHARE = 4
"""After a round it rests so many times as long as that took: in all, 5 % of a core at most."""


class Auditor:
    """Verifies for one server process.

    Args:
        db: the database.
        verification: what looks.
        clock: tells when the next round is due.
        every_s: seconds from one round to the next, over all processes on the database.
        blobs: share of the blobs that a round reads and hashes.
    """

    def __init__(
        self,
        db: Database,
        verification: Verification,
        clock: Clock,
        *,
        every_s: float,
        blobs: float,
    ) -> None:
        self._db = db
        self._verification = verification
        self._clock = clock
        self._every_s = every_s
        self._blobs = blobs
        self._rest_until = float("-inf")
        self._seen: set[tuple[str, str]] = set()
        self._first = True
        self._running = False

    async def run_now(self) -> Report:
        """Verify at once, whoever has just done so, and do about it what a round does.

        Raises:
            Conflict: this process is at it.
        """
        if self._running:
            raise Conflict(
                "A verification runs here already; look at its result when it has ended.",
                code="verification_runs",
            )
        self._running = True
        try:
            await self._db.write(lambda tx: known.begin(tx, not_within_s=0))
            report = await self._verification.run(blobs=self._blobs)
            report.findings = await self._verification.again(report, blobs=self._blobs)
            await self.act([one for one in report.findings if not one.passing])
            await self._db.write(known.ended)
        finally:
            self._running = False
        return report

    async def round(self) -> Report | None:
        """Verify, unless another process has just done so; None where nothing was looked at.

        The first round of a process is always done.
        """
        if self._clock.monotonic() < self._rest_until:
            return None
        # A little early counts: timers of one period drift apart.
        pause_s = 0.0 if self._first else 0.9 * self._every_s
        if not await self._db.write(lambda tx: known.begin(tx, not_within_s=pause_s)):
            return None
        self._first = False
        report = await self._verification.run(blobs=self._blobs)
        self._rest_until = self._clock.monotonic() + LARGEST_SHARE * report.took_s
        if report.blobs_unread:
            log.error("pictures could not be read", extra={"images": report.blobs_unread})
        await self.act(self._lasting(await self._verification.again(report, blobs=self._blobs)))
        await self._db.write(known.ended)
        return report

    async def act(self, findings: list[Finding]) -> list[Finding]:
        """Keep findings, stop their customers, and raise an alarm for those that are new."""
        if not findings:
            return []
        new = await self._db.write(lambda tx: known.keep(tx, findings))
        for one in new:
            log.error(
                "the books do not add up: %s",
                one.words,
                extra={
                    "customer_id": one.customer_id,
                    "invariant": one.invariant,
                    "check": one.check,
                    "subject": one.subject,
                    "stored": one.stored,
                    "expected": one.expected,
                },
            )
        return new

    def _lasting(self, findings: list[Finding]) -> list[Finding]:
        """Leave out what may pass by itself, unless it was there a round ago."""
        before, self._seen = self._seen, {(one.customer_id, one.mark) for one in findings}
        return [one for one in findings if not one.passing or (one.customer_id, one.mark) in before]
