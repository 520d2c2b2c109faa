"""The gate `near-duplicate`: the picture is not one of those accepted before, once more.

Owns the fingerprint, the distance and the memory of one run. The fingerprint is the difference hash
that Neal Krawetz published ("Kind of Like That", 2013): of 9x8 greys, whether each is lighter than
its right neighbour, 64 bits. Beside it stand the colours of 4x4 fields, because a red shoe and a
blue one in the same place are two pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from safelight.client.gates.pixels import flat, judged, rows, small
from safelight.client.gates.verdict import Verdict

DISTANCE = 6
"""Bits of 64. By measurement (docs/gates.md) 98 % of pictures that were compressed, scaled, blurred
or cropped by 2 % come within this."""

COLOUR = 12.0
"""Of 255, the mean difference of the fields' colours: above it two pictures differ anyway."""

_COLUMNS = 9
_ROWS = 8
_FIELDS = 4
_FINE = 16  # pixels that are averaged into one grey, in both directions


@dataclass(frozen=True)
class Fingerprint:
    """What a picture looks like, in 64 bits and 16 colours."""

    bits: int
    colours: tuple[int, ...]

    def distance(self, other: Fingerprint) -> int:
        """Return how many of the 64 bits differ."""
        return (self.bits ^ other.bits).bit_count()

    def colour_distance(self, other: Fingerprint) -> float:
        """Return the mean difference of the fields' levels, of 255."""
        pairs = zip(self.colours, other.colours, strict=True)
        return sum(abs(one - two) for one, two in pairs) / len(self.colours)


def fingerprint(picture: Path) -> Fingerprint:
    """Return the picture's fingerprint.

    Raises:
        Unreadable: the file is no picture.
    """
    look = flat(small(picture, _COLUMNS * _FINE, _ROWS * _FINE))
    fields = look.shrink(look.width / _FIELDS, look.height / _FIELDS)
    colours = tuple(bytes(fields.cast("uchar").write_to_memory()))
    return Fingerprint(_hash(rows(look.colourspace("b-w").shrink(_FINE, _FINE))), colours)


class NearDuplicate:
    """Pass pictures that are unlike all that were accepted before in this run.

    Keep one object for a run: its memory is what it compares with. See `Remembering`.

    Args:
        distance: two pictures are near duplicates when at most so many of 64 bits differ.
        colour: and when their colours differ by at most so much, of 255.
    """

    name = "near-duplicate"

    def __init__(self, distance: int = DISTANCE, colour: float = COLOUR) -> None:
        self.distance = distance
        self.colour = colour
        self._known: dict[Path, Fingerprint] = {}
        self._lock = threading.Lock()

    def check(self, picture: Path) -> Verdict:
        """Compare with every accepted picture but the file itself."""
        return judged(self.name, lambda: self._compared(picture, fingerprint(picture)))

    def remember(self, picture: Path) -> Verdict:
        """Check again and know the picture from now on if it passes, in one step."""
        return judged(self.name, lambda: self._remembered(picture))

    def _remembered(self, picture: Path) -> Verdict:
        own = fingerprint(picture)
        with self._lock:
            verdict = self._compared(picture, own)
            if verdict.passed:
                self._known[picture.absolute()] = own
        return verdict

    def _compared(self, picture: Path, own: Fingerprint) -> Verdict:
        known = {p: f for p, f in list(self._known.items()) if p != picture.absolute()}
        if not known:
            return Verdict(self.name, passed=True, reason="the first picture of the run")
        near = min(known, key=lambda path: self._order(own, known[path]))
        bits, colour = own.distance(known[near]), own.colour_distance(known[near])
        passed = bits > self.distance or colour > self.colour
        looks = "differs from" if passed else "is nearly the same as"
        return Verdict(
            self.name,
            passed,
            f"{looks} {near.name} ({bits} of 64 bits, colours by {colour:.0f} of 255; more than "
            f"{self.distance} bits or {self.colour:g} wanted)",
            {"bits": bits, "colour": round(colour, 1), "nearest": near.name},
        )

    def _order(self, own: Fingerprint, other: Fingerprint) -> float:
        """Return how near another picture is, 1 and less being a near duplicate."""
        return max(
            own.distance(other) / max(self.distance, 1),
            own.colour_distance(other) / max(self.colour, 1.0),
        )


def _hash(greys: Sequence[Sequence[int]]) -> int:
    """Return 64 bits, row by row: whether each grey is lighter than its right neighbour."""
    bits = 0
    for row in greys:
        for left, right in pairwise(row):
            bits = bits << 1 | (left > right)
    return bits
