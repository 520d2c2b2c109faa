"""Budgets: what a key may spend in a day, in a month, and ever.

Owns the rows of `budget`. What is held counts as spent until it is released; what is settled stays
spent. Periods are those of UTC. A period that has begun is not left again, whatever the clocks say:
each job carries the day in which it counts, which is never before the day that its key's budgets
have reached.

Every verb is a function on an open transaction, in which the row of the customer's balance was
changed before (a reserve or a release does, `ledger.hold_still` else): so the budgets of a customer
change one after another on every database, and no order falls between a budget's making and its
first count. Amounts are integer micro-dollars. This module moves no money.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import msgspec

from safelight.db import Row, Transaction
from safelight.errors import BudgetExceeded
from safelight.money import ALERT_SHARES, micros_to_dollars
from safelight.types import BudgetState, Micros, Period

_PERIOD = "CASE period WHEN 'day' THEN :day WHEN 'month' THEN :month ELSE '' END"
_USED = f"CASE WHEN in_period = {_PERIOD} THEN used_micros ELSE 0 END"
_NAMES: dict[Period, str] = {"day": "daily", "month": "monthly", "total": "total"}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A budget has reached a share, in percent, for the first time in its period."""

    key_id: str
    period: Period
    share: int


class Taken(msgspec.Struct, frozen=True):
    """What `take` did: the day in which it counts, and what is to be announced after the commit."""

    day: str
    alerts: tuple[Alert, ...] = ()


def take(tx: Transaction, key_id: str, amount_micros: Micros) -> Taken:
    """Count an amount against every budget of a key, or against none.

    Raises:
        BudgetExceeded: one does not cover it; nothing was written.
    """
    rows = _rows(tx, key_id)
    today = _day_of(tx.now_ms)
    if not rows:
        return Taken(today)
    day = _reached(rows, today)
    if amount_micros == 0:
        return Taken(day)  # costs nothing, so not even a budget that was lowered is in its way
    changed = tx.execute(
        f"UPDATE budget SET used_micros = {_USED} + :amount, "
        f"alerted = CASE WHEN in_period = {_PERIOD} THEN alerted ELSE 0 END, "
        f"in_period = {_PERIOD} WHERE key_id = :key AND {_USED} + :amount <= limit_micros",
        {"key": key_id, "amount": amount_micros, "day": day, "month": day[:7]},
    )
    if changed < len(rows):
        raise _exceeded(key_id, rows, day, amount_micros)
    alerts = [_alert(tx, row, day, amount_micros) for row in rows]
    return Taken(day, tuple(alert for alert in alerts if alert is not None))


def give_back(tx: Transaction, *, key_id: str, amount_micros: Micros, day: str) -> None:
    """Take an amount out of the budgets in whose present period it was counted.

    Args:
        tx: the transaction that releases the hold.
        key_id: whose budgets.
        amount_micros: what was taken.
        day: the one in which it counts.
    """
    tx.execute(
        "UPDATE budget SET used_micros = used_micros - :amount "
        f"WHERE key_id = :key AND in_period = {_PERIOD} AND used_micros >= :amount",
        {"key": key_id, "amount": amount_micros, "day": day, "month": day[:7]},
    )


def put(tx: Transaction, *, key_id: str, period: Period, limit_micros: Micros) -> None:
    """Give a key a budget, or an existing one a new limit.

    What the key has already spent in the period counts; shares that it has reached by that are not
    announced: the operator sees them.
    """
    spent = _spent_by_day(tx, key_id).get(key_id, {})
    # A day that some job counts in has begun, even if the clock was set back since.
    day = _reached(_rows(tx, key_id), max([_day_of(tx.now_ms), *spent]))
    current = _period_of(period, day)
    used = _sum_in(spent, current)
    tx.execute(
        "INSERT INTO budget (key_id, period, limit_micros, in_period, used_micros, alerted) "
        "VALUES (:key, :period, :limit, :current, :used, :alerted) "
        "ON CONFLICT (key_id, period) DO UPDATE SET limit_micros = excluded.limit_micros, "
        "in_period = excluded.in_period, used_micros = excluded.used_micros, "
        "alerted = excluded.alerted",
        {
            "key": key_id,
            "period": period,
            "limit": limit_micros,
            "current": current,
            "used": used,
            "alerted": _share(used, limit_micros),
        },
    )


def remove(tx: Transaction, *, key_id: str, period: Period) -> None:
    """Take a budget away from a key, if it has one."""
    tx.execute(
        "DELETE FROM budget WHERE key_id = :key AND period = :period",
        {"key": key_id, "period": period},
    )


def states(tx: Transaction, key_id: str) -> tuple[BudgetState, ...]:
    """Return a key's budgets as they stand now."""
    return _states(_rows(tx, key_id), tx.now_ms)


