"""The figures of accounts: what each one was asked, delivered, wasted, cost and earned.

Owns the sums over attempts, by account and channel, and the reading of what the pool's processes
have left in `account_state` and `limiter`. Every attempt is counted in exactly one tally, so that
tallies add up to the books. Writes nothing, prices nothing; knows no configuration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from safelight.db import Row, Transaction
from safelight.quantiles import seconds_within
from safelight.types import LANE_GROUP, Micros

FRESH_MS = 60_000
"""A process that has said nothing of an account for this long does not run any more."""

STATES = ("ready", "returning", "cooling", "ejected", "down", "exhausted", "refused", "paused")
"""What the pool says of an account, from best to worst."""

_NOBODYS_FAULT = ("client", "local", "lost", "superseded", "returned")
"""Outcomes that say nothing of the account: callers' mistakes, calls that never left, a process of
ours that died, a second attempt that was quicker, a line that came back from a vendor
batch undone."""


@dataclass(kw_only=True)
class Tally:
    """What some attempts came to. Money in micro-dollars; counts of attempts.

    An attempt is `open` while its call runs, or while its picture is looked at and its job is not
    ended; neither its result nor its cost is in the other figures until then (its time may be).
    """

    attempts: int = 0
    open: int = 0
    answered: int = 0
    """Ended with a complete answer of the upstream's."""
    delivered: int = 0
    """Their picture is the one that the customer got and paid."""
    faults: Counter[str] = field(default_factory=Counter)
    """The other ends, by fault class, `lost`, `superseded` or `returned`."""
    waste_sold: int = 0
    """Sold by the upstream and given to nobody."""
    waste_unknown: int = 0
    """Sent and not answered: perhaps sold, given to nobody."""
    known_cost_micros: Micros = 0
    """Of the attempts that were sold at a known cost."""
    costed: int = 0
    uncosted_delivered: int = 0
    """Delivered at an unknown cost."""
    uncosted_waste: int = 0
    """Sold waste of unknown cost."""
    revenue_micros: Micros = 0
    """Prices of the delivered pictures; what was refunded since is not taken off."""
    milliseconds: Counter[int] = field(default_factory=Counter)
    """How long answered attempts took, in steps of about a hundredth."""

    def add(self, other: Tally) -> None:
        """Take in another tally."""
        self.attempts += other.attempts
        self.open += other.open
        self.answered += other.answered
        self.delivered += other.delivered
        self.faults += other.faults
        self.waste_sold += other.waste_sold
        self.waste_unknown += other.waste_unknown
        self.known_cost_micros += other.known_cost_micros
        self.costed += other.costed
        self.uncosted_delivered += other.uncosted_delivered
        self.uncosted_waste += other.uncosted_waste
        self.revenue_micros += other.revenue_micros
        self.milliseconds += other.milliseconds

    @property
    def success_share(self) -> float | None:
        """Share of usable answers among the ends that say something of the account."""
        judged = self.answered + sum(
            count for fault, count in self.faults.items() if fault not in _NOBODYS_FAULT
        )
        return self.answered / judged if judged else None

    @property
    def throttled_share(self) -> float | None:
        """Share of 429 among all ended attempts."""
        ended = self.attempts - self.open
        return self.faults["throttled"] / ended if ended else None

    @property
    def cost_micros(self) -> Micros | None:
        """What was sold cost at least this much; None where no cost of it is known."""
        uncosted = self.uncosted_delivered + self.uncosted_waste
        return None if uncosted and not self.costed else self.known_cost_micros

    @property
    def cost_complete(self) -> bool:
        """Whether `cost_micros` is all that was sold; otherwise it is a lower bound."""
        return not self.uncosted_delivered and not self.uncosted_waste

    @property
    def waste_estimate_micros(self) -> Micros | None:
        """The waste of unknown cost at the average of the known; not part of `cost_micros`."""
        if not self.uncosted_waste:
            return 0
        if not self.costed:
            return None
        return _ratio_up(self.known_cost_micros * self.uncosted_waste, self.costed)

    @property
    def cost_per_image_micros(self) -> Micros | None:
        """Known cost, waste included, for each delivered picture; rounded up."""
        if self.cost_micros is None or not self.delivered:
            return None
        return _ratio_up(self.cost_micros, self.delivered)

    @property
    def margin_micros(self) -> Micros | None:
        """What the prices leave after the known cost."""
        return None if self.cost_micros is None else self.revenue_micros - self.cost_micros

    @property
    def margin_share(self) -> float | None:
        """The margin as a share of the revenue; negative where it does not cover the cost."""
        if self.margin_micros is None or not self.revenue_micros:
            return None
        return self.margin_micros / self.revenue_micros

    def seconds(self, share: float) -> float | None:
        """Return the time within which `share` of the answered attempts were answered."""
        return seconds_within(self.milliseconds, share)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the running processes say of an account: the worst of them, and all calls in flight.

    `until` is when the state is looked at again, wall-clock milliseconds, where that is known.
    """

    state: str
    reason: str
    until: int | None
    in_flight: int
    score: float | None = None
    """How the pool finds it beside the others, 1 to 0; the worst of what its processes say."""
    fail_share: float | None = None


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """A limiter group's images per minute: now in use, learnt or not, and as configured."""

    images_per_minute: float | None
    learnt: bool
    configured: float | None
    cooling_until: int
    exhausted_until: int


