"""The blocking client: the same answers, from any thread, and a clean end however it comes."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client_api.scripted import Pauses
from e2e.process import GatewayProcess
from safelight.client import AsyncClient, Client, Order, Refused, TimedOut, Unreachable

PROGRAM = """
import signal, sys
from safelight import Client
client = Client(sys.argv[1], sys.argv[2])
"""


def run(body: str, gateway: GatewayProcess, key: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + body, gateway.base_url, key],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_verb_has_a_blocking_twin_with_the_same_arguments() -> None:
    def verbs(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert verbs(Client) == verbs(AsyncClient)


def test_a_picture_is_ordered_saved_and_on_the_statement(blocking: Client, tmp_path: Path) -> None:
    picture = blocking.generate("a lamp", size="1024x1024")
    saved = blocking.save(picture, tmp_path / "lamp")
    assert saved.sha256 == picture.sha256
    edited = blocking.edit("in red", [saved.path], size="1024x1024")
    line = next(one for one in blocking.statement() if one.job_id == edited.job_id)
    assert line.amount_micros == -30_000
    assert blocking.save_statement(tmp_path / "s.csv").read_text().count(str(edited.job_id)) == 1
    assert blocking.figures.pictures == 2


def test_changes_are_told_in_the_callers_thread(blocking: Client) -> None:
    told: list[threading.Thread] = []
    job = blocking.submit(Order("a lamp", size="1024x1024"))
    ended = blocking.wait(
        job, timeout_s=30, on_change=lambda _: told.append(threading.current_thread())
    )
    assert ended.status == "completed"
    assert set(told) == {threading.current_thread()}


def test_errors_come_through_as_they_are(blocking: Client) -> None:
    with pytest.raises(Refused) as refused:
        blocking.generate("a lamp", size="17x17")
    assert refused.value.param == "size"
    job = blocking.submit(Order("a lamp", parameters={"delay_s": 3600}))
    with pytest.raises(TimedOut):
        blocking.wait(job, timeout_s=0.1)
    assert blocking.cancel(job).status == "cancelled"


def test_several_threads_share_one_client(blocking: Client) -> None:
    with ThreadPoolExecutor(4) as pool:
        orders = [Order(f"lamp {number}", size="1024x1024") for number in range(4)]
        pictures = list(pool.map(blocking.order, orders))
    assert len({picture.job_id for picture in pictures}) == 4


def test_it_closes_twice_and_opens_again(gateway: GatewayProcess, key: str) -> None:
    client = Client(gateway.base_url, key)
    before = threading.active_count()
    assert client.capabilities().safelight
    client.close()
    client.close()
    assert threading.active_count() == before
    assert client.balance().posted_micros > 0
    client.close()


def test_a_half_read_list_can_be_left(blocking: Client) -> None:
    lines = blocking.statement()
    assert next(lines).kind == "topup"
    lines.close()


def test_a_client_that_is_forgotten_ends_its_thread(gateway: GatewayProcess, key: str) -> None:
    before = threading.active_count()
    client = Client(gateway.base_url, key)
    client.capabilities()
    assert threading.active_count() == before + 1
    del client
    assert threading.active_count() == before


def test_a_program_that_closes_nothing_ends_silently(gateway: GatewayProcess, key: str) -> None:
    done = run("print(client.balance().posted_micros > 0)", gateway, key)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_an_interrupt_ends_a_wait_at_once_and_the_client_still_works(
    gateway: GatewayProcess, key: str
) -> None:
    """Ctrl-C raises KeyboardInterrupt in the caller, and the call is cancelled behind it."""
    body = """
from safelight.client import Order
job = client.submit(Order("a lamp", parameters={"delay_s": 3600}))
try:
    print("waiting", flush=True)
    client.wait(job, timeout_s=50)
except KeyboardInterrupt:
    print(client.cancel(job).status)
"""
    program = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM + body, gateway.base_url, key],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "waiting\n"
    os.kill(program.pid, signal.SIGINT)
    said, complained = program.communicate(timeout=30)
    assert (program.returncode, said, complained) == (0, "cancelled\n", "")


def test_nobody_there_is_told_in_the_callers_thread(pauses: Pauses) -> None:
    with (
        Client("http://127.0.0.1:9", "sk-test", patience=pauses.patience()) as client,
        pytest.raises(Unreachable),
    ):
        client.balance()
