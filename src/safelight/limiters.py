"""What is kept of the pool: limits of groups, states of accounts, and the shared last minute.

Owns the rows of `limiter` and `account_state`, and the count of a group's attempts that holds over
all processes on one database. Decides nothing; the pool does. Times are wall-clock milliseconds.
"""

from __future__ import annotations

import msgspec

from safelight.db import Row, Transaction


class LimiterRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one limiter group. `configured` is what the configuration said then.

    `other_limits`: by unit (input-images, requests), per minute as learnt and as configured.
    """

    name: str
    images_per_minute: float | None
    learnt: bool
    configured: float | None
    cooling_until: int
    exhausted_until: int
    changed_at: int
    other_limits: dict[str, tuple[float, float | None]] = {}


class AccountStateRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one process finds one account."""

    account: str
    owner: str
    state: str
    reason: str
    until: int | None
    in_flight: int
    score: float | None = None
    fail_share: float | None = None


def free_at(
    tx: Transaction, group: str, *, images: int, window_ms: int, wanted: int = 1
) -> int | None:
    """Return when the group may send again, or None if it may now.

    Counts the attempts of all processes in the last `window_ms`, but not those that failed before
    they left. Called in the transaction that inserts the attempt: it locks the group until that
    ends, so that two processes cannot both take the last place.

    Args:
        tx: a transaction that may write.
        group: limiter group.
        images: most attempts in the window.
        window_ms: its length.
        wanted: how many attempts shall begin.
    """
    _lock(tx, group)
    row = tx.one(
        "SELECT sent_at FROM attempt WHERE limiter_group = :name "
        "AND sent_at > :since AND sent_at <= :until "
        "AND (outcome IS NULL OR outcome <> 'local') "
        "ORDER BY sent_at DESC LIMIT 1 OFFSET :images",
        {"name": group, **_window(tx, window_ms), "images": max(0, images - wanted)},
    )
    return None if row is None else int(row["sent_at"]) + window_ms


def inputs_free_at(
    tx: Transaction, group: str, *, inputs: int, most: int, window_ms: int
) -> int | None:
    """Return when the group may send `inputs` pictures along, or None if it may now.

    Locks the group as `free_at` does.
    """
    _lock(tx, group)
    row = tx.one(
        "SELECT COALESCE(SUM(input_images), 0) AS used, MIN(sent_at) AS oldest FROM attempt "
        "WHERE limiter_group = :name AND sent_at > :since AND sent_at <= :until "
        "AND input_images > 0",
        {"name": group, **_window(tx, window_ms)},
    )
    assert row is not None
    if not row["used"] or row["used"] + inputs <= most:
        return None
    return int(row["oldest"]) + window_ms


def granted_before(tx: Transaction, group: str, *, window_ms: int) -> int:
    """Return how many attempts of a group its vendor has taken in the last `window_ms`.

    An attempt without an end counts, because refusals come quickly; one that never left does not.
    """
    row = tx.one(
        "SELECT COUNT(*) AS granted FROM attempt WHERE limiter_group = :name "
        "AND sent_at > :since AND sent_at <= :until "
        "AND (outcome IS NULL OR outcome NOT IN ('throttled', 'local'))",
        {"name": group, **_window(tx, window_ms)},
    )
    assert row is not None
    return int(row["granted"])


def _lock(tx: Transaction, group: str) -> None:
    tx.lock(f"group:{group}")


def _window(tx: Transaction, window_ms: int) -> dict[str, int]:
    """Return the bounds of the last window.

    What lies a whole window ahead was written before the wall clock was set back: counted, it would
    stop its group for as long as the clock was set back. What lies less far ahead may be from a
    machine whose clock is a little fast, and counts.
    """
    return {"since": tx.now_ms - window_ms, "until": tx.now_ms + window_ms}


def get_limiter(tx: Transaction, name: str) -> LimiterRow | None:
    """Return what is kept of a group."""
    row = tx.one("SELECT * FROM limiter WHERE name = :name", {"name": name})
    return None if row is None else _limiter(row)


def all_limiters(tx: Transaction) -> list[LimiterRow]:
    """Return what is kept of every group."""
    return [_limiter(row) for row in tx.all("SELECT * FROM limiter ORDER BY name")]


def keep_limiter(tx: Transaction, row: LimiterRow) -> None:
    """Keep what was learnt of a group; a longer cooling that another process noted stays."""
    tx.execute(
        "INSERT INTO limiter (name, images_per_minute, learnt, configured, other_limits, "
        "cooling_until, exhausted_until, changed_at) VALUES (:name, :images_per_minute, :learnt, "
        ":configured, :other_limits, :cooling_until, :exhausted_until, :changed_at) "
        "ON CONFLICT (name) DO UPDATE SET "
        "images_per_minute = excluded.images_per_minute, learnt = excluded.learnt, "
        "other_limits = excluded.other_limits, configured = excluded.configured, "
        "exhausted_until = excluded.exhausted_until, "
        "cooling_until = CASE WHEN limiter.cooling_until > excluded.cooling_until "
        # What was written later than now is of before the wall clock was set back.
        "AND limiter.changed_at <= excluded.changed_at "
        "THEN limiter.cooling_until ELSE excluded.cooling_until END, "
        "changed_at = excluded.changed_at",
        {
            **msgspec.structs.asdict(row),
            "learnt": int(row.learnt),
            "other_limits": msgspec.json.encode(row.other_limits).decode(),
        },
    )


def keep_account_states(tx: Transaction, owner: str, rows: list[AccountStateRow]) -> None:
    """Replace what a process has said about its accounts; no rows: it leaves."""
    tx.execute("DELETE FROM account_state WHERE owner = :owner", {"owner": owner})
    for row in rows:
        tx.execute(
            "INSERT INTO account_state (account, owner, state, reason, until, in_flight, score, "
            "fail_share, updated_at) VALUES (:account, :owner, :state, :reason, :until, "
            ":in_flight, :score, :fail_share, :now)",
            {**msgspec.structs.asdict(row), "now": tx.now_ms},
        )


def forget_account_states(tx: Transaction, *, before_ms: int) -> None:
    """Remove what processes said that have been silent since `before_ms`."""
    tx.execute("DELETE FROM account_state WHERE updated_at < :before", {"before": before_ms})


def _limiter(row: Row) -> LimiterRow:
    values = {name: row[name] for name in LimiterRow.__struct_fields__}
    others = msgspec.json.decode(row["other_limits"], type=dict[str, tuple[float, float | None]])
    return LimiterRow(**{**values, "learnt": bool(values["learnt"]), "other_limits": others})
