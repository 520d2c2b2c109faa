"""Credit lines: how much of one is owed, and when that is announced.

Owns `balance.line_alerted`. The line itself is the ledger's floor; what is owed includes what is
held. Every verb is a function on an open transaction that has changed the row of the balance
before, so that the announcements of a customer come one after another.
"""

from __future__ import annotations

import msgspec

from safelight.db import Transaction
from safelight.money import ALERT_SHARES

_SHARE = (
    "CASE "
    + " ".join(
        f"WHEN floor_micros < 0 AND held_micros > posted_micros "
        f"AND (held_micros - posted_micros) * 100 >= -floor_micros * {share} THEN {share}"
        for share in ALERT_SHARES
    )
    + " ELSE 0 END"
)


class LineAlert(msgspec.Struct, frozen=True, kw_only=True):
    """A customer owes a share of the credit line, in percent, for the first time."""

    customer_id: str
    share: int


def alert(tx: Transaction, customer_id: str) -> LineAlert | None:
    """Note a share of the customer's line that is reached now and was not announced yet."""
    noted = tx.execute(
        f"UPDATE balance SET line_alerted = {_SHARE} "
        f"WHERE customer_id = :customer AND floor_micros < 0 AND line_alerted < {_SHARE}",
        {"customer": customer_id},
    )
    if not noted:
        return None
    row = tx.one(
        "SELECT line_alerted FROM balance WHERE customer_id = :customer", {"customer": customer_id}
    )
    assert row is not None, "it was updated a moment ago"
    return LineAlert(customer_id=customer_id, share=row["line_alerted"])


def look_again(tx: Transaction, customer_id: str) -> None:
    """Let shares be announced again that are not reached any more: after a top-up, or a new line.

    Not after a release: an order that fails while others are accepted would be announced each time.
    """
    tx.execute(
        f"UPDATE balance SET line_alerted = {_SHARE} "
        f"WHERE customer_id = :customer AND line_alerted > {_SHARE}",
        {"customer": customer_id},
    )
