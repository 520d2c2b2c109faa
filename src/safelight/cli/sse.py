"""Server-sent events, as much as image streams use: `data:` frames of tens of megabytes.

Source: WHATWG HTML, section "Server-sent events", event stream interpretation. Knows no images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def data_frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the `data` of each event in a stream of byte chunks.

    Comments, other fields and events without data are skipped; several data lines are joined by a
    line feed. A frame that the stream's end cuts off is dropped, as the specification demands.
    """
    frame: list[bytes] = []
    for line in _lines(chunks):
        if not line:
            if frame:
                yield b"\n".join(frame)
            frame = []
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            frame.append(value.removeprefix(b" "))


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines without their ends (LF or CR LF); an unfinished last line is dropped.

    Pieces of a line wait in a list: joining once keeps a line of 40 MB linear in its length.
    """
    pending: list[bytes] = []
    for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        pending.append(first)
        for piece in rest:
            yield b"".join(pending).removesuffix(b"\r")
            pending = [piece]
