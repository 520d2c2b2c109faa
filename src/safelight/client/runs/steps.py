"""What comes next for an item, and what a run may still spend. Pure decisions.

Owns the two rules that keep money safe: an order that may be under way is asked for again under its
own key, never under a new one; and nothing is ordered that could bring the run above its bound.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto

from safelight.client.runs.history import RollState, Story

KEY_LIFE_S = 23 * 3600.0
"""How long an order's key is relied on: a safelight knows it for 24 hours after the job's end."""


class Step(Enum):
    """What is to be done with an item."""

    DONE = auto()
    JUDGE = auto()
    """Its newest picture is here and has not been judged."""
    COLLECT = auto()
    """Its newest order may be under way: ask for it again under its key."""
    LOOK_UP = auto()
    """The same, but so long ago that the key may be forgotten: look at the jobs first."""
    ORDER = auto()
    REVIEW = auto()
    """All its rolls were rejected: a person decides."""


def next_step(story: Story, *, rerolls: int, now: float) -> Step:
    """Return what comes next for an item whose files have been looked at.

    Args:
        story: so far.
        rerolls: how many more pictures may be ordered after a first one that is rejected.
        now: unix seconds.
    """
    last = story.last
    if last is None:
        return Step.ORDER
    match last.state:
        case RollState.ACCEPTED:
            return Step.DONE
        case RollState.RECEIVED:
            return Step.JUDGE
        case RollState.ORDERED:
            return Step.COLLECT if now - last.ordered_at < KEY_LIFE_S else Step.LOOK_UP
        case RollState.REJECTED if story.pictures > rerolls:
            return Step.REVIEW
    return Step.ORDER


class Budget:
    """What a run may spend; what may still be charged counts as spent until it is known to be free.

    Args:
        limit_micros: the most; None: no bound.
        spent_micros: by earlier starts.
    """

    def __init__(self, limit_micros: int | None, spent_micros: int) -> None:
        self.limit_micros = limit_micros
        self.spent_micros = spent_micros
        self._held: dict[str, int] = {}
        """Prices of the orders under way, by key: soon it is known what became of them."""
        self._doubtful: dict[str, int] = {}
        """Prices of orders of which nobody finds out anything now: no use to wait for them."""
        self._changed = asyncio.Condition()
        self._closed = False

    @property
    def held_micros(self) -> int:
        """What may still be charged."""
        return sum(self._held.values()) + sum(self._doubtful.values())

    def hold_known(self, key: str, price_micros: int) -> None:
        """Count an order that an earlier start has placed, whatever the bound is now."""
        self._doubtful[key] = price_micros

    async def hold(self, key: str, price_micros: int) -> bool:
        """Count an order that is about to be placed; False when the bound leaves no room for it.

        Waits while orders that are under way may turn out to be free. An order that is counted
        already is not counted again.
        """
        async with self._changed:
            if key in self._doubtful:
                self._held[key] = self._doubtful.pop(key)
            while key not in self._held:
                if self._fits(price_micros, self.held_micros):
                    self._held[key] = price_micros
                elif self._closed or not self._may_fit(price_micros):
                    return False
                else:
                    await self._changed.wait()
            return True

    def _may_fit(self, price_micros: int) -> bool:
        """Whether there is room if all that is under way turns out to be free."""
        return bool(self._held) and self._fits(price_micros, sum(self._doubtful.values()))

    def _fits(self, price_micros: int, counted_micros: int) -> bool:
        if self.limit_micros is None:
            return True
        return self.spent_micros + counted_micros + price_micros <= self.limit_micros

    async def settle(self, key: str, charge_micros: int) -> None:
        """Say what an order has cost; 0: it was free."""
        async with self._changed:
            self._held.pop(key, None)
            self._doubtful.pop(key, None)
            self.spent_micros += charge_micros
            self._changed.notify_all()

    async def doubt(self, key: str) -> None:
        """Say that nobody finds out any more in this start what became of an order."""
        async with self._changed:
            if key in self._held:
                self._doubtful[key] = self._held.pop(key)
                self._changed.notify_all()

    async def give_up_waiting(self) -> None:
        """Let nobody wait any more: the run stops."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()
