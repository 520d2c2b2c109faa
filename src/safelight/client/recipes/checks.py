"""What the recipes check: the pixels, that something is to be seen, and the texts.

Owns the split of texts into those that the gate `text` reads and those that a person has to look
at. What is readable is the gate's own claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from safelight.client.gates import BadGate, Gate, Text, UnreadableScript, gate
from safelight.client.recipes.canvas import pixels_of


@dataclass(frozen=True)
class TextCheck:
    """How the texts of one picture are checked."""

    #: One text gate, or none.
    gates: tuple[Gate, ...] = ()
    #: For the contact sheet: which texts nobody has checked. Empty when all are.
    remark: Mapping[str, str] = field(default_factory=dict)


def measured(size: str, *, alike: Gate | None = None) -> tuple[Gate, ...]:
    """Return the gates that every picture of a recipe passes; make them once for a plan.

    Args:
        size: as ordered.
        alike: the gate that tells near duplicates; None: pictures may look alike.

    Raises:
        BadRecipe: the size is none.
    """
    pixels = pixels_of(size)
    gates = [gate("size", pixels)] if pixels else []
    gates.append(gate("not-blank"))
    if alike is not None:
        gates.append(alike)
    return tuple(gates)


def checked_text(*texts: str) -> TextCheck:
    """Return the check for the texts of one picture.

    Raises:
        ReaderMissing: the packages that read text in pictures are not installed.
    """
    readable: list[str] = []
    unread: list[str] = []
    for text in texts:
        try:
            Text([text])
        except UnreadableScript as error:
            unread.append(f"{text} ({error.what})")
        except BadGate:
            # Nothing but digits or signs: there is nothing that could be misspelt.
            continue
        else:
            readable.append(text)
    remark = {"not checked by OCR": "; ".join(unread)} if unread else {}
    return TextCheck((Text(readable),) if readable else (), remark)
