"""Reading the text in a picture: the models of the package rapidocr, and the command tesseract.

Owns the models (loaded once in a process, from the installed package: nothing is downloaded), the
looks a picture is given, which reader a text gets, and the bounds on threads and memory. Compares
nothing.

The models are PP-OCRv6 small, detection and recognition, as rapidocr 3.10 ships them in its wheel
(Apache-2.0), run by onnxruntime: one recogniser for Latin, Chinese and Japanese. Detection finds
lines of any script; what the recogniser does not know is read by tesseract, line by line.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from safelight.client.gates.errors import ReaderMissing, UnreadableScript
from safelight.client.gates.matching import Line, symbols
from safelight.client.gates.pixels import coloured, flat, opened
from safelight.client.gates.scripts import languages
from safelight.client.gates.tesseract import Missing, Tesseract, tesseract

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

STRIPS = (48, 40, 64, 32)
"""Heights, in pixels, at which tesseract gets the lines of each look: it errs differently."""


class Reads(Protocol):
    """What reads pictures: the models, the command, or readings kept from earlier."""

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

    def looks_by(self, command: Tesseract, picture: Path) -> Iterator[list[Line]]:
        """Yield the lines of each look as `looks` does, searched here and read by the command.

        Raises:
            Unreadable: the file is no picture.
            ReaderFailed: the command does not work.
        """
        image = flat(coloured(opened(picture))).copy_memory()
        for look, height in zip(LOOKS, STRIPS, strict=True):
            with self._turn:
                lines = _read_by(command, self._loaded(), (image, look.edge, look.wider), height)
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


def _read_by(
    command: Tesseract, models: Any, cut: tuple[Any, int, float], height: int
) -> list[Line]:
    from safelight.client.gates.models import line  # noqa: PLC0415  (loaded by now)
    from safelight.client.gates.strips import strip  # noqa: PLC0415  (as above)

    found = zip(*models.cut(*cut), strict=True)
    read = [(command.read(strip(crop, height)), box) for box, crop in found]
    return [line(text, 1.0, box) for text, box in read if text]


class CommandReader:
    """Reads lines with tesseract that the models have found.

    Args:
        models: what searches.
        command: what reads.
    """

    def __init__(self, models: Reader, command: Tesseract) -> None:
        self._models = models
        self._command = command

    def looks(self, picture: Path) -> Iterator[list[Line]]:
        """Yield the lines that each of `LOOKS` reads.

        Raises:
            Unreadable: the file is no picture.
            ReaderFailed: the command does not work.
        """
        return self._models.looks_by(self._command, picture)

    def unknown(self, text: str) -> str:
        """Return the characters of the text that count and have no name in the language files."""
        counting = {char for char, optional in symbols(text) if not optional}
        return "".join(sorted(counting - self._command.characters))


@cache
def _by_command(command: Tesseract) -> CommandReader:
    return CommandReader(reader(), command)


def reader_of(text: str) -> Reads:
    """Return what reads texts like this one: the same object for all of the same scripts.

    Raises:
        UnreadableScript: tesseract would read it, but is not there, or lacks the language; or the
            text has scripts that no reader has both.
        ReaderMissing: the extra `recipes` is not installed.
        ReaderFailed: tesseract does not work.
    """
    try:
        wanted = languages(text)
        return _by_command(tesseract(*wanted)) if wanted else reader()
    except ValueError as error:
        raise UnreadableScript(text, str(error)) from error
    except Missing as error:
        packages = " ".join(f"tesseract-ocr-{one}" for one in wanted)
        remedy = f"install it (in Debian: tesseract-ocr {packages})"
        raise UnreadableScript(text, f"this: {error}", remedy) from error
