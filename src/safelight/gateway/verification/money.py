"""The ledger against itself: sums, resolutions, amounts and the hash chain of one customer.

Reads transfers in pages, a transaction each: they are append-only and one customer's come one after
another, so a page that was read stays true. The last page and the balance are read in one snapshot.
Knows no jobs and no images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from safelight import ledger
from safelight.db import Row, Transaction
from safelight.gateway.verification.findings import Check, Finding, found

PAGE = 500
"""Transfers in one snapshot: some 10 ms of work."""

_TRANSFERS = (
    "SELECT t.*, r.kind AS target_kind, r.customer_id AS target_customer, "
    "r.amount_micros AS target_amount, r.job_id AS target_job FROM transfer t "
    "LEFT JOIN transfer r ON r.id = COALESCE(t.reserve_id, t.refund_of) "
    "WHERE t.customer_id = :customer AND t.seq > :after ORDER BY t.seq LIMIT :limit"
)


_BALANCE = "SELECT * FROM balance WHERE customer_id = :customer"
_REFUNDED_TWICE = (
    "SELECT refund_of, COUNT(*) AS times FROM transfer WHERE customer_id = :customer "
    "AND kind = 'refund' GROUP BY refund_of HAVING COUNT(*) > 1 ORDER BY refund_of"
)


@dataclass(frozen=True)
class Page:
    """What one snapshot gave: transfers, and with the last of them what they add up to."""

    rows: list[Row]
    balance: Row | None = None
    refunded_twice: list[Row] = field(default_factory=list)
    last: bool = False


class LedgerWalk:
    """One customer's transfers, from the first to the newest.

    Memory: the reserves that are open at one point of the walk, and what was found.
    """

    def __init__(self, customer_id: str, *, page: int = PAGE) -> None:
        self.findings: list[Finding] = []
        self.transfers = 0
        self._customer = customer_id
        self._page = page
        self._seq = 0
        self._last = "the beginning"
        self._posted = self._running = 0
        self._charged = self._refunded = 0
        self._open: dict[str, int] = {}
        self._chain = ledger.GENESIS

    def read(self, tx: Transaction) -> Page:
        """Read the next page, with the balance if it is the last; changes nothing here."""
        values = {"customer": self._customer, "after": self._seq, "limit": self._page}
        rows = tx.all(_TRANSFERS, values)
        if len(rows) == self._page:
            return Page(rows)
        balance = tx.one(_BALANCE, {"customer": self._customer})
        return Page(rows, balance, tx.all(_REFUNDED_TWICE, {"customer": self._customer}), last=True)

    def take(self, page: Page) -> bool:
        """Compare what was read; False when that was the last page."""
        for row in page.rows:
            self._transfer(row)
        self.transfers += len(page.rows)
        if page.last:
            self._end(page)
        return not page.last

    def _found(
        self, check: Check, subject: str, stored: object, expected: object, *, differs: object = ""
    ) -> None:
        self.findings.append(
            found(check, self._customer, subject, stored=stored, expected=expected, differs=differs)
        )

    def _transfer(self, row: Row) -> None:
        name, kind = row["id"], row["kind"]
        self._seq = row["seq"]
        if row["hash"] != (whole := ledger.chain_hash(row)):
            self._found(Check.CONTENT, name, row["hash"].hex(), whole.hex(), differs=whole.hex())
        amount = ledger.signed_amount(row)
        self._follows(row["prev_hash"], row["balance_micros"] - amount)
        self._last, self._chain, self._running = name, row["hash"], row["balance_micros"]
        self._posted += amount
        if (row["debit"], row["credit"]) not in _parties(kind, self._customer):
            self._found(Check.PARTIES, name, f"{row['debit']} to {row['credit']}", kind)
        match kind:
            case "reserve":
                self._open[name] = row["amount_micros"]
            case "settle" | "release":
                self._resolution(row)
            case "refund":
                self._refund(row)

    def _follows(self, chained_to: bytes, goes_on_from: int) -> None:
        """Compare what comes next, a transfer or the balance, with the last transfer.

        A gap is the last transfer's finding, so that it stays the same one when more follow.
        """
        if chained_to != self._chain:
            self._found(Check.ORDER, self._last, chained_to.hex(), self._chain.hex())
        if (off := goes_on_from - self._running) != 0:
            self._found(Check.RUNNING, self._last, goes_on_from, self._running, differs=off)

    def _resolution(self, row: Row) -> None:
        if row["kind"] == "settle":
            self._charged += row["amount_micros"]
        was_open = self._open.pop(row["reserve_id"], None) is not None
        if not (was_open and _of_one_job(row) and row["target_kind"] == "reserve"):
            self._found(Check.RESOLVES, row["id"], row["reserve_id"], "an open reserve")
        elif row["amount_micros"] != row["target_amount"]:
            self._found(Check.AMOUNT, row["id"], row["amount_micros"], row["target_amount"])

    def _refund(self, row: Row) -> None:
        self._refunded += row["amount_micros"]
        right = row["target_kind"] == "settle" and _of_one_job(row)
        if not right or row["amount_micros"] != row["target_amount"]:
            stored = f"{row['amount_micros']} of {row['target_kind']} {row['refund_of']}"
            expected = f"{row['target_amount']} of a settle" if right else "a settle"
            self._found(Check.REFUND, row["id"], stored, expected)

    def _end(self, page: Page) -> None:
        if page.balance is None:
            self._found(Check.NO_BALANCE, self._customer, "none", "one")
        else:
            self._balance(page.balance)
        if self._refunded > self._charged:
            self._found(Check.REFUNDS, "balance", self._refunded, f"at most {self._charged}")
        for row in page.refunded_twice:
            self._found(Check.REFUNDED_TWICE, row["refund_of"], row["times"], 1)

    def _balance(self, balance: Row) -> None:
        posted, held = balance["posted_micros"], balance["held_micros"]
        should_be_held = sum(self._open.values())
        self._follows(balance["chain"], posted)
        if posted != self._posted:
            self._found(
                Check.POSTED, "balance", posted, self._posted, differs=posted - self._posted
            )
        if held != should_be_held:
            self._found(Check.HELD, "balance", held, should_be_held, differs=held - should_be_held)
        if posted - held < (floor := balance["floor_micros"]):
            self._found(Check.FLOOR, "balance", posted - held, f"at least {floor}")


def walk(tx: Transaction, customer_id: str) -> list[Finding]:
    """Walk one customer's transfers in one transaction."""
    books = LedgerWalk(customer_id)
    while books.take(books.read(tx)):
        pass
    return books.findings


def _of_one_job(row: Row) -> bool:
    return (row["target_customer"], row["target_job"]) == (row["customer_id"], row["job_id"])


def _parties(kind: str, customer: str) -> tuple[tuple[str, str], ...]:
    """Return who may give and who may take in a transfer of a kind."""
    match kind:
        case "topup":
            return ((ledger.FUNDING, customer),)
        case "reserve" | "settle":
            return ((customer, ledger.REVENUE),)
        case "release" | "refund":
            return ((ledger.REVENUE, customer),)
        case _:
            return ((ledger.GOODWILL, customer), (customer, ledger.GOODWILL))
