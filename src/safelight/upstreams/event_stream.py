"""Frames of an image stream: server-sent events, each with at most one picture.

Owns the incremental parser of `text/event-stream` (WHATWG HTML, "Server-sent events") for frames
of any size: a frame's data goes to a `ReplyScanner` while it arrives, never whole into memory.
Knows the wire form only; what an event means is decided by the adapter that receives it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from safelight.upstreams.reply import IMAGES_PLACES, Places, ReplyScanner, Sink

_LINE_END = re.compile(rb"[\r\n]")
_FIELD_MAX = 1024


class Frame:
    """One event: its `event:` line and its data, scanned."""

    __slots__ = ("event", "scanner")

    def __init__(self, scanner: ReplyScanner) -> None:
        self.event = ""
        self.scanner = scanner

    def document(self) -> object:
        """Return the parsed data; None for no data and for the `[DONE]` that ends some streams.

        Raises:
            ReplyError: it is no JSON.
        """
        if not self.scanner.started or self.scanner.skeleton == b"[DONE]":
            return None
        return self.scanner.document()


class EventScanner:
    """Splits a stream into frames.

    Args:
        open_sink: called once for each frame; gives the place for that frame's picture.
        places: where in a frame's data pictures can be.
    """

    def __init__(self, open_sink: Callable[[], Sink], places: Places = IMAGES_PLACES) -> None:
        self._open_sink = open_sink
        self._places = places
        self._frame: Frame | None = None
        self._event = ""
        self._line = b""
        self._in_data = False
        self._after_return = False

    @property
    def in_frame(self) -> bool:
        """True while a frame's data is arriving."""
        return self._frame is not None

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield each frame as it ends. Take one before asking for the next: sinks are reused.

        Raises:
            ReplyError: a frame's data is no JSON, or its picture no base64.
        """
        position = 0
        while position < len(chunk):
            if self._after_return:
                self._after_return = False
                if chunk[position] == 0x0A:
                    position += 1
                    continue
            found = _LINE_END.search(chunk, position)
            self._take(chunk[position : len(chunk) if found is None else found.start()])
            if found is None:
                return
            position = found.end()
            self._after_return = found.group() == b"\r"
            frame = self._end_line()
            if frame is not None:
                yield frame

    def finish(self) -> Iterator[Frame]:
        """Yield the last frame if the stream ended behind its data but before its blank line."""
        frame, self._frame = self._frame, None
        if frame is not None and frame.scanner.complete:
            frame.event = self._event
            yield frame

    def _take(self, piece: bytes) -> None:
        """Take a part of a line that does not hold its end."""
        if self._in_data and self._frame is not None:
            self._frame.scanner.feed(piece)
            return
        line = self._line + piece
        if not line.startswith(b"data:"):
            # Nothing but data may be long: the rest of a comment or of an unknown field is dropped.
            self._line = line[:_FIELD_MAX]
            return
        self._line = b""
        self._in_data = True
        if self._frame is None:
            self._frame = Frame(ReplyScanner(self._open_sink(), self._places))
        self._frame.scanner.feed(line[5:])

    def _end_line(self) -> Frame | None:
        """Act on a complete line; a blank one ends the frame."""
        line, self._line = self._line, b""
        if self._in_data:
            self._in_data = False
            return None
        if line:
            if line.startswith(b"event:"):
                self._event = line[6:].strip().decode("ascii", "replace")
            return None
        frame, self._frame = self._frame, None
        event, self._event = self._event, ""
        if frame is not None:
            frame.event = event
        return frame
