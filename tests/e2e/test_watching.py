"""A job is ordered at one process and watched at another, on one data folder and on Postgres."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from websockets import ConnectionClosedError, Subprotocol
from websockets.sync.client import connect

from e2e.books import check_sums, get, witness
from e2e.process import GatewayProcess, accounts
from e2e.test_processes import beside
from e2e.test_replicas import replica_of
from safelight.bench.faults.server import FaultUpstream, Seen

STAGES = ["sent", "received", "verified", "stored"]


@contextmanager
def two_processes(
    folder: Path, database_url: str, upstream: FaultUpstream
) -> Iterator[tuple[GatewayProcess, GatewayProcess, str]]:
    """Two processes on one database, and a customer's key."""
    environ = {"SAFELIGHT_DATABASE_URL": database_url} if database_url else {}
    first = GatewayProcess(folder / "one", accounts(upstream.base_url, 2), environ=environ)
    with first:
        key = first.first_key
        assert key is not None
        second = (replica_of if database_url else beside)(first, folder / "two")
        with second:
            yield first, second, key
            assert (first.stop(), second.stop()) == (0, 0)
    assert witness(first.data, first.environ).faults == []


def watch(gateway: GatewayProcess, key: str, job_id: str) -> list[dict[str, Any]]:
    """Watch a job over a WebSocket to its end."""
    url = f"{gateway.url.replace('http', 'ws')}/v1/jobs/{job_id}"
    headers = {"authorization": f"Bearer {key}"}
    with connect(url, additional_headers=headers) as socket:
        events = [json.loads(message) for message in socket]
        assert socket.close_code == 1000
    return events


def steps(events: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(one["type"], one.get("stage") or one.get("reason")) for one in events if "id" in one]


def test_a_websocket_at_one_process_sees_every_state_of_a_job_that_another_runs(
    tmp_path: Path, database_url: str
) -> None:
    under_way = threading.Event()

    def play(seen: Seen) -> dict[str, object]:
        first = not under_way.is_set()
        under_way.set()
        return {"kind": "500" if first else "ok", "latency_s": 0.6}

    with (
        FaultUpstream.in_thread(play) as upstream,
        two_processes(tmp_path, database_url, upstream) as (first, second, key),
        ThreadPoolExecutor(3) as pool,
        openai.OpenAI(base_url=first.base_url, api_key=key, timeout=60) as client,
    ):
        # Whoever is asked runs it: the caller waits there.
        order = pool.submit(client.images.generate, model="gpt-image-2-vip", prompt="a lamp")
        assert under_way.wait(30)
        (job,) = get(f"{second.url}/v1/jobs", key)["data"]
        live = pool.submit(watch, second, key, job["id"])
        assert order.result(60).data
        seen = live.result(60)
        assert steps(seen) == [
            ("job.queued", None),
            ("job.in_progress", "sent"),
            ("job.attempt_failed", "upstream_error"),
            *[("job.in_progress", stage) for stage in STAGES],
            ("job.completed", None),
        ]
        assert seen[-1]["job"]["image"]["sha256"] in {sale.sha256 for sale in upstream.sales}
        # Whoever comes late, wherever, is told the same.
        assert steps(watch(first, key, job["id"])) == steps(seen)

        # Nobody waits for this one, and any process may run it.
        posted: Any = client.post(
            "/images/generations",
            body={"model": "gpt-image-2-vip", "prompt": "a cat", "async": True},
            cast_to=object,
        )
        ways = [pool.submit(watch, gateway, key, posted["id"]) for gateway in (first, second)]
        waited = get(f"{second.url}/v1/jobs/{posted['id']}?wait=30", key)
        assert waited["status"] == "completed"
        for way in ways:
            assert steps(way.result(60)) == [
                ("job.queued", None),
                *[("job.in_progress", stage) for stage in STAGES],
                ("job.completed", None),
            ]

        # Cancelled at one, watched at the other, run by nobody.
        posted = client.post(
            "/images/generations",
            body={"model": "gpt-image-2-vip", "prompt": "a dog", "async": True, "delay_s": 3600},
            cast_to=object,
        )
        live = pool.submit(watch, first, key, posted["id"])
        with openai.OpenAI(base_url=second.base_url, api_key=key) as other:
            gone: Any = other.post(f"/jobs/{posted['id']}/cancel", cast_to=object)
            assert gone["status"] == "cancelled"
            with pytest.raises(openai.ConflictError):
                other.post(f"/jobs/{job['id']}/cancel", cast_to=object)
        assert [kind for kind, _ in steps(live.result(60))] == [
            "job.queued",
            "job.cancelling",
            "job.cancelled",
        ]
        assert check_sums(first.url, key)["held_micros"] == 0


@pytest.mark.campaign  # tests/api plays both without processes
def test_watchers_are_told_that_their_process_leaves_and_plain_answers_outlive_a_short_timeout(
    tmp_path: Path,
) -> None:
    held = threading.Event()

    def play(seen: Seen) -> dict[str, object]:
        return {"kind": "ok", "latency_s": 20.0 if held.is_set() else 1.5}

    with (
        FaultUpstream.in_thread(play) as upstream,
        GatewayProcess(
            tmp_path, "[server]\ndrain_s = 0.5\n" + accounts(upstream.base_url, 2)
        ) as gateway,
        ThreadPoolExecutor(1) as pool,
    ):
        key = gateway.first_key
        assert key is not None
        gateway.command("keys", "set", key[8:16], "--keep-alive")
        with openai.OpenAI(
            base_url=gateway.base_url, api_key=key, timeout=0.9, max_retries=0
        ) as client:
            # White space is a sign of life: the timeout is of a silence, not of the whole.
            assert client.images.generate(model="gpt-image-2-vip", prompt="a lamp").data
        held.set()
        with openai.OpenAI(base_url=gateway.base_url, api_key=key) as client:
            job: Any = client.post(
                "/images/generations",
                body={"model": "gpt-image-2-vip", "prompt": "a cat", "async": True},
                cast_to=object,
            )
        url = f"{gateway.url.replace('http', 'ws')}/v1/jobs/{job['id']}"
        names = [Subprotocol("safelight.events.v1"), Subprotocol(f"safelight-key.{key}")]
        with connect(url, subprotocols=names) as socket:
            while json.loads(socket.recv(30)).get("stage") != "sent":
                pass
            leaving = pool.submit(gateway.stop)
            with pytest.raises(ConnectionClosedError):
                socket.recv(30)
            assert socket.close_code == 1012
        assert leaving.result(60) == 0
        log = gateway.log.read_text()
    assert key not in log
    assert "Traceback" not in log
