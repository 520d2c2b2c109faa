"""The gate `text`: what is written in the picture is what was wanted.

Owns the sentences about it; `reading` reads and `matching` decides what is equal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from safelight.client.gates.errors import BadGate, UnreadableScript
from safelight.client.gates.matching import Line, Match, Symbols, found, letters, symbols
from safelight.client.gates.pixels import judged
from safelight.client.gates.reading import Reads, reader_of
from safelight.client.gates.scripts import unclaimed
from safelight.client.gates.verdict import Verdict

_SHOWN_MAX = 200


class Text:
    """Pass pictures in which each of the wanted texts is written, letter by letter.

    Each must be a whole line, or several lines one after another; further lines do not matter.

    Args:
        wanted: the texts, each as it stands in one place of the picture.
        mistakes: how many characters of each text may be wrong; 0, the default, means none.
        reads: what reads pictures; the models of the extra `recipes` unless given.

    Raises:
        BadGate: no text is wanted, or one without letters.
        UnreadableScript: the gate does not vouch for a text's script, cannot read a character, or
            lacks the command tesseract for it.
        ReaderMissing: the extra `recipes` is not installed.
        ReaderFailed: tesseract does not work.
    """

    name = "text"

    def __init__(
        self, wanted: Sequence[str], *, mistakes: int = 0, reads: Reads | None = None
    ) -> None:
        self.wanted = tuple(dict.fromkeys(" ".join(text.split()) for text in wanted))
        self.mistakes = mistakes
        self._check_wanted()
        self._texts: dict[Reads, tuple[str, ...]] = {}
        """The wanted texts by what reads them."""
        for text in self.wanted:
            reader = reader_of(text) if reads is None else reads
            if unknown := reader.unknown(text):
                raise UnreadableScript(text, f"the character {unknown}")
            self._texts[reader] = (*self._texts.get(reader, ()), text)

    def check(self, picture: Path) -> Verdict:
        """Read the picture, up to four times with each reader that the texts need, and compare.

        Raises:
            ReaderFailed: the command tesseract does not work.
        """
        return judged(self.name, lambda: self._measured(picture))

    def _check_wanted(self) -> None:
        if not self.wanted:
            raise BadGate("the text gate needs the text that shall be in the picture: text=NEW")
        for text in self.wanted:
            if not letters(text):
                raise BadGate(f"the text gate cannot look for {text!r}: it has no letters")
            if strange := unclaimed(text):
                raise UnreadableScript(text, " and ".join(strange))

    def _measured(self, picture: Path) -> Verdict:
        best: dict[str, Match] = {}
        lines: list[Line] = []
        looks = 0
        for reads, texts in self._texts.items():
            matches, read, asked = self._compared(reads, texts, picture)
            best |= matches
            lines += read
            looks += asked
            if any(match.mistakes > self.mistakes for match in matches.values()):
                break
        return self._verdict(best, lines, looks)

    def _compared(
        self, reads: Reads, texts: tuple[str, ...], picture: Path
    ) -> tuple[dict[str, Match], list[Line], int]:
        """Return the best match of each text, its best look's lines, and how many there were."""
        best: dict[str, Match] = {}
        before: set[tuple[str, Symbols]] = set()
        lines: list[Line] = []
        looks, fewest = 0, sys.maxsize
        for read in reads.looks(picture):
            looks += 1
            matches = found(texts, read, self.mistakes)
            for text, match in matches.items():
                best[text] = min(best.get(text, match), match, key=lambda one: one.mistakes)
            mistakes = sum(match.mistakes for match in matches.values())
            if mistakes < fewest:
                fewest, lines = mistakes, read
            wrong = [text for text, match in best.items() if match.mistakes > self.mistakes]
            readings = {(text, symbols(matches[text].read)) for text in wrong}
            if readings <= before:
                break  # all is right, or two looks have read the same wrong texts
            before |= {(text, read) for text, read in readings if read}
        return best, lines, looks

    def _verdict(self, best: dict[str, Match], lines: Sequence[Line], looks: int) -> Verdict:
        wrong = {text: match for text, match in best.items() if match.mistakes > self.mistakes}
        reason = _said(wrong or best, lines)
        return Verdict(
            self.name,
            not wrong,
            reason,
            {
                "wanted": " | ".join(self.wanted),
                "read": _shown(lines),
                "wrong_characters": sum(match.mistakes for match in best.values()),
                "looks": looks,
            },
        )


def _said(matches: dict[str, Match], lines: Sequence[Line]) -> str:
    return "; ".join(_one(text, match, lines) for text, match in matches.items())


def _one(text: str, match: Match, lines: Sequence[Line]) -> str:
    if match.mistakes == 0:
        return f"reads “{text}” as wanted"
    if match.read and match.mistakes <= max(1, letters(text) // 2):
        count = f"{match.mistakes} character{'s' if match.mistakes > 1 else ''} differ"
        return f"reads “{match.read}”, “{text}” wanted ({count}{'s' * (match.mistakes == 1)})"
    shown = _shown(lines)
    return f"“{text}” is not there; reads {f'“{shown}”' if shown else 'no text at all'}"


def _shown(lines: Sequence[Line]) -> str:
    text = " / ".join(line.text.strip() for line in lines)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"