def all_states(tx: Transaction) -> dict[str, tuple[BudgetState, ...]]:
    """Return the budgets of every key that has any, by key id."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in tx.all("SELECT * FROM budget ORDER BY key_id, period"):
        found[row["key_id"]].append(row)
    return {key_id: _states(rows, tx.now_ms) for key_id, rows in found.items()}


def verify(tx: Transaction) -> list[str]:
    """Check that each budget has used what its key's open and completed jobs cost in its period.

    Returns:
        What is wrong, in words; empty means sound.
    """
    spent = _spent_by_day(tx)
    faults = []
    for row in tx.all("SELECT * FROM budget ORDER BY key_id, period"):
        counted = _sum_in(spent.get(row["key_id"], {}), row["in_period"])
        if counted != row["used_micros"]:
            faults.append(
                f"key {row['key_id']}: its {_NAMES[row['period']]} budget has used "
                f"{row['used_micros']}, its jobs say {counted}"
            )
    return faults


def _rows(tx: Transaction, key_id: str) -> list[Row]:
    return tx.all("SELECT * FROM budget WHERE key_id = :key ORDER BY period", {"key": key_id})


def _spent_by_day(tx: Transaction, key_id: str | None = None) -> dict[str, dict[str, Micros]]:
    """Return, by key and day, the prices of open and completed jobs; of all keys with budgets."""
    which = "key_id IN (SELECT key_id FROM budget)"
    if key_id is not None:
        # Its customer's jobs are found by an index; the jobs of a key have none.
        which = "customer_id = (SELECT customer_id FROM api_key WHERE id = :key) AND key_id = :key"
    rows = tx.all(
        "SELECT key_id, budget_day, CAST(SUM(price_micros) AS BIGINT) AS micros FROM job "
        f"WHERE {which} AND state IN ('queued', 'in_progress', 'completed') "
        "GROUP BY key_id, budget_day",
        {} if key_id is None else {"key": key_id},
    )
    found: dict[str, dict[str, Micros]] = defaultdict(dict)
    for row in rows:
        found[row["key_id"]][row["budget_day"]] = row["micros"]
    return found


def _sum_in(by_day: dict[str, Micros], in_period: str) -> Micros:
    return sum(micros for day, micros in by_day.items() if day.startswith(in_period))


def _alert(tx: Transaction, row: Row, day: str, amount_micros: Micros) -> Alert | None:
    """Note a share that the amount just taken reaches, once in a period."""
    current = _period_of(row["period"], day)
    rolled = row["in_period"] != current
    used, alerted = (0, 0) if rolled else (row["used_micros"], row["alerted"])
    share = _share(used + amount_micros, row["limit_micros"])
    if share <= alerted:
        return None
    noted = tx.execute(
        "UPDATE budget SET alerted = :share WHERE key_id = :key AND period = :period "
        "AND in_period = :current AND alerted < :share",
        {"key": row["key_id"], "period": row["period"], "current": current, "share": share},
    )
    if not noted:
        return None
    return Alert(key_id=row["key_id"], period=row["period"], share=share)


def _share(used_micros: Micros, limit_micros: Micros) -> int:
    """Return the highest share that is reached; 0 while nothing is used."""
    if used_micros == 0:
        return 0
    return next((one for one in ALERT_SHARES if used_micros * 100 >= limit_micros * one), 0)


def _exceeded(key_id: str, rows: list[Row], day: str, amount_micros: Micros) -> BudgetExceeded:
    """Return the refusal, which names the budget that starts anew last of those that are short."""
    short = [one for one in _states(rows, day) if one.remaining_micros < amount_micros]
    state = short[-1]
    anew = "It does not start anew"
    if state.resets_at is not None:
        at = datetime.fromtimestamp(state.resets_at, UTC)
        anew = f"It starts anew at {at:%Y-%m-%d %H:%M} UTC"
    return BudgetExceeded(
        f"The {_NAMES[state.period]} budget of this key ({key_id}) does not cover this request: "
        f"of {_dollars(state.limit_micros)} there are {_dollars(state.remaining_micros)} left, and "
        f"it costs {_dollars(amount_micros)}. {anew}; ask your operator for a larger one "
        "(safelight keys limit)."
    )


def _dollars(micros: Micros) -> str:
    return f"${micros_to_dollars(micros)}"


def _states(rows: Iterable[Row], now: int | str) -> tuple[BudgetState, ...]:
    """Return budgets as they stand at a time in milliseconds, or on a day."""
    rows = list(rows)
    day = _reached(rows, now if isinstance(now, str) else _day_of(now))
    return tuple(_state(row, day) for row in rows)


def _state(row: Row, day: str) -> BudgetState:
    now = row["in_period"] == _period_of(row["period"], day)
    used = row["used_micros"] if now else 0
    return BudgetState(
        period=row["period"],
        limit_micros=row["limit_micros"],
        used_micros=used,
        remaining_micros=max(0, row["limit_micros"] - used),
        resets_at=_end_of(row["period"], day),
        alerted=row["alerted"] if now else 0,
    )


def _day_of(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat()


def _period_of(period: Period, day: str) -> str:
    return {"day": day, "month": day[:7], "total": ""}[period]


def _reached(rows: Iterable[Row], today: str) -> str:
    """Return the day that budgets are in: never one before a period that has begun."""
    begun = [row["in_period"] for row in rows if row["period"] != "total"]
    return max([today, *(one if len(one) == len(today) else f"{one}-01" for one in begun)])


def _end_of(period: Period, day: str) -> int | None:
    if period == "total":
        return None
    start = date.fromisoformat(day)
    end = start + timedelta(days=1)
    if period == "month":
        end = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return int(datetime.combine(end, time(), UTC).timestamp())
