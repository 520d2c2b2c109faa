"""The contact sheet as a PDF on A4, for printing and sending.

Owns the layout: a head with the sums, cards in two to four columns by the pictures' shape, a foot
with cost and page number. Written with fpdf2; letters come from `fonts.py`, so that a sheet looks
the same everywhere. Lengths are millimetres, sizes of type points.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.client.recipes.errors import MissingPart
from safelight.client.recipes.sheet.cards import Card, Sheet
from safelight.client.recipes.sheet.fonts import Faces, faces_for
from safelight.client.recipes.sheet.lines import broken, needs_shaping
from safelight.client.recipes.sheet.thumbnails import Thumbnail

if TYPE_CHECKING:
    from fpdf import FPDF

_WIDTH, _HEIGHT = 210.0, 297.0
_MARGIN, _FOOT = 14.0, 14.0
_GAP, _BELOW = 5.0, 2.0
_SHRUNK_MIN = 0.75
"""By how much pictures are made smaller at most, so that one more row stands on their page."""
_POINT = 0.3528
_INK, _QUIET, _FAINT = (26, 26, 30), (99, 99, 107), (226, 224, 218)
_ACCENT, _GOOD = (179, 38, 30), (31, 111, 67)
_GROUND = (240, 239, 235)
_MARKS = {True: "✓", False: "×"}  # noqa: RUF001 - the sign
_PROMPT_LINES = 3
_SIGNS = "·×✓…"  # noqa: RUF001 - what the sheet sets beside the run's own words
_DETAIL_CHARS = 160
_HEADINGS = (
    ("accepted", ""),
    ("review", "For review: no picture of these passed its checks"),
    ("failed", "Failed: the same command again makes these, and only these"),
)


def write_paper(sheet: Sheet, small: Mapping[Path, Thumbnail], path: Path) -> None:
    """Write the sheet, with the thumbnails of its pictures, as a PDF.

    Raises:
        MissingPart: fpdf2, uharfbuzz or the fonts are not installed.
        OSError: the file cannot be written.
    """
    try:
        import uharfbuzz  # noqa: F401, PLC0415 - shapes Indic letters for fpdf2
        from fpdf import FPDF  # noqa: PLC0415 - heavy
    except ImportError as error:
        raise MissingPart(error.name or "fpdf2", "the PDF contact sheet") from error
    with tempfile.TemporaryDirectory(prefix="safelight-sheet-") as folder:
        faces = faces_for(_texts(sheet), Path(folder))
        pdf = FPDF(format="A4")
        _Paper(pdf, sheet, small, faces).draw()
        data = bytes(pdf.output())
    path.write_bytes(data)


def fitted(words: Sequence[float], picture: float, room: float) -> tuple[int, float]:
    """Return how many rows stand on the rest of a page, and how high their pictures are.

    A row too many goes on the page, too, if all pictures on it lose no more than a quarter for it:
    else a page of three and a half rows would end with half a row of nothing.

    Args:
        words: the height of what stands below the pictures, row by row.
        picture: the height of the pictures at their full width.
        room: from here to the foot.
    """
    used = -_GAP
    for count, below in enumerate(words):
        taken = used + _GAP + picture + _BELOW + below
        if taken > room:
            smaller = picture - (taken - room) / (count + 1)
            fits = smaller > 0 and smaller >= picture * _SHRUNK_MIN
            return (count + 1, smaller) if fits else (count, picture)
        used = taken
    return len(words), picture


def _words_height(lines: Sequence[Sequence[_Line]]) -> float:
    return max(sum(line.height for line in card) for card in lines)


def _texts(sheet: Sheet) -> Iterator[str]:
    yield from (sheet.name, sheet.cost, sheet.figures, _SIGNS, *(one.name for one in sheet.made))
    for card in sheet.cards:
        yield from (card.title, card.gist, card.reason, *card.facts)
        for name, value in card.details.items():
            yield from (name, value)
        for check in card.checks:
            yield from (check.name, check.reason)


class _Paper:
    """One document while it is drawn."""

    def __init__(
        self, pdf: FPDF, sheet: Sheet, small: Mapping[Path, Thumbnail], faces: Faces
    ) -> None:
        self._pdf = pdf
        self._sheet = sheet
        self._small = small
        self._faces = faces
        pdf.set_auto_page_break(False)
        pdf.set_margin(0)
        pdf.c_margin = 0
        for face in faces.faces:
            for style, file in face.files.items():
                pdf.add_font(face.family, style, file)
        self._family = faces.faces[0].family
        pdf.set_font(self._family, "", 8)
        pdf.set_fallback_fonts([face.family for face in faces.faces[1:]], exact_match=False)
        pdf.set_title(f"{sheet.name}: contact sheet")
        pdf.set_creator("safelight")
        pdf.set_creation_date(sheet.at)
        pdf.set_lang("en")
        self._y = _MARGIN
        self._column = 0

    def draw(self) -> None:
        """Draw everything."""
        self._page()
        self._head()
        for state, heading in _HEADINGS:
            cards = [card for card in self._sheet.cards if card.state == state]
            if cards:
                self._group(cards, heading)
        self._feet()

    # --- parts ---

    def _head(self) -> None:
        sheet = self._sheet
        self._say("CONTACT SHEET", 7, _ACCENT, bold=True)
        self._say(sheet.name, 24, _INK, bold=True)
        self._say(f"{sheet.at:%d %B %Y, %H:%M}", 9, _QUIET)
        self._y += 3
        self._say(sheet.cost, 12, _INK, bold=True)
        self._say(sheet.figures, 9, _QUIET)
        if sheet.made:
            self._say(" · ".join(path.name for path in sheet.made), 9, _QUIET)
        self._y += 3
        self._pdf.set_draw_color(*_FAINT)
        self._pdf.set_line_width(0.2)
        self._pdf.line(_MARGIN, self._y, _WIDTH - _MARGIN, self._y)
        self._y += 6

    def _group(self, cards: list[Card], heading: str) -> None:
        if heading:
            if self._y > _HEIGHT - 110:
                self._page()
            self._y += 4
            self._say(heading, 11, _INK, bold=True)
            self._y += 2
        # Of rejected pictures the last one: its reason is the one that is given.
        drawn = [(card, [self._small[path] for path in card.pictures[-1:]]) for card in cards]
        ratios = sorted(one.width / one.height for _, shown in drawn for one in shown)
        ratio = ratios[len(ratios) // 2] if ratios else 3.0
        columns = 2 if ratio > 1.45 else 4 if ratio < 0.6 else 3
        width = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) / columns
        picture = width / ratio if ratios else 0.0
        rows = [
            (row, [list(self._lines(card, width)) for card, _ in row])
            for row in (drawn[at : at + columns] for at in range(0, len(drawn), columns))
        ]
        while rows:
            words = [_words_height(lines) for _, lines in rows]
            count, high = fitted(words, picture, _HEIGHT - _FOOT - self._y)
            if not count and self._y > _MARGIN:
                self._page()
                continue
            for row, lines in rows[: max(1, count)]:
                self._row(row, lines, width, (min(width, high * ratio), high))
            rows = rows[max(1, count) :]

    def _row(
        self,
        row: list[tuple[Card, list[Thumbnail]]],
        lines: list[list[_Line]],
        width: float,
        picture: tuple[float, float],
    ) -> None:
        wide, high = picture
        for column, ((card, shown), words) in enumerate(zip(row, lines, strict=True)):
            x = _MARGIN + column * (width + _GAP)
            if high:
                self._picture(card, shown, (x, self._y, wide, high))
            y = self._y + high + _BELOW
            for line in words:
                line.draw(self._pdf, self._family, x, y)
                y += line.height
        self._y += high + _words_height(lines) + _GAP

    def _picture(
        self, card: Card, shown: list[Thumbnail], box: tuple[float, float, float, float]
    ) -> None:
        x, y, width, height = box
        self._pdf.set_fill_color(*_GROUND)
        self._pdf.rect(x, y, width, height, style="F")
        for small in shown:
            scale = min(width / small.width, height / small.height)
            wide, high = small.width * scale, small.height * scale
            self._pdf.image(
                io.BytesIO(small.data),
                x + (width - wide) / 2,
                y + (height - high) / 2,
                wide,
                high,
                alt_text=self._faces.settable(card.title),
            )

    def _lines(self, card: Card, width: float) -> Iterator[_Line]:
        yield from self._wrapped(card.title, 8, width, _INK, bold=True, most=2)
        yield from self._wrapped(" · ".join((*card.facts, card.id)), 6.5, width, _QUIET, most=2)
        for name, value in card.details.items():
            text = f"{name}: {value}"[:_DETAIL_CHARS]
            yield from self._wrapped(text, 6.5, width, _INK, most=3)
        if card.reason:
            yield from self._wrapped(card.reason, 6.5, width, _ACCENT, most=4)
        if card.checks:
            passed = all(check.passed for check in card.checks)
            text = "  ".join(f"{_MARKS[one.passed]} {one.name}" for one in card.checks)
            yield from self._wrapped(text, 6.5, width, _GOOD if passed else _ACCENT, most=2)
        yield _Line("", 0, _INK, "", 0.8)
        yield from self._wrapped(card.gist, 5.5, width, _QUIET, most=_PROMPT_LINES)

    # --- means ---

    def _wrapped(
        self,
        text: str,
        size: float,
        width: float,
        colour: tuple[int, int, int],
        *,
        most: int,
        bold: bool = False,
    ) -> Iterator[_Line]:
        """Yield `text` in at most so many lines; the last one ends in an ellipsis if need be."""
        style = "B" if bold else ""
        shown = self._faces.settable(text)
        points = size * _POINT
        for line in broken(shown, self._faces.widths[style], points, width, most):
            yield _Line(line, size, colour, style, points * 1.32)

    def _say(
        self, text: str, size: float, colour: tuple[int, int, int], *, bold: bool = False
    ) -> None:
        """Set a text over the whole width, and go below it."""
        for line in self._wrapped(text, size, _WIDTH - 2 * _MARGIN, colour, most=2, bold=bold):
            line.draw(self._pdf, self._family, _MARGIN, self._y)
            self._y += line.height

    def _page(self) -> None:
        self._pdf.add_page()
        self._y = _MARGIN

    def _feet(self) -> None:
        """Write the foot of each page; only now is the number of pages known."""
        pages = self._pdf.pages_count
        for number in range(1, pages + 1):
            self._pdf.page = number
            # Another size than any: fpdf2 leaves a font out that it believes to be set already.
            self._pdf.set_font(self._family, "B", 1)
            y = _HEIGHT - _FOOT + 5
            self._pdf.set_draw_color(*_FAINT)
            self._pdf.line(_MARGIN, y - 2, _WIDTH - _MARGIN, y - 2)
            left = f"{self._sheet.name} · {self._sheet.cost} · {self._sheet.figures}"
            width = _WIDTH - 2 * _MARGIN - 20
            for line in self._wrapped(left, 6.5, width, _QUIET, most=1):
                line.draw(self._pdf, self._family, _MARGIN, y)
            self._pdf.set_font(self._family, "", 6.5)
            self._pdf.set_text_color(*_QUIET)
            self._pdf.set_xy(_WIDTH - _MARGIN - 20, y)
            self._pdf.cell(20, 3, f"{number} / {pages}", align="R")


class _Line:
    """One set line: where it is drawn is decided when the row's height is known."""

    def __init__(
        self, text: str, size: float, colour: tuple[int, int, int], style: str, height: float
    ) -> None:
        self.text = text
        self.size = size
        self.colour = colour
        self.style = style
        self.height = height

    def draw(self, pdf: FPDF, family: str, x: float, y: float) -> None:
        """Draw it with its upper left corner at a place."""
        if not self.text:
            return
        pdf.set_text_shaping(needs_shaping(self.text))
        pdf.set_font(family, self.style, self.size)
        pdf.set_text_color(*self.colour)
        pdf.set_xy(x, y)
        pdf.cell(0, self.height, self.text)
