"""An SDK less patient than a picture takes gets one picture for one charge, and no timeout."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from e2e.books import check_sums, get, statement, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream, Seen


class Wire:
    """Counts what the SDK sends and what it is answered, retries included."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent = 0
        self.answered: Counter[int] = Counter()

    def client(self, gateway: GatewayProcess, key: str, timeout_s: float) -> openai.OpenAI:
        hooks: dict[str, list[Any]] = {"request": [self._request], "response": [self._response]}
        return openai.OpenAI(
            base_url=gateway.base_url,
            api_key=key,
            timeout=timeout_s,
            max_retries=2,
            http_client=openai.DefaultHttpxClient(event_hooks=hooks),
        )

    @property
    def cut(self) -> int:
        """Calls that the SDK gave up before they were answered."""
        return self.sent - self.answered.total()

    def _request(self, _: object) -> None:
        with self._lock:
            self.sent += 1

    def _response(self, response: Any) -> None:
        with self._lock:
            self.answered[response.status_code] += 1


def run(
    folder: Path, *, runs: int, at_once: int, timeout_s: float = 2, latency_s: float = 5
) -> Wire:
    """Order as many equal pictures, each from one call of an SDK that waits `timeout_s`."""
    wire = Wire()
    with FaultUpstream.in_thread(latency_s=latency_s) as upstream:
        gateway = GatewayProcess(folder, accounts(upstream.base_url, 2))
        key = gateway.key()
        with gateway, wire.client(gateway, key, timeout_s) as client:

            def order(_: int) -> str:
                answer = client.images.generate(
                    model="gpt-image-2-vip", prompt="the same for all", size="1024x1024"
                )
                assert answer.data is not None
                return answer.data[0].b64_json or ""

            with ThreadPoolExecutor(at_once) as pool:
                pictures = list(pool.map(order, range(runs)))
            assert all(base64.b64decode(each).startswith(b"\x89PNG") for each in pictures)
            assert len(set(pictures)) == runs
            charges = [line for line in statement(gateway.url, key) if line["kind"] == "settle"]
            assert len(charges) == runs
            assert len({line["image_sha256"] for line in charges}) == runs
            assert check_sums(gateway.url, key)["held_micros"] == 0
        assert len(upstream.sales) == runs
        assert witness(gateway.data).faults == []
    assert set(wire.answered) == {200, 503}
    assert wire.answered[200] == runs
    return wire


@pytest.mark.parametrize(
    ("timeout_s", "latency_s"), [pytest.param(2, 5, marks=pytest.mark.campaign), (0.5, 3)]
)
def test_a_few_impatient_callers(tmp_path: Path, timeout_s: float, latency_s: float) -> None:
    """Each is answered before its cut, and its retry collects the one picture that was bought."""
    wire = run(tmp_path, runs=4, at_once=4, timeout_s=timeout_s, latency_s=latency_s)
    assert wire.cut == 0


@pytest.mark.campaign
def test_fifty_impatient_callers(tmp_path: Path) -> None:
    wire = run(tmp_path, runs=50, at_once=10)
    print(
        f"50 runs, 50 sales, 50 charges, 50 pictures from the same call; {wire.sent} requests, "
        f"{wire.answered[503]} answered 503 in time, {wire.cut} cut by the client"
    )


def test_a_picture_that_is_late_for_its_deadline_is_not_charged(tmp_path: Path) -> None:
    """The job ends at its caller's word, and the SDK does not begin again by itself."""
    with FaultUpstream.in_thread(latency_s=20) as upstream:
        gateway = GatewayProcess(tmp_path, accounts(upstream.base_url, 2))
        key = gateway.key()
        with gateway, Wire().client(gateway, key, 60) as client:
            began_s = time.monotonic()
            with pytest.raises(openai.InternalServerError) as late:
                client.images.generate(
                    model="gpt-image-2-vip",
                    prompt="late",
                    size="1024x1024",
                    extra_headers={"x-request-deadline": "1500ms"},
                )
            assert time.monotonic() - began_s < 10
            assert (late.value.status_code, late.value.code) == (503, "deadline_exceeded")
            job = get(
                f"{gateway.url}/v1/jobs/{late.value.response.headers['x-safelight-job-id']}", key
            )
            assert (job["status"], job["error"]["code"]) == ("failed", "deadline_exceeded")
            (line,) = [line for line in statement(gateway.url, key) if line["kind"] == "release"]
            assert (line["amount_micros"], line["reason"]) == ("0", "deadline_exceeded")
            assert check_sums(gateway.url, key)["held_micros"] == 0
        assert upstream.sales == []


def test_the_retry_of_a_refused_order_does_not_take_an_equal_one(tmp_path: Path) -> None:
    def first_is_throttled(seen: Seen) -> dict[str, object]:
        if seen.number == 1:
            return {"kind": "throttled", "retry_after": "1"}
        return {"kind": "ok", "latency_s": 2}

    with FaultUpstream.in_thread(first_is_throttled) as upstream:
        gateway = GatewayProcess(tmp_path, accounts(upstream.base_url, 2))
        key = gateway.key()
        with gateway, ThreadPoolExecutor(2) as pool:
            client = openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=2)

            def order(_: int) -> str:
                answer = client.images.generate(
                    model="gpt-image-2", prompt="equal", size="1024x1024", quality="low"
                )
                assert answer.data is not None
                return answer.data[0].b64_json or ""

            pictures = set(pool.map(order, range(2)))
            client.close()
            charges = [line for line in statement(gateway.url, key) if line["kind"] == "settle"]
        assert len(pictures) == len(charges) == len(upstream.sales) == 2
