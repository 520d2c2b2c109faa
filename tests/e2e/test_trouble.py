"""A server whose disk fills up, whose database is locked, protected or damaged while it runs.

New orders are refused in about a second, typed and free; what was under way ends when it can; when
the trouble is over the same process works again. The media fail for real (see `media`).
"""

from __future__ import annotations

import http.client
import json
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.books import check_sums, get, statement, witness
from e2e.process import GatewayProcess, accounts
from media import damage, filled, protected, small_disk
from safelight.bench.faults.server import FaultUpstream, Seen

PRICE = 30_000
IN_TIME_S = 2.5
"""An order waits a second for the database; the rest is for a machine that does other things."""


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    took_s: float

    @property
    def code(self) -> str:
        code: str = self.json()["error"]["code"]
        return code

    def json(self) -> Any:
        return json.loads(self.body)


class Customer:
    """Asks one gateway; every call is one request and no retry."""

    def __init__(self, gateway: GatewayProcess, key: str) -> None:
        self.gateway = gateway
        self.key = key

    def ask(self, method: str, path: str, body: Any = None) -> Reply:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
            found = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()
        return Reply(answer.status, found, data, time.monotonic() - began)

    def order(self, prompt: str, **more: Any) -> Reply:
        body = {"model": "gpt-image-2-vip", "prompt": prompt, "size": "1280x720", **more}
        return self.ask("POST", "/v1/images/generations", body)

    def edit(self, prompt: str, picture: str) -> Reply:
        body = {
            "model": "gpt-image-2-vip",
            "prompt": prompt,
            "size": "1280x720",
            "images": [{"image_url": f"data:image/png;base64,{picture}"}],
        }
        return self.ask("POST", "/v1/images/edits", body)

    def refused(self, reply: Reply, code: str, *, should_retry: bool) -> None:
        """Check that an order was refused as it must be: typed, in time."""
        assert (reply.status, reply.code) == (503, code), reply.body
        assert reply.headers["x-should-retry"] == str(should_retry).lower()
        assert ("retry-after" in reply.headers) == should_retry
        assert reply.took_s < IN_TIME_S

    def reads(self, link: str, posted: int) -> None:
        """Check that questions are answered as ever."""
        assert self.ask("GET", link).status == 200
        assert self.ask("GET", "/v1/billing/statement").status == 200
        balance = self.ask("GET", "/v1/billing/balance")
        assert (balance.status, balance.json()["posted_micros"]) == (200, posted)

    def ask_until_a_write_was_refused(self) -> None:
        """Let the trouble last until what is under way has met it."""
        until = time.monotonic() + 30
        while "write refused" not in self.gateway.log.read_text():
            assert time.monotonic() < until
            assert self.ask("GET", "/healthz").status == 200


class Slow:
    """An upstream whose next picture, when asked for, takes a moment and says that it began."""

    def __init__(self) -> None:
        self.armed = threading.Event()
        self.begun = threading.Event()

    def __call__(self, _: Seen) -> dict[str, object]:
        if not self.armed.is_set():
            return {"kind": "ok", "latency_s": 0.0}
        self.begun.set()
        return {"kind": "ok", "latency_s": 0.5}

    def order(self, pool: ThreadPoolExecutor, customer: Customer) -> Future[Reply]:
        """Order a picture; return when the upstream is at work on it."""
        self.armed.set()
        reply = pool.submit(customer.order, "under way")
        assert self.begun.wait(30)
        self.armed.clear()
        return reply


def on_disk(folder: Path, disk: Path, config: str) -> GatewayProcess:
    """Return a gateway with only its data on a disk, which has no watermark."""
    gateway = GatewayProcess(folder, "[storage]\nmin_free_bytes = 0\n" + config)
    gateway.data = disk / "data"
    return gateway


def bought(customer: Customer) -> tuple[str, str]:
    """Buy a picture; return its base64 and the path of its link."""
    reply = customer.order("before")
    assert reply.status == 200, reply.body
    linked = customer.order("linked", response_format="url")
    path = linked.json()["data"][0]["url"].removeprefix(customer.gateway.url)
    return reply.json()["data"][0]["b64_json"], path


def check_books(gateway: GatewayProcess, key: str, pictures: int) -> None:
    balance = check_sums(gateway.url, key)
    assert balance["posted_micros"] == 100_000_000 - pictures * PRICE
    assert balance["held_micros"] == 0
    assert gateway.stop() == 0
    assert witness(gateway.data).faults == []


