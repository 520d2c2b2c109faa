"""What one server may spend, held before anything is ordered.

Owns the arithmetic of the limit. Prices come from quotes and charges from answers; the balance
itself is kept by the gateway. Nothing here is durable: the limit is one process's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from safelight.client.mcp.faults import ToolFault

_MICROS = 1_000_000


def dollars(micros: int) -> str:
    """Return an amount as people write it, without needless zeros."""
    whole, rest = divmod(abs(micros), _MICROS)
    fraction = f"{rest:06}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{fraction}"


class Purse:
    """The money of one server.

    An order holds its price under its key until it has ended, also while nobody waits for it, so
    that orders together never pass the limit. A job counts once, however often it is collected.

    Args:
        limit_micros: what may be spent; None is no limit.
    """

    def __init__(self, limit_micros: int | None) -> None:
        self.limit_micros = limit_micros
        self._held: dict[str, int] = {}
        self._charged: dict[str, int] = {}

    @property
    def spent_micros(self) -> int:
        """What was charged."""
        return sum(self._charged.values())

    @property
    def held_micros(self) -> int:
        """The prices of what is under way."""
        return sum(self._held.values())

    def hold(self, key: str, price_micros: int) -> bool:
        """Hold the price of the order `key`; False: it is held already.

        Raises:
            ToolFault: it would pass the limit.
        """
        if key in self._held:
            return False
        committed = self.spent_micros + self.held_micros
        if self.limit_micros is not None and committed + price_micros > self.limit_micros:
            raise ToolFault(
                f"This picture costs {dollars(price_micros)} dollars, and {dollars(committed)} of "
                f"{dollars(self.limit_micros)} are spent or held. Nothing was ordered. "
                "A person raises the limit with --max-cost."
            )
        self._held[key] = price_micros
        return True

    def settle(self, key: str, job: str, charge_micros: int) -> None:
        """The order `key` has ended with a picture: `job` cost so much."""
        self._held.pop(key, None)
        self._charged.setdefault(job, charge_micros)

    def release(self, key: str) -> None:
        """The order `key` has ended without a picture, free."""
        self._held.pop(key, None)

    @contextmanager
    def holding(
        self, key: str, price_micros: int, free: tuple[type[Exception], ...]
    ) -> Iterator[None]:
        """Hold the price of an order; one of the errors in `free` gives it back.

        Any other end leaves it held: the order may go on, or `settle` has been called.

        Raises:
            ToolFault: it would pass the limit.
        """
        ours = self.hold(key, price_micros)
        try:
            yield
        except free:
            if ours:
                self.release(key)
            raise

    def told(self) -> str:
        """Return in words what is spent."""
        text = f"{dollars(self.spent_micros)} dollars"
        if self.limit_micros is not None:
            text += f" of {dollars(self.limit_micros)}"
        text += " spent since this server started"
        return text + (f", {dollars(self.held_micros)} held" if self.held_micros else "")
