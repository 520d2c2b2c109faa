"""Texts as posters carry them, by script, and texts that are wrong by a little.

Owns the words and the ways of being wrong; draws nothing.
"""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SCRIPTS = ("Latin", "Chinese", "Japanese", "Korean", "Devanagari", "Bengali")

# Drawn alike in most faces, so that no reader, and no person, can tell which one was meant.
_ALIKE = (
    *("Il1|i!", "O0oQ", "ー一-—", "へヘ", "べベ", "ぺペ"),
    *("ニ二", "ロ口", "カ力", "エ工", "タ夕", "ト卜", "ハ八"),
)

_VOWELS = frozenset({"A", "AA", "I", "II", "U", "UU", "E", "AI", "O", "AU"})

KINDS = ("one character", "a character more", "a character less", "a word", "a line or word less")


@dataclass(frozen=True)
class Case:
    """A text in one to three lines, and one that is wrong by a little (`kind` says by what)."""

    script: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    kind: str


@cache
def phrases(script: str) -> tuple[str, ...]:
    """Return the script's phrases, from `phrases.txt`."""
    text = Path(__file__).with_name("phrases.txt").read_text(encoding="utf-8")
    for section in text.split("["):
        name, _, lines = section.partition("]\n")
        if name == script:
            return tuple(line for line in lines.splitlines() if line)
    raise KeyError(script)


def cases(script: str, count: int, seed: int = 7) -> list[Case]:
    """Return `count` cases, the same for the same seed; no two have the same text."""
    dice = random.Random(f"{seed}/{script}")
    found: dict[tuple[str, ...], Case] = {}
    while len(found) < count:
        right = tuple(dice.sample(phrases(script), dice.choice((1, 1, 2, 2, 3))))
        kind = KINDS[len(found) // 2 % len(KINDS)]
        found.setdefault(right, Case(script, right, _wrong(right, kind, script, dice), kind))
    return list(found.values())


def _wrong(right: tuple[str, ...], kind: str, script: str, dice: random.Random) -> tuple[str, ...]:
    lines = list(right)
    if kind == "a line or word less" and len(lines) > 1:
        del lines[dice.randrange(len(lines))]
        return tuple(lines)
    at = dice.randrange(len(lines))
    lines[at] = _changed(lines[at], kind, script, dice)
    return tuple(lines)


def _changed(line: str, kind: str, script: str, dice: random.Random) -> str:
    words = line.split(" ")
    if kind == "a line or word less" and len(words) > 1:
        del words[dice.randrange(len(words))]
        return " ".join(words)
    if kind == "a word":
        return dice.choice([one for one in phrases(script) if one != line])
    places = [index for index, char in enumerate(line) if char.isalpha()]
    at = dice.choice(places)
    if kind == "a character more":
        return line[:at] + _letter(line[at], script, dice) + line[at:]
    end = at + 1
    if kind == "one character" or len(places) < 3:
        return line[:at] + _letter(line[at], script, dice) + line[end:]
    while end < len(line) and unicodedata.category(line[end])[0] == "M":
        end += 1  # a vowel sign goes with its letter: alone it would be no text
    return line[:at] + line[end:]


def _letter(char: str, script: str, dice: random.Random) -> str:
    """Return another letter of the same kind, one that a person would tell from `char`."""
    pool = sorted(
        {
            one
            for one in "".join(phrases(script))
            if one.isalpha() and _kind(one) == _kind(char) and one.casefold() != char.casefold()
        }
    )
    return dice.choice([one for one in pool if not _alike(one, char)])


def _kind(char: str) -> str:
    code = ord(char)
    if 0x3040 <= code <= 0x309F:
        return "hiragana"
    if 0x30A0 <= code <= 0x30FF:
        return "katakana"
    if unicodedata.name(char).startswith(("DEVANAGARI", "BENGALI")):
        return "vowel" if unicodedata.name(char).split()[-1] in _VOWELS else "consonant"
    return "upper" if char.isupper() else "other"


def _alike(one: str, other: str) -> bool:
    return any(one in group and other in group for group in _ALIKE)
