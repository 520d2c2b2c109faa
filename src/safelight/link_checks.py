"""Checks of links: how many downloads from outside were tried in each minute, and were right.

Owns the rows of `link_check`, which the prober writes and plots read (`series`). Why a download
failed is counted for Prometheus alone.
"""

from __future__ import annotations

from safelight.db import Transaction

MINUTE_MS = 60_000
KEPT_MS = 800 * 86_400 * 1000
"""A little over two years: one row a minute is little."""


def note(tx: Transaction, *, tried: int, good: int) -> None:
    """Count downloads towards this minute, and forget those of long ago."""
    tx.execute(
        "INSERT INTO link_check (at, tried, good) VALUES (:at, :tried, :good) "
        "ON CONFLICT (at) DO UPDATE SET tried = link_check.tried + :tried, "
        "good = link_check.good + :good",
        {"at": tx.now_ms // MINUTE_MS * MINUTE_MS, "tried": tried, "good": good},
    )
    tx.execute("DELETE FROM link_check WHERE at < :before", {"before": tx.now_ms - KEPT_MS})
