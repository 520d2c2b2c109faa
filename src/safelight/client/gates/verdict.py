"""What a gate is and what it says.

Owns the two shapes that gates, runs and contact sheets share. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

Measure = str | int | float
"""One measured value: JSON can hold it, and a person can read it."""


@dataclass(frozen=True)
class Verdict:
    """What one gate says about one picture.

    Args:
        gate: its name, as in a run file.
        passed: whether the picture may be accepted.
        reason: one sentence with the measure and what was wanted, whether it passed or not.
        measured: the values that decided, by name.
    """

    gate: str
    passed: bool
    reason: str
    measured: Mapping[str, Measure] = field(default_factory=dict)


class Gate(Protocol):
    """A test that a picture passes or fails, decided by what is measured on it."""

    @property
    def name(self) -> str:
        """The gate's name, as in a run file: `size`, `text`, ..."""

    def check(self, picture: Path) -> Verdict:
        """Measure the picture and decide.

        Blocks on the processor, for milliseconds up to seconds (`docs/gates.md` has the figures);
        may be called from several threads at once. A file that is no picture fails; nothing is
        raised for it.
        """


@runtime_checkable
class Remembering(Gate, Protocol):
    """A gate that knows the pictures accepted before."""

    def remember(self, picture: Path) -> Verdict:
        """Check once more and, if it passes, know the picture from now on: one step.

        Call it for each picture before it counts as accepted, and reject the picture if the verdict
        says so: a twin may have been accepted between its check and now. A start that resumes calls
        it for what earlier starts accepted. The same file is never its own twin.
        """
