"""Texts broken into lines of a width, from the widths of letters alone.

Owns where a line may break (between words, and beside any wide letter, as Chinese and Japanese do)
and the ellipsis. Measuring with the PDF library would shape each text again and again: a sheet of
a thousand pictures would take minutes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

Widths = Mapping[int, float]
"""Of each letter by its code, in shares of the size of type."""

ELLIPSIS = " …"
_UNKNOWN = 0.6


def width_of(text: str, widths: Widths, size: float) -> float:
    """Return how wide a text is in one line, in the unit of `size`."""
    return sum(widths.get(ord(char), _UNKNOWN) for char in text) * size


def broken(text: str, widths: Widths, size: float, width: float, most: int) -> list[str]:
    """Return a text in at most so many lines; the last one ends in an ellipsis if need be."""
    lines: list[str] = [""]
    used = 0.0
    for piece in _pieces(" ".join(text.split())):
        wide = width_of(piece.rstrip(), widths, size)
        if lines[-1] and used + wide > width:
            lines.append("")
            used = 0.0
        for part in _torn(piece, widths, size, width):
            if lines[-1] and used + width_of(part.rstrip(), widths, size) > width:
                lines.append("")
                used = 0.0
            lines[-1] += part
            used += width_of(part, widths, size)
        if len(lines) > most:
            return [
                *(line.rstrip() for line in lines[: most - 1]),
                _cut(lines, most, widths, size, width),
            ]
    return [line.rstrip() for line in lines if line.strip()]


def _cut(lines: list[str], most: int, widths: Widths, size: float, width: float) -> str:
    last = lines[most - 1].rstrip()
    while last and width_of(last + ELLIPSIS, widths, size) > width:
        last = last[:-1]
    return last.rstrip() + ELLIPSIS


def _torn(piece: str, widths: Widths, size: float, width: float) -> list[str]:
    """Return a word that is longer than a line in parts that fit."""
    if width_of(piece.rstrip(), widths, size) <= width:
        return [piece]
    parts = [""]
    for char in piece:
        if parts[-1] and width_of(parts[-1] + char, widths, size) > width:
            parts.append("")
        parts[-1] += char
    return parts


def _pieces(text: str) -> list[str]:
    """Return words with the blank behind them, and wide letters one by one."""
    pieces = [""]
    for char in text:
        wide = unicodedata.east_asian_width(char) in "WF"
        if wide or (pieces[-1].endswith(" ") and char != " "):
            pieces.append("")
        pieces[-1] += char
        if wide:
            pieces.append("")
    return [piece for piece in pieces if piece]


def needs_shaping(text: str) -> bool:
    """Return whether a text has letters that join, stack or run from the right."""
    return any("\u0300" <= char <= "\u036f" or "\u0590" <= char <= "\u1aff" for char in text)
