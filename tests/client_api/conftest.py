"""A real gateway before the fault upstream, one for all tests of a worker, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from client_api.scripted import Pauses, Scripted
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream
from safelight.client import AsyncClient, Client


@pytest.fixture(scope="session")
def upstream() -> Iterator[FaultUpstream]:
    """The vendor behind the gateway; its pictures cost no time to draw."""
    with FaultUpstream.in_thread() as serving:
        yield serving


@pytest.fixture(scope="session")
def gateway(
    upstream: FaultUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """A real gateway with one account and ten dollars of credit."""
    config = accounts(upstream.base_url)
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), config) as running:
        yield running


@pytest.fixture(scope="session")
def key(gateway: GatewayProcess) -> str:
    """A customer's key."""
    assert gateway.first_key is not None
    return gateway.first_key


@pytest.fixture
async def client(gateway: GatewayProcess, key: str) -> AsyncIterator[AsyncClient]:
    """An asynchronous client of the gateway."""
    async with AsyncClient(gateway.base_url, key) as made:
        yield made


@pytest.fixture
def blocking(gateway: GatewayProcess, key: str) -> Iterator[Client]:
    """A blocking client of the gateway."""
    with Client(gateway.base_url, key) as made:
        yield made


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    """A server that answers what the test says, and says that it is a safelight."""
    async with Scripted().serving() as serving:
        yield serving


@pytest.fixture
def pauses() -> Pauses:
    """The pauses that a client would have made."""
    return Pauses()
