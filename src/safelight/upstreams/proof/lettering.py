"""Setting words: measured, wrapped and fitted so that nothing is ever clipped.

Owns turning text into masks of ink and standing them in a zone. It knows no colours: the painter
chooses them after it has seen what lies beneath.
"""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import dataclass
from html import escape
from typing import Literal

import pyvips

from safelight.upstreams.proof.brief import Brief, shorten
from safelight.upstreams.proof.drawing import Zone, document, group, moved, path
from safelight.upstreams.proof.fonts import families, load_fonts, scripts_of
from safelight.upstreams.proof.raster import Raster, render_svg

_log = logging.getLogger(__name__)

Align = Literal["low", "centre"]


@dataclass(frozen=True, slots=True)
class Ink:
    """Words on the sheet: a one-band mask (255 is ink) and its place in canvas pixels."""

    mask: Raster
    x: int
    y: int
    strong: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height."""
        return (self.x, self.y, self.mask.width, self.mask.height)


@dataclass(frozen=True, slots=True)
class Style:
    """How one text is set.

    `weight` is Pango's word, `size` the largest size in pixels, `tracking` extra space in em.
    """

    weight: str
    size: float
    align: Align = "low"
    tracking: float = 0.0


def _leading(text: str) -> float:
    """Return the line height as a share of the face's own, which is made for body text."""
    scripts = scripts_of(text)
    if scripts & {"devanagari", "bengali", "rtl"}:
        return 0.88
    if scripts & {"kana", "hangul", "han"}:
        return 0.86
    return 0.76


def ink(
    text: str, style: Style, size: float, width: float, context: str = "", *, wrap: str = "word"
) -> Raster:
    """Return the mask of cleaned `text` at `size` pixels, wrapped at `width`, cropped to its ink.

    Raises:
        pyvips.Error: Pango cannot set it (no font at all, for example).
    """
    names, language = families(text, context)
    # Pango places letters on whole pixels: small sizes are set larger and shrunk, or spaces jump.
    times = 4 if size < 24 else 2 if size < 64 else 1
    size *= times
    tracking = f' letter_spacing="{round(style.tracking * size * 1024)}"' if style.tracking else ""
    body = escape(text, quote=False)
    mask = pyvips.Image.text(
        f'<span lang="{language}" line_height="{_leading(text)}"{tracking}>{body}</span>',
        font=f"{names} {style.weight} {size:.2f}",
        width=max(1, int(width * times)),
        align=style.align,
        wrap=wrap,
        dpi=72,
    )
    if times == 1:
        return mask
    return mask.resize(1 / times, kernel="linear").copy_memory()


def fit(text: str, style: Style, width: float, height: float, context: str = "") -> Raster | None:
    """Return the mask of `text` as large as style and box allow, never beyond the box.

    Words are kept whole while that leaves a decent size; then they break; then text is cut short.
    None when the box is too small for any text or no font can set it.
    """
    if width < 8 or height < 5 or not text or not load_fonts():
        return None
    size = min(style.size, height * 1.2)
    least = max(4.0, min(size, style.size * 0.3))
    wrap = "word"
    try:
        for _ in range(40):
            mask = ink(text, style, size, width, context, wrap=wrap)
            over = max(mask.width / width, mask.height / height)
            if over <= 1:
                return (
                    _balanced(mask, text, style, size, width, context) if wrap == "word" else mask
                )
            if size > least:
                tighter = (
                    mask.width / width if mask.width > width else (mask.height / height) ** 0.5
                )
                size = max(least, size * min(0.97, max(0.6, 1 / tighter)))
            elif wrap == "word":
                wrap = "word-char"
            elif len(text) > 12:
                text = shorten(text, int(len(text) * 0.8))
            else:
                return mask.resize(1 / over * 0.99)
    except pyvips.Error as error:
        _log.warning("words could not be set: %s", str(error).splitlines()[0] if str(error) else "")
    return None


def _balanced(
    mask: Raster, text: str, style: Style, size: float, width: float, context: str
) -> Raster:
    """Return the text in as many lines of even length: a lone last word looks like a mistake."""
    if mask.height < size * 1.9 or "\n" in text or len(text) > 120:
        return mask
    low, high = 0.5, 1.0
    best = mask
    for _ in range(4):
        middle = (low + high) / 2
        trial = ink(text, style, size, width * middle, context)
        if trial.height <= mask.height and trial.width <= width * middle:
            high, best = middle, trial
        else:
            low = middle
    return best


