"""Queued jobs over real processes: 202 is a promise that `kill -9` does not break."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from e2e.books import check_sums, rows, statement, witness
from e2e.databases import environ_of
from e2e.process import GatewayProcess, accounts
from e2e.test_replicas import replica_of
from postgres import Mode, PostgresServer
from safelight.bench.faults.server import FaultUpstream, Seen

VIP = "gpt-image-2-vip"
FINISHED_S = 120.0
QUICK = "[queue]\npoll_s = 0.1\n"


def ask(url: str, key: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    """Ask a gateway; a body is an order to be collected later."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    if body is not None:
        headers["prefer"] = "respond-async"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, json.load(answer)


def order(gateway: GatewayProcess, key: str, prompt: str) -> str:
    """Order a picture for later; return the job's id when it is accepted."""
    body = {"model": VIP, "prompt": prompt, "size": "1024x1024"}
    status, job = ask(f"{gateway.base_url}/images/generations", key, body)
    assert status == 202
    found: str = job["id"]
    return found


def finished(
    gateway: GatewayProcess, key: str, job_ids: list[str], seconds: float = FINISHED_S
) -> list[str]:
    """Wait for the ends of jobs and return their states."""
    until, states = time.monotonic() + seconds, []
    for job_id in job_ids:
        state = "queued"
        while state in ("queued", "in_progress") and time.monotonic() < until:
            _, job = ask(f"{gateway.base_url}/jobs/{job_id}?wait=20", key)
            state = job["status"]
        states.append(state)
    return states


def quick(_seen: Seen) -> dict[str, object]:
    return {"kind": "ok", "latency_s": 0.05}


def assert_paid_once(gateway: GatewayProcess, key: str, job_ids: list[str]) -> None:
    """Each job was charged once, and nothing else was."""
    lines = [line for line in statement(gateway.url, key) if line["kind"] == "settle"]
    assert sorted(line["job_id"] for line in lines) == sorted(job_ids)
    balance = check_sums(gateway.url, key)
    assert balance["held_micros"] == 0


def check_kills(tmp_path: Path, database_url: str, kills: int) -> None:
    """Kill a server right after each 202: every job is finished in the end, and paid once."""
    with FaultUpstream.in_thread(quick) as upstream:
        config = QUICK + accounts(upstream.base_url, 2)
        environ = environ_of(database_url)
        gateway = GatewayProcess(tmp_path / "one", config, environ=environ)
        key = gateway.key(credit="100.00")
        job_ids = []
        with gateway:
            for number in range(kills):
                job_ids.append(order(gateway, key, f"order {number}"))
                gateway.kill()
                gateway.start()
            assert finished(gateway, key, job_ids) == ["completed"] * kills
            assert_paid_once(gateway, key, job_ids)
            assert gateway.stop() == 0
        assert witness(gateway.data, environ).faults == []


def test_a_job_is_finished_after_a_kill_right_after_its_202(tmp_path: Path) -> None:
    check_kills(tmp_path, "", 3)


@pytest.mark.campaign
def test_a_hundred_kills_right_after_the_202_lose_no_job(tmp_path: Path, database_url: str) -> None:
    check_kills(tmp_path, database_url, 100)


class Worker:
    """`safelight worker` beside a server, with a port for its health."""

    def __init__(self, gateway: GatewayProcess) -> None:
        command = [sys.executable, "-m", "safelight", "worker", "--json", "--port", "0"]
        command += ["--config", str(gateway.config), "--data", str(gateway.data)]
        with gateway.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env=gateway.environment(),
            )
        assert self.process.stdout is not None
        text = b""
        while not text.rstrip().endswith(b"}"):
            line = self.process.stdout.readline()
            assert line, "the worker did not start"
            text += line
        self.url: str = json.loads(text)["url"]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def test_a_worker_runs_what_servers_leave_to_it(tmp_path: Path, database_url_seldom: str) -> None:
    with FaultUpstream.in_thread(quick) as upstream:
        config = "[queue]\npoll_s = 0.1\nrun = false\n" + accounts(upstream.base_url, 2)
        environ = environ_of(database_url_seldom)
        gateway = GatewayProcess(tmp_path / "one", config, environ=environ)
        key = gateway.key()
        with gateway:
            job_ids = [order(gateway, key, f"order {number}") for number in range(5)]
            _, job = ask(f"{gateway.base_url}/jobs/{job_ids[0]}?wait=1", key)
            assert job["status"] == "queued"
            worker = Worker(gateway)
            try:
                assert ask(f"{worker.url}/readyz", key) == (200, {"status": "ready"})
                with pytest.raises(urllib.error.HTTPError) as refused:
                    ask(f"{worker.url}/v1/models", key)
                refused.value.close()
                assert refused.value.code == 404
                assert finished(gateway, key, job_ids) == ["completed"] * 5
            finally:
                code = worker.stop()
            assert code == 0
            assert_paid_once(gateway, key, job_ids)
            assert gateway.stop() == 0
        assert witness(gateway.data, environ).faults == []


