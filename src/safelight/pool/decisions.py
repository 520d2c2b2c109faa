"""What the pool is asked and what it answers: data and words only."""

from __future__ import annotations

from dataclasses import dataclass, field

from safelight.pool.meter import Spent
from safelight.types import Account


@dataclass(frozen=True, slots=True)
class Need:
    """What a job needs: `size` is the canvas, `inputs` counts the pictures sent along."""

    channel: str
    edits: bool = False
    size: str = "auto"
    inputs: int = 0
    mask: bool = False

    @property
    def kind(self) -> tuple[str, bool]:
        """What decides which accounts may serve, but for single sizes."""
        return (self.channel, self.edits)


@dataclass(eq=False, slots=True)
class Lease:
    """The right to use one account for one attempt; hand it back with `Pool.release`.

    `at` is when it was given, monotonic seconds; `trial` says that it looks whether something that
    was out of use works again, `suspected` that it was booked as a stall while it still ran.
    """

    account: Account
    need: Need
    at: float
    trial: bool = False
    suspected: bool = False
    spent: dict[str, Spent] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """Nothing is free; the earliest budget is expected in `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Down:
    """Every endpoint that could serve is down; the next look at one is in `seconds`."""

    seconds: float


@dataclass(frozen=True)
class Nothing:
    """No account will serve this, however long one waits; `code` says why."""

    code: str
    message: str


Decision = Lease | Wait | Down | Nothing

UNFUNDED = Nothing(
    "pool_exhausted",
    "No account of this channel has money left upstream; the operator must top one up.",
)
REFUSED = Nothing(
    "pool_exhausted",
    "Every account of this channel was refused by its upstream; the operator must check their "
    "credentials.",
)


def none_serves(need: Need) -> Nothing:
    """Return that no account serves this kind of request."""
    return Nothing(
        "model_unavailable",
        f"No account serves {need.channel} for this kind of request; the operator must add one "
        "to safelight.toml.",
    )
