"""The texts of a poster in each language, from a TOML file.

Owns the form (docs/recipes.md): one table a language, the same fields in each, free to name; a
table `[base]` may say what the base poster reads. Everything that lacks is told at once, before
anything is spent.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from safelight.client.recipes.errors import BadRecipe
from safelight.client.recipes.languages import Language, language
from safelight.client.recipes.reading import read_text

BASE = "base"
FIELD_CHARS_MAX = 200
Texts = Mapping[str, str]
"""The words of one poster by field: `title`, `button` ..."""


def read_texts(path: Path, wanted: Sequence[Language]) -> tuple[Texts, dict[str, Texts]]:
    """Return what the base reads (maybe nothing), and the texts of the wanted languages by code.

    Raises:
        BadRecipe: the file cannot be read or is no TOML; a wanted language, or a field of one, is
            missing; a field is no text, is empty, or is unknown to the base. All faults are named.
    """
    source = read_text(path, "the table of texts")
    tables = _parsed(source, path)
    faults: list[str] = []
    found = {
        key: _texts(key, table, source, path, faults)
        for key, table in tables.items()
        if isinstance(table, dict)
    }
    faults += [
        f"{path}:{_line(source, key)}: {key}: a table was expected: write [zh], and the texts below"
        for key, table in tables.items()
        if not isinstance(table, dict)
    ]
    base = found.pop(BASE, {})
    by_language = _by_language(found, source, path, faults)
    chosen = {one.code: by_language.get(one.code) for one in wanted}
    fields = list(base) or list(
        dict.fromkeys(name for one in chosen.values() for name in one or ())
    )
    for one in wanted:
        faults += _missing(one, chosen[one.code], fields, bool(base), path)
    if faults:
        raise BadRecipe("\n".join(faults))
    return base, {
        code: {name: texts[name] for name in fields} for code, texts in chosen.items() if texts
    }


def _parsed(source: str, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = int(where[1]) if where else None
        what = re.sub(r"\s*\(at .*\)", "", str(error))
        raise BadRecipe(f"not TOML: {what}", file=path, line=line) from None


def _texts(key: str, table: dict[str, object], source: str, path: Path, faults: list[str]) -> Texts:
    texts = {}
    for name, value in table.items():
        where = f"{path}:{_line(source, key, name)}: {key}.{name}: "
        if not isinstance(value, str) or not value.strip():
            faults.append(where + 'a text was expected: "..."')
        elif len(value) > FIELD_CHARS_MAX:
            faults.append(where + f"{len(value)} characters; {FIELD_CHARS_MAX} at most")
        elif any(unicodedata.category(char) == "Cc" and char != "\n" for char in value):
            faults.append(where + "control characters cannot be set")
        else:
            texts[name] = "\n".join(line.strip() for line in value.strip().splitlines())
    return texts


def _by_language(
    found: dict[str, Texts], source: str, path: Path, faults: list[str]
) -> dict[str, Texts]:
    tables: dict[str, Texts] = {}
    for key, texts in found.items():
        try:
            tables[language(key).code] = texts
        except BadRecipe:
            faults.append(
                f"{path}:{_line(source, key)}: [{key}] is not a language that posters know"
            )
    return tables


def _missing(
    wanted: Language, texts: Texts | None, fields: Sequence[str], has_base: bool, path: Path
) -> list[str]:
    """Return what the file lacks for one language, and what it has too much."""
    name = f"{wanted.name} ({wanted.code})"
    if not texts:
        return [f"{path}: no texts for {name}: add a table [{wanted.code}]"]
    other = "the base" if has_base else "another language"
    faults = [
        f"{path}: {name} has no {field!r}, which {other} has"
        for field in fields
        if field not in texts
    ]
    return faults + [
        f"{path}: {name} has {field!r}, which [base] has not: add it there, or leave it out"
        for field in texts
        if field not in fields
    ]


def _line(source: str, table: str, field: str | None = None) -> int:
    """Return the line of a table, or of a field in it; 1 where it is written in another way."""
    lines = source.splitlines()
    head = re.compile(rf'\s*\[\s*["\']?{re.escape(table)}["\']?\s*\]')
    start = next((at for at, line in enumerate(lines) if head.match(line)), None)
    if start is None:
        plain = re.compile(rf'\s*["\']?{re.escape(table)}["\']?\s*[.=]')
        return next((at + 1 for at, line in enumerate(lines) if plain.match(line)), 1)
    if field is None:
        return start + 1
    value = re.compile(rf'\s*["\']?{re.escape(field)}["\']?\s*=')
    for at in range(start + 1, len(lines)):
        if lines[at].lstrip().startswith("["):
            break
        if value.match(lines[at]):
            return at + 1
    return start + 1
