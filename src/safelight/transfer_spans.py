"""Where a span of time lies among a customer's transfers.

Owns the search, which costs as much as the logarithm of what is there. Transfers have their order
from `seq`; their times follow it but for clocks that were set back and machines that differ, and
`balance.set_back_ms`, which the ledger keeps, says by how much at most. Changes nothing.
"""

from __future__ import annotations

from safelight.db import Transaction


def between(
    tx: Transaction, customer_id: str, *, from_ms: int | None, to_ms: int | None
) -> tuple[int, int]:
    """Return between which seqs a customer's transfers of a span of time lie.

    Every transfer up to the first one was made before `from_ms`, none behind the second one was
    made before `to_ms`. Found by halving, for transfers lie in the order of time but for
    `set_back_ms`, the most by which one was ever made before an earlier one.
    """
    first, last = 0, 2**62
    if from_ms is None and to_ms is None:
        return first, last
    row = tx.one(
        "SELECT set_back_ms, (SELECT MAX(seq) FROM transfer WHERE customer_id = :customer) "
        "AS newest FROM balance WHERE customer_id = :customer",
        {"customer": customer_id},
    )
    if row is None or row["newest"] is None:
        return first, last
    if from_ms is not None:
        first = _halve(tx, customer_id, from_ms - row["set_back_ms"], row["newest"])[0]
    if to_ms is not None:
        last = _halve(tx, customer_id, to_ms + row["set_back_ms"], row["newest"])[1]
    return first, last


def _halve(tx: Transaction, customer_id: str, at_ms: int, newest: int) -> tuple[int, int]:
    """Return the seqs of two neighbours, of which the first was made before a moment, and the
    second was not; 0 and one beyond `newest` stand for those that are not there.
    """
    before, behind = 0, newest + 1
    low, high = 1, newest + 1
    while low < high:
        middle = (low + high) // 2
        found = tx.one(
            "SELECT seq, created_at FROM transfer "
            "WHERE customer_id = :customer AND seq >= :middle AND seq < :high "
            "ORDER BY seq LIMIT 1",
            {"customer": customer_id, "middle": middle, "high": high},
        )
        if found is not None and found["created_at"] < at_ms:
            before, low = found["seq"], found["seq"] + 1
            continue
        behind = behind if found is None else found["seq"]
        high = middle
    return before, behind
