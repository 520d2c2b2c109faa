"""Customers whose prompts are refused again and again.

Owns a count by customer over the last hour, in this process. Vendors watch the accounts that
refused prompts come through; a customer above the bound is still served, but after all others.
"""

from __future__ import annotations

from collections import deque

HOUR_S = 3600.0


class Refusals:
    """Moderation refusals of the last hour.

    Args:
        per_hour: more than this many make a customer wait for the others.
    """

    def __init__(self, per_hour: int) -> None:
        self._per_hour = per_hour
        self._times: dict[str, deque[float]] = {}

    def note(self, customer_id: str, now: float) -> bool:
        """Count a refusal; return whether this one exceeds the bound for the first time."""
        before = self.too_many(customer_id, now)
        self._times.setdefault(customer_id, deque()).append(now)
        return not before and self.too_many(customer_id, now)

    def too_many(self, customer_id: str, now: float) -> bool:
        """Return whether a customer has had more refusals than the bound."""
        times = self._times.get(customer_id)
        if times is None:
            return False
        while times and times[0] < now - HOUR_S:
            times.popleft()
        if not times:
            del self._times[customer_id]
            return False
        return len(times) > self._per_hour
