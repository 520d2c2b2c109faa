"""`safelight run deck`: an outline becomes a .pptx with one illustration for each section.

Owns the prompt and the order of things: the first section's picture sets the look, and goes into
the others as their reference. The outline is `outline.py`'s, the file is `slides`'.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from safelight.client.gates import NearDuplicate
from safelight.client.orders import DEFAULT_MODEL, Order
from safelight.client.recipes import options
from safelight.client.recipes.checks import measured
from safelight.client.recipes.errors import BadRecipe
from safelight.client.recipes.outline import Outline, Section, read_outline
from safelight.client.recipes.reading import stem_of
from safelight.client.recipes.sheet import contact_sheet
from safelight.client.recipes.slides import Illustration, write_deck
from safelight.client.recipes.slides.build import require_pptx
from safelight.client.runs.items import Finished, Identities, Item, Plan

LOOK = (
    "flat editorial illustration, few large simple shapes, three harmonious colours and their "
    "tints, fine paper grain, even light"
)
ALIKE = (2, 5.0)
"""Bits and colour within which two illustrations count as the same one. Less than the gate's own
defaults: they share palette and manner on purpose. What is to be caught is the reference itself,
given back."""
_GIST_CHARS = 400
_PROMPT = """\
{section}. An editorial illustration, wide format, for this section of the talk {talk}.
It shows: {shown}.
Look: {look}.{reference}
One clear motif near the centre, quiet edges, plenty of air around it. \
No letters, no numbers, no logos, no frame."""
_LIKE_FIRST = """
Keep the palette, line, texture, light and degree of abstraction of the attached picture, so that \
both belong to one series; choose a new motif and a new composition."""
_QUOTES = re.compile("[\"“”„«»「」『』《》‘’]|(?<!\\w)'|'(?!\\w)")  # noqa: RUF001 - quotation marks


def deck(
    outline: Annotated[
        Path, typer.Option("--outline", help="The talk in Markdown.", dir_okay=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="The .pptx to write.", dir_okay=False)] = Path(
        "deck.pptx"
    ),
    template: Annotated[
        Path | None,
        typer.Option(
            "--template",
            help="A .pptx whose layouts, fonts and colours are used.",
            show_default="a design that takes its colours from the pictures",
            dir_okay=False,
        ),
    ] = None,
    look: Annotated[
        str, typer.Option("--look", help="How all illustrations shall look.", show_default=False)
    ] = LOOK,
    consistent: Annotated[
        bool,
        typer.Option(
            "--consistent/--free", help="Give the first picture to the others as reference."
        ),
    ] = True,
    size: options.Size = "1820x1024",
    model: options.Model = DEFAULT_MODEL,
) -> Plan:
    """Illustrate a talk and write it as a presentation.

    Raises:
        BadRecipe: the outline or the template cannot be used.
        MissingPart: python-pptx is not installed.
    """
    require_pptx()
    talk = read_outline(outline)
    if out.suffix.lower() != ".pptx":
        raise BadRecipe(f"--out: {out} has to end in .pptx")
    if template is not None:
        from safelight.client.recipes.slides.layouts import open_template  # noqa: PLC0415 - pptx

        open_template(template)
    items = _items(talk, " ".join(look.split()).rstrip("."), model, size, consistent=consistent)
    finish = partial(_finish, talk=talk, out=out, template=template)
    return Plan("deck", items, finish)


def prompt_of(talk: Outline, section: Section, look: str, *, follows: bool) -> str:
    """Return the prompt of one section's illustration.

    Args:
        talk: the whole outline.
        section: the section.
        look: how all of them look.
        follows: whether the first picture is attached.
    """
    lines = "; ".join(line.text.rstrip(".;:") for line in section.lines)
    shown = section.picture or (
        f"an image of the idea behind: {lines}" if lines else "an image of this section's idea"
    )
    return _PROMPT.format(
        talk=_unquoted(talk.title).rstrip("."),
        section=_unquoted(section.title).rstrip(".!?"),
        shown=_unquoted(shown)[:_GIST_CHARS].rstrip("."),
        look=look,
        reference=_LIKE_FIRST if follows else "",
    )


def _items(
    talk: Outline, look: str, model: str, size: str, *, consistent: bool
) -> tuple[Item, ...]:
    gates = measured(size, alike=NearDuplicate(*ALIKE))
    ids = Identities()
    items: list[Item] = []
    for number, section in enumerate(talk.sections, start=1):
        reference = items[0].id if items and consistent else None
        prompt = prompt_of(talk, section, look, follows=reference is not None)
        order = Order(prompt, model=model, size=size)
        items.append(
            Item(
                ids.of(order, reference=reference),
                order,
                f"{number:02d}-{stem_of(section.title)}",
                gates,
                reference=reference,
                details={"section": section.title},
            )
        )
    return tuple(items)


def _unquoted(text: str) -> str:
    """Return a text without quotation marks: what stands between them would be set in letters."""
    return _QUOTES.sub("", text)


def _finish(
    finished: Finished, *, talk: Outline, out: Path, template: Path | None
) -> Sequence[Path]:
    """Write the deck with the pictures that there are, then the contact sheet."""
    pictures: list[Illustration | None] = []
    for item, section in zip(finished.plan.items, talk.sections, strict=True):
        found = finished.accepted.get(item.id)
        alt = section.picture or section.title
        pictures.append(None if found is None else Illustration(found.path, f"Illustration: {alt}"))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_deck(talk, pictures, out, template)
    return (out, *contact_sheet(finished, out))
