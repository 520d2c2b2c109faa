"""Through the real process and the official SDK: each fault ends as docs/failures.md says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from e2e.books import check_sums, statement, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream

FEWER = "[channels.gpt-image-2-vip]\nmax_attempts = 4\n"
QUICK = {"first_byte_timeout_s": 1.0, "idle_timeout_s": 1.0}


@dataclass
class Shop:
    upstream: FaultUpstream
    gateway: GatewayProcess
    key: str
    client: openai.OpenAI

    def order(self, model: str = "gpt-image-2-vip") -> Any:
        return self.client.images.with_raw_response.generate(
            model=model, prompt="a lamp", size="1024x1024"
        )

    def last_line(self) -> dict[str, str]:
        return statement(self.gateway.url, self.key)[-1]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with FaultUpstream.in_thread() as upstream:
        config = accounts(upstream.base_url, 12, **QUICK) + FEWER
        gateway = GatewayProcess(tmp_path_factory.mktemp("shop"), config)
        key = gateway.key()
        with gateway:
            client = openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)
            yield Shop(upstream, gateway, key, client)
            client.close()
            check_sums(gateway.url, key)
            settled = sum(line["kind"] == "settle" for line in statement(gateway.url, key))
            assert gateway.stop() == 0
        books = witness(gateway.data)
        assert books.faults == []
        # The upstream's own log is the independent witness.
        assert len(upstream.sales) == settled + books.waste


@pytest.mark.parametrize(
    "fault",
    [
        500,
        {"kind": "throttled", "retry_after": "20"},
        {"kind": "stall", "seconds": 20},
        {"kind": "stall_body", "seconds": 20},
        "short",
        "cut_json",
        "wrong_size",
        "html",
        "empty",
        "corrupt",
        "reset",
    ],
    ids=str,
)
def test_one_fault_is_hidden(shop: Shop, fault: Any) -> None:
    before = len(shop.upstream.requests)
    shop.upstream.play(fault)
    assert shop.order().headers["x-safelight-size-plan"] == "native"
    assert len(shop.upstream.requests) == before + 2
    line = shop.last_line()
    assert (line["kind"], line["amount_micros"], line["attempts"]) == ("settle", "-30000", "2")


@pytest.mark.parametrize("kind", ["url", "data_prefix", "escaped", "keep_alive", "wrong_format"])
def test_odd_but_good_answers_are_taken(shop: Shop, kind: str) -> None:
    before = len(shop.upstream.requests)
    shop.upstream.play(kind)
    shop.order()
    assert len(shop.upstream.requests) == before + 1
    assert shop.last_line()["kind"] == "settle"


@pytest.mark.parametrize(
    ("fault", "attempts", "status", "code"),
    [
        ("wrong_size", 4, 503, "upstream_wrong_size"),
        ("empty", 4, 503, "upstream_no_image"),
        ("corrupt", 4, 503, "upstream_bad_image"),
        ("html", 4, 503, None),
        ("short", 4, 503, "upstream_truncated"),
        (500, 4, 503, None),
    ],
    ids=str,
)
def test_a_fault_that_stays_is_one_free_typed_error(
    shop: Shop, fault: Any, attempts: int, status: int, code: str | None
) -> None:
    before = len(shop.upstream.requests)
    shop.upstream.play(then=fault)
    with pytest.raises(openai.InternalServerError) as failed:
        shop.order()
    assert failed.value.status_code == status
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(shop.upstream.requests) == before + attempts
    line = shop.last_line()
    assert (line["kind"], line["amount_micros"]) == ("release", "0")
    assert line["reason"] == (failed.value.code if code is None else code)
    assert line["attempts"] == str(attempts)


@pytest.mark.parametrize("shape", ["openai", "policy", "azure", "relay_500", "relay_451", "ok_200"])
def test_a_refusal_is_a_free_400_after_one_attempt(shop: Shop, shape: str) -> None:
    before = len(shop.upstream.requests)
    shop.upstream.play({"kind": "moderation", "shape": shape})
    with pytest.raises(openai.BadRequestError) as refused:
        shop.order()
    assert refused.value.code == "moderation_blocked"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(shop.upstream.requests) == before + 1
    line = shop.last_line()
    assert (line["kind"], line["amount_micros"], line["reason"]) == (
        "release",
        "0",
        "moderation_blocked",
    )


def test_a_direct_channel_hands_429_and_retry_after_on(shop: Shop) -> None:
    shop.upstream.play({"kind": "throttled", "retry_after": "3"})
    with pytest.raises(openai.RateLimitError) as limited:
        shop.order("gpt-image-2")
    assert limited.value.response.headers["retry-after"] in ("3", "4")
    assert limited.value.response.headers["x-should-retry"] == "true"


def test_no_upstream_credential_or_id_reaches_the_caller_or_the_log(shop: Shop) -> None:
    shop.upstream.play(then=401)
    with pytest.raises(openai.InternalServerError) as failed:
        shop.order()
    assert failed.value.status_code == 503
    text = failed.value.response.text + str(failed.value.response.headers)
    text += shop.gateway.log.read_text()
    assert "sk-test" not in text
    assert "org-" not in text.replace("org-***", "")
