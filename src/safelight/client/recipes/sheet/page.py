"""The contact sheet as one HTML file that needs no other: thumbnails and style are inside.

Owns the markup; the style is in `page.css` beside this module. Pictures link to the full files, by
paths relative to the sheet, so that the folder can be moved or sent. It runs no script.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from html import escape
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from safelight.client.recipes.sheet.cards import Card, Sheet
from safelight.client.recipes.sheet.thumbnails import Thumbnail

Drawn = tuple[Card, list[tuple[Path, Thumbnail]]]
"""A card, and its pictures with their thumbnails."""

_HEADINGS = (
    ("accepted", "Accepted", ""),
    ("review", "For review", "no picture of these passed its checks; the last reason is given"),
    ("failed", "Failed", "the same command again makes these, and only these"),
)


def write_page(sheet: Sheet, small: Mapping[Path, Thumbnail], path: Path) -> None:
    """Write the sheet, with the thumbnails of its pictures, as HTML.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text("".join(_page(sheet, small, path.parent)), encoding="utf-8")


def _page(sheet: Sheet, small: Mapping[Path, Thumbnail], folder: Path) -> Iterator[str]:
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    title = f"{sheet.name}: contact sheet"
    yield "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n"
    yield '<meta name=viewport content="width=device-width, initial-scale=1">\n'
    yield f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n"
    yield from _head(sheet, folder)
    yield "<main>\n"
    for state, heading, remark in _HEADINGS:
        cards = [card for card in sheet.cards if card.state == state]
        if cards:
            drawn = [(card, [(path, small[path]) for path in card.pictures]) for card in cards]
            yield from _group(drawn, heading, remark, folder)
    yield "</main>\n</html>\n"


def _head(sheet: Sheet, folder: Path) -> Iterator[str]:
    yield "<header>\n<p class=eyebrow>Contact sheet</p>\n"
    yield f"<h1>{escape(sheet.name)}</h1>\n"
    moment = sheet.at.isoformat(timespec="minutes")
    yield f'<p class=when><time datetime="{moment}">{sheet.at:%d %B %Y, %H:%M}</time></p>\n'
    yield f"<p class=cost>{escape(sheet.cost)}</p>\n"
    yield f"<p class=numbers>{escape(sheet.figures)}</p>\n"
    if sheet.made:
        yield "<ul class=made>\n"
        for path in sheet.made:
            yield f'<li><a href="{_href(path, folder)}">{escape(path.name)}</a></li>\n'
        yield "</ul>\n"
    yield "</header>\n"


def _group(drawn: list[Drawn], heading: str, remark: str, folder: Path) -> Iterator[str]:
    ratios = sorted(one.width / one.height for _, shown in drawn for _, one in shown) or [1.0]
    middle = ratios[len(ratios) // 2]
    least, printed = ("340px", 2) if middle > 1.45 else ("250px", 3)
    yield f"<h2>{heading} <small>{len(drawn):,}{' · ' if remark else ''}{remark}</small></h2>\n"
    yield f'<div class=grid style="--least:{least};--printed:{printed}">\n'
    for card, shown in drawn:
        yield from _card(card, shown, folder)
    yield "</div>\n"


def _card(card: Card, shown: list[tuple[Path, Thumbnail]], folder: Path) -> Iterator[str]:
    yield f'<article id="{escape(card.id)}">\n'
    if len(shown) > 1:
        yield "<div class=rejected>\n"
    for path, small in shown:
        yield (
            f'<a class=shown href="{_href(path, folder)}"><img src="{small.uri}" '
            f'width={small.width} height={small.height} alt="{escape(card.title)}"></a>\n'
        )
    if len(shown) > 1:
        yield "</div>\n"
    title = escape(card.title)
    if shown:
        title = f'<a href="{_href(shown[-1][0], folder)}">{title}</a>'
    yield f"<div class=words>\n<h3>{title}</h3>\n"
    facts = " · ".join((*map(escape, card.facts), f"<code>{escape(card.id)}</code>"))
    yield f"<p class=facts>{facts}</p>\n"
    if card.reason:
        yield f"<p class=why>{escape(card.reason)}</p>\n"
    if card.details:
        yield "<dl>\n"
        for name, value in card.details.items():
            yield f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n"
        yield "</dl>\n"
    yield from _fold(card)
    yield "</div>\n</article>\n"


def _fold(card: Card) -> Iterator[str]:
    """Yield the checks, and what opens: the prompt, and the checks in words."""
    if card.checks:
        yield "<ul class=checks>\n"
        for check in card.checks:
            mark = "" if check.passed else " class=no"
            yield f'<li{mark} title="{escape(check.reason)}">{escape(check.name)}</li>\n'
        yield "</ul>\n"
    yield f"<details>\n<summary>Prompt and checks</summary>\n<p>{escape(card.prompt)}</p>\n"
    if card.checks:
        yield "<ul>\n"
        for check in card.checks:
            yield f"<li>{escape(check.name)}: {escape(check.reason)}</li>\n"
        yield "</ul>\n"
    yield "</details>\n"


def _href(path: Path, folder: Path) -> str:
    return escape(quote(Path(os.path.relpath(path, folder)).as_posix()))
