"""Webhooks from end to end: the real program, its commands, the official package."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from e2e.crash_points import RECEIVERS
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream
from safelight.cli import main
from stub_gateway import Answer, Asked, StubGateway, json_answer, stub_gateway

Run = Callable[..., Any]
WAIT_S = 30.0


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with FaultUpstream.in_thread() as upstream:
        config = accounts(upstream.base_url) + RECEIVERS
        with GatewayProcess(tmp_path, config) as made:
            yield made
            assert made.stop() == 0


@pytest.fixture
def run(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `safelight webhooks` as the customer; return what it prints, as JSON where it is that."""
    key = gateway.key()

    def command(*words: str, code: int = 0, as_json: bool = True) -> Any:
        where = ["--url", gateway.url, "--api-key", key, *(["--json"] if as_json else [])]
        capsys.readouterr()
        assert main(["webhooks", *words, *where]) == code
        text = capsys.readouterr().out
        return json.loads(text) if as_json and text else text.strip()

    command.key = key  # type: ignore[attr-defined]
    return command


def buy(gateway: GatewayProcess, run: Run, **more: Any) -> str:
    with openai.OpenAI(base_url=gateway.base_url, api_key=run.key) as client:  # type: ignore[attr-defined]
        answer = client.images.with_raw_response.generate(
            model="gpt-image-2-vip", prompt="a lamp", size="1280x720", extra_body=more
        )
    return answer.headers["x-safelight-job-id"]


def wait_for(receiver: StubGateway, count: int) -> list[Asked]:
    while len(receiver.asked) < count:
        receiver.arrived.clear()
        if len(receiver.asked) < count:
            assert receiver.arrived.wait(WAIT_S), receiver.asked
    return receiver.asked


def noted(run: Run, job_id: str) -> Any:
    """Return the message about a job once it is noted that the receiver has it."""
    until = time.monotonic() + WAIT_S
    while True:
        (sent,) = [one for one in run("deliveries")["data"] if one["job_id"] == job_id]
        if sent["state"] == "delivered":
            return sent
        assert time.monotonic() < until, sent


def told(asked: Asked, secret: str) -> Any:
    """Return the message, verified by the official package."""
    return Webhook(secret).verify(asked.body, asked.headers)


def test_a_customer_manages_a_webhook_and_is_told(gateway: GatewayProcess, run: Run) -> None:
    """Registered, tried, told, sent again, rotated and removed, by the command line alone."""
    with stub_gateway(Answer(status=500), json_answer({})) as receiver:
        made = run("add", receiver.url, "--event", "job.completed", "--description", "mine")
        bad = run("test", made["id"], code=1)
        assert (bad["state"], bad["last_error"]) == ("failed", "it answered 500")
        assert run("test", made["id"])["state"] == "delivered"
        assert told(receiver.asked[1], made["secret"])["type"] == "webhook.test"
        job_id = buy(gateway, run)
        first = wait_for(receiver, 3)[2]
        message = told(first, made["secret"])
        assert (message["type"], message["data"]["id"]) == ("job.completed", job_id)
        assert message["data"]["image"]["url"].startswith(gateway.url)
        rotated = run("rotate", made["id"], "--overlap", "1")
        sent = noted(run, job_id)
        run("redeliver", sent["id"])
        second = wait_for(receiver, 4)[3]
        assert second.headers["webhook-id"] == first.headers["webhook-id"] == sent["id"]
        assert told(second, made["secret"]) == told(second, rotated["secret"])
        with pytest.raises(WebhookVerificationError):
            told(second, run("secret")["secret"])
        table = run("list", as_json=False)
        assert made["id"] in table
        assert "mine" in table
        run("remove", made["id"])
        assert run("list")["data"] == []
        assert run("deliveries")["data"] == []
        run("test", made["id"], code=1)


def test_an_order_brings_its_own_address(gateway: GatewayProcess, run: Run) -> None:
    with stub_gateway(json_answer({})) as receiver:
        mine = {"ticket": "17"}
        job_id = buy(gateway, run, webhook_url=f"{receiver.url}/mine?a=1", metadata=mine)
        (asked,) = wait_for(receiver, 1)
        assert asked.target == "/mine?a=1"
        data = told(asked, run("secret")["secret"])["data"]
        assert (data["id"], data["metadata"]) == (job_id, mine)
    with pytest.raises(openai.BadRequestError) as caught:
        buy(gateway, run, webhook_url="http://127.0.0.2/inside")
    assert caught.value.param == "webhook_url"
