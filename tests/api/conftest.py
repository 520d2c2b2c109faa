"""A real uvicorn over the double of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import openai
import pytest
from uvicorn.server import ServerState

from api.fake_files import FakeFiling, NoBatches
from api.fake_gateway import KEY, FakeGateway, MemoryStore
from api.fake_retention import FakeRetention
from api.fake_webhooks import FakeWebhooks
from safelight.api import make_asgi
from safelight.api.context import Services
from safelight.api.scrapes import Scrapes
from safelight.api.server import BACKLOG, uvicorn_config
from safelight.channels import Channels
from safelight.clock import ManualClock
from safelight.config import Config, load_config
from safelight.keyring import Keyring
from safelight.links import Links
from safelight.metrics import Metrics, exposition


@dataclass
class Server:
    """The skin on a loopback socket, over the fake gateway."""

    url: str
    port: int
    services: Services
    gateway: FakeGateway
    clock: ManualClock

    async def raw(self, data: bytes) -> bytes:
        """Send bytes on a connection of their own and return all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Small limits, so that tests of them are quick; the time limits are far away."""
    base = load_config(None, tmp_path, environ={})
    server = msgspec.structs.replace(
        base.server,
        port=0,
        max_request_bytes=400_000,
        max_file_bytes=100_000,
        max_json_bytes=50_000,
    )
    return msgspec.structs.replace(base, server=server)


@pytest.fixture
def services(config: Config, tmp_path: Path) -> Services:
    clock = ManualClock()
    channels = Channels(config.channels)
    storage = MemoryStore()
    spool = tmp_path / "uploads"
    spool.mkdir()
    gateway = FakeGateway(channels=channels, storage=storage, clock=clock)
    metrics = Metrics(clock)

    async def text(accept: str) -> tuple[str, bytes]:
        return exposition.write(metrics, (), accept)

    return Services(
        gateway=gateway,
        channels=channels,
        links=Links(Keyring.load_or_create(tmp_path), clock),
        storage=storage,
        filing=FakeFiling(storage, clock),
        batching=NoBatches(),
        webhooks=FakeWebhooks(),
        retention=FakeRetention(gateway),
        clock=clock,
        config=config,
        spool_dir=spool,
        keep_alive_s=0.02,
        stream_patience_s=0.05,
        metrics=metrics,
        scrapes=Scrapes(config.watch, text),
    )


@pytest.fixture
def stall_s() -> float:
    """How long a caller may leave a full write buffer unread."""
    return 60.0


@pytest.fixture
async def server(services: Services, stall_s: float) -> AsyncIterator[Server]:
    """Serve with uvicorn's protocol as production does, without its signal handlers."""
    config = uvicorn_config(make_asgi(services), services.config, stall_s=stall_s)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: config.http_protocol_class(  # type: ignore[call-arg]
            config=config, server_state=state, app_state={}, _loop=loop
        ),
        "127.0.0.1",
        0,
        backlog=BACKLOG,
    )
    port = listener.sockets[0].getsockname()[1]
    assert isinstance(services.gateway, FakeGateway)
    assert isinstance(services.clock, ManualClock)
    yield Server(f"http://127.0.0.1:{port}", port, services, services.gateway, services.clock)
    listener.close()
    for connection in list(state.connections):
        connection.transport.abort()
    if state.tasks:
        await asyncio.wait(state.tasks, timeout=5)
    # Nothing that was uploaded may stay behind, whatever a test did.
    assert list(services.spool_dir.iterdir()) == []


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official SDK, unmodified but for address and key; retries off so that errors show."""
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client with the key set."""
    async with aiohttp.ClientSession(
        server.url, headers={"authorization": f"Bearer {KEY}"}
    ) as made:
        yield made
