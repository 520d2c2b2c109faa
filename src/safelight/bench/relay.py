"""The bare relay: what a Python process must spend to pass an answer on, and nothing more.

A program of the bench (`python -m safelight.bench.relay PORT`). Every connection gets one of its
own to the upstream; bytes go through in both directions as they come, held back where the other
side reads slowly. It parses nothing, checks nothing and keeps nothing: the limit of what a gateway
in this language could cost.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from safelight.bench.loop import serve


class Pipe(asyncio.Protocol):
    """One side of a relayed connection."""

    def __init__(self) -> None:
        self.peer: Pipe | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        """Stop the other side from sending."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other side send again."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side, too."""
        del exc
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()


class FrontPipe(Pipe):
    """The client's side: opens the other one."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._early = bytearray()
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look for somewhere to send to."""
        super().connection_made(transport)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    def data_received(self, data: bytes) -> None:
        """Pass on; keep what comes before there is somewhere to send it."""
        if self.peer is None:
            self._early += data
        else:
            super().data_received(data)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        assert self.transport is not None
        try:
            _, back = await loop.create_connection(Pipe, "127.0.0.1", self._upstream_port)
        except OSError:
            self.transport.close()
            return
        self.peer, back.peer = back, self
        if self.transport.is_closing():
            back.connection_lost(None)
        elif self._early:
            super().data_received(bytes(self._early))


def main(upstream_port: int) -> None:
    """Relay to the upstream on that port of loopback."""
    serve(lambda: FrontPipe(upstream_port))


if __name__ == "__main__":
    main(int(sys.argv[1]))
