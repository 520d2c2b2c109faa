"""Places for the tests of connections: how many of them one key may have open in this process.

Owns the count alone. Nothing is kept of a key that has none open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from safelight.errors import RateLimited

PLACES = 40
"""Enough for one `safelight doctor`, which asks for about thirty silences at one time."""
_COME_BACK_S = 5.0


class KeyPlaces:
    """Counts what each key has open, so that a test of connections is no way to exhaust them."""

    def __init__(self, places: int = PLACES) -> None:
        self._places = places
        self._taken: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many are open, of all keys."""
        return self._taken.total()

    @contextmanager
    def place(self, key_id: str) -> Iterator[None]:
        """Hold a place of the key while inside.

        Raises:
            RateLimited: the key has all of its places taken.
        """
        if self._taken[key_id] >= self._places:
            raise RateLimited(
                f"A key may have {self._places} tests of connections open at one time; "
                "let one of them end.",
                retry_after_s=_COME_BACK_S,
            )
        self._taken[key_id] += 1
        try:
            yield
        finally:
            self._taken[key_id] -= 1
            if not self._taken[key_id]:
                del self._taken[key_id]