@dataclass(frozen=True, kw_only=True)
class AccountBook:
    """The figures of one moment.

    Times are wall-clock milliseconds; `since_ms` is None when everything is counted. `groups` has
    the limiter group of each account that the books know.
    """

    now_ms: int
    since_ms: int | None
    tallies: dict[tuple[str, str], Tally]
    """By account and channel."""
    standings: dict[str, Standing]
    limits: dict[str, Limit]
    groups: dict[str, str]

    def standing(self, account: str, group: str | None) -> Standing | None:
        """Return how an account stands now, or None where no running process says anything of it.

        A wait of its group that was noted since the process spoke comes before what it said.
        """
        said = self.standings.get(account)
        limit = self.limits.get(group or "")
        if said is None or limit is None:
            return said
        for state, until in (
            ("exhausted", limit.exhausted_until),
            ("cooling", limit.cooling_until),
        ):
            if until > self.now_ms and _badness(state) > _badness(said.state):
                return msgspec.structs.replace(said, state=state, reason="", until=until)
        return said

    def of_account(self, account: str) -> Tally:
        """Return an account's figures on all channels."""
        return total(tally for (name, _), tally in self.tallies.items() if name == account)

    def of_channel(self, channel: str) -> Tally:
        """Return a channel's figures on all accounts."""
        return total(tally for (_, name), tally in self.tallies.items() if name == channel)


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    made = Tally()
    for tally in tallies:
        made.add(tally)
    return made


def read(tx: Transaction, *, since_s: float | None) -> AccountBook:
    """Return the figures of the attempts that began in the last `since_s` seconds; None: of all."""
    since_ms = None if since_s is None else tx.now_ms - round(since_s * 1000)
    tallies: dict[tuple[str, str], Tally] = {}
    groups = {}
    for row in _counted(tx, since_ms):
        groups[row["account"]] = row["limiter_group"].removesuffix(LANE_GROUP)
        _count(tallies.setdefault((row["account"], row["channel"]), Tally()), row)
    for row in _undecided(tx, since_ms):
        _reopen(tallies[row["account"], row["channel"]], row)
    return AccountBook(
        now_ms=tx.now_ms,
        since_ms=since_ms,
        tallies=tallies,
        standings=_standings(tx),
        limits=_limits(tx),
        groups=groups,
    )


# One pass over the attempts, whatever is asked of them. Durations are grouped in steps: 10 ms below
# a second, 0.1 s below 20 s, 0.5 s beyond; a million attempts become a few thousand rows.
_TOOK = "(ended_at - sent_at)"
_STEP = (
    "CASE WHEN outcome <> 'ok' OR vendor_batch_id IS NOT NULL THEN NULL "
    f"WHEN {_TOOK} < 1000 THEN {_TOOK} / 10 * 10 "
    f"WHEN {_TOOK} < 20000 THEN {_TOOK} / 100 * 100 ELSE {_TOOK} / 500 * 500 END"
)
_KEYS = "account, limiter_group, channel, outcome, sold, settled"


