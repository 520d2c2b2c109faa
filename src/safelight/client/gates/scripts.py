"""Which scripts a text is written in, and which of them the gate `text` vouches for.

Owns the claim. It follows from a measurement (`tests/gates/test_reading_campaign.py`, table in
`docs/gates.md`): precision and recall of 0.98 or better.
"""

from __future__ import annotations

import unicodedata

CLAIMED = frozenset({"Latin", "Chinese", "Japanese"})
"""Scripts that were measured. Chinese characters are those of China, Taiwan and Japan."""

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
