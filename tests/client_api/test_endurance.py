"""Orders through a gateway that is killed again and again: each is one picture and one charge."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream
from safelight.client import AsyncClient, Saved
from safelight.client.transport import Patience

ORDERS, AT_ONCE, DEATHS = 300, 24, 6
FAULTS = {"mix": {"500": 0.05, "reset": 0.03, "corrupt": 0.02}, "seed": 7}


@pytest.mark.campaign
async def test_no_picture_is_bought_twice_by_a_client_whose_gateway_dies(tmp_path: Path) -> None:
    """Six `kill -9` during 300 orders with 10 % faults: 300 files, 300 charges, nothing else."""
    saved: list[Saved] = []
    with (
        FaultUpstream.in_thread(FAULTS, latency_s=0.3) as upstream,
        GatewayProcess(tmp_path / "gateway", accounts(upstream.base_url, 4)) as gateway,
    ):
        key = gateway.key("team", "100.00")
        patience = Patience(retries=12, pause_s=0.1)
        async with AsyncClient(gateway.base_url, key, patience=patience) as client:
            turns = asyncio.Semaphore(AT_ONCE)

            async def one(number: int) -> None:
                async with turns:
                    picture = await client.generate(f"lamp {number}", size="1024x1024")
                    saved.append(await client.save(picture, tmp_path / f"{number}.png"))
                    if len(saved) in deaths:
                        deaths.discard(len(saved))
                        await asyncio.to_thread(restart)

            def restart() -> None:
                gateway.kill()
                gateway.start()

            deaths = {(number + 1) * ORDERS // (DEATHS + 2) for number in range(DEATHS)}
            await asyncio.gather(*(one(number) for number in range(ORDERS)))
            lines = [line async for line in client.statement() if line.kind == "settle"]
            balance = await client.balance()
    assert deaths == set()
    assert len(saved) == ORDERS
    assert Counter(line.image_sha256 for line in lines) == Counter(one.sha256 for one in saved)
    assert len({line.job_id for line in lines}) == ORDERS
    assert (balance.posted_micros, balance.held_micros) == (100_000_000 - ORDERS * 30_000, 0)
    print(f"{client.figures}; {client.figures.tries} tries, {client.figures.downloads} downloads")