READY_S, FIRST_S, GROWTH_MB = 5.0, 2.0, 200.0


async def order_many(gateway: GatewayProcess, key: str, count: int) -> list[str]:
    """Order many pictures for later, some at a time."""
    waiting, job_ids = list(range(count)), []
    headers = {"authorization": f"Bearer {key}", "prefer": "respond-async"}

    async def client(session: aiohttp.ClientSession) -> None:
        while waiting:
            body = {"model": VIP, "prompt": f"order {waiting.pop()}", "size": "1024x1024"}
            url = f"{gateway.base_url}/images/generations"
            async with session.post(url, json=body, headers=headers) as answer:
                assert answer.status == 202
                job_ids.append((await answer.json())["id"])

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(32)))
    return job_ids


def peak_mb(gateway: GatewayProcess) -> float:
    """Return the most memory that the process has had."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def check_backlog(tmp_path: Path, database_url: str, count: int) -> dict[str, float]:
    """Start on a long queue: ready soon, at work soon, and everything is made once."""
    first = threading.Event()
    began: list[float] = []

    def note(_seen: Seen) -> dict[str, object]:
        if not began:
            began.append(time.monotonic())
            first.set()
        return {"kind": "ok", "latency_s": 0.05}

    with FaultUpstream.in_thread(note) as upstream:
        rest = accounts(upstream.base_url, 4)
        environ = environ_of(database_url)
        gateway = GatewayProcess(tmp_path / "one", f"[queue]\nrun = false\n{rest}", environ=environ)
        key = gateway.key(credit="1000.00")
        with gateway:
            before_mb = peak_mb(gateway)
            job_ids = asyncio.run(order_many(gateway, key, count))
            gateway.kill()
            gateway.config.write_text(f"[queue]\npoll_s = 0.2\n{rest}")
            asked = time.monotonic()
            gateway.start()
            ready = time.monotonic()
            assert first.wait(30)
            assert finished(gateway, key, job_ids, 900) == ["completed"] * count
            took = time.monotonic() - ready
            growth_mb = peak_mb(gateway) - before_mb
            assert_paid_once(gateway, key, job_ids)
            assert len(upstream.sales) == count
            assert gateway.stop() == 0
    return {
        "ready_s": ready - asked,
        "first_s": began[0] - ready,
        "growth_mb": growth_mb,
        "a_second": count / took,
    }


@pytest.mark.campaign
def test_a_restart_with_ten_thousand_queued_is_ready_and_at_work_in_seconds(
    tmp_path: Path, database_url: str
) -> None:
    figures = check_backlog(tmp_path, database_url, 10_000)
    print(figures)
    assert figures["ready_s"] <= READY_S
    assert figures["first_s"] <= FIRST_S
    assert figures["growth_mb"] <= GROWTH_MB


TAKEN_OVER_S, LEASE_S = 50.0, 35.0


def leased_to(gateway: GatewayProcess, pid: int) -> int:
    """Return how many open jobs are leased to a process."""
    (row,) = rows(
        gateway,
        "SELECT COUNT(*) AS jobs FROM job WHERE state IN ('queued', 'in_progress') "
        "AND lease_owner LIKE :owner",
        owner=f"{pid}-%",
    )
    return int(row["jobs"])


@pytest.mark.campaign
def test_a_killed_replicas_queued_jobs_are_taken_over(tmp_path: Path, postgres_url: str) -> None:
    """Three replicas, each on a folder of its own, with 50 queued jobs running among them."""
    running, killed = threading.Event(), threading.Event()

    def held(seen: Seen) -> dict[str, object]:
        if seen.number == 50:
            running.set()
        return {"kind": "ok", "latency_s": 0.1 if killed.is_set() else 20.0}

    with FaultUpstream.in_thread(held) as upstream:
        config = QUICK + accounts(upstream.base_url, 4, max_in_flight=50)
        environ = environ_of(postgres_url)
        first = GatewayProcess(tmp_path / "a", config, environ=environ)
        key = first.key()
        with (
            first,
            replica_of(first, tmp_path / "b") as second,
            replica_of(first, tmp_path / "c") as third,
        ):
            posts = (first, second, third)
            job_ids = [order(posts[n % 3], key, f"order {n}") for n in range(50)]
            assert running.wait(60)
            assert third.process is not None
            victim = third.process.pid
            assert leased_to(first, victim) > 5, "it runs its share"
            killed.set()
            at = time.monotonic()
            third.kill()
            while leased_to(first, victim):
                assert time.monotonic() - at <= TAKEN_OVER_S
            print(f"taken over after {time.monotonic() - at:.1f} s")
            assert finished(first, key, job_ids) == ["completed"] * 50
            assert_paid_once(first, key, job_ids)
            assert [first.stop(), second.stop()] == [0, 0]
        assert witness(first.data, environ).faults == []


@pytest.mark.campaign
def test_a_replica_frozen_for_two_leases_charges_nothing_twice(
    tmp_path: Path, postgres_url: str
) -> None:
    """Two replicas run 50 queued jobs; one stands still until the other has made all of them."""
    running, frozen = threading.Event(), threading.Event()

    def held(seen: Seen) -> dict[str, object]:
        if seen.number == 50:
            running.set()
        return {"kind": "ok", "latency_s": 0.1 if frozen.is_set() else 5.0}

    with FaultUpstream.in_thread(held) as upstream:
        config = QUICK + accounts(upstream.base_url, 4, max_in_flight=50)
        environ = environ_of(postgres_url)
        first = GatewayProcess(tmp_path / "a", config, environ=environ)
        key = first.key()
        with first, replica_of(first, tmp_path / "b") as second:
            posts = (first, second)
            job_ids = [order(posts[n % 2], key, f"order {n}") for n in range(50)]
            assert running.wait(60)
            assert second.process is not None
            theirs = leased_to(first, second.process.pid)
            second.freeze()
            try:
                frozen.set()
                at = time.monotonic()
                # The job that begins after two leases tells the time.
                body = {"model": VIP, "prompt": "two leases later", "size": "1024x1024"}
                _, later = ask(
                    f"{first.base_url}/images/generations", key, {**body, "delay_s": 2 * LEASE_S}
                )
                assert finished(first, key, job_ids) == ["completed"] * 50
                assert finished(first, key, [later["id"]]) == ["completed"]
                stood_s = time.monotonic() - at
            finally:
                second.thaw()
            assert stood_s >= 2 * LEASE_S
            job_ids.append(later["id"])
            job_ids.append(order(second, key, "it works on"))
            assert finished(second, key, job_ids) == ["completed"] * 52
            assert_paid_once(second, key, job_ids)
            assert [first.stop(), second.stop()] == [0, 0]
        assert "Traceback" not in second.log.read_text()
        books = witness(first.data, environ)
        print(
            f"frozen for {stood_s:.0f} s with {theirs} jobs; {len(upstream.sales)} sold, "
            f"{books.waste} waste, {books.unknown} unknown"
        )
        assert theirs > 5, "it ran its share"
        assert books.faults == []
        assert len(upstream.sales) <= len(job_ids) + books.waste + books.unknown


def patiently(gateway: GatewayProcess, key: str, job_ids: list[str]) -> list[str]:
    """Wait for the ends of jobs at a gateway whose database may be away for a moment."""
    until = time.monotonic() + FINISHED_S
    while True:
        try:
            return finished(gateway, key, job_ids)
        except urllib.error.HTTPError as refused:
            refused.close()
            if refused.code != 503 or time.monotonic() > until:
                raise


@pytest.mark.campaign
def test_queued_jobs_outlive_restarts_of_their_database(tmp_path: Path) -> None:
    """Rows and reminders are in one Postgres; it is stopped and crashed while they run."""
    restarts: tuple[Mode, ...] = ("fast", "immediate", "fast", "immediate")
    each, count = 60, 300
    reached = [threading.Event() for _ in restarts]

    def made(seen: Seen) -> dict[str, object]:
        turn, rest = divmod(seen.number, each)
        if not rest and 0 < turn <= len(reached):
            reached[turn - 1].set()
        return {"kind": "ok", "latency_s": 0.3}

    with PostgresServer() as server, FaultUpstream.in_thread(made) as upstream:
        environ = environ_of(server.create_database())
        gateway = GatewayProcess(
            tmp_path / "one", QUICK + accounts(upstream.base_url, 2), environ=environ
        )
        key = gateway.key()
        with gateway:
            job_ids = asyncio.run(order_many(gateway, key, count))
            for event, mode in zip(reached, restarts, strict=True):
                assert event.wait(120)
                server.restart(mode)
            began = time.monotonic()
            assert patiently(gateway, key, job_ids) == ["completed"] * count
            print(f"all ended {time.monotonic() - began:.0f} s after the last restart")
            assert_paid_once(gateway, key, job_ids)
            assert gateway.stop() == 0
        books = witness(gateway.data, environ)
        print(f"{len(upstream.sales)} sold, {books.waste} waste, {books.unknown} unknown")
        assert books.faults == []
