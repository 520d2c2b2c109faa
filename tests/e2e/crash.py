"""Orders keep coming while the gateway is killed again and again; then everything is counted.

Half of the callers send an `Idempotency-Key`, half repeat as the SDK does, with a retry count and
nothing else. Each has one order and repeats it until it holds a picture, so at the end: orders =
pictures = charges.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from e2e.books import check_sums, statement, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream

PRICE = 30_000
CREDIT = "1000.00"


@dataclass
class Report:
    """What a crash campaign counted."""

    kills: int
    orders: int
    charges: int = 0
    sales: int = 0
    waste: int = 0
    unknown: int = 0
    repeats: int = 0
    seconds: float = 0.0
    pictures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.orders} orders, {len(self.pictures)} pictures, "
            f"{self.charges} charges, {self.sales} sold upstream, {self.waste} waste, "
            f"{self.unknown} unknown, "
            f"{self.repeats} repeats, {self.seconds:.0f} s"
        )


async def _order(
    http: aiohttp.ClientSession, gateway: GatewayProcess, key: str, number: int, report: Report
) -> None:
    """Repeat one order until its picture is here."""
    headers = {"Authorization": f"Bearer {key}"}
    if number % 2:
        headers["Idempotency-Key"] = f"order-{number}"
    body = {"model": "gpt-image-2-vip", "prompt": f"order {number}", "size": "1280x720"}
    for attempt in range(500):
        headers["x-stainless-retry-count"] = str(attempt)
        report.repeats += attempt > 0
        try:
            async with http.post(
                f"{gateway.base_url}/images/generations", json=body, headers=headers
            ) as answer:
                data = await answer.json()
                if answer.status == 200:
                    picture = base64.b64decode(data["data"][0]["b64_json"])
                    job_id = answer.headers["x-safelight-job-id"]
                    report.pictures[job_id] = hashlib.sha256(picture).hexdigest()
                    return
                assert answer.status in (502, 503, 504), (answer.status, data)
        except (aiohttp.ClientError, ConnectionError):
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"order {number} never got its picture")


async def _kill_repeatedly(
    gateway: GatewayProcess, kills: int, chance: random.Random, report: Report
) -> None:
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0.05, 1.2))
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        report.kills += 1


async def _load(
    gateway: GatewayProcess, key: str, orders: int, kills: int, seed: int, report: Report
) -> None:
    chance = random.Random(seed)
    gate = asyncio.Semaphore(12)
    killer = asyncio.create_task(_kill_repeatedly(gateway, kills, chance, report))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as http:

        async def one(number: int) -> None:
            async with gate:
                # The last orders wait for the kills, so that every kill meets work.
                if number > orders * 3 // 4 and not killer.done():
                    await asyncio.wait([killer], timeout=chance.uniform(0, 2))
                await _order(http, gateway, key, number, report)

        await asyncio.gather(*(one(number) for number in range(orders)))
    await killer


def run(folder: Path, *, kills: int, orders: int, seed: int) -> Report:
    """Run a campaign and check every promise that can be counted."""
    report = Report(kills=0, orders=orders)
    begin = time.monotonic()
    with FaultUpstream.in_thread(latency_s=0.25) as upstream:
        gateway = GatewayProcess(folder, accounts(upstream.base_url, 4))
        key = gateway.key(credit=CREDIT)
        with gateway:
            asyncio.run(_load(gateway, key, orders, kills, seed, report))
            _check(gateway, key, upstream, report)
            assert gateway.stop() == 0
        books = witness(gateway.data)
        report.waste, report.unknown = books.waste, books.unknown
        assert books.faults == []
        # Every sale is the picture of one charge, or was reported; a call whose process died may
        # have been sold or not.
        known = report.charges + report.waste
        assert known <= report.sales <= known + report.unknown
        assert list((gateway.data / "spool").iterdir()) == []
    report.seconds = time.monotonic() - begin
    return report


def _check(gateway: GatewayProcess, key: str, upstream: FaultUpstream, report: Report) -> None:
    balance = check_sums(gateway.url, key)
    lines = [line for line in statement(gateway.url, key) if line["kind"] == "settle"]
    report.charges, report.sales = len(lines), len(upstream.sales)
    assert len(report.pictures) == report.orders, "an order shares its picture with another"
    assert len(lines) == report.orders, str(report)
    assert {line["job_id"]: line["image_sha256"] for line in lines} == report.pictures
    assert balance["held_micros"] == 0
    assert balance["posted_micros"] == 1_000_000_000 - report.orders * PRICE
    sold = {sale.sha256 for sale in upstream.sales}
    assert set(report.pictures.values()) <= sold
