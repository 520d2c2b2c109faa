"""An SDK that gives up after 2 s and repeats by itself still gets one picture for one charge."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from e2e.books import check_sums, statement, witness
from e2e.process import GatewayProcess, accounts
from faults.server import FaultUpstream, Seen


def run(folder: Path, *, runs: int, at_once: int) -> int:
    """Return how many runs got their picture from the same call."""
    with FaultUpstream.in_thread(latency_s=5) as upstream:
        gateway = GatewayProcess(folder, accounts(upstream.base_url, 2))
        key = gateway.key()
        with gateway:
            client = openai.OpenAI(base_url=gateway.base_url, api_key=key, timeout=2, max_retries=2)

            def order(_: int) -> bool:
                try:
                    answer = client.images.generate(
                        model="gpt-image-2-vip", prompt="the same for all", size="1024x1024"
                    )
                except openai.APITimeoutError:
                    return False
                assert answer.data is not None
                return base64.b64decode(answer.data[0].b64_json or "").startswith(b"\x89PNG")

            with ThreadPoolExecutor(at_once) as pool:
                got = sum(pool.map(order, range(runs)))
            client.close()
            charges = [line for line in statement(gateway.url, key) if line["kind"] == "settle"]
            assert len(charges) == runs
            assert len({line["image_sha256"] for line in charges}) == runs
            assert check_sums(gateway.url, key)["held_micros"] == 0
        assert len(upstream.sales) == runs
        assert witness(gateway.data).faults == []
    return got


def test_a_few_impatient_callers(tmp_path: Path) -> None:
    assert run(tmp_path, runs=4, at_once=4) == 4


@pytest.mark.campaign
def test_fifty_impatient_callers(tmp_path: Path) -> None:
    got = run(tmp_path, runs=50, at_once=10)
    print(f"50 runs, 50 sales, 50 charges, {got} pictures from the same call")
    assert got >= 49


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
