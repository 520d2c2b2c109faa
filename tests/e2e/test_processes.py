"""Several `safelight serve` on one data folder: a killed one's orders end at the other."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

from e2e.balancer import balancing
from e2e.books import check_sums, statement, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream, Seen

PRICE = 30_000
CREDIT = "100.00"
ORDERS = 60


def beside(first: GatewayProcess, folder: Path) -> GatewayProcess:
    """Another process, with a port of its own, on the data folder of the first."""
    second = GatewayProcess(folder, first.config.read_text())
    second.data = first.data
    return second


async def buy_all(
    ports: list[int], key: str, middle: threading.Event, victim: GatewayProcess
) -> dict[str, str]:
    """Order everything with the SDK and kill one process in the middle; return pictures by job."""
    pictures: dict[str, str] = {}
    gate = asyncio.Semaphore(12)

    async with (
        balancing(ports) as port,
        openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=10
        ) as client,
    ):

        async def one(number: int) -> None:
            async with gate:
                answer = await client.images.with_raw_response.generate(
                    # Each body twice: a retry must not take its twin's picture.
                    model="gpt-image-2-vip",
                    prompt=f"order {number // 2}",
                    size="1280x720",
                )
            data = answer.parse().data
            assert data is not None
            picture = base64.b64decode(data[0].b64_json or "")
            job_id = answer.headers["x-safelight-job-id"]
            assert job_id not in pictures, "an order shares its picture with another"
            pictures[job_id] = hashlib.sha256(picture).hexdigest()

        async def kill_in_the_middle() -> None:
            await asyncio.to_thread(middle.wait, 60)
            await asyncio.to_thread(victim.kill)

        await asyncio.gather(kill_in_the_middle(), *(one(number) for number in range(ORDERS)))
    return pictures


def test_a_killed_process_loses_no_order_while_another_lives(tmp_path: Path) -> None:
    middle = threading.Event()

    def slow(seen: Seen) -> dict[str, object]:
        if seen.number == ORDERS // 3:
            middle.set()
        return {"kind": "ok", "latency_s": 0.4}

    with FaultUpstream.in_thread(slow) as upstream:
        survivor = GatewayProcess(tmp_path / "one", accounts(upstream.base_url, 4))
        victim = beside(survivor, tmp_path / "two")
        key = survivor.key(credit=CREDIT)
        with survivor, victim:
            pictures = asyncio.run(buy_all([survivor.port, victim.port], key, middle, victim))
            assert victim.process is None
            balance = check_sums(survivor.url, key)
            lines = [line for line in statement(survivor.url, key) if line["kind"] == "settle"]
            assert survivor.stop() == 0
        assert len(pictures) == len(lines) == ORDERS
        assert {line["job_id"]: line["image_sha256"] for line in lines} == pictures
        assert balance["posted_micros"] == 100_000_000 - ORDERS * PRICE
        assert balance["held_micros"] == 0
        books = witness(survivor.data)
        assert books.faults == []
        assert set(pictures.values()) <= {sale.sha256 for sale in upstream.sales}
        known = ORDERS + books.waste
        assert known <= len(upstream.sales) <= known + books.unknown
        # The killed process had calls under way: the test met what it is about.
        assert "took over open jobs" in survivor.log.read_text()
        for name in ("spool", "uploads", "processes"):
            assert list((survivor.data / name).iterdir()) == []


def test_first_starts_at_once_make_one_customer_and_one_database(tmp_path: Path) -> None:
    first = GatewayProcess(tmp_path / "one")
    others = [beside(first, tmp_path / name) for name in ("two", "three")]
    processes = [first, *others]
    with ThreadPoolExecutor(len(processes) + 1) as pool:
        made = pool.submit(first.key, "team", "5.00")
        started = [pool.submit(process.start) for process in processes]
        try:
            key = made.result(60)
            for start in started:
                start.result(60)
            # The command may have been first: then no start makes a customer.
            keys = [process.first_key for process in processes if process.first_key]
            assert len(keys) <= 1
            for process in processes:
                assert check_sums(process.url, key)["posted_micros"] == 5_000_000
                for found in keys:
                    assert check_sums(process.url, found)["posted_micros"] == 10_000_000
        finally:
            ends = [process.stop() for process in processes]
    assert ends == [0, 0, 0]
    assert witness(first.data).faults == []


def test_the_operators_commands_work_beside_two_processes(tmp_path: Path) -> None:
    first = GatewayProcess(tmp_path / "one")
    second = beside(first, tmp_path / "two")
    with first, second:
        key = first.key("team", "1.00")
        command = [sys.executable, "-m", "safelight"]
        subprocess.run(
            [*command, "credit", "team", "2.50", "--data", str(first.data)],
            check=True,
            capture_output=True,
            timeout=60,
        )
        assert check_sums(first.url, key)["posted_micros"] == 3_500_000
        assert check_sums(second.url, key)["posted_micros"] == 3_500_000
        shown = subprocess.run(
            [*command, "statement", "--url", second.url, "--api-key", key, "--json"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "2500000" in shown.stdout
        assert (first.stop(), second.stop()) == (0, 0)
