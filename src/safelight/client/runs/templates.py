"""Templates: text with `{placeholders}` that a row's other columns fill.

Owns the syntax: `{name}` is a column of the row, `{{` and `}}` are braces. What is put in is never
read again, so a brace in a value is only a brace.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class TemplateFaulty(ValueError):
    """A template that cannot be read or filled; the message says what to write."""


def names_in(template: str) -> frozenset[str]:
    """Return the names of a template's placeholders; of one that cannot be read, those found."""
    found = (match.group(1) for match in _PIECES.finditer(template))
    return frozenset(name.strip() for name in found if name is not None)


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return the template with its placeholders replaced.

    Raises:
        TemplateFaulty: a brace stands alone, or a name is no column of the row.
    """

    def put(match: re.Match[str]) -> str:
        piece, name = match.group(), match.group(1)
        if piece in ("{{", "}}"):
            return piece[0]
        if name is None:
            raise TemplateFaulty(
                f"a {piece!r} stands alone at character {match.start() + 1}; write "
                f"{piece * 2} for a brace"
            )
        return _value(name.strip(), values)

    return _PIECES.sub(put, template)


def _value(name: str, values: Mapping[str, str]) -> str:
    if not name:
        raise TemplateFaulty("{} names no column; write {{}} for braces")
    if name in values:
        return values[name]
    near = difflib.get_close_matches(name, values, n=1)
    known = ", ".join(sorted(values)) or "none"
    meant = f"; did you mean {{{near[0]}}}?" if near else f" (columns: {known})"
    raise TemplateFaulty(f"{{{name}}} is no column of this row{meant}")
