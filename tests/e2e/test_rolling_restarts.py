"""Replicas behind a real balancer are restarted one after the other while customers order."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from e2e.balancers import Balancer, installed
from e2e.books import check_sums, statement, witness
from e2e.process import GatewayProcess, accounts
from e2e.rolling import Call, Customers
from e2e.test_replicas import replica_of
from s3 import KEYS, S3Server
from safelight.bench.faults.server import FaultUpstream, Seen

PRICE = 30_000
CREDIT = 1_000
NOTICE_S = 3.0


@dataclass
class Restarts:
    """How long each part of the restarts took, seconds, and the most database connections."""

    to_end_s: list[float] = field(default_factory=list)
    to_ready_s: list[float] = field(default_factory=list)
    connections: int = 0


def answer_status(url: str) -> tuple[int, str]:
    """Return the status of a GET and its header Connection."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers.get("connection", "")
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("connection", "")


def until_it_cannot_be_reached(url: str) -> None:
    """Ask until nobody listens any more.

    A connection that stood in the kernel's queue as the listener closed is reset, not refused: it
    came after the notice, and no process has seen it.
    """
    while True:
        try:
            answer_status(url)
        except ConnectionResetError:
            continue
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                return
            if not isinstance(error.reason, ConnectionResetError):
                raise


def test_a_leaving_process_tells_its_balancer_before_it_refuses_anything(tmp_path: Path) -> None:
    """Not ready at once; orders are taken until nobody can connect any more; then it ends."""
    config = "[server]\ndrain_notice_s = 1\n"
    with GatewayProcess(tmp_path, config) as gateway:
        assert answer_status(f"{gateway.url}/readyz")[0] == 200
        process = gateway.process
        assert process is not None
        process.terminate()
        while answer_status(f"{gateway.url}/readyz")[0] == 200:
            assert process.poll() is None
        body = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}
        order = urllib.request.Request(
            f"{gateway.base_url}/images/generations",
            json.dumps(body).encode(),
            {"authorization": f"Bearer {gateway.first_key}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(order, timeout=30) as answer:
            assert answer.status == 200
            assert answer.headers["connection"] == "close"
            assert json.load(answer)["data"][0]["b64_json"]
        until_it_cannot_be_reached(f"{gateway.url}/healthz")
        assert gateway.died() == 0


@pytest.mark.campaign
@pytest.mark.parametrize(("program", "restarts"), [("haproxy", 50), ("nginx", 20)])
def test_rolling_restarts_lose_no_accepted_order(
    program: str, restarts: int, tmp_path: Path, postgres_url: str, s3_server: S3Server
) -> None:
    """Five SDK calls a second and three without retries: each is delivered and charged once."""
    if not installed(program):
        pytest.skip(f"{program} is not installed")

    def seconds(seen: Seen) -> dict[str, object]:
        return {"kind": "ok", "latency_s": 0.5 + seen.number % 7 * 0.5}

    with FaultUpstream.in_thread(seconds) as upstream:
        config = f"[server]\ndrain_notice_s = {NOTICE_S}\n" + accounts(upstream.base_url, 4)
        environ = {
            **KEYS,
            "SAFELIGHT_DATABASE_URL": postgres_url,
            "SAFELIGHT_STORAGE_URL": s3_server.url_of(s3_server.bucket()),
        }
        first = GatewayProcess(tmp_path / "one", config, environ=environ)
        key = first.key(credit=f"{CREDIT}.00")
        second = replica_of(first, tmp_path / "two")
        with first, second, Balancer(program, tmp_path / "front", [first.port, second.port]) as at:
            calls, done = asyncio.run(order_and_restart(at, key, [first, second], restarts))
            balance = check_sums(first.url, key)
            lines = [line for line in statement(first.url, key) if line["kind"] == "settle"]
            assert (first.stop(), second.stop()) == (0, 0)
        report(program, calls, done)
        refused = [call for call in calls if call.error]
        assert [call for call in refused if call.accepted or call.kind == "sdk"] == []
        # Aim: none. A machine that does ten other things at once may let a lock wait too long.
        assert len(refused) <= len(calls) / 1000
        delivered = [call for call in calls if not call.error]
        pictures = {call.job_id: call.sha256 for call in delivered}
        assert len(pictures) == len(delivered), "two calls share a picture"
        assert {line["job_id"]: line["image_sha256"] for line in lines} == pictures
        assert balance["posted_micros"] == CREDIT * 1_000_000 - len(delivered) * PRICE
        assert balance["held_micros"] == 0
        assert len(upstream.sales) == len(delivered)
        books = witness(first.data, environ)
        assert (books.faults, books.waste, books.unknown) == ([], 0, 0)
        for replica in (first, second):
            assert "Traceback" not in replica.log.read_text()


async def order_and_restart(
    balancer: Balancer, key: str, replicas: list[GatewayProcess], restarts: int
) -> tuple[list[Call], Restarts]:
    """Restart one replica after the other while customers order; return what they saw."""
    customers = Customers(balancer.base_url, key)
    ordering = asyncio.create_task(customers.run(sdk=5, plain=2, later=1))
    try:
        done = await asyncio.to_thread(restart_all, balancer, replicas, restarts)
    finally:
        customers.stop()
        calls = await ordering
    return calls, done


def restart_all(balancer: Balancer, replicas: list[GatewayProcess], restarts: int) -> Restarts:
    done = Restarts()
    database = replicas[0].environ["SAFELIGHT_DATABASE_URL"]
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    for number in range(restarts):
        replica = replicas[number % len(replicas)]
        begun = time.monotonic()
        assert replica.stop() == 0
        done.to_end_s.append(time.monotonic() - begun)
        begun = time.monotonic()
        replica.start()
        balancer.await_up()
        done.to_ready_s.append(time.monotonic() - begun)
        with psycopg.connect(database) as connection:
            row = connection.execute(count).fetchone()
        assert row is not None
        done.connections = max(done.connections, row[0] - 1)
    return done


def report(program: str, calls: list[Call], done: Restarts) -> None:
    """Say what docs/scaling.md quotes; shown by -s."""
    kinds = Counter(call.kind for call in calls)
    errors = [call for call in calls if call.error]
    sys.stdout.write(
        f"\n{program}: {len(done.to_end_s)} restarts; calls {dict(kinds)}; "
        f"repeated by the SDK {sum(call.retries for call in calls)}; "
        f"errors {dict(Counter((call.kind, call.error) for call in errors))}; "
        f"to the end {min(done.to_end_s):.1f} to {max(done.to_end_s):.1f} s, "
        f"to ready {min(done.to_ready_s):.1f} to {max(done.to_ready_s):.1f} s; "
        f"at most {done.connections} database connections\n"
    )
