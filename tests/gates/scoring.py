"""How well the gate `text` decides: right and wrong texts on posters, counted.

Owns the four questions asked about each case and the arithmetic of the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gates.phrases import Case
from gates.posters import poster, saved
from safelight.client.gates import Text
from safelight.client.gates.matching import Line
from safelight.client.gates.reading import Reads


class Kept:
    """Readings of one picture, each made once however many texts it is compared with."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._kept: dict[Path, tuple[Iterator[list[Line]], list[list[Line]]]] = {}

    def looks(self, picture: Path) -> Iterator[list[Line]]:
        """Yield the looks made so far, then further ones."""
        source, made = self._kept.setdefault(picture, (self._reads.looks(picture), []))
        yield from list(made)
        for lines in source:
            made.append(lines)
            yield lines

    def unknown(self, text: str) -> str:
        """Ask the reader."""
        return self._reads.unknown(text)


@dataclass
class Score:
    """Answers counted: of right texts and of wrong ones, how many passed."""

    right_passed: int = 0
    right_refused: int = 0
    wrong_passed: int = 0
    wrong_refused: int = 0
    errors: list[str] = field(default_factory=list)
    passed_by_kind: Counter[str] = field(default_factory=Counter)
    pictures: int = 0

    @property
    def precision(self) -> float:
        """Of what passed, the share that was right."""
        return self.right_passed / max(1, self.right_passed + self.wrong_passed)

    @property
    def recall(self) -> float:
        """Of what was right, the share that passed."""
        return self.right_passed / max(1, self.right_passed + self.right_refused)

    def row(self, script: str) -> str:
        """Return a line of the table in docs/gates.md."""
        return (
            f"| {script} | {self.pictures} | {self.right_passed + self.right_refused} | "
            f"{self.right_refused} | {self.wrong_passed + self.wrong_refused} | "
            f"{self.wrong_passed} | {self.precision:.4f} | {self.recall:.4f} |"
        )

    def ask(self, reads: Reads, picture: Path, wanted: tuple[str, ...], drawn: Case | None) -> None:
        """Ask whether the wanted text is in the picture; `drawn` is the case if it is not."""
        verdict = Text(wanted, reads=reads).check(picture)
        if drawn is None:
            self.right_passed += verdict.passed
            self.right_refused += not verdict.passed
        else:
            self.wrong_passed += verdict.passed
            self.wrong_refused += not verdict.passed
            self.passed_by_kind[drawn.kind] += verdict.passed
        if verdict.passed is not (drawn is None):
            self.errors.append(f"{picture.name} wanted {wanted}: {verdict.reason}")


def scored(cases: list[Case], reads: Reads, folder: Path) -> Score:
    """Draw every other case right, the others wrong, and ask for both texts on each poster."""
    score = Score()
    for number, case in enumerate(cases):
        kept = Kept(reads)
        seed = f"{case.script}-{number}"
        drawn, other = (case.right, case.wrong) if number % 2 == 0 else (case.wrong, case.right)
        picture = saved(poster(drawn, case.script, seed), folder / seed, seed)
        score.pictures += 1
        score.ask(kept, picture, drawn, None)
        if not set(other) <= set(drawn):  # lines that are not asked for do not matter
            score.ask(kept, picture, other, case)
    return score
