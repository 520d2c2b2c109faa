"""A balancer before several gateway processes: connections go to them in turn, never to a dead one.

It knows no HTTP. A connection whose process dies breaks, as with any balancer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def balancing(ports: list[int]) -> AsyncIterator[int]:
    """Listen on loopback while the block runs; give the port."""
    turn = itertools.cycle(ports)
    connections: set[asyncio.Task[None]] = set()

    async def serve(client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        task.add_done_callback(connections.discard)
        try:
            for port in itertools.islice(turn, len(ports)):
                with contextlib.suppress(ConnectionError):
                    upstream, request = await asyncio.open_connection("127.0.0.1", port)
                    await _join(client, request, upstream, answer)
                    break
        finally:
            answer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _join(
    client: asyncio.StreamReader,
    request: asyncio.StreamWriter,
    upstream: asyncio.StreamReader,
    answer: asyncio.StreamWriter,
) -> None:
    """Pass bytes on in both directions until one side ends."""
    both = [
        asyncio.create_task(_pass_on(client, request)),
        asyncio.create_task(_pass_on(upstream, answer)),
    ]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        request.transport.abort()
        for one in both:
            one.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
