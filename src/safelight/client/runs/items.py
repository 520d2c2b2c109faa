"""What a run is made of: items, the plan they form, and what became of each.

Owns the shapes that recipes, the runner and the contact sheet share, and the ids of items. Reads
no plan file and orders nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safelight.client.figures import Figures
    from safelight.client.gates import Gate, Verdict
    from safelight.client.orders import Order

ID_LENGTH = 12
"""Hexadecimal digits of an item's id: in one of 200,000 runs of 50,000 items two meet by chance."""


@dataclass(frozen=True)
class Item:
    """One picture that a run shall end with."""

    #: Follows from the content (`item_id`), so the same row is the same item in every start.
    id: str
    #: What is ordered. Its inputs are the originals; the runner prepares them. A key it has is
    #: not used: the runner gives each roll its own.
    order: Order
    #: Where the picture goes: a file stem relative to the run's folder, with `/` between folders.
    #: The ending follows from the picture's format.
    out: str
    #: What the picture must pass, in this order.
    gates: tuple[Gate, ...] = ()
    #: The id of an item whose accepted picture goes in as the first input.
    reference: str | None = None
    #: What a contact sheet shows beside the picture: style, language, section title ...
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The items of a run.

    `finish` is called once, at the end of a start that left nothing to be done or only what failed;
    it makes the contact sheet, the deck and the like in `Finished.folder` and returns their files.
    """

    #: What the run is called: the recipe, or the stem of the plan file.
    name: str
    items: tuple[Item, ...]
    finish: Callable[[Finished], Sequence[Path]]


@dataclass(frozen=True)
class Accepted:
    """A picture that passed its gates and is in the run's folder."""

    path: Path
    sha256: str
    #: Pixels, as measured.
    width: int
    height: int
    #: What all rolls of the item were charged, rejected ones included.
    cost_micros: int
    #: How many pictures were ordered until this one; 1 is the first try.
    rolls: int
    verdicts: tuple[Verdict, ...]
    job_id: str | None = None


@dataclass(frozen=True)
class Review:
    """What is left of an item none of whose pictures passed: for a person to decide."""

    #: All rejected pictures in `review/`, in the order of the rolls.
    paths: tuple[Path, ...]
    #: Why the last of them was rejected, in words.
    reason: str
    cost_micros: int
    rolls: int
    #: Those of the last picture.
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class Finished:
    """A run at its end. Each item is in exactly one of `accepted`, `review` and `failed`."""

    #: The run's folder; all paths are in it.
    folder: Path
    plan: Plan
    accepted: Mapping[str, Accepted]
    #: Why there is no picture, by item id.
    failed: Mapping[str, str]
    review: Mapping[str, Review]
    #: All charges of the run, those of earlier starts included.
    cost_micros: int
    #: Mean generation time, share of 5xx, download success.
    figures: Figures


def item_id(order: Order, *, reference: str | None = None, again: int = 0) -> str:
    """Return the id of an item that orders this.

    It is a digest of all that decides the picture: prompt, model, size, parameters, the bytes of
    inputs and mask, and the item it refers to. Neither the place in the plan nor the file name is
    in it, so rows may be moved and renamed without being bought again.

    Args:
        order: what is ordered; its key is left out.
        reference: as of the item.
        again: which of several equal items this is, from 0.

    Raises:
        OSError: an input cannot be read.
    """
    content = {
        "prompt": order.prompt,
        "model": order.model,
        "size": order.size,
        "inputs": [_digest(one) for one in order.inputs],
        "mask": None if order.mask is None else _digest(order.mask),
        "parameters": dict(order.parameters),
        "reference": reference,
        "again": again,
    }
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def _digest(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Identities:
    """Gives ids to the items of one plan; equal orders are counted, so each gets its own."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def of(self, order: Order, *, reference: str | None = None) -> str:
        """Return the id of the next item that orders this. See `item_id`."""
        first = item_id(order, reference=reference)
        again = self._counts.get(first, 0)
        self._counts[first] = again + 1
        return first if again == 0 else item_id(order, reference=reference, again=again)
