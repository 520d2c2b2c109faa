"""Orders keep coming while gateways are killed again and again; then everything is counted.

Two processes serve one database and take turns at dying; the upstream stalls now and then, so that
second attempts are under way. Half of the callers send an `Idempotency-Key` (and every body of
theirs is ordered twice), half repeat as the SDK does, with a retry count and nothing else. Every
caller has one order and repeats it until it holds a picture, so at the end: orders = pictures =
charges.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from e2e.books import check_sums, rows, statement, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.script import Act, mix
from safelight.bench.faults.server import FaultUpstream

PRICE = 30_000
CREDIT = "1000.00"
CALLERS = 12
ACCOUNTS = 8
SWEPT_S = 30.0
POOL = """
[pool]
soft_timeout_min_s = 1.0
soft_timeout_max_s = 1.0
hedge_share = 0.5
ejection_s = 1.0
ejection_max_s = 2.0
slow_start_s = 1.0
"""
FAULTS: dict[str, float] = {"500": 0.04, "stall": 0.03, "short": 0.02}
"""What the upstream does instead of a picture, and how often; `short` is sold and cut off."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a campaign does.

    Args:
        kills: how many processes die.
        orders: least number of orders; they come until the last kill.
        seed: for the times and victims of the kills, and the faults of the upstream.
        pause_s: longest time between a start and the next kill.
        environ: for the gateways, such as another database.
        crash_server: stops the database server at once and starts it again, if there is one.
        server_crashes: how often, spread over the kills.
        wait_for_sweep: at the end look out for the next sweep, which is a few seconds away.
    """

    kills: int
    orders: int
    seed: int
    pause_s: float = 1.2
    environ: Mapping[str, str] = field(default_factory=dict)
    crash_server: Callable[[], None] | None = None
    server_crashes: int = 0
    wait_for_sweep: bool = True


@dataclass
class Report:
    """What a campaign counted."""

    kills: int = 0
    killed_while_starting: int = 0
    server_crashes: int = 0
    orders: int = 0
    charges: int = 0
    sales: int = 0
    waste: int = 0
    unknown: int = 0
    superseded: int = 0
    repeats: int = 0
    seconds: float = 0.0
    pictures: dict[str, str] = field(default_factory=dict)
    """Digest of each picture that a caller got, by job."""

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.killed_while_starting} of them at start), "
            f"{self.server_crashes} crashes of the database server, "
            f"{self.orders} orders, {len(self.pictures)} pictures, "
            f"{self.charges} charges, {self.sales} sold upstream, {self.waste} waste, "
            f"{self.unknown} unknown, {self.superseded} attempts superseded, "
            f"{self.repeats} repeats, {self.seconds:.0f} s"
        )


def run(folder: Path, plan: Plan) -> Report:
    """Run a campaign and check every promise that can be counted."""
    report = Report()
    begin = time.monotonic()
    with FaultUpstream.in_thread(_faults(plan.seed), latency_s=0.25) as upstream:
        config = accounts(upstream.base_url, ACCOUNTS) + POOL
        first = GatewayProcess(folder / "one", config, environ=plan.environ)
        second = first.beside(folder / "two")
        key = first.key(credit=CREDIT)
        with first, second:
            asyncio.run(_Campaign(plan, (first, second), key, report).run())
            _check_answers(first, key, upstream, report)
            if plan.wait_for_sweep:
                _wait_for_sweep(first, living=2)
            assert (first.stop(), second.stop()) == (0, 0)
        _check_books(first, upstream, report)
    report.seconds = time.monotonic() - begin
    return report


def _faults(seed: int) -> Callable[[object], Act]:
    return mix(FAULTS, seed=seed)


class _Campaign:
    """The callers and the killer, all at once."""

    def __init__(
        self, plan: Plan, gateways: tuple[GatewayProcess, ...], key: str, report: Report
    ) -> None:
        self._plan = plan
        self._gateways = gateways
        self._key = key
        self._report = report
        self._chance = random.Random(plan.seed)

    async def run(self) -> None:
        killer = asyncio.create_task(self._kill_all())
        numbers = itertools.count()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as http:

            async def call() -> None:
                while not killer.done() or self._report.orders < self._plan.orders:
                    self._report.orders += 1
                    await self._order(http, next(numbers))

            await asyncio.gather(*(call() for _ in range(CALLERS)))
        await killer

    async def _order(self, http: aiohttp.ClientSession, number: int) -> None:
        """Repeat one order, anywhere, until its picture is here."""
        twins = number // 2
        headers = {"Authorization": f"Bearer {self._key}"}
        if twins % 2:
            headers["Idempotency-Key"] = f"order-{number}"
        # Without a key, an answer that came whole just before its process died can be told from one
        # that did not come by the body alone.
        prompt = f"twins {twins}" if twins % 2 else f"order {number}"
        body = {"model": "gpt-image-2-vip", "prompt": prompt, "size": "1280x720"}
        for attempt in range(1000):
            headers["x-stainless-retry-count"] = str(attempt)
            self._report.repeats += attempt > 0
            gateway = self._gateways[(number + attempt) % len(self._gateways)]
            try:
                async with http.post(
                    f"{gateway.base_url}/images/generations", json=body, headers=headers
                ) as answer:
                    data = await answer.json()
                    if answer.status == 200:
                        picture = base64.b64decode(data["data"][0]["b64_json"])
                        self._collect(answer.headers["x-safelight-job-id"], picture)
                        return
                    assert answer.status == 503, (answer.status, data)
            except (aiohttp.ClientError, ConnectionError):
                pass
            await asyncio.sleep(0.05)
        raise AssertionError(f"order {number} never got its picture")

    def _collect(self, job_id: str, picture: bytes) -> None:
        assert job_id not in self._report.pictures, "two orders share a picture"
        self._report.pictures[job_id] = hashlib.sha256(picture).hexdigest()

    # --- deaths --------------------------------------------------------------------------------

    async def _kill_all(self) -> None:
        plan, report = self._plan, self._report
        every = plan.kills // plan.server_crashes if plan.server_crashes else 0
        for turn in itertools.cycle(range(len(self._gateways))):
            if report.kills >= plan.kills and report.server_crashes >= plan.server_crashes:
                return
            await asyncio.sleep(self._chance.uniform(0.05, plan.pause_s))
            if every and report.server_crashes < (report.kills + every // 2) // every:
                assert plan.crash_server is not None
                await asyncio.to_thread(plan.crash_server)
                report.server_crashes += 1
                continue
            victims = [self._gateways[turn]]
            if self._chance.random() < 0.1:  # a power cut, for both
                victims = list(self._gateways)
            for victim in victims:
                await self._kill(victim)
            for victim in victims:
                await self._start(victim)

    async def _kill(self, victim: GatewayProcess) -> None:
        await asyncio.to_thread(victim.kill)
        self._report.kills += 1

    async def _start(self, victim: GatewayProcess) -> None:
        if self._chance.random() < 0.15:  # dies once more before it is ready, or just after
            victim.launch()
            await asyncio.sleep(self._chance.uniform(0.3, 0.7))
            await self._kill(victim)
            self._report.killed_while_starting += 1
        await asyncio.to_thread(victim.start)


# --- counting -----------------------------------------------------------------------------------


def _check_answers(
    gateway: GatewayProcess, key: str, upstream: FaultUpstream, report: Report
) -> None:
    """What the callers hold is what the statement says and what the upstream sold."""
    balance = check_sums(gateway.url, key)
    settled = {
        line["job_id"]: line["image_sha256"]
        for line in statement(gateway.url, key)
        if line["kind"] == "settle"
    }
    report.charges = sum(line["kind"] == "settle" for line in statement(gateway.url, key))
    assert report.charges == len(settled) == report.orders, str(report)
    assert len(report.pictures) == report.orders
    assert settled == report.pictures
    assert len(set(settled.values())) == report.charges
    assert balance["held_micros"] == 0
    confirmed = {sale.sha256 for sale in upstream.sales} & set(settled.values())
    assert balance["posted_micros"] == 1_000_000_000 - len(confirmed) * PRICE


def _wait_for_sweep(gateway: GatewayProcess, *, living: int) -> None:
    """Wait until the folders of all dead processes are gone."""
    until = time.monotonic() + SWEPT_S
    while len(list((gateway.data / "uploads").iterdir())) > living:
        assert time.monotonic() < until, "the folders of dead processes stay"
        time.sleep(0.1)


def _check_books(gateway: GatewayProcess, upstream: FaultUpstream, report: Report) -> None:
    """The data folder agrees with itself, with the upstream and with the files."""
    books = witness(gateway.data, gateway.environ)
    assert books.faults == []
    report.sales, report.waste, report.unknown = len(upstream.sales), books.waste, books.unknown
    # Every sale is the picture of one charge, or was reported; a call whose process died may have
    # been sold or not.
    known = report.charges + report.waste
    assert known <= report.sales <= known + report.unknown, str(report)
    superseded = "SELECT 1 FROM attempt WHERE outcome = 'superseded'"
    report.superseded = len(rows(gateway, superseded))
    open_jobs = "SELECT id FROM job WHERE state NOT IN ('completed', 'failed')"
    assert rows(gateway, open_jobs) == []
    for row in rows(gateway, "SELECT digest FROM image"):
        digest = row["digest"]
        blob = gateway.data / "blobs" / digest[:2] / digest[2:4] / digest
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == digest
    assert list((gateway.data / "spool").iterdir()) == []
