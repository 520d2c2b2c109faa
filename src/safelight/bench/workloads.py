"""The workloads of a bench: what is asked of each contender, and how much of it.

Pure. Owns their names and sizes; `run` plays them, `orders` writes the requests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from safelight.bench.picture import Weight, weight

Kind = Literal["load", "waiting", "burst"]
"""Many orders from few clients; many clients that wait at a time; all answers at one instant."""
Shape = Literal["b64_json", "url", "edit", "job"]
"""An order and its answer: the picture in it, a link that is followed, an edit, a job."""

EDIT_INPUTS = 4
EDIT_INPUT = Weight("input", 4 * 2**20 // 3 * 4, 2048, 1152)
"""One of the pictures of an edit: a PNG file of 4 MiB."""

_LOAD_BYTES = 768 * 1024 * 1024
_LOAD_LEAST, _LOAD_MOST = 64, 40_000
_ALONE_LEAST, _ALONE_MOST = 8, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One workload.

    Attributes:
        at_once: clients of a burst or of a crowd that waits; a load takes those of the plan.
        delay_s: how long the upstream takes for each reply.
        ramp_s: over how long the orders of a crowd arrive, evenly.
        once: it is played in one round, however many the others have.
    """

    name: str
    shows: str
    kind: Kind
    weight: Weight
    shape: Shape = "b64_json"
    at_once: int = 0
    delay_s: float = 0.0
    ramp_s: float = 0.0
    once: bool = False

    @property
    def ours_alone(self) -> bool:
        """Whether only the gateway can answer it: nobody else has links or jobs."""
        return self.shape in ("url", "job")

    @property
    def load(self) -> int:
        """Most orders of one stretch of load."""
        return max(_LOAD_LEAST, min(_LOAD_MOST, _LOAD_BYTES // self._moved_bytes))

    @property
    def alone(self) -> int:
        """Most orders of one stretch with one client."""
        return max(_ALONE_LEAST, min(_ALONE_MOST, self.load // 4))

    @property
    def _moved_bytes(self) -> int:
        inputs = EDIT_INPUTS * EDIT_INPUT.picture_bytes if self.shape == "edit" else 0
        return self.weight.base64_bytes + inputs

    def shortened(self) -> Workload:
        """Return a form of it that takes seconds and proves less."""
        return replace(
            self,
            shows=f"a tenth of: {self.shows}" if self.at_once else self.shows,
            at_once=max(1, self.at_once // 10) if self.at_once else 0,
            delay_s=self.delay_s / 5,
            ramp_s=self.ramp_s / 5,
        )


def _load(name: str) -> Workload:
    found = weight(name)
    return Workload(name=found.name, shows=f"replies of {found.name}", kind="load", weight=found)


WORKLOADS: tuple[Workload, ...] = (
    _load("1kb"),
    _load("2mb"),
    _load("12mb"),
    Workload(
        name="url",
        shows="2mb, answered with a link that is then followed",
        kind="load",
        weight=weight("2mb"),
        shape="url",
    ),
    Workload(
        name="jobs",
        shows="2mb, ordered with Prefer: respond-async and waited for",
        kind="load",
        weight=weight("2mb"),
        shape="job",
    ),
    Workload(
        name="edits",
        shows="edits with four inputs of 4 MB, replies of 2mb",
        kind="load",
        weight=weight("2mb"),
        shape="edit",
    ),
    Workload(
        name="waiting",
        shows="5,000 in flight, replies of 1kb after 15 s",
        kind="waiting",
        weight=weight("1kb"),
        at_once=5000,
        delay_s=15.0,
        ramp_s=12.0,
        once=True,
    ),
    Workload(
        name="burst-2mb",
        shows="200 replies of 2mb at one instant",
        kind="burst",
        weight=weight("2mb"),
        at_once=200,
    ),
    Workload(
        name="burst-12mb",
        shows="100 replies of 12mb at one instant",
        kind="burst",
        weight=weight("12mb"),
        at_once=100,
    ),
)


def workload(name: str) -> Workload:
    """Return the workload of that name; any weight, such as `6mb`, is a load of such replies.

    Raises:
        ValueError: it is neither.
    """
    for one in WORKLOADS:
        if one.name == name.strip().lower():
            return one
    try:
        return _load(name)
    except ValueError:
        known = ", ".join(one.name for one in WORKLOADS)
        raise ValueError(f"{name!r} is none of {known}, and no size such as 6mb") from None
