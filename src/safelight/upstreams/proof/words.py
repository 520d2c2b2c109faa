"""Word lists in several languages, and finding their words in a prompt.

Owns the table format: `name: latin words | words of scripts without spaces`, where an indented
line continues the one before. Latin words must match whole words; the others match anywhere, for
Chinese and Japanese do not separate words.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_LATIN = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name and the words that stand for it."""

    name: str
    latin: frozenset[str]
    other: tuple[str, ...]

    def first_at(self, text: str) -> int | None:
        """Return where lower-case `text` first names this entry, or None."""
        places = [match.start() for match in _LATIN.finditer(text) if match.group() in self.latin]
        places += [at for word in self.other if (at := text.find(word)) >= 0]
        return min(places) if places else None

    def count(self, text: str) -> int:
        """Return how many of the words are in lower-case `text`."""
        return len(self.latin.intersection(_LATIN.findall(text))) + sum(
            word in text for word in self.other
        )


def word_table(table: str) -> tuple[Entry, ...]:
    """Return the entries of a table, in order."""
    found = []
    # A prompt is in composed form (NFC) when it is searched.
    table = unicodedata.normalize("NFC", re.sub(r"\n\s+", " ", table))
    for line in table.strip().splitlines():
        name, _, rest = line.partition(": ")
        latin, _, other = rest.partition(" | ")
        found.append(Entry(name, frozenset(latin.split()), tuple(other.split())))
    return tuple(found)
