"""Tables that stay readable in a narrow terminal: which columns, how far apart, how wide.

An id or an amount is never broken over lines: the least important columns go first, then words
wrap. Owns the layout only; `output.py` prints, commands say what matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

_WORDS_MIN = 20
"""Cells that a column of words keeps before another column is left out."""
_GAP, _NARROW_GAP = 2, 1


@dataclass(frozen=True)
class Column:
    """A column and what may be done to it where space is short.

    Args:
        name: its heading.
        right: it holds numbers.
        words: its text may go on in the next line.
        rank: 0 stays; of the others the highest is left out first, rank 1 only when the rest
            stands as close as it can.
    """

    name: str
    right: bool = False
    words: bool = False
    rank: int = 0


@dataclass(frozen=True)
class Layout:
    """A table for one width: `width` cells are enough for it, `left_out` are the names it lacks."""

    table: Table
    width: int
    left_out: tuple[str, ...]


def lay_out(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None) -> Layout:
    """Return the table of `rows` for `width` cells; None means as wide as it needs.

    What cannot fit is wider than `width`: a terminal then breaks lines, but no cell is cut.
    """
    cells = [list(row) for row in rows]
    sizes = [_Size.of(column, [row[at] for row in cells]) for at, column in enumerate(columns)]
    shown = list(range(len(columns)))
    gap, needed = _GAP, sum(size.whole for size in sizes) + _GAP * (len(sizes) - 1)
    if width is not None and needed > width:
        shown, gap, least = _fitted(columns, sizes, width)
        needed = max(width, least)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for at in shown:
        column = columns[at]
        table.add_column(
            escape(column.name),
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.words,
            min_width=sizes[at].word if column.words else sizes[at].whole,
        )
    for row in cells:
        table.add_row(*(escape(row[at]) for at in shown))
    left_out = tuple(column.name for at, column in enumerate(columns) if at not in shown)
    return Layout(table, needed, left_out)


@dataclass(frozen=True)
class _Size:
    """Cells that a column takes: in one line, with words wrapped at will, at the least."""

    whole: int
    wrapped: int
    word: int

    @classmethod
    def of(cls, column: Column, texts: Sequence[str]) -> _Size:
        all_texts = [column.name, *texts]
        whole = max(cell_len(text) for text in all_texts)
        if not column.words:
            return cls(whole, whole, whole)
        word = max(cell_len(word) for text in all_texts for word in text.split() or [""])
        # Text without blanks, such as a long name, may be broken: it is no id and no amount.
        return cls(whole, min(whole, _WORDS_MIN), min(word, _WORDS_MIN))


def _fitted(
    columns: Sequence[Column], sizes: Sequence[_Size], width: int
) -> tuple[list[int], int, int]:
    """Return the columns to show, the gap between them and the width they need at least."""
    highest = max(1, *(column.rank for column in columns))
    steps = [(rank, _GAP) for rank in range(highest, 0, -1)] + [(1, _NARROW_GAP), (0, _NARROW_GAP)]
    for rank, gap in steps:
        shown = [at for at, column in enumerate(columns) if column.rank <= rank]
        taken = (sizes[at].wrapped if gap == _GAP else sizes[at].word for at in shown)
        needed = sum(taken) + gap * (len(shown) - 1)
        if needed <= width:
            break
    return shown, gap, needed
