"""The operator's own command `tesseract`: whether it is there, what it can read, one line read.

Owns the call, its bounds and the look into its language files. Knows nothing of pictures (strips of
text come in as portable greymaps) nor of which script is read by it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path

from safelight.client.gates.errors import ReaderFailed

TIMEOUT_S = 30.0
"""For one line, which takes a tenth of a second; a machine may be busy."""
SAID_BYTES_MAX = 64 * 1024
"""A line has a hundred letters, the list of all languages two kilobytes."""

_ENVIRONMENT = ("PATH", "TESSDATA_PREFIX", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")
"""All that the command is told of this process' environment, which has keys in it."""

_UNICHARSET = 21
"""Where a language file has the characters of its LSTM model (tesseract's tessdatamanager.h)."""
_ENTRIES_MAX = 64


class Missing(Exception):
    """The command, or one of its languages, is not there; the message says which."""


class Tesseract:
    """One installed `tesseract` with some of its languages; safe to call from threads.

    Args:
        command: the executable.
        folder: where its languages are.
        languages: their names, the first one being the main one: `kor`, `eng`.
    """

    def __init__(self, command: str, folder: Path, languages: tuple[str, ...]) -> None:
        self._command = command
        self._languages = "+".join(languages)
        #: All characters that a reading can have.
        self.characters = frozenset().union(
            *(_characters(folder / f"{one}.traineddata") for one in languages)
        )

    def read(self, strip: bytes) -> str:
        """Return the text of a picture of one line.

        Args:
            strip: a binary greymap (PGM, `P5`), dark letters on white.

        Raises:
            ReaderFailed: the command fails, takes more than `TIMEOUT_S`, or says what is no text.
        """
        words = ("stdin", "stdout", "-l", self._languages, "--oem", "1", "--psm", "7")
        return _said((self._command, *words, "--dpi", "300"), strip).strip()


def tesseract(*languages: str) -> Tesseract:
    """Return the command that is on the PATH, with these languages.

    Raises:
        Missing: it is not there, is older than version 5, or lacks one of them.
        ReaderFailed: it is there, but does not work.
    """
    command = shutil.which("tesseract")
    if command is None:
        raise Missing("the command tesseract is not installed")
    return _opened(command, os.environ.get("TESSDATA_PREFIX"), languages)


@cache
def _opened(command: str, _data: str | None, languages: tuple[str, ...]) -> Tesseract:
    said = _said((command, "--list-langs"), b"")
    # Only version 5 tells the folder: List of available languages in "/usr/share/..." (3):
    told = re.search(r'in "([^"\n]+)"', said)
    if told is None:
        raise Missing(f"{command} is older than version 5, or has no languages")
    lacking = set(languages) - set(said.split())
    if lacking:
        raise Missing(f"{command} has no language {' and '.join(sorted(lacking))}")
    return Tesseract(command, Path(told[1]), languages)


def _said(words: tuple[str, ...], strip: bytes) -> str:
    """Return what a call prints; both its time and its words are bounded."""
    known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with tempfile.TemporaryFile() as given:
        given.write(strip)
        given.seek(0)
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own command
                words,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**known, "OMP_THREAD_LIMIT": "1"},
                start_new_session=True,  # Ctrl-C is for the run, which lets a reading end
            )
        except OSError as error:
            raise ReaderFailed(words[0], error.strerror or "it cannot be started") from error
    data = _bounded(process, words[0])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ReaderFailed(words[0], "what it says is no UTF-8 text") from error


def _bounded(process: subprocess.Popen[bytes], command: str) -> bytes:
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    watch = threading.Timer(TIMEOUT_S, end)
    watch.daemon = True
    with process:
        watch.start()
        try:
            data = process.stdout.read(SAID_BYTES_MAX + 1) if process.stdout else b""
            if len(data) > SAID_BYTES_MAX:
                _kill(process)
            code = process.wait()
        finally:
            watch.cancel()
    if late.is_set():
        raise ReaderFailed(command, f"it took more than {TIMEOUT_S:.0f} s")
    if len(data) > SAID_BYTES_MAX:
        raise ReaderFailed(command, "it says more than one line of text can have")
    if code:
        raise ReaderFailed(command, f"it ended with code {code}")
    return data


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the command, and what it may have started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _characters(file: Path) -> frozenset[str]:
    """Return the characters that a language's LSTM model has names for.

    A language file is a little-endian table (a count, then as many 64-bit offsets, -1 for what is
    not in it) and the parts behind it. The list of characters is text: a count, then a line each,
    the character first.

    Raises:
        Missing: it is not there, or of another make.
    """
    try:
        data = file.read_bytes()
        (count,) = struct.unpack_from("<i", data)
        if not _UNICHARSET < count <= _ENTRIES_MAX:
            raise Missing(f"{file} is no language file of tesseract 5")
        offsets = struct.unpack_from(f"<{count}q", data, 4)
        start = offsets[_UNICHARSET]
        if start < 0:
            raise Missing(f"{file} has no LSTM model")
        end = min((one for one in offsets if one > start), default=len(data))
        lines = data[start:end].decode("utf-8").splitlines()[1:]
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise Missing(f"{file} cannot be read: {error}") from error
    names = (line.partition(" ")[0] for line in lines)
    return frozenset(char for name in names if name not in _SPECIAL for char in name)


_SPECIAL = frozenset({"NULL", "Joined", "|Broken|0|1"})
"""Entries that are no characters: a space, and marks of the older engine."""
