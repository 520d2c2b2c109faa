"""What the journal says together: each item's rolls, what they cost, and what is still open.

Owns the meaning of the lines and their making. Looks at no file but through `journal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from safelight.client.figures import Figures
from safelight.client.gates import Verdict
from safelight.client.runs.faults import FolderForeign


class RollState(StrEnum):
    """How far a roll has come."""

    ORDERED = "ordered"
    """The order may be under way: its key collects what becomes of it."""
    RECEIVED = "received"
    """The picture is in the folder, not judged yet."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    """It ended without a picture, free."""
    LOST = "lost"
    """It was charged, but its picture is no longer to be had."""


@dataclass
class Roll:
    """One order of an item, and what became of it. Times in unix seconds, money in micro-dollars.

    `price_micros` is what it was quoted at (None: no quote), `charge_micros` what it cost; `by` and
    `by_at` say who has decided about its picture by hand, and when (empty: its gates alone).
    """

    number: int
    key: str
    ordered_at: float
    price_micros: int | None
    state: RollState = RollState.ORDERED
    path: str = ""
    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    mime: str = ""
    job_id: str | None = None
    request_id: str | None = None
    charge_micros: int | None = None
    generation_s: float | None = None
    reason: str = ""
    verdicts: tuple[Verdict, ...] = ()
    by: str = ""
    by_at: float | None = None
    kept: bool = False
    """Whether a person has accepted this very picture: no gate is asked about it again."""

    @property
    def has_picture(self) -> bool:
        """Whether a picture came of it, whatever was thought of it."""
        return bool(self.sha256)

    @property
    def cost_micros(self) -> int:
        """What it cost; where the server says no charge, the price that was reckoned with."""
        if not self.has_picture and self.state is not RollState.LOST:
            return 0
        return self.charge_micros if self.charge_micros is not None else self.price_micros or 0

    @property
    def at_risk_micros(self) -> int:
        """What it may still cost: its price, while nobody knows what became of its order."""
        open_ = self.state is RollState.ORDERED and not self.has_picture
        return (self.price_micros or 0) if open_ else 0


@dataclass
class Story:
    """What happened to one item so far."""

    rolls: list[Roll] = field(default_factory=list)
    puts: dict[str, str] = field(default_factory=dict)
    """Digest of what was carried away, by destination and name."""
    chosen: int | None = None
    """The number of the roll whose picture a person has accepted."""

    @property
    def last(self) -> Roll | None:
        """The roll that says how far the item is: the one a person has chosen, else the newest."""
        if self.chosen is not None:
            return self.rolls[self.chosen - 1]
        return self.rolls[-1] if self.rolls else None

    @property
    def accepted(self) -> Roll | None:
        """The roll whose picture was accepted; the newest, unless a person has chosen another."""
        last = self.last
        return last if last is not None and last.state is RollState.ACCEPTED else None

    @property
    def pictures(self) -> int:
        """How many pictures came."""
        return sum(1 for roll in self.rolls if roll.has_picture)

    @property
    def cost_micros(self) -> int:
        """What all its rolls cost."""
        return sum(roll.cost_micros for roll in self.rolls)


class History:
    """A run's past, and the making of its future lines.

    Args:
        lines: of the journal.

    Raises:
        FolderForeign: they do not fit together.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self.run_id = ""
        self.created_at = 0.0
        self.starts = 0
        self.plan_ids: tuple[str, ...] = ()
        """The ids of the plan of the last start."""
        self.stories: dict[str, Story] = {}
        self._figures: dict[int, Figures] = {}
        for line in lines:
            try:
                self.learn(line)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                raise FolderForeign(
                    f"the run's journal does not fit together ({line.get('what')}: {error}); "
                    "take another folder"
                ) from error

    def story(self, item_id: str) -> Story:
        """Return an item's story, which may have begun nowhere yet."""
        return self.stories.setdefault(item_id, Story())

    @property
    def cost_micros(self) -> int:
        """What all rolls of all items cost, those of items that left the plan included."""
        return sum(story.cost_micros for story in self.stories.values())

    @property
    def earlier_figures(self) -> Figures:
        """The figures of all starts before this one."""
        own = (figures for start, figures in self._figures.items() if start < self.starts)
        return sum(own, Figures())

    def open_rolls(self) -> Iterable[tuple[str, Roll]]:
        """Yield the rolls that may be under way, with their items' ids."""
        for item_id, story in self.stories.items():
            if story.last is not None and story.last.state is RollState.ORDERED:
                yield item_id, story.last

    # --- learning ----------------------------------------------------------------------------

    def learn(self, line: Mapping[str, Any]) -> None:
        """Take in one line. Lines that this release does not know are passed over."""
        match line["what"]:
            case "run":
                self.run_id, self.created_at = str(line["run_id"]), float(line["at"])
            case "start":
                self.starts += 1
                self.plan_ids = tuple(line["items"])
            case "figures":
                self._figures[self.starts] = Figures(**line["figures"])
            case "put":
                story = self.story(line["item"])
                story.puts[f"{line['to']} {line['name']}"] = line["sha256"]
            case "ordered":
                self._ordered(line)
            case "again":
                self.story(line["item"]).rolls[int(line["roll"]) - 1].state = RollState.ORDERED
            case "received" | "accepted" | "rejected" | "failed" | "lost":
                self._went_on(RollState(line["what"]), line)

    def _ordered(self, line: Mapping[str, Any]) -> None:
        story = self.story(line["item"])
        number = int(line["roll"])
        if number != len(story.rolls) + 1:
            raise ValueError(f"roll {number} after {len(story.rolls)}")
        story.chosen = None
        story.rolls.append(Roll(number, line["key"], float(line["at"]), line["price_micros"]))

    def _went_on(self, state: RollState, line: Mapping[str, Any]) -> None:
        story = self.story(line["item"])
        roll = story.rolls[int(line["roll"]) - 1]
        roll.state = state
        if "by" in line:
            roll.by, roll.by_at = str(line["by"]), float(line["at"])
            roll.kept = state is RollState.ACCEPTED
            story.chosen = roll.number if roll.kept else None
        roll.kept = roll.kept and line.get("sha256", roll.sha256) == roll.sha256
        for name in ("path", "reason", "job_id", "request_id", "charge_micros", "generation_s"):
            if name in line:
                setattr(roll, name, line[name])
        for name in ("sha256", "bytes", "width", "height", "mime"):
            if name in line:
                setattr(roll, name, line[name])
        if "verdicts" in line:
            roll.verdicts = tuple(Verdict(**verdict) for verdict in line["verdicts"])


def verdict_lines(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    """Return verdicts as a line has them."""
    return [
        {
            "gate": one.gate,
            "passed": one.passed,
            "reason": one.reason,
            "measured": dict(one.measured),
        }
        for one in verdicts
    ]


def figures_line(figures: Figures) -> dict[str, Any]:
    """Return figures as a line has them."""
    return asdict(figures)
