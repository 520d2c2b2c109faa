"""The event loop of the bench's own programs, and how they begin and end.

Owns nothing of what they serve. A program says its port in one line of JSON on standard output and
ends when its standard input closes, so that none outlives the bench, however that ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable

BACKLOG = 4096


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a uvloop, or asyncio's own loop where there is none (Windows)."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def serve(protocol: Callable[[], asyncio.BaseProtocol]) -> None:
    """Serve connections on a free port of loopback until standard input closes."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(protocol))


async def _serve(protocol: Callable[[], asyncio.BaseProtocol]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=BACKLOG)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await over.wait()
    server.close()