def _counted(tx: Transaction, since_ms: int | None) -> list[Row]:
    # Without a bound the whole table is read in its own order, which is quicker than by its index.
    window = "" if since_ms is None else "WHERE sent_at >= :since "
    return tx.all(
        f"SELECT {_KEYS}, {_STEP} AS took, COUNT(*) AS attempts, "
        "COUNT(vendor_cost_micros) AS costed, COALESCE(SUM(vendor_cost_micros), 0) AS cost, "
        f"SUM(price_micros) AS price FROM attempt {window}GROUP BY {_KEYS}, took",
        {"since": since_ms},
    )


def _undecided(tx: Transaction, since_ms: int | None) -> list[Row]:
    """Return the attempts whose answer is there and whose job is still open; they are few."""
    window = "" if since_ms is None else "AND a.sent_at >= :since "
    return tx.all(
        "SELECT a.account, a.channel, COUNT(*) AS attempts, COUNT(a.vendor_cost_micros) AS costed, "
        "COALESCE(SUM(a.vendor_cost_micros), 0) AS cost "
        "FROM attempt a WHERE a.job_id IN "
        # The bound says nothing; with it the index of the open jobs is what SQLite takes.
        "(SELECT id FROM job WHERE state IN ('queued', 'in_progress') AND created_at >= 0) "
        f"AND a.outcome = 'ok' AND a.settled = 0 {window}GROUP BY a.account, a.channel",
        {"since": since_ms},
    )


def _count(tally: Tally, row: Row) -> None:
    attempts: int = row["attempts"]
    tally.attempts += attempts
    if row["outcome"] is None:
        tally.open += attempts
        return
    if row["outcome"] == "ok":
        tally.answered += attempts
        if row["took"] is not None:  # a vendor's Batch API may take a day
            tally.milliseconds[row["took"]] += attempts
    else:
        tally.faults[row["outcome"]] += attempts
    if row["settled"]:
        tally.delivered += attempts
        tally.revenue_micros += row["price"]
        tally.uncosted_delivered += attempts - row["costed"]
    elif row["sold"] is None:
        tally.waste_unknown += attempts
        return
    elif row["sold"]:
        tally.waste_sold += attempts
        tally.uncosted_waste += attempts - row["costed"]
    tally.costed += row["costed"]
    tally.known_cost_micros += row["cost"]


def _reopen(tally: Tally, row: Row) -> None:
    """Take pictures that are still being looked at out of the waste."""
    tally.open += row["attempts"]
    tally.answered -= row["attempts"]
    tally.waste_sold -= row["attempts"]
    tally.uncosted_waste -= row["attempts"] - row["costed"]
    tally.costed -= row["costed"]
    tally.known_cost_micros -= row["cost"]


def _standings(tx: Transaction) -> dict[str, Standing]:
    rows = tx.all(
        "SELECT account, state, reason, until, in_flight, score, fail_share FROM account_state "
        "WHERE updated_at >= :fresh ORDER BY account, owner",
        {"fresh": tx.now_ms - FRESH_MS},
    )
    by_account: dict[str, list[Row]] = {}
    for row in rows:
        by_account.setdefault(row["account"], []).append(row)
    return {account: _standing(said) for account, said in by_account.items()}


def _standing(said: list[Row]) -> Standing:
    worst = max(said, key=lambda row: (_badness(row["state"]), row["until"] or 0))
    return Standing(
        state=worst["state"],
        reason=worst["reason"],
        until=worst["until"],
        in_flight=sum(row["in_flight"] for row in said),
        score=min((row["score"] for row in said if row["score"] is not None), default=None),
        fail_share=max(
            (row["fail_share"] for row in said if row["fail_share"] is not None), default=None
        ),
    )


def _badness(state: str) -> int:
    # A state that this version does not know is shown rather than hidden behind a better one.
    return STATES.index(state) if state in STATES else len(STATES)


def _limits(tx: Transaction) -> dict[str, Limit]:
    return {
        row["name"]: Limit(
            images_per_minute=row["images_per_minute"],
            learnt=bool(row["learnt"]),
            configured=row["configured"],
            cooling_until=row["cooling_until"],
            exhausted_until=row["exhausted_until"],
        )
        for row in tx.all("SELECT * FROM limiter")
    }


def _ratio_up(whole: int, parts: int) -> int:
    return -(-whole // parts)
