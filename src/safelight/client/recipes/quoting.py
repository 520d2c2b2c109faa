"""Words inside a prompt that a picture shall show exactly.

Owns the quotation marks: models take what stands between a pair of them as lettering, so a text is
put between a pair that it does not hold itself.
"""

from __future__ import annotations

from safelight.client.recipes.errors import BadRecipe

_PAIRS = (('"', '"'), ("“", "”"), ("«", "»"), ("「", "」"))


def quoted(text: str) -> str:
    """Return `text` between quotation marks that are not in it.

    Raises:
        BadRecipe: it has marks of every kind.
    """
    for first, last in _PAIRS:
        if first not in text and last not in text:
            return f"{first}{text}{last}"
    raise BadRecipe(f"{text!r} has quotation marks of every kind: leave one kind out")
