"""The operator's monthly export: every line of a month with its attempts, cost and margin.

Owns the read that walks a month in pages, so that memory does not grow with it, and the sums that
must meet the ledger: opening balance + lines = closing balance, for each customer. Renders and
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from safelight import attempts, ledger
from safelight.attempts import Attempt
from safelight.db import Transaction
from safelight.gateway.reading import statement_page
from safelight.gateway.receipts import Cost, cost_of
from safelight.types import Micros, StatementLine

PAGE = 500
"""Lines that are in memory at once: their jobs and attempts fit SQLite's bound of parameters."""
RESOLUTIONS = ("settle", "release")


class ExportLine(msgspec.Struct, frozen=True, kw_only=True):
    """A statement line with what the operator knows of its job.

    A job has exactly one line that resolves it (settle or release); its attempts and cost stand
    there, and nowhere else. `margin_micros` is what the charge leaves of the known cost.
    """

    customer: str
    line: StatementLine
    attempts: tuple[Attempt, ...]
    cost: Cost
    margin_micros: Micros


@dataclass(kw_only=True)
class ChannelSum:
    """What the jobs of one channel came to. `cost_complete`: every cost in it is known."""

    charged: int = 0
    free: int = 0
    refunded: int = 0
    amount_micros: Micros = 0
    """What the lines did to the balances: charges negative, refunds positive."""
    attempts: int = 0
    cost_micros: Micros = 0
    cost_complete: bool = True

    @property
    def margin_micros(self) -> Micros:
        """What the charges leave of the known costs."""
        return -self.amount_micros - self.cost_micros


@dataclass(kw_only=True)
class CustomerSum:
    """One customer's month: what the ledger says at both ends, and what the lines add up to."""

    customer: str
    opening_micros: Micros
    closing_micros: Micros
    lines: int = 0
    lines_micros: Micros = 0

    @property
    def adds_up(self) -> bool:
        """Whether opening balance and lines make the closing balance, to the micro-dollar."""
        return self.opening_micros + self.lines_micros == self.closing_micros


@dataclass
class MonthSums:
    """The sums of an export, complete when its last line has been taken."""

    customers: list[CustomerSum] = field(default_factory=list)
    channels: dict[str, ChannelSum] = field(default_factory=dict)
    others: dict[str, Micros] = field(default_factory=dict)
    """Lines without a job, by kind: top-ups and adjustments."""

    @property
    def adds_up(self) -> bool:
        """Whether every customer's month does."""
        return all(one.adds_up for one in self.customers)

    @property
    def opening_micros(self) -> Micros:
        """All customers' balances before the month."""
        return sum(one.opening_micros for one in self.customers)

    @property
    def closing_micros(self) -> Micros:
        """All customers' balances after it."""
        return sum(one.closing_micros for one in self.customers)

    @property
    def lines_micros(self) -> Micros:
        """What channels and other lines add up to."""
        jobs = sum(channel.amount_micros for channel in self.channels.values())
        return jobs + sum(self.others.values())

    def add(self, made: ExportLine) -> None:
        """Count a line of the customer that was begun last."""
        line, customer = made.line, self.customers[-1]
        customer.lines += 1
        customer.lines_micros += line.amount_micros
        if line.channel is None:
            self.others[line.kind] = self.others.get(line.kind, 0) + line.amount_micros
            return
        channel = self.channels.setdefault(line.channel, ChannelSum())
        channel.charged += line.kind == "settle"
        channel.free += line.kind == "release"
        channel.refunded += line.kind == "refund"
        channel.amount_micros += line.amount_micros
        channel.attempts += len(made.attempts)
        channel.cost_micros += made.cost.micros
        channel.cost_complete = channel.cost_complete and made.cost.complete


def customers_of(tx: Transaction, name: str | None) -> list[tuple[str, str]]:
    """Return id and name of one customer, or of all of them by name.

    Raises:
        LookupError: no customer has that name.
    """
    rows = tx.all(
        "SELECT id, name FROM customer WHERE name = COALESCE(:name, name) ORDER BY name",
        {"name": name},
    )
    if name is not None and not rows:
        raise LookupError(f"no customer is named {name!r}")
    return [(row["id"], row["name"]) for row in rows]


def month_lines(
    tx: Transaction, sums: MonthSums, *, customer: str | None, from_s: int, to_s: int
) -> Iterator[ExportLine]:
    """Yield every line of a span of time, customer by customer, each oldest first.

    Args:
        tx: one snapshot, for lines and balances must be of the same moment.
        sums: empty; filled while the lines are taken.
        customer: a name; None: all customers.
        from_s: inclusive, unix seconds.
        to_s: exclusive, unix seconds.

    Raises:
        LookupError: no customer has that name.
    """
    for customer_id, name in customers_of(tx, customer):
        found = CustomerSum(
            customer=name,
            opening_micros=ledger.posted_before(tx, customer_id, from_s * 1000),
            closing_micros=ledger.posted_before(tx, customer_id, to_s * 1000),
        )
        sums.customers.append(found)
        for made in _lines(tx, customer_id, name, from_s=from_s, to_s=to_s):
            sums.add(made)
            yield made


def _lines(
    tx: Transaction, customer_id: str, name: str, *, from_s: int, to_s: int
) -> Iterator[ExportLine]:
    after: str | None = None
    while True:
        page = statement_page(tx, customer_id, after=after, limit=PAGE, from_s=from_s, to_s=to_s)
        jobs = [line.job_id for line in page.lines if line.job_id and line.kind in RESOLUTIONS]
        made = attempts.of_jobs(tx, jobs)
        for line in page.lines:
            calls = made.get(line.job_id or "", ()) if line.kind in RESOLUTIONS else ()
            cost = cost_of(calls)
            yield ExportLine(
                customer=name,
                line=line,
                attempts=calls,
                cost=cost,
                margin_micros=-line.amount_micros - cost.micros if line.job_id else 0,
            )
        if not page.has_more:
            return
        after = page.lines[-1].id
