"""What the operator reads of the books: receipts, a month of lines, the vendor's side of it.

Owns the reads of the office that combine rooms; `office.py` opens the data folder and owns what
changes something. Nothing here writes to the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from safelight import attempts, vendor_batches
from safelight.db import Database, Transaction
from safelight.gateway.exports import ExportLine, MonthSums, month_lines
from safelight.gateway.receipts import Receipt, read_receipt
from safelight.gateway.reconciling import Reconciliation, reach, reconcile
from safelight.vendor_batches import VendorBatch, items
from safelight.vendor_usage import VendorUsage

VENDOR_BATCHES_MAX = 100
Write = Callable[[Iterator[ExportLine], MonthSums], None]


class UnknownAccount(LookupError):
    """Nothing has ever left for that account or group; the text names those that are known."""


class OfficeBooks:
    """The books of one data folder, for reading.

    Args:
        db: the database.
        pepper: the secret that aliases of accounts are made with.
    """

    def __init__(self, db: Database, pepper: bytes) -> None:
        self._db = db
        self._pepper = pepper

    async def receipt(self, job_id: str) -> Receipt:
        """Return all that is known of a job.

        Raises:
            LookupError: no job has that id.
        """
        found = await self._db.read(lambda tx: read_receipt(tx, job_id, pepper=self._pepper))
        if found is None:
            raise LookupError(f"no job has the id {job_id!r}")
        return found

    async def vendor_batches(self, *, everything: bool) -> list[tuple[VendorBatch, dict[str, int]]]:
        """Return vendor batches, newest first, each with how many of its lines are in which state.

        Those that are open; with `everything` the last hundred.
        """

        def work(tx: Transaction) -> list[tuple[VendorBatch, dict[str, int]]]:
            found = vendor_batches.listed(tx, open_only=not everything, limit=VENDOR_BATCHES_MAX)
            counts = items.counts(tx, [one.id for one in found])
            return [(one, counts[one.id]) for one in found]

        return await self._db.read(work)

    async def export(
        self, write: Write, *, customer: str | None, from_s: int, to_s: int
    ) -> MonthSums:
        """Hand the lines of a span of time to `write`, on one snapshot, and return their sums.

        `write` takes all lines, and finds the sums complete after the last one. It runs in a
        thread, and from its beginning again where the database asks for that.

        Raises:
            LookupError: no customer has that name.
        """

        def work(tx: Transaction) -> MonthSums:
            sums = MonthSums()
            write(month_lines(tx, sums, customer=customer, from_s=from_s, to_s=to_s), sums)
            return sums

        return await self._db.read(work)

    async def reconcile(
        self,
        usage: VendorUsage,
        *,
        account: str | None = None,
        group: str | None = None,
        from_s: int | None = None,
        to_s: int | None = None,
    ) -> Reconciliation:
        """Compare a vendor's export with the attempts of one account, or of one limiter group.

        Raises:
            UnknownAccount: nothing has ever left for it.
            NothingToCompare: the export has nothing in the period.
        """
        from_ms = None if from_s is None else from_s * 1000
        to_ms = None if to_s is None else to_s * 1000
        begin, end = reach(usage, from_ms, to_ms)

        def look(tx: Transaction) -> list[attempts.Attempt]:
            made = attempts.sent_between(tx, account=account, group=group, from_ms=begin, to_ms=end)
            if not made:
                _check_name(tx, account, group)
            return made

        made = await self._db.read(look)
        return reconcile(usage, made, from_ms=from_ms, to_ms=to_ms)


def _check_name(tx: Transaction, account: str | None, group: str | None) -> None:
    accounts, groups = attempts.names(tx)
    known, asked = (accounts, account) if group is None else (groups, group)
    if asked not in known:
        kind = "account" if group is None else "limiter group"
        names = ", ".join(known) or "none"
        raise UnknownAccount(f"nothing has ever left for the {kind} {asked!r}; known: {names}")
