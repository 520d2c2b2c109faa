"""Reading the text in a picture: the models of the package rapidocr, run by onnxruntime.

Owns the models (loaded once in a process, from the installed package: nothing is downloaded), the
looks a picture is given and the bounds on threads and memory. Compares nothing.

The models are PP-OCRv6 small, detection and recognition, as rapidocr 3.10 ships them in its wheel
(Apache-2.0): one recogniser for Latin, Chinese and Japanese.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from safelight.client.gates.errors import ReaderMissing
from safelight.client.gates.matching import Line
from safelight.client.gates.pixels import coloured, flat, opened

READINGS = 2
"""At once in one process, whoever asks; each works on one thread of the processor."""

_PACKAGES = ("rapidocr", "onnxruntime")


@dataclass(frozen=True)
class Look:
    """One way of looking at a picture.

    Args:
        edge: the longer edge, in pixels, at which lines are searched. Large letters are found at a
            small size, small ones at a large size.
        wider: by which share of its height each line's box is widened at both ends before it is
            read: a last stroke that the search missed comes in again.
    """

    edge: int
    wider: float


LOOKS = (Look(640, 0.0), Look(400, 0.35), Look(960, 0.35), Look(1280, 0.0))
"""In this order, until one of them reads the wanted text, or two of them the same other text."""


class Reads(Protocol):
    """What reads pictures: the models, or readings kept from earlier."""

    def looks(self, picture: Path) -> Iterator[list[Line]]:
        """Yield what each look reads, one after another; stop asking when it is enough."""

    def unknown(self, text: str) -> str:
        """Return the characters of the text that cannot come out of a reading."""


@cache
def reader() -> Reader:
    """Return the one reader of this process; the models are loaded at its first use.

    Raises:
        ReaderMissing: the extra `recipes` is not installed.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise ReaderMissing(package)
    return Reader()


class Reader:
    """Reads lines with rapidocr's models; safe to call from threads, which take turns."""

    def __init__(self) -> None:
        self._turn = threading.BoundedSemaphore(READINGS)
        self._loading = threading.Lock()
        self._models: Any = None

    def looks(self, picture: Path) -> Iterator[list[Line]]:
        """Yield the lines that each of `LOOKS` reads; each takes its turn in the process.

        Raises:
            Unreadable: the file is no picture.
        """
        image = flat(coloured(opened(picture))).copy_memory()
        for look in LOOKS:
            with self._turn:
                lines = self._loaded().read(image, look.edge, look.wider)
            yield lines

    def unknown(self, text: str) -> str:
        """Return the characters of the text that the recogniser has no name for."""
        known = self._loaded().characters
        return "".join(sorted({char for char in text if not char.isspace() and char not in known}))

    def _loaded(self) -> Any:
        with self._loading:
            if self._models is None:
                from safelight.client.gates.models import Models  # noqa: PLC0415  (a second, 100 MB)

                self._models = Models()
            return self._models
