"""A gateway whose one account is a fault upstream, for runs that are carried out for real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e.process import GatewayProcess, accounts
from runs.house import House, Site
from safelight.bench.faults.server import FaultUpstream
from safelight.client import AsyncClient


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One gateway and its upstream for all tests of a worker."""
    with FaultUpstream.in_thread() as upstream:
        config = '[billing]\nfirst_credit = "1000.00"\n' + accounts(upstream.base_url)
        with GatewayProcess(tmp_path_factory.mktemp("gateway"), config) as gateway:
            yield Site(gateway, upstream)


@pytest.fixture
def house(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """The gateway as one test sees it: only what happens from now on."""
    site.upstream.play()
    site.upstream.latency_s = 0.0
    found = House(site, tmp_path, site.first_key)
    for name, value in found.own_environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture
async def client(house: House) -> AsyncIterator[AsyncClient]:
    """A client of it."""
    async with AsyncClient(house.url, house.key) as made:
        yield made
