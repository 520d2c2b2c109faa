"""A proxy of the tests' own that has each bad manner of real ones: it cuts, holds back, refuses.

Owns one listening socket; what it does on which connection is in its `Manners`.
"""

from __future__ import annotations

import asyncio
import random
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from typing import Literal

PAGES = {
    "nginx": b"<html><head><title>504 Gateway Time-out</title></head><body><center><h1>504 Gateway "
    b"Time-out</h1></center><hr><center>nginx/1.22.1</center></body></html>",
    "HAProxy": b"<html><body><h1>504 Gateway Time-out</h1>\n"
    b"The server didn't respond in time.\n</body></html>",
    "Envoy": b"upstream request timeout",
}
Form = Literal["nginx", "HAProxy", "Envoy", "fin", "rst", "drop"]
FORMS: tuple[Form, ...] = ("nginx", "HAProxy", "Envoy", "fin", "rst")


@dataclass(frozen=True)
class Manners:
    """What the proxy does.

    Args:
        cut_s: how long what is behind may be silent; None: for ever.
        form: how it cuts, as whose page or how else.
        most_bytes: a request that announces more is refused with 413.
        holds_back: whether an answer is passed on only when it is whole.
        total_s: how long any answer may take, however lively; None: for ever.
    """

    cut_s: float | None = None
    form: Form = "nginx"
    most_bytes: int | None = None
    holds_back: bool = False
    total_s: float | None = None


def seeded(seed: int) -> Manners:
    """Return manners that a seed chooses: about 1.5 s, in any of the forms."""
    rng = random.Random(seed)
    return Manners(cut_s=round(rng.uniform(1.2, 1.6), 2), form=FORMS[seed % len(FORMS)])


@asynccontextmanager
async def cutting_proxy(port: int, manners: Manners) -> AsyncIterator[str]:
    """Run one in front of a port of this machine; yields its address."""
    proxy = _Proxy(port, manners)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(proxy.tasks):
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)


class _Proxy:
    def __init__(self, port: int, manners: Manners) -> None:
        self._port = port
        self._manners = manners
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            # A cancelled task of a stream would be reported by asyncio as an error.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self.tasks.discard(task)
            writer.transport.abort() if self._manners.form == "rst" else writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        most = self._manners.most_bytes
        if length and most is not None and int(length[1]) > most:
            await _page(writer, b"413 Request Entity Too Large", b"<center>nginx</center>")
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        forth.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        sending = asyncio.create_task(_pump(reader, forth))
        try:
            await self._answer(back, writer)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            forth.transport.abort()

    async def _answer(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        manners, held, begun = self._manners, b"", False
        total = asyncio.timeout(manners.total_s)
        try:
            async with total:
                while True:
                    async with asyncio.timeout(manners.cut_s):
                        data = await back.read(65536)
                    if not data:
                        writer.write(held)
                        await writer.drain()
                        return
                    if manners.holds_back:
                        held += data
                        continue
                    begun = True
                    writer.write(data)
                    await writer.drain()
        except TimeoutError:
            await self._cut(writer, begun=begun)

    async def _cut(self, writer: asyncio.StreamWriter, *, begun: bool) -> None:
        form = self._manners.form
        if form == "drop":
            await asyncio.get_running_loop().create_future()
        elif form == "rst":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        elif form in PAGES and not begun:
            await _page(writer, b"504 Gateway Time-out", PAGES[form])


async def _page(writer: asyncio.StreamWriter, status: bytes, page: bytes) -> None:
    writer.write(
        b"HTTP/1.1 %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        % (status, len(page), page)
    )
    await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
