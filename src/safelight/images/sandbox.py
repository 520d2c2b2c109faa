"""The processes that decode callers' pictures, seen from the gateway.

Owns their life: started with the first picture, used again, replaced after a crash, a timeout, a
picture that is refused or a hundred that are not, ended with the gateway. Whatever a picture does
to such a process is that picture's fault and nobody else's: its caller has a 400, the next picture
another process. What runs in them is `sandboxed`'s and `cleaning`'s business.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import msgspec

from safelight.errors import InvalidImage, Unavailable, storage_code, storage_refusal
from safelight.images.reading import damaged
from safelight.types import ImageFormat

log = logging.getLogger("safelight.images")

CPU_S: Final = 10
"""Processor time for one picture; the slowest of 50 megapixels take 4 s."""
WALL_S: Final = 20.0
"""How long one picture may take, on a machine whose processors others want, too."""
START_S: Final = 30.0
PICTURES_MAX: Final = 100
"""After so many a process is replaced: what a picture left in its memory does not live for long."""
_NEEDED = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG")
"""What of the environment such a process sees; credentials are not among it."""
_VIPS = {
    "VIPS_CONCURRENCY": "1",
    "VIPS_DISC_THRESHOLD": "4g",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(1024 * 1024),
}
"""One thread, so that a picture's CPU time says what it costs; nothing is put on the disk; and what
one picture took is given back before the next."""


class _Lost(Exception):
    """The process ended, or said nothing in time."""


class _Reply(msgspec.Struct, frozen=True):
    """What `sandboxed.Outcome` says. Not imported from there: it would load libvips here."""

    refused: bool = False
    too_large: bool = False
    errno: int = 0


class Sandbox:
    """Processes for decoding; as many as threads ask at one time. Thread-safe.

    Args:
        cpu_s: processor time of one picture, seconds.
        wall_s: how long one may take, seconds.
    """

    def __init__(self, *, cpu_s: int = CPU_S, wall_s: float = WALL_S) -> None:
        self._cpu_s = cpu_s
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._idle: list[_Decoder] = []
        self._closed = False

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that wait for a picture."""
        with self._lock:
            return [decoder.pid for decoder in self._idle]

    def clean(self, source: Path, target: Path, kind: ImageFormat) -> None:
        """Write a new file of a picture's pixels alone. Blocks.

        Args:
            source: a picture whose structure was found right.
            target: does not exist; where the call fails, what is there is for the caller to remove.
            kind: the format that the structure has.

        Raises:
            InvalidImage: its pixels cannot be decoded within the limits.
            Unavailable: no process can be started, or the disk takes no file; the picture is fine.
        """
        try:
            with source.open("rb") as given, target.open("xb") as made:
                reply = self._asked(given.fileno(), made.fileno(), kind)
        except OSError as error:
            raise storage_refusal(storage_code(error)) from error
        if reply.errno:
            raise storage_refusal(storage_code(OSError(reply.errno, os.strerror(reply.errno))))
        if reply.too_large:
            raise InvalidImage(
                "The picture is too large once it is decoded and written anew. Make it smaller.",
                code="image_too_large",
            )
        if reply.refused:
            raise damaged("its pixels cannot be decoded")

    def _asked(self, source: int, target: int, kind: ImageFormat) -> _Reply:
        decoder = self._taken()
        try:
            reply = decoder.ask(source, target, kind, self._cpu_s)
        except _Lost:
            log.warning("a picture ended its decoder", extra={"format": kind})
            decoder.end()
            raise InvalidImage(
                "The picture cannot be decoded within its limits of time and memory. Save or "
                "export it again, as a plain PNG or JPEG."
            ) from None
        except BaseException:
            decoder.end()
            raise
        if reply.refused:
            decoder.end()  # what a damaged picture left in its memory is not worth knowing
        else:
            self._give_back(decoder)
        return reply

    def _taken(self) -> _Decoder:
        with self._lock:
            while self._idle:
                decoder = self._idle.pop()
                if decoder.alive:
                    return decoder
                decoder.end()  # somebody ended it while it had nothing to do
        return _Decoder(self._wall_s)

    def _give_back(self, decoder: _Decoder) -> None:
        with self._lock:
            if not self._closed and decoder.pictures < PICTURES_MAX:
                self._idle.append(decoder)
                return
        decoder.end()

    def close(self) -> None:
        """End the processes that have nothing to do; the others end with their picture."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.end()


class _Decoder:
    """One process and the socket to it; used by one thread at a time.

    Args:
        wall_s: how long it may take for a picture, seconds.

    Raises:
        Unavailable: it cannot be started.
    """

    def __init__(self, wall_s: float) -> None:
        self.pictures = 0
        self._wire, theirs = socket.socketpair()
        self._wire.settimeout(START_S)
        try:
            self._process = subprocess.Popen(  # noqa: S603  (our own module)
                # Without -P the working folder would be looked through for modules.
                [sys.executable, "-P", "-m", "safelight.images.sandboxed", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**{name: os.environ[name] for name in _NEEDED if name in os.environ}, **_VIPS},
            )
        except OSError as error:
            self._wire.close()
            raise _cannot_start() from error
        finally:
            theirs.close()
        try:
            self._line()  # it is ready
        except _Lost:
            self.end()
            raise _cannot_start() from None
        self._wire.settimeout(wall_s)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def ask(self, source: int, target: int, kind: ImageFormat, cpu_s: int) -> _Reply:
        """Have a picture cleaned.

        Raises:
            _Lost: there is no answer.
        """
        self.pictures += 1
        try:
            socket.send_fds(
                self._wire, [msgspec.json.encode({"kind": kind, "cpu_s": cpu_s})], [source, target]
            )
        except OSError:
            raise _Lost from None
        try:
            return msgspec.json.decode(self._line(), type=_Reply)
        except msgspec.DecodeError:
            raise _Lost from None  # whatever speaks there is no decoder of ours any more

    def _line(self) -> bytes:
        """Return the next line without its end; lines are short.

        Raises:
            _Lost: there is none.
        """
        line = b""
        while not line.endswith(b"\n"):
            try:
                part = self._wire.recv(256)
            except OSError:  # also: too late
                raise _Lost from None
            if not part or len(line) > 1024:
                raise _Lost
            line += part
        return line[:-1]

    def end(self) -> None:
        """End the process, whatever it does."""
        self._wire.close()
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()


def _cannot_start() -> Unavailable:
    log.error("no process for decoding pictures can be started")
    return Unavailable(
        "The gateway cannot decode pictures at the moment; nothing was charged. Send the request "
        "again.",
        code="unavailable",
        retry_after_s=2,
        should_retry=True,
    )
