"""Whether wanted texts are what was read in a picture.

Owns the decision, on lines of text with their places; reads no picture. What counts as equal is
said in `docs/gates.md`: form and width (Unicode's NFKC), case, white space and punctuation do not
count, letters and digits do, and letters that are drawn alike count as one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

Symbols = tuple[tuple[str, bool], ...]
"""A text as it is compared: characters, each with whether it may be missing (punctuation)."""

_DASHES = "-_~\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u301c"
_ALIKE = (
    *("Il|1", "O0o", "ー一" + _DASHES, "へヘ", "べベ", "ぺペ"),
    *("二ニ", "口ロ", "力カ", "工エ", "タ夕", "ト卜", "八ハ"),
)
"""Drawn alike in most faces: neither a reader nor a person tells which was meant."""

_MEANING = frozenset("%‰$€£¥₩₹#@&+=°")
"""Signs that change what a text says. Other punctuation may be missing or differ."""

_CHAIN_MAX = 8
_VISITS_MAX = 2000


@dataclass(frozen=True)
class Line:
    """One line that was read, with the upright box around it in pixels."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    #: The reader's own mean probability, from 0 to 1. Shown, not trusted: it decides nothing.
    confidence: float = 1.0


@dataclass(frozen=True)
class Match:
    """The reading nearest to a wanted text.

    Args:
        mistakes: characters that are wrong, missing or too many.
        read: the lines it was found in, joined; empty if nothing resembles it.
    """

    mistakes: int
    read: str


@cache
def symbols(text: str) -> Symbols:
    """Return the text as it is compared."""
    plain = unicodedata.normalize("NFKC", text).replace("ß", "ss").replace("ẞ", "SS")
    chars = [char for char in plain if not char.isspace()]
    return tuple(
        (char, _may_be_missing(chars, index))
        for index, char in enumerate(chars)
        if unicodedata.category(char)[0] != "C"
    )


def letters(text: str) -> int:
    """Return how many characters of the text count."""
    return sum(not optional for _, optional in symbols(text))


def _key(text: str) -> str:
    return "".join(char for char, optional in symbols(text) if not optional).casefold()


def nearest(wanted: str, lines: Sequence[Line], others: Collection[str] = ()) -> Match:
    """Return what comes nearest to the wanted text among the lines.

    A wanted text is a whole line, or several whole lines one after the other: to the right, or
    below. So `SALE` is not found in a line `SUMMER SALE`, also where its words were read apart, and
    a headline may wrap. What stands close beside it counts as part of it, unless it is one of the
    `others` that are wanted in the picture, too.
    """
    target, keys = symbols(wanted), {_key(other) for other in others}
    best = Match(letters(wanted), "")
    visits = 0
    stack: list[tuple[tuple[int, ...], list[int]]] = [
        ((index,), _row(target, symbols(line.text), _first_row(target)))
        for index, line in enumerate(lines)
    ]
    while stack and visits < _VISITS_MAX:
        chain, row = stack.pop()
        visits += 1
        mistakes = row[-1] if row[-1] >= best.mistakes else row[-1] + _joined(chain, lines, keys)
        if mistakes < best.mistakes:
            best = Match(mistakes, " ".join(lines[index].text for index in chain))
        if best.mistakes == 0:
            break
        if len(chain) < _CHAIN_MAX and min(row[:-1]) < best.mistakes:
            stack += [
                ((*chain, index), _row(target, symbols(lines[index].text), row))
                for index in _following(chain, lines)
            ]
    return best


def found(wanted: Sequence[str], lines: Sequence[Line], mistakes: int = 0) -> dict[str, Match]:
    """Return the nearest reading of each wanted text.

    Two wanted texts that stand in one row may have been read as one line: a text that is not there
    alone may be there together with another one.
    """
    matches = {text: nearest(text, lines, wanted) for text in wanted}
    for text, match in matches.items():
        if match.mistakes <= mistakes:
            continue
        for pair in _pairs(text, wanted):
            together = nearest(" ".join(pair), lines, wanted)
            if together.mistakes <= mistakes:
                matches[text] = Match(together.mistakes, text)
                break
    return matches


def _pairs(text: str, wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    for other in wanted:
        if other != text:
            yield text, other
            yield other, text


def _may_be_missing(chars: Sequence[str], index: int) -> bool:
    char = chars[index]
    if unicodedata.category(char)[0] not in "PS" or char in _MEANING:
        return False
    between = (
        0 < index < len(chars) - 1 and chars[index - 1].isdigit() and chars[index + 1].isdigit()
    )
    return not between


def _same(one: str, other: str) -> bool:
    if one == other or one.casefold() == other.casefold():
        return True
    return any(one in group and other in group for group in _ALIKE)


def _first_row(target: Symbols) -> list[int]:
    row = [0]
    for _, optional in target:
        row.append(row[-1] + (not optional))
    return row


def _row(target: Symbols, read: Symbols, row: list[int]) -> list[int]:
    """Return the edit distances of all prefixes of `target` after reading on (Levenshtein)."""
    for char, skippable in read:
        above, row = row, [row[0] + (not skippable)]
        for index, (want, optional) in enumerate(target):
            row.append(
                min(
                    above[index] + (not _same(char, want)),
                    above[index + 1] + (not skippable),
                    row[index] + (not optional),
                )
            )
    return row


def _following(chain: tuple[int, ...], lines: Sequence[Line]) -> Iterator[int]:
    """Yield the lines that may go on after the chain's last: right of it, or below it."""
    last = lines[chain[-1]]
    for index, line in enumerate(lines):
        if index not in chain and (_right_of(line, last) or _below(line, last)):
            yield index


def _joined(chain: tuple[int, ...], lines: Sequence[Line], others: Collection[str]) -> int:
    """Return how many letters stand so close beside the chain that they belong to it."""
    rest = [line for index, line in enumerate(lines) if index not in chain]
    beside = [line for line in rest if any(_touches(line, lines[index]) for index in chain)]
    return sum(letters(line.text) for line in beside if _key(line.text) not in others)


def _touches(one: Line, other: Line) -> bool:
    """Return whether two lines of one row and of one size are no further apart than words are."""
    heights = sorted((one.bottom - one.top, other.bottom - other.top))
    overlap = min(one.bottom, other.bottom) - max(one.top, other.top)
    gap = max(one.left, other.left) - min(one.right, other.right)
    return overlap > heights[0] * 0.6 and heights[1] < heights[0] * 1.5 and gap < heights[0] * 0.7


def _right_of(line: Line, last: Line) -> bool:
    overlap = min(line.bottom, last.bottom) - max(line.top, last.top)
    least = min(line.bottom - line.top, last.bottom - last.top)
    return overlap > least / 2 and line.left >= (last.left + last.right) / 2


def _below(line: Line, last: Line) -> bool:
    return line.top >= (last.top + last.bottom) / 2