def test_a_full_disk_refuses_orders_and_edits_and_heals(tmp_path: Path) -> None:
    slow = Slow()
    with (
        small_disk(tmp_path / "disk", 24) as disk,
        FaultUpstream.in_thread(slow) as upstream,
        ThreadPoolExecutor(1) as pool,
        on_disk(tmp_path, disk, accounts(upstream.base_url)) as gateway,
    ):
        key = gateway.key()
        customer = Customer(gateway, key)
        picture, link = bought(customer)
        under_way = slow.order(pool, customer)
        with filled(disk):
            replies = [customer.order(f"full {number}") for number in range(4)]
            for reply in replies[1:]:  # the first may find the rest of a page
                customer.refused(reply, "storage_full", should_retry=False)
            edited = customer.edit("night", picture)
            customer.refused(edited, "storage_full", should_retry=False)
            customer.reads(link, 100_000_000 - 2 * PRICE)
            customer.ask_until_a_write_was_refused()
        ended = under_way.result(60)
        assert (ended.status, ended.code) == (503, "storage_full")
        assert customer.order("after").status == 200
        assert customer.edit("after", picture).status == 200
        check_books(gateway, key, pictures=4 + (replies[0].status == 200))


def test_a_locked_database_refuses_orders_and_ends_what_runs(tmp_path: Path) -> None:
    slow = Slow()
    with (
        FaultUpstream.in_thread(slow) as upstream,
        ThreadPoolExecutor(9) as pool,
        GatewayProcess(tmp_path, accounts(upstream.base_url)) as gateway,
    ):
        key = gateway.key()
        customer = Customer(gateway, key)
        _, link = bought(customer)
        under_way = slow.order(pool, customer)
        other = sqlite3.connect(gateway.data / "safelight.db", isolation_level=None, timeout=10)
        other.execute("BEGIN IMMEDIATE")
        replies = list(pool.map(customer.order, [f"locked {number}" for number in range(8)]))
        for reply in replies:
            customer.refused(reply, "database_busy", should_retry=True)
        customer.reads(link, 100_000_000 - 2 * PRICE)
        customer.ask_until_a_write_was_refused()
        assert not under_way.done()
        other.execute("ROLLBACK")
        other.close()
        assert under_way.result(60).status == 200
        assert customer.order("after").status == 200
        check_books(gateway, key, pictures=4)


def test_a_protected_database_refuses_orders_and_ends_what_runs(tmp_path: Path) -> None:
    slow = Slow()
    with (
        FaultUpstream.in_thread(slow) as upstream,
        ThreadPoolExecutor(1) as pool,
        GatewayProcess(tmp_path, accounts(upstream.base_url)) as gateway,
    ):
        key = gateway.key()
        customer = Customer(gateway, key)
        _, link = bought(customer)
        under_way = slow.order(pool, customer)
        with protected(gateway.data / "safelight.db", gateway.data / "safelight.db-wal"):
            for number in range(3):
                reply = customer.order(f"protected {number}")
                customer.refused(reply, "database_read_only", should_retry=False)
            customer.reads(link, 100_000_000 - 2 * PRICE)
            customer.ask_until_a_write_was_refused()
        assert under_way.result(60).status == 200
        assert customer.order("after").status == 200
        check_books(gateway, key, pictures=4)


def test_a_damaged_database_stops_orders_names_the_backup_and_is_restored(
    tmp_path: Path,
) -> None:
    slow = Slow()
    safelight = [sys.executable, "-m", "safelight"]
    with (
        FaultUpstream.in_thread(slow) as upstream,
        GatewayProcess(tmp_path, accounts(upstream.base_url)) as gateway,
    ):
        key = gateway.key()
        customer = Customer(gateway, key)
        _, link = bought(customer)
        lines = statement(gateway.url, key)
        backup = tmp_path / "backup"
        data = ["--data", str(gateway.data)]
        subprocess.run([*safelight, "backup", str(backup), *data], check=True, timeout=60)
        assert customer.ask("GET", "/readyz").status == 200
        damage(gateway.data / "safelight.db")
        for number in range(3):
            reply = customer.order(f"damaged {number}")
            customer.refused(reply, "database_damaged", should_retry=False)
        assert customer.ask("GET", "/readyz").status == 503
        assert customer.ask("GET", "/healthz").status == 200
        assert customer.ask("GET", "/v1/billing/statement").status == 503
        assert customer.ask("GET", link).status == 503
        assert len(upstream.sales) == 2
        log = gateway.log.read_text()
        assert "safelight.db" in log
        assert str(backup) in log
        assert gateway.stop() == 0
        done = subprocess.run(
            [*safelight, "serve", "--port", "0", *data],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert "safelight.db is damaged" in done.stderr
        assert str(backup) in done.stderr
        gateway.data = tmp_path / "restored"
        subprocess.run(
            [*safelight, "restore", str(backup), "--data", str(gateway.data)],
            check=True,
            timeout=60,
        )
        gateway.start()
        assert statement(gateway.url, key) == lines
        assert customer.ask("GET", link).status == 200
        assert get(f"{gateway.url}/v1/billing/balance", key)["held_micros"] == 0
        assert customer.order("after").status == 200
        check_books(gateway, key, pictures=3)
