"""`safelight run products`: one product photo and its copy, in many styles.

Owns the prompt and the gates. Each style is an edit of the same photo; the styles themselves are
`styles.py`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.client.gates import NearDuplicate
from safelight.client.orders import DEFAULT_MODEL, Order
from safelight.client.recipes import options
from safelight.client.recipes.checks import TextCheck, checked_text, measured
from safelight.client.recipes.errors import BadRecipe
from safelight.client.recipes.languages import font_advice
from safelight.client.recipes.quoting import quoted
from safelight.client.recipes.reading import stem_of
from safelight.client.recipes.sheet import contact_sheet
from safelight.client.recipes.styles import Style, chosen
from safelight.client.runs.items import Identities, Item, Plan

COPY_CHARS_MAX = 120
"""Longer copy is no headline; a model would set it small and with faults."""

ALIKE_BITS = 2
"""Less than the gate's own default: one product, and one headline, stand in all the pictures, which
also have one size and one format. What is that near to another one is that one again."""

_PROMPT = """\
Advertising photograph of the product in the attached photo, for an online shop.
Keep the product exactly as it is: shape, proportions, colours, materials, logos and lettering \
unchanged, whole, sharp, and the clear centre of attention.
Setting and light: {style}.
{headline}
No watermark, no border, no price, no second product."""
_HEADLINE = """\
Headline: set the words {copy} once, spelled exactly so, large{font}, clear of the product, \
where the picture is empty, with strong contrast. No other words anywhere."""
_NO_HEADLINE = "No words anywhere but those on the product itself."


def products(
    photo: Annotated[
        Path,
        typer.Option(
            "--photo", help="The product, best cut out or on a plain ground.", dir_okay=False
        ),
    ],
    copy: Annotated[
        str, typer.Option("--copy", help="The headline, in any script.", show_default="none")
    ] = "",
    styles: Annotated[
        str,
        typer.Option(
            "--styles", help="A file, names of ready-made styles (a,b,c), or how many of them."
        ),
    ] = "30",
    check_text: options.CheckText = True,
    size: options.Size = "2048x2048",
    model: options.Model = DEFAULT_MODEL,
) -> Plan:
    """Show one product in many styles, each with the same headline.

    Raises:
        BadRecipe: the photo is not there, or styles or copy cannot be used.
    """
    copy = " ".join(copy.split())
    if len(copy) > COPY_CHARS_MAX:
        raise BadRecipe(
            f"--copy has {len(copy)} characters; a headline has {COPY_CHARS_MAX} at most"
        )
    if not photo.is_file():
        raise BadRecipe("--photo: there is no such file", file=photo)
    check = checked_text(copy) if copy and check_text else TextCheck()
    gates = (*measured(size, alike=NearDuplicate(ALIKE_BITS)), *check.gates)
    ids = Identities()
    items = []
    for style in chosen(styles):
        order = Order(prompt_of(style, copy), model=model, size=size, inputs=(photo,))
        details = {"style": style.name, **({"headline": copy} if copy else {}), **check.remark}
        out = f"{stem_of(photo.stem)}-{stem_of(style.name)}"
        items.append(Item(ids.of(order), order, out, gates, details=details))
    return Plan("products", tuple(items), contact_sheet)


def prompt_of(style: Style, copy: str) -> str:
    """Return the prompt for one style; `copy` may be empty."""
    font = font_advice(copy)
    headline = (
        _HEADLINE.format(copy=quoted(copy), font=f", in {font}" if font else "")
        if copy
        else _NO_HEADLINE
    )
    return _PROMPT.format(style=style.description.rstrip("."), headline=headline)
