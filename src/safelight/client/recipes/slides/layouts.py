"""What the layouts of a file are good for: our own design's, or those of a company's template.

Owns the choice by the placeholders that a layout has, never by its name, which differs by language
and by company; and opening a template without the slides that are in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.client.recipes.errors import BadRecipe

if TYPE_CHECKING:
    from pptx.presentation import Presentation

BODY_SIZE, TITLE_SIZE = 18.0, 44.0
"""Where a template says nothing: what programs for slides take then."""
_TEXT = frozenset({"BODY", "OBJECT"})
_TITLES = frozenset({"TITLE", "CENTER_TITLE"})
_SHARE_MIN = 0.12
"""Of the slide. A smaller place for a picture is for a portrait or a logo, a smaller place for text
is for a caption."""


@dataclass(frozen=True)
class Roles:
    """Which layout makes which slide. `full` and `split` may be missing in a template."""

    opening: Any
    text: Any
    #: Title, text and a place for a picture.
    split: Any | None
    #: Title and a picture over most of the slide.
    full: Any | None


def open_template(path: Path) -> Presentation:
    """Return a template's presentation, emptied of its slides.

    Raises:
        BadRecipe: there is no such file, it is no .pptx, or no layout has a title and text.
    """
    import pptx  # noqa: PLC0415 - loaded late: `safelight --help` must stay quick
    from pptx.exc import PackageNotFoundError  # noqa: PLC0415

    if not path.is_file():
        raise BadRecipe("--template: there is no such file", file=path)
    try:
        deck = pptx.Presentation(str(path))
    except (PackageNotFoundError, KeyError, ValueError) as error:
        raise BadRecipe(
            "--template: this is no .pptx that can be opened (save .potx and .ppt as .pptx)",
            file=path,
        ) from error
    listed = deck.slides._sldIdLst
    for slide in list(listed):
        deck.part.drop_rel(slide.rId)
        listed.remove(slide)
    if _best(deck.slide_layouts, _text_rank) is None:
        raise BadRecipe(
            "--template: none of its layouts has a place for a title and one for text", file=path
        )
    return deck


def roles(deck: Presentation) -> Roles:
    """Return what the layouts of a file are good for."""
    layouts = list(deck.slide_layouts)
    area = (deck.slide_width or 1) * (deck.slide_height or 1)
    text = _best(layouts, _text_rank)
    return Roles(
        opening=_best(layouts, _opening_rank) or layouts[0],
        text=text,
        split=_best(layouts, lambda layout: _split_rank(layout, area)),
        full=_best(layouts, lambda layout: _full_rank(layout, area)),
    )


def kind_of(placeholder: Any) -> str:
    """Return the name of a placeholder's type, such as `TITLE`."""
    kind = placeholder.placeholder_format.type
    return "" if kind is None else str(kind.name)


def body_size(layout: Any) -> float:
    """Return the size of type that a layout's text has on its first level, points."""
    return _size(layout, _TEXT, "BODY", "p:bodyStyle") or BODY_SIZE


def title_size(layout: Any) -> float:
    """Return the size of type that a layout's title has, points."""
    return _size(layout, _TITLES, "TITLE", "p:titleStyle") or TITLE_SIZE


def _size(layout: Any, kinds: frozenset[str], above: str, texts: str) -> float | None:
    """Return the first size that is set: on the layout, on its master, in the master's styles."""
    from pptx.oxml.ns import qn  # noqa: PLC0415

    master = layout.slide_master
    shapes = [shape for shape in layout.placeholders if kind_of(shape) in kinds][:1]
    shapes += [shape for shape in master.placeholders if kind_of(shape) == above]
    # python-pptx has no public way to styles of text.
    styles = [shape._element.txBody.find(qn("a:lstStyle")) for shape in shapes]
    styles += [one.find(qn(texts)) for one in master._element.iterchildren(qn("p:txStyles"))]
    for style in styles:
        found = None if style is None else style.find(f"{qn('a:lvl1pPr')}/{qn('a:defRPr')}")
        if found is not None and found.get("sz"):
            return int(found.get("sz")) / 100
    return None


def _kinds(layout: Any) -> list[str]:
    return [kind_of(shape) for shape in layout.placeholders]


def _best(layouts: Iterable[Any], rank: Any) -> Any | None:
    """Return the layout of the best rank, the first of equals; None when all are unfit."""
    ranked = [(rank(layout), layout) for layout in layouts]
    fit = [(found, -at, layout) for at, (found, layout) in enumerate(ranked) if found]
    return max(fit, key=lambda one: one[:2])[2] if fit else None


def _opening_rank(layout: Any) -> int:
    kinds = _kinds(layout)
    if "CENTER_TITLE" in kinds:
        return 3 if "SUBTITLE" in kinds else 2
    return int("SUBTITLE" in kinds and "TITLE" in kinds)


def _text_rank(layout: Any) -> int:
    kinds = _kinds(layout)
    texts = sum(kind in _TEXT for kind in kinds)
    if "TITLE" not in kinds or not texts:
        return 0
    # One place for text is best; a picture's place would stay empty.
    return (3 if texts == 1 else 1) - ("PICTURE" in kinds)


def _split_rank(layout: Any, area: int) -> int:
    kinds = _kinds(layout)
    if "TITLE" not in kinds:
        return 0
    texts = sum(kind in _TEXT for kind in kinds)
    if texts == 1 and kinds.count("PICTURE") == 1:
        smallest = min(_share(layout, "PICTURE", area), _share(layout, "BODY", area, "OBJECT"))
        return 3 if smallest >= _SHARE_MIN else 0
    return 2 if kinds.count("OBJECT") == 2 and texts == 2 else 0


def _full_rank(layout: Any, area: int) -> int:
    kinds = _kinds(layout)
    if not _TITLES & set(kinds) or any(kind in _TEXT for kind in kinds):
        return 0
    return int(kinds.count("PICTURE") == 1 and _share(layout, "PICTURE", area) >= 0.5)


def _share(layout: Any, kind: str, area: int, other: str = "") -> float:
    """Return the largest share of the slide that a placeholder of these kinds has."""
    return max(
        (
            (shape.width or 0) * (shape.height or 0) / area
            for shape in layout.placeholders
            if kind_of(shape) in {kind, other}
        ),
        default=0.0,
    )