def _proof_word(size: float) -> Raster:
    """Return the mask of PROOF in plain strokes, for machines that have no font."""
    shapes = {
        "P": "M0 14V0H6a4 4 0 0 1 0 8H0",
        "R": "M0 14V0H6a4 4 0 0 1 0 8H0M5 8L10 14",
        "O": "M5 0a5 7 0 0 0 0 14a5 7 0 0 0 0 -14Z",
        "F": "M0 14V0H9M0 7H7",
    }
    letters = [
        group(
            [path(shapes[letter], "none", stroke="#fff", line=2.4)], transform=moved(2 + 15 * at, 2)
        )
        for at, letter in enumerate("PROOF")
    ]
    return render_svg(document(74, 18, letters), 18 / max(4.0, size * 0.8))[3]


def fit_line(texts: tuple[str, ...], style: Style, width: float) -> Raster | None:
    """Return the first of `texts` that fits in one line at full size, else the last, smaller.

    None when there is no room at all. Without any font the word PROOF is drawn, not set.
    """
    if not load_fonts():
        mask = _proof_word(style.size)
        return mask.resize(min(1.0, width / mask.width))
    try:
        for text in texts:
            mask = ink(text, style, style.size, 100_000)
            if mask.width <= width:
                return mask
        return mask.resize(width / mask.width) if width >= 4 else None
    except pyvips.Error as error:
        _log.warning("words could not be set: %s", error)
        return None


def _styles(brief: Brief, zone: Zone, unit: float) -> list[tuple[str, Style, float]]:
    """Return text, style and share of the zone's height, headline first."""
    if not brief.words:
        style = Style("Medium", max(10.0, 3.6 * unit), zone.align)
        return [(brief.title, style, 0.5)] if brief.title else []
    headline = brief.words[0]
    most = 15.5 * unit if len(headline) <= 14 else 12.5 * unit if len(headline) <= 40 else 8 * unit
    most = min(most, zone.height * 0.5)
    tight = -0.012 if not scripts_of(headline) else 0.0
    found = [
        (headline, Style("Heavy", most, zone.align, tight), 0.64 if len(brief.words) > 1 else 0.96)
    ]
    if len(brief.words) > 1:
        found.append(
            (brief.words[1], Style("Medium", min(4.6 * unit, most * 0.5), zone.align), 0.2)
        )
    if len(brief.words) > 2:
        rest = "   ·   ".join(" ".join(words.split()) for words in brief.words[2:])
        found.append((rest, Style("Medium", min(2.9 * unit, most * 0.36), zone.align), 0.12))
    return found


def _from_right(brief: Brief) -> bool:
    """Return whether the headline reads from right to left, as its first letter does."""
    for char in brief.words[0] if brief.words else brief.title:
        kind = unicodedata.bidirectional(char)
        if kind in {"L", "R", "AL"}:
            return kind != "L"
    return False


def set_words(brief: Brief, zone: Zone, unit: float) -> list[Ink]:
    """Return the words of a brief standing in `zone`: headline, subline, details.

    `unit` is a hundredth of the picture's short edge, in pixels.
    """
    masks: list[tuple[Raster, bool]] = []
    for at, (text, style, share) in enumerate(_styles(brief, zone, unit)):
        mask = fit(text, style, zone.width, zone.height * share, brief.whole)
        if mask is not None:
            masks.append((mask, at == 0 and bool(brief.words)))
    if not masks:
        return []
    gaps = [(4.4 if strong else 3.0) * unit for _, strong in masks[:-1]]
    total = sum(mask.height for mask, _ in masks) + sum(gaps)
    if total > zone.height:
        squeeze = max(
            0.2, (zone.height - sum(mask.height for mask, _ in masks)) / max(1.0, sum(gaps))
        )
        gaps = [gap * squeeze for gap in gaps]
        total = sum(mask.height for mask, _ in masks) + sum(gaps)
    top = (
        zone.y
        + {"top": 0.0, "middle": (zone.height - total) / 2, "bottom": zone.height - total}[
            zone.stand
        ]
    )
    reach = {"centre": 0.5, "low": 1.0 if _from_right(brief) else 0.0}[zone.align]
    placed = []
    for at, (mask, strong) in enumerate(masks):
        left = zone.x + (zone.width - mask.width) * reach
        placed.append(Ink(mask, round(left), round(max(zone.y, top)), strong))
        top += mask.height + (gaps[at] if at < len(gaps) else 0)
    return placed
