"""How much text a box takes: sizes of type, and which lines go to another slide.

Owns an estimate of widths that needs no font file: advance widths in classes of letters, a little
wider than Arial's, so that what fits here fits in the fonts that decks are set in. Sizes are
points, boxes are points too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from safelight.client.recipes.outline import Line

LINE_HEIGHT = 1.22
"""Of the size of type; what Calibri and Arial need at single spacing."""
SPACE_BEFORE = 0.42
"""Of the size of type, before each paragraph."""
INDENT = 1.15
"""Of the size of type: how far each level of bullets stands in."""
LEVEL_STEP = 0.1
"""Each level is smaller than the one above by this share."""
_STRONG = 1.07

_NARROW = frozenset("ijlI.,:;'|!()[]{}ft/\\ `·’‘")  # noqa: RUF001 - typographic apostrophes
_WIDE = frozenset("mwMW@%—…")


@dataclass(frozen=True)
class Box:
    """The room for text, points, without its inner margins."""

    width: float
    height: float


@dataclass(frozen=True)
class Page:
    """Lines that fit on one slide, and the size of their first level."""

    lines: tuple[Line, ...]
    size: float


def width_of(text: str, size: float, *, strong: bool = False) -> float:
    """Return the estimated width of a text in one line."""
    return sum(_em(char) for char in text) * size * (_STRONG if strong else 1.0)


def _em(char: str) -> float:
    if unicodedata.east_asian_width(char) in "WF":
        return 1.0
    if unicodedata.category(char)[0] == "M":
        return 0.15
    if char in _NARROW:
        return 0.31
    if char in _WIDE:
        return 0.92
    return 0.69 if char.isupper() else 0.56


def lines_of(text: str, width: float, size: float, *, strong: bool = False) -> int:
    """Return how many lines a paragraph takes; words break only when longer than a line."""
    count, used = 1, 0.0
    for word in _pieces(text):
        wide = width_of(word, size, strong=strong)
        if used and used + width_of(word.rstrip(), size, strong=strong) > width:
            count, used = count + 1, 0.0
        while wide > width:
            count, wide = count + 1, wide - width
        used += wide
    return count


def _pieces(text: str) -> list[str]:
    """Return the parts between which a line may break: words, and single wide characters."""
    pieces = [""]
    for char in text:
        wide = unicodedata.east_asian_width(char) in "WF"
        if wide or (pieces[-1] and pieces[-1][-1] == " " and char != " "):
            pieces.append("")
        pieces[-1] += char
        if wide:
            pieces.append("")
    return [piece for piece in pieces if piece]


def level_size(size: float, level: int) -> float:
    """Return the size of type of a level of bullets."""
    return round(size * (1 - LEVEL_STEP * level))


def title_size(title: str, box: Box, largest: float, smallest: float) -> float:
    """Return the largest size in which a title fits its box; the smallest if none does."""
    size = largest
    while size > smallest:
        if lines_of(title, box.width, size, strong=True) * size * LINE_HEIGHT <= box.height:
            return size
        size -= 1
    return smallest


def pages(lines: Sequence[Line], box: Box, largest: float, smallest: float) -> list[Page]:
    """Spread lines over as few slides as possible, each in the largest size that holds it.

    Lines are never cut; one that fills more than a slide by itself is set in the smallest size.
    """
    rest = list(lines)
    found: list[Page] = []
    while rest:
        size = largest
        while size > smallest and _height(rest, box.width, size) > box.height:
            size -= 1
        taken = _most(rest, box, size)
        found.append(Page(tuple(rest[:taken]), size))
        rest = rest[taken:]
    return _evened(found, box, largest, smallest)


def _most(lines: Sequence[Line], box: Box, size: float) -> int:
    """Return how many of the lines fit, at least one; a heading does not stay behind alone."""
    count = len(lines)
    while count > 1 and _height(lines[:count], box.width, size) > box.height:
        count -= 1
    while 1 < count < len(lines) and not lines[count - 1].bullet:
        count -= 1
    return count


def _evened(found: list[Page], box: Box, largest: float, smallest: float) -> list[Page]:
    """Move lines from the last but one slide to a last one that is almost empty."""
    if len(found) < 2:
        return found
    *before, first, last = found
    every = [*first.lines, *last.lines]
    half = _height(every, box.width, smallest) / 2
    cut = len(every)
    while cut > 1 and _height(every[:cut], box.width, smallest) > half * 1.15:
        cut -= 1
    while cut > 1 and (every[cut].level > 0 or not every[cut - 1].bullet):
        cut -= 1
    halves = (every[:cut], every[cut:])
    if cut >= len(first.lines) or any(_height(h, box.width, smallest) > box.height for h in halves):
        return found
    return [*before, *(_sized(half_, box, largest, smallest) for half_ in halves)]


def _sized(lines: Sequence[Line], box: Box, largest: float, smallest: float) -> Page:
    size = largest
    while size > smallest and _height(lines, box.width, size) > box.height:
        size -= 1
    return Page(tuple(lines), size)


def _height(lines: Sequence[Line], width: float, size: float) -> float:
    """Return the height that paragraphs take in a column."""
    height = 0.0
    for at, line in enumerate(lines):
        own = level_size(size, line.level)
        room = width - (INDENT * size * (line.level + 1) if line.bullet else 0.0)
        strong = any(is_strong for _, is_strong in line.runs)
        height += lines_of(line.text, room, own, strong=strong) * own * LINE_HEIGHT
        height += own * SPACE_BEFORE if at else 0.0
    return height
