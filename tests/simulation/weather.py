"""Which faults a seed plays, and how often: a random subset with random rates for each seed.

All faults at once hide each other, so each seed switches only some on (A. Groce et al., "Swarm
Testing", 2012). Owns the drawing alone; who plays a fault asks here whether it is due.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass, field

ANSWERS = (
    "500",
    "html",
    "524",
    "429",
    "429-blind",
    "stall",
    "stalled-body",
    "cut-body",
    "refused",
    "moderation",
    "wrong-size",
    "damaged",
)
"""What may become of a call, beside a picture."""
MOST = {"429": 0.03, "429-blind": 0.03}
"""Refusals for no reason are rare: the pool takes each for a lesson, and vendors have reasons."""
SPELLS = (
    "outage",
    "refusing-host",
    "revoked-key",
    "no-money",
    "database-away",
    "database-full",
    "database-slow",
    "store-failing",
    "store-slow",
)
"""What lasts for a while."""
MOMENTS = (
    "commit-twice",
    "die-before-commit",
    "die-after-commit",
    "die-after-answer",
    "die-after-put",
    "misread-blob",
    "busy",
)
"""What may happen at a step of a process."""
STROKES = ("kill", "freeze", "drain", "clock-jump")
"""What happens to a process or the clock at some time."""


@dataclass
class Weather:
    """The faults of one seed.

    Args:
        seed: draws them.
    """

    seed: int
    answers: dict[str, float] = field(default_factory=dict)
    """Rate per call."""
    moments: dict[str, float] = field(default_factory=dict)
    """Rate per step."""
    strokes: dict[str, float] = field(default_factory=dict)
    """Mean seconds between two."""
    spells: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """From and until, seconds after the start."""
    healed_at: float | None = None
    """When it was over: from then on nothing fails any more."""

    def __post_init__(self) -> None:
        rng = self._rng = random.Random(f"weather {self.seed}")
        if rng.random() < 0.05:
            return  # a calm day
        share = rng.uniform(0.15, 0.75)
        self.answers = {
            name: _log(rng, 0.005, MOST.get(name, 0.25)) for name in ANSWERS if rng.random() < share
        }
        self.moments = {name: _log(rng, 0.001, 0.02) for name in MOMENTS if rng.random() < share}
        self.strokes = {name: _log(rng, 40, 400) for name in STROKES if rng.random() < share}
        for name in SPELLS:
            if rng.random() < share:
                self.spells[name] = [
                    (at := rng.uniform(0, 700), at + _log(rng, 2, 120))
                    for _ in range(rng.randint(1, 3))
                ]
        self._began = asyncio.get_running_loop().time()

    @property
    def healed(self) -> bool:
        return self.healed_at is not None

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.healed_at = asyncio.get_running_loop().time()

    def answer(self) -> str:
        """Draw what becomes of a call."""
        if not self.healed:
            for name, rate in self.answers.items():
                if self._rng.random() < rate:
                    return name
        return "ok"

    def strikes(self, moment: str) -> bool:
        """Draw whether something happens at this step."""
        rate = self.moments.get(moment)
        return rate is not None and not self.healed and self._rng.random() < rate

    def lasts(self, spell: str) -> bool:
        """Return whether something goes on now."""
        times = self.spells.get(spell)
        if not times or self.healed:
            return False
        now = asyncio.get_running_loop().time() - self._began
        return any(since <= now < until for since, until in times)

    def __str__(self) -> str:
        return " ".join([*self.answers, *self.moments, *self.strokes, *self.spells]) or "calm"


def _log(rng: random.Random, least: float, most: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(least), math.log(most)))
