"""Quantiles of times that were counted in steps.

Owns the one reading of such counts. Pure.
"""

from __future__ import annotations

from collections import Counter


def seconds_within(milliseconds: Counter[int], share: float) -> float | None:
    """Return the time within which `share` of what was counted lies; None: nothing was counted."""
    missing = share * milliseconds.total()
    for step in sorted(milliseconds):
        missing -= milliseconds[step]
        if missing <= 0:
            return step / 1000
    return None
