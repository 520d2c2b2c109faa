"""`safelight run posters`: one poster in many languages, its layout kept.

Owns the prompt and which texts are checked. Languages are `languages.py`'s, the texts' file is
`texts.py`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.client.orders import DEFAULT_MODEL, Order
from safelight.client.recipes import options
from safelight.client.recipes.canvas import nearest, size_of
from safelight.client.recipes.checks import TextCheck, checked_text, measured
from safelight.client.recipes.errors import BadRecipe
from safelight.client.recipes.languages import Language, language
from safelight.client.recipes.quoting import quoted
from safelight.client.recipes.reading import stem_of
from safelight.client.recipes.sheet import contact_sheet
from safelight.client.recipes.texts import Texts, read_texts
from safelight.client.runs.items import Identities, Item, Plan

_PROMPT = """\
Localise the attached poster into {language}. Change its words and nothing else: picture, \
composition, positions, alignment, proportions, colours, effects and empty space stay as they are.
{replacements}
Spell each text exactly as given, once, in the place, size, weight and colour of the one it \
replaces; a longer text may be set a little smaller or broken into two lines.
Type: {font}, in weights that match the original{advice}.
No word of the original language is left; names of brands and logos stay. No other text is added."""


def posters(
    base: Annotated[Path, typer.Option("--base", help="The finished poster.", dir_okay=False)],
    languages: Annotated[
        str, typer.Option("--languages", help="Codes with commas between them: zh,ja,ko.")
    ],
    texts: Annotated[
        Path,
        typer.Option("--texts", help="The texts in each language, a TOML file.", dir_okay=False),
    ],
    size: Annotated[
        str | None,
        typer.Option("--size", "-s", help="Another size.", show_default="like the base"),
    ] = None,
    check_text: options.CheckText = True,
    model: options.Model = DEFAULT_MODEL,
) -> Plan:
    """Set a poster's title, button and other texts in other languages.

    The texts are read back by OCR in the scripts that the text gate knows; on the contact sheet the
    others say that nobody has checked them.

    Raises:
        BadRecipe: the base is no picture, a language is unknown, or a text is missing.
    """
    width, height = size_of(base, "--base")
    wanted = _wanted(languages)
    before, after = read_texts(texts, wanted)
    size = size or nearest(width, height, model)
    # Posters in several languages look alike, and shall.
    gates = measured(size)
    ids = Identities()
    items = []
    for one in wanted:
        words = after[one.code]
        order = Order(prompt_of(one, before, words), model=model, size=size, inputs=(base,))
        check = checked_text(*words.values()) if check_text else TextCheck()
        details = {"language": f"{one.name} ({one.code})", **words, **check.remark}
        out = f"{stem_of(base.stem)}-{one.code}"
        items.append(Item(ids.of(order), order, out, (*gates, *check.gates), details=details))
    return Plan("posters", tuple(items), contact_sheet)


def prompt_of(wanted: Language, before: Texts, after: Texts) -> str:
    """Return the prompt for one language.

    Args:
        wanted: the language.
        before: what the base reads, by field; may be empty.
        after: what the poster shall read.
    """
    # What is replaced stands without quotation marks: only quoted words are to be set.
    replacements = "\n".join(
        f"- {name.replace('_', ' ')}{f' (now: {before[name]})' if name in before else ''}"
        f" becomes {quoted(text)}"
        for name, text in after.items()
    )
    script = wanted.script
    return _PROMPT.format(
        language=wanted.name,
        replacements=replacements,
        font=script.font,
        advice=f"; {script.advice}" if script.advice else "",
    )


def _wanted(codes: str) -> tuple[Language, ...]:
    wanted = [language(code) for code in codes.split(",") if code.strip()]
    if not wanted:
        raise BadRecipe("--languages names none: write zh,ja,ko")
    return tuple(dict.fromkeys(wanted))
