"""`safelight serve --workers N`: several processes on one port, and a supervisor beside them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import openai
import pybase64
import pytest

from e2e.books import check_sums, statement, witness
from e2e.process import GatewayProcess, accounts
from e2e.workers import children, gone, log_lines, said, until
from safelight.bench.faults.server import FaultUpstream, Seen

ORDERS = 24
TWO = "[server]\nworkers = 2\n"


async def buy_all(
    gateway: GatewayProcess, key: str, middle: threading.Event, victim: int
) -> dict[str, str]:
    """Order with the SDK and kill one process in the middle; return pictures by job."""
    pictures: dict[str, str] = {}

    async def one(number: int) -> None:
        # A client each: the kernel deals connections out, not requests.
        async with openai.AsyncOpenAI(
            base_url=gateway.base_url, api_key=key, max_retries=10
        ) as client:
            answer = await client.images.with_raw_response.generate(
                model="gpt-image-2-vip", prompt=f"order {number}", size="1280x720"
            )
        data = answer.parse().data
        assert data is not None
        picture = pybase64.b64decode(data[0].b64_json or "")
        pictures[answer.headers["x-safelight-job-id"]] = hashlib.sha256(picture).hexdigest()

    async def kill_in_the_middle() -> None:
        await asyncio.to_thread(middle.wait, 60)
        os.kill(victim, signal.SIGKILL)

    await asyncio.gather(kill_in_the_middle(), *(one(number) for number in range(ORDERS)))
    return pictures


@pytest.mark.campaign
def test_a_killed_process_is_replaced_and_no_order_is_lost(tmp_path: Path) -> None:
    """Both serve; of one that is killed the other takes the jobs over; SIGTERM drains both."""
    middle = threading.Event()

    def slow(seen: Seen) -> dict[str, object]:
        if seen.number == ORDERS // 2:
            middle.set()
        return {"kind": "ok", "latency_s": 0.5}

    with FaultUpstream.in_thread(slow) as upstream:
        gateway = GatewayProcess(tmp_path, TWO + accounts(upstream.base_url, 4))
        with gateway:
            assert gateway.announced["url"] == gateway.url
            both = children(gateway)
            assert len(both) == 2
            key = gateway.key(credit="100.00")
            pictures = asyncio.run(buy_all(gateway, key, middle, both[0]))
            until(lambda: said(gateway, "a server process listens again"))
            assert len(set(children(gateway)) - set(both)) == 1
            assert check_sums(gateway.url, key)["held_micros"] == 0
            lines = [line for line in statement(gateway.url, key) if line["kind"] == "settle"]
            assert gateway.stop() == 0
    assert {line["job_id"]: line["image_sha256"] for line in lines} == pictures
    assert len(lines) == ORDERS
    books = witness(gateway.data)
    assert books.faults == []
    assert len(upstream.sales) <= ORDERS + books.waste + books.unknown
    (ended,) = said(gateway, "a server process ended; it is started again")
    assert ended["fault"] == "was ended by SIGKILL"
    assert {line.get("worker") for line in log_lines(gateway)} >= {1, 2}
    # Of the killed one nothing is left, nor of those that drained.
    for name in ("spool", "processes"):
        assert list((gateway.data / name).iterdir()) == []


@pytest.mark.campaign
def test_the_processes_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """kill -9 of the supervisor frees the port at once, and the next start goes on."""
    gateway = GatewayProcess(tmp_path, TWO)
    gateway.start()
    both = children(gateway)
    gateway.kill()
    until(lambda: all(gone(one) for one in both), 5)
    with gateway:
        assert len(children(gateway)) == 2
        assert gateway.stop() == 0
    assert witness(gateway.data).faults == []


@pytest.mark.campaign
def test_a_frozen_supervisor_does_not_stop_the_service(tmp_path: Path) -> None:
    """The processes serve without it; nothing of a request goes through the supervisor."""
    with GatewayProcess(tmp_path, TWO) as gateway:
        key = gateway.key()
        gateway.freeze()
        for _ in range(4):
            check_sums(gateway.url, key)
        gateway.thaw()
        assert gateway.stop() == 0


def test_sigterm_lets_the_jobs_of_all_processes_answer(tmp_path: Path) -> None:
    """Orders in flight on both processes are answered after SIGTERM, and then all is over."""
    started = threading.Semaphore(0)

    def slow(_seen: Seen) -> dict[str, object]:
        started.release()
        return {"kind": "ok", "latency_s": 0.7}

    async def order_and_stop(gateway: GatewayProcess, key: str) -> int:
        async def one(number: int) -> bool:
            async with openai.AsyncOpenAI(
                base_url=gateway.base_url, api_key=key, max_retries=0
            ) as client:
                answer = await client.images.generate(
                    model="gpt-image-2-vip", prompt=f"order {number}", size="1024x1024"
                )
            return bool(answer.data and answer.data[0].b64_json)

        orders = [asyncio.create_task(one(number)) for number in range(8)]
        for _ in orders:
            await asyncio.to_thread(started.acquire, timeout=30)
        assert await asyncio.to_thread(gateway.stop) == 0
        assert all(await asyncio.gather(*orders))
        return len(orders)

    with (
        FaultUpstream.in_thread(slow) as upstream,
        GatewayProcess(tmp_path, TWO + accounts(upstream.base_url, 4)) as gateway,
    ):
        assert gateway.first_key is not None
        assert asyncio.run(order_and_stop(gateway, gateway.first_key)) == len(upstream.sales)
    draining = said(gateway, "draining")
    assert sorted(line["worker"] for line in draining) == [1, 2]
    assert all(line["jobs"] > 0 for line in draining)
    assert witness(gateway.data).faults == []


@pytest.mark.campaign
def test_limits_and_money_hold_over_all_processes(tmp_path: Path) -> None:
    """A key's jobs in flight and a customer's balance are counted once, not once a process."""

    def slow(_seen: Seen) -> dict[str, object]:
        return {"kind": "ok", "latency_s": 0.5}

    async def buy(gateway: GatewayProcess, key: str) -> list[int]:
        async def one(number: int) -> int:
            async with openai.AsyncOpenAI(
                base_url=gateway.base_url, api_key=key, max_retries=0
            ) as client:
                try:
                    await client.images.generate(
                        model="gpt-image-2-vip", prompt=f"order {number}", size="1280x720"
                    )
                except openai.APIStatusError as error:
                    return error.status_code
            return 200

        return await asyncio.gather(*(one(number) for number in range(30)))

    with (
        FaultUpstream.in_thread(slow) as upstream,
        GatewayProcess(tmp_path, TWO + accounts(upstream.base_url, 4)) as gateway,
    ):
        few = gateway.key("few", "100.00", "--max-in-flight", "3")
        assert asyncio.run(buy(gateway, few)).count(200) == 3
        poor = gateway.key("poor", "0.30")
        codes = asyncio.run(buy(gateway, poor))
        assert codes.count(200) == 10
        balance = check_sums(gateway.url, poor)
        assert (balance["posted_micros"], balance["held_micros"]) == (0, 0)
        assert gateway.stop() == 0
    assert len(upstream.sales) == 13
    assert witness(gateway.data).faults == []


def test_a_taken_port_is_refused_even_by_who_would_share_it(tmp_path: Path) -> None:
    """Sharing a port with another installation would give its customers our answers."""
    config = tmp_path / "safelight.toml"
    config.write_text(TWO)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = str(stranger.getsockname()[1])
        command = [sys.executable, "-m", "safelight", "serve", "--config", str(config)]
        ended = subprocess.run(
            [*command, "--data", str(tmp_path / "data"), "--port", port],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert not (tmp_path / "data").exists()
