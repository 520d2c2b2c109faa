"""Which scripts a text is written in, and which of them the gate `text` vouches for.

Owns the claim, and which reader has which script. The claim follows from a measurement
(`tests/gates/test_reading_campaign.py`, table in `docs/gates.md`): precision and recall of 0.98 or
better; by the command, 0.99 and 0.98.
"""

from __future__ import annotations

import unicodedata

BY_MODELS = frozenset({"Latin", "Chinese", "Japanese"})
"""Read by the models that rapidocr brings; all three may stand in one text. Chinese characters are
those of China, Taiwan and Japan."""

BY_COMMAND = {"Korean": "kor"}
"""Read by the operator's own command `tesseract`, by the language file that it needs; one of these
in a text, and Latin beside it."""

CLAIMED = BY_MODELS | BY_COMMAND.keys()
"""Scripts that were measured."""

_LATIN = "eng"

_NAMES = {
    "LATIN": "Latin",
    "CJK": "Chinese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
}
_NEUTRAL = frozenset({"FULLWIDTH", "HALFWIDTH", "MODIFIER", "FEMININE", "MASCULINE", "COMBINING"})


def scripts(text: str) -> frozenset[str]:
    """Return the names of the scripts that the text's letters belong to: `Latin`, `Korean` ..."""
    letters = unicodedata.normalize("NFKC", text)
    words = {
        unicodedata.name(char, "unknown letters").split()[0].split("-")[0]
        for char in letters
        if unicodedata.category(char)[0] in "LM"
    }
    return frozenset(_NAMES.get(word, word.capitalize()) for word in words - _NEUTRAL)


def unclaimed(text: str) -> tuple[str, ...]:
    """Return the scripts of the text that the gate does not claim to read, sorted; often none."""
    return tuple(sorted(scripts(text) - CLAIMED))


def languages(text: str) -> tuple[str, ...]:
    """Return the language files of tesseract that read the text, the main one first.

    None: the models read it.

    Raises:
        ValueError: no reader has all of its scripts, each of which is claimed; the message names
            them.
    """
    found = scripts(text)
    own = sorted(found & BY_COMMAND.keys())
    if not own:
        return ()
    if len(own) > 1 or found - {"Latin", *own}:
        raise ValueError(f"{' and '.join(sorted(found))} in one text")
    return (BY_COMMAND[own[0]], _LATIN)
