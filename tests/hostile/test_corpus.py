"""A thousand hostile requests to a real server: refused in time, and nothing is left of them."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.pictures import png
from e2e.books import witness
from e2e.process import GatewayProcess, accounts
from hostile.corpus import CASES, KEY, PNG, Case, corpus, request
from hostile.crowding import NICE
from hostile.slow import TRIES, Door, Waits, beside, pause_until
from hostile.wire import LIMIT_S, ask, memory_kb, open_files, uploads
from safelight.bench.faults.server import FaultUpstream

EVERY_S = 0.05
"""How often an honest order comes to each server."""
GROWTH_KB = 150 * 1024
INSIDES = (b"Traceback", b"safelight/", b"sqlite3", b"psycopg", b"site-packages", b"/proc/")
"""What would tell a stranger how the gateway is made."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    with (
        FaultUpstream.in_thread() as upstream,
        GatewayProcess(folder, accounts(upstream.base_url)) as gateway,
    ):
        yield gateway


def problem_of(case: Case, gateway: GatewayProcess, key: bytes) -> str | None:
    """Return what is wrong with the answer to one case, or None."""
    data = case.data.replace(KEY, key).replace(PNG, png(16, 16))
    told = ask(gateway.port, _right_length(case, data), cut=case.cut)
    if not told.ended or told.seconds > LIMIT_S:
        return f"{told.seconds:.1f} s"
    if any(status >= 500 for status in told.statuses):
        return f"{told.statuses}: {told.body[:200]!r}"
    if len(told.statuses) > case.answers:
        return f"answers {told.statuses}"
    if not told.statuses and not case.cut:
        return "no answer"
    if any(words in told.data for words in INSIDES):
        return f"it tells of our insides: {told.body[:200]!r}"
    return _form_of(told.statuses, told.data)


def _right_length(case: Case, data: bytes) -> bytes:
    """Correct a length that counted the place of a picture or a key in the body."""
    head, found, body = data.partition(b"\r\n\r\n")
    before = case.data.partition(b"\r\n\r\n")[2]
    if case.cut or len(before) == len(body):
        return data
    old, new = b"Content-Length: %d" % len(before), b"Content-Length: %d" % len(body)
    return head.replace(old, new) + found + body


def _form_of(statuses: list[int], data: bytes) -> str | None:
    """Return what is wrong with the form of a refusal."""
    head, _, body = data.partition(b"\r\n\r\n")
    if not statuses or statuses[0] < 400 or not body or len(statuses) > 1:
        return None
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"an error of another form: {body[:200]!r}"
    if not error["message"] or b"x-request-id" not in head:
        return f"an error that says nothing: {body[:200]!r}"
    return None


def test_a_thousand_cases_have_a_name_each() -> None:
    cases = corpus()
    assert len({case.name for case in cases}) == len(cases) == CASES
    assert corpus() == cases


def test_no_hostile_request_is_answered_by_a_fault_or_late(gateway: GatewayProcess) -> None:
    """No 5xx, no answer over two seconds, no hang, no request smuggled in; and nothing is left."""
    key = gateway.key("attacker", "5.00").encode()
    _warm(gateway, key)
    memory, files = memory_kb(gateway), open_files(gateway)
    problems = {
        case.name: problem
        for case in corpus()
        if (problem := problem_of(case, gateway, key)) is not None
    }
    assert not problems, "\n".join(f"{name}: {problem}" for name, problem in problems.items())
    assert memory_kb(gateway) - memory < GROWTH_KB
    assert open_files(gateway) - files < 50
    assert uploads(gateway) == []
    log = gateway.log.read_text()
    assert "failed inside the gateway" not in log
    assert '"uvicorn' not in log, "strangers write no lines"
    assert ask(gateway.port, request().replace(KEY, key)).statuses == [200]
    assert witness(gateway.data).faults == []


@dataclass(frozen=True)
class Attacked:
    """When the cases were sent, by the monotonic clock."""

    began_s: float
    ended_s: float


def attack(port: int, key: bytes, per_s: float) -> Attacked:
    """Send all cases, so many in a second; in a process of its own, for the sake of the clock."""
    os.nice(NICE)
    began_s = time.monotonic()
    for number, case in enumerate(corpus()):
        data = case.data.replace(KEY, key).replace(PNG, png(16, 16))
        pause_until(began_s + number / per_s)
        ask(port, _right_length(case, data), cut=case.cut)
    return Attacked(began_s, time.monotonic())


@pytest.mark.campaign
def test_honest_orders_beside_the_attack_wait_at_most_twice_as_long(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    """A hundred hostile requests a second from one client; honest ones order pictures."""
    attacker = gateway.key("attacker", "5.00").encode()
    with (
        GatewayProcess(tmp_path, gateway.config.read_text()) as alone,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
    ):
        doors = [_orders_of(gateway), _orders_of(alone)]
        for _ in range(TRIES):
            _, waits = asyncio.run(_beside(pool, attacker, *doors))
            print(f"{CASES} hostile requests: {waits}")
            if waits.bearable:
                break
    assert waits.bearable, str(waits)


async def _beside(
    pool: ProcessPoolExecutor, attacker: bytes, crowded: Door, alone: Door
) -> tuple[Attacked, Waits]:
    loop = asyncio.get_running_loop()

    async def play() -> Attacked:
        return await loop.run_in_executor(pool, attack, crowded.port, attacker, 100.0)

    return await beside(play(), crowded, alone, every_s=EVERY_S)


def _orders_of(gateway: GatewayProcess) -> Door:
    key = gateway.key("honest", "1000.00").encode()
    body = b'{"model": "gpt-image-2-vip", "prompt": "x", "size": "1024x1024"}'
    _warm(gateway, key)
    order = request("POST", "/v1/images/generations", body).replace(KEY, key)
    return Door(gateway.port, order)


def _warm(gateway: GatewayProcess, key: bytes) -> None:
    """Load what is loaded with the first order, so that growth is the attack's."""
    body = b'{"model": "gpt-image-2-vip", "prompt": "x", "size": "1024x1024"}'
    ordered = request("POST", "/v1/images/generations", body).replace(KEY, key)
    assert ask(gateway.port, ordered, limit_s=30).statuses == [200]


def test_the_cases_would_be_seen_if_they_were_faults(tmp_path: Path) -> None:
    """The judge is judged: each kind of bad answer is called by its name."""
    del tmp_path
    assert _form_of([400], b"HTTP/1.1 400 \r\nx-request-id: r\r\n\r\n<html>") is not None
    assert _form_of([400], b'HTTP/1.1 400 \r\n\r\n{"error": {"message": "x"}}') is not None
    good = b'HTTP/1.1 400 \r\nx-request-id: r\r\n\r\n{"error": {"message": "x"}}'
    assert _form_of([400], good) is None
