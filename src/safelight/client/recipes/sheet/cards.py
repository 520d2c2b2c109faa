"""What a contact sheet shows: one card for each item of the plan, in its order, and the sums.

Owns the choice and the words; `page.py` and `paper.py` set them. Nothing here depends on a format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from safelight.client.runs.items import Accepted, Finished, Item, Review

if TYPE_CHECKING:
    from safelight.client.gates import Verdict

_SHARED_MIN = 40
"""A shorter common beginning is no frame around what differs, but a part of it."""

State = Literal["accepted", "review", "failed"]


@dataclass(frozen=True)
class Check:
    """One gate's word on a picture."""

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Card:
    """One item: its picture, or why there is none."""

    id: str
    title: str
    state: State
    prompt: str
    #: The prompt without the beginning that all prompts of the run share, in one line.
    gist: str
    details: Mapping[str, str]
    #: What is known in a few words each: pixels, cost, rolls.
    facts: tuple[str, ...]
    checks: tuple[Check, ...]
    #: The accepted picture, or the rejected ones of a card for review.
    pictures: tuple[Path, ...]
    #: Why it is for review, or failed; empty when accepted.
    reason: str = ""


@dataclass(frozen=True)
class Sheet:
    """A whole contact sheet."""

    name: str
    #: When it was made, local time.
    at: datetime
    folder: Path
    cards: tuple[Card, ...]
    #: The cost line, and the three numbers of a production team.
    cost: str
    figures: str
    #: Files that were made of the pictures.
    made: tuple[Path, ...]

    def of(self, state: State) -> list[Card]:
        """Return the cards in a state."""
        return [card for card in self.cards if card.state == state]


def gather(finished: Finished, made: Sequence[Path], at: datetime) -> Sheet:
    """Return the sheet of a finished run."""
    shared = shared_beginning([item.order.prompt for item in finished.plan.items])
    return Sheet(
        name=finished.plan.name,
        at=at,
        folder=finished.folder,
        cards=tuple(_card(item, finished, shared) for item in finished.plan.items),
        cost=cost_line(finished),
        figures=str(finished.figures),
        made=tuple(made),
    )


def shared_beginning(prompts: Sequence[str]) -> int:
    """Return how many characters all prompts begin with, up to the end of a word; 0 for few."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)
    same = next(
        (at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]),
        min(len(first), len(last)),
    )
    while same and not first[same - 1].isspace():
        same -= 1
    return same if same >= _SHARED_MIN else 0


def cost_line(finished: Finished) -> str:
    """Return what the run cost, in one line: pictures, sum, and what rejected ones had of it."""
    count = len(finished.accepted)
    line = f"{_counted(count, 'picture')} · {dollars(finished.cost_micros)}"
    rolls = sum(one.rolls for one in finished.accepted.values())
    rolls += sum(one.rolls for one in finished.review.values())
    if rolls == count and count:
        each, rest = divmod(finished.cost_micros, count)
        return line if rest or count == 1 else f"{line} ({dollars(each)} each)"
    return f"{line} for {_counted(rolls, 'roll')}"


def dollars(micros: int) -> str:
    """Return micro-dollars as people write dollars: two decimals, more where there are more."""
    whole, part = divmod(abs(micros), 1_000_000)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}${whole:,}.{decimals}"


def _card(item: Item, finished: Finished, shared: int) -> Card:
    title = item.out.rsplit("/", 1)[-1]
    accepted = finished.accepted.get(item.id)
    review = finished.review.get(item.id)
    state: State = "accepted" if accepted else "review" if review else "failed"
    reason = "" if accepted else review.reason if review else _why(item, finished)
    return Card(
        id=item.id,
        title=title,
        state=state,
        prompt=item.order.prompt,
        gist=("… " if shared else "") + " ".join(item.order.prompt[shared:].split()),
        details=item.details,
        facts=_facts(item, accepted, review),
        checks=_checks(accepted.verdicts if accepted else review.verdicts if review else ()),
        pictures=(accepted.path,) if accepted else review.paths if review else (),
        reason=reason,
    )


def _why(item: Item, finished: Finished) -> str:
    return finished.failed.get(item.id, "not made yet")


def _facts(item: Item, accepted: Accepted | None, review: Review | None) -> tuple[str, ...]:
    facts = []
    if accepted is not None:
        facts.append(f"{accepted.width} × {accepted.height}")  # noqa: RUF001 - the sign
    elif item.order.size:
        facts.append(item.order.size.replace("x", " × "))  # noqa: RUF001 - the sign
    done = accepted or review
    if done is not None:
        facts.append(dollars(done.cost_micros))
        if done.rolls > 1:
            facts.append(_counted(done.rolls, "roll"))
    return tuple(facts)


def _checks(verdicts: Sequence[Verdict]) -> tuple[Check, ...]:
    return tuple(Check(one.gate, one.passed, one.reason) for one in verdicts)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
