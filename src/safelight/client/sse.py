"""Server-sent events as a job tells them: frames of `event`, `id` and `data`.

Source: WHATWG HTML, section "Server-sent events", event stream interpretation. Knows no jobs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """One event; `id` is None where it has none."""

    data: bytes
    event: str = "message"
    id: str | None = None


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[Frame]:
    """Yield the events that have data; a frame that the stream's end cuts off is dropped."""
    data: list[bytes] = []
    event, id_ = "message", None
    async for line in _lines(chunks):
        if not line:
            if data:
                yield Frame(b"\n".join(data), event, id_)
            data, event, id_ = [], "message", None
            continue
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"id":
            id_ = value.decode("utf-8", "replace")


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield lines without their ends (LF or CR LF).

    Pieces of a line wait in a list: joining once keeps a line of 10 MB linear in its length.
    """
    pending: list[bytes] = []
    async for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        pending.append(first)
        for piece in rest:
            yield b"".join(pending).removesuffix(b"\r")
            pending = [piece]
