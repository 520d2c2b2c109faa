"""Limits of a key through the real process, the operator's commands and the official SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from e2e.books import get
from e2e.in_process import running
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream

LATENCY_S = 0.4


@dataclass
class Shop:
    gateway: GatewayProcess
    key: str
    client: openai.OpenAI
    answers: list[Any] = field(default_factory=list)
    """Every answer that the SDK got, those it retried included."""

    def order(self, number: int = 0) -> Any:
        return self.client.images.with_raw_response.generate(
            model="gpt-image-2-vip", prompt=f"lamp {number}", size="1024x1024"
        )

    def statuses(self) -> list[int]:
        return [answer.status_code for answer in self.answers]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A key with money for many, a budget for five, and one picture in flight."""
    answers: list[Any] = []
    http = openai.DefaultHttpxClient(event_hooks={"response": [answers.append]})
    with FaultUpstream.in_thread(latency_s=LATENCY_S) as upstream:
        gateway = GatewayProcess(tmp_path, accounts(upstream.base_url, 2))
        limits = ("--max-in-flight", "1", "--rpm", "40", "--budget-day", "0.15")
        key = gateway.key("team", "100.00", *limits)
        with (
            gateway,
            openai.OpenAI(
                base_url=gateway.base_url, api_key=key, max_retries=2, http_client=http
            ) as client,
        ):
            yield Shop(gateway, key, client, answers)


def test_the_sdk_comes_again_when_there_is_room_and_not_when_the_budget_is_used_up(
    shop: Shop,
) -> None:
    first = shop.order()
    assert first.headers["x-ratelimit-limit-requests"] == "40"
    assert first.headers["x-ratelimit-remaining-requests"] == "39"
    assert first.headers["x-ratelimit-reset-requests"] == "1m0s"
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(shop.order, (1, 2)))
    assert min(raw.retries_taken for raw in both) == 0
    assert max(raw.retries_taken for raw in both) >= 1
    refused = [answer for answer in shop.answers if answer.status_code == 429]
    assert shop.statuses().count(200) == 3
    assert {answer.headers["x-should-retry"] for answer in refused} == {"true"}
    # A measured picture takes 0.4 s: the other one will have ended within twice that.
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}

    shop.order()
    shop.order()
    with pytest.raises(openai.APIStatusError) as caught:
        shop.order()
    assert (caught.value.status_code, caught.value.code) == (402, "budget_exceeded")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert shop.statuses().count(402) == 1

    balance = get(f"{shop.gateway.url}/v1/billing/balance", shop.key)
    (budget,) = balance["budgets"]
    assert (budget["period"], budget["used_micros"]) == ("day", 150_000)
    assert (budget["remaining_micros"], budget["alerted"]) == (0, 100)
    assert '"share":100' in shop.gateway.log.read_text()

    # The operator's command works beside the running server, from the next order on.
    (row,) = json.loads(shop.gateway.command("keys", "list", "--json"))["data"]
    assert (row["requests_per_minute"], row["max_in_flight"]) == (40, 1)
    assert row["budgets"] == [budget]
    shop.gateway.command("keys", "limit", row["id"], "--budget-day", "none", "--rpm", "none")
    assert "x-ratelimit-limit-requests" not in shop.order().headers


async def test_the_configurations_limits_hold_for_keys_that_have_none_of_their_own(
    tmp_path: Path,
) -> None:
    text = "[limits]\nrequests_per_minute = 2\nmax_in_flight = 1\n"
    async with running(tmp_path / "data", text) as gateway:
        body = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}
        answers = [await gateway.ask("POST", "/v1/images/generations", body) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == [
            *("1", "0", "0"),
        ]
        assert answers[2].headers["retry-after"] == "60"
        gateway.clock.advance(60)
        again = await gateway.ask("POST", "/v1/images/generations", body)
        assert again.status == 200
