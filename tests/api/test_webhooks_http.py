"""/v1/webhooks over HTTP: shapes, bounds, and whose they are."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from api.asking import error_of
from api.conftest import Server
from api.fake_gateway import OTHER_KEY
from api.fake_webhooks import FakeWebhooks
from safelight.errors import RateLimited

HOOK = {"url": "https://example.com/hook"}


@pytest.fixture
def fake(server: Server) -> FakeWebhooks:
    found = server.services.webhooks
    assert isinstance(found, FakeWebhooks)
    return found


async def ask(
    http: aiohttp.ClientSession, method: str, path: str, body: Any = None, status: int = 200
) -> Any:
    async with http.request(method, f"/v1/webhooks{path}", json=body) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json()


async def test_a_webhook_is_made_shown_changed_and_removed(
    http: aiohttp.ClientSession, fake: FakeWebhooks
) -> None:
    """Its secret is shown when it is made, and not again."""
    made = await ask(http, "POST", "", {**HOOK, "events": ["job.failed", "job.completed"]}, 201)
    assert made == {
        "id": "wh_1",
        "object": "webhook",
        "url": HOOK["url"],
        "events": ["job.completed", "job.failed"],
        "description": "",
        "key_id": None,
        "enabled": True,
        "disabled_reason": None,
        "disabled_at": None,
        "failing_since": None,
        "created_at": 1,
        "previous_secret_until": None,
        "secret": "whsec_first",
    }
    shown = {name: value for name, value in made.items() if name != "secret"}
    assert await ask(http, "GET", "/wh_1") == shown
    listed = await ask(http, "GET", "")
    assert listed == {"object": "list", "data": [shown], "has_more": False}
    changed = await ask(http, "PATCH", "/wh_1", {"enabled": False, "description": "x"})
    assert (changed["enabled"], changed["disabled_reason"]) == (False, "owner")
    assert (changed["description"], changed["url"]) == ("x", HOOK["url"])
    gone = await ask(http, "DELETE", "/wh_1")
    assert gone == {"id": "wh_1", "object": "webhook.deleted", "deleted": True}
    await ask(http, "GET", "/wh_1", status=404)


async def test_without_events_all_are_told(http: aiohttp.ClientSession) -> None:
    assert (await ask(http, "POST", "", HOOK, 201))["events"] == ["*"]
    both = {**HOOK, "events": ["job.failed", "*"]}
    assert (await ask(http, "POST", "", both, 201))["events"] == ["*"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "url", "missing_required_parameter"),
        ({"url": 5}, "url", "invalid_type"),
        ({"url": ""}, "url", "invalid_value"),
        ({"url": "https://10.0.0.1/"}, "url", "invalid_value"),
        ({**HOOK, "events": []}, "events", "invalid_value"),
        ({**HOOK, "events": ["job.done"]}, "events", "invalid_value"),
        ({**HOOK, "description": "x" * 201}, "description", "invalid_value"),
        ({**HOOK, "secret": "whsec_mine"}, "secret", "unknown_parameter"),
    ],
)
async def test_what_is_wrong_is_named(
    http: aiohttp.ClientSession, body: Any, param: str, code: str
) -> None:
    async with http.post("/v1/webhooks", json=body) as answer:
        assert answer.status == 400
        error = await error_of(answer)
    assert (error["param"], error["code"]) == (param, code)


async def test_a_secret_is_rotated_with_an_overlap(
    http: aiohttp.ClientSession, fake: FakeWebhooks
) -> None:
    """A day if nothing is said; the body may be missing."""
    await ask(http, "POST", "", HOOK, 201)
    async with http.post("/v1/webhooks/wh_1/rotate") as answer:
        rotated = await answer.json()
    assert (rotated["secret"], rotated["previous_secret_until"]) == ("whsec_second", 7)
    await ask(http, "POST", "/wh_1/rotate", {"overlap_s": 0})
    secret = await ask(http, "GET", "/secret")
    assert secret["secret"] == "whsec_customer"
    rotated = await ask(http, "POST", "/secret/rotate", {"overlap_s": 60})
    assert (rotated["secret"], rotated["previous_secret_until"]) == ("whsec_next", 8)
    assert fake.overlaps == [86_400, 0, 60]
    await ask(http, "POST", "/wh_1/rotate", {"overlap_s": 8 * 86_400}, status=400)


async def test_messages_are_listed_tested_and_sent_again(
    http: aiohttp.ClientSession, fake: FakeWebhooks
) -> None:
    await ask(http, "POST", "", HOOK, 201)
    page = await ask(http, "GET", "/wh_1/deliveries?limit=1&after=msg_0")
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("msg_1", "msg_1", True)
    assert page["data"] == [
        {
            "id": "msg_1",
            "object": "webhook.delivery",
            "webhook_id": "wh_1",
            "url": None,
            "event": "job.completed",
            "job_id": "job_1",
            "batch_id": None,
            "state": "pending",
            "attempts": 2,
            "next_attempt_at": 9,
            "last_status": 503,
            "last_error": "it answered 503",
            "created_at": 5,
            "delivered_at": None,
        }
    ]
    await ask(http, "GET", "/deliveries")
    assert fake.pages == [("wh_1", "msg_0", 1), (None, None, 20)]
    tested = await ask(http, "POST", "/wh_1/test")
    assert (tested["event"], tested["job_id"], tested["state"]) == ("webhook.test", None, "failed")
    again = await ask(http, "POST", "/deliveries/msg_1/redeliver", status=202)
    assert again["id"] == "msg_1"
    for query in ("limit=0", "limit=101", "limit=x", "offset=1"):
        await ask(http, "GET", f"/deliveries?{query}", status=400)


@pytest.mark.parametrize("path", ["/wh_1/test", "/deliveries/msg_1/redeliver"])
async def test_who_sends_too_much_by_hand_is_told_when_to_come_again(
    http: aiohttp.ClientSession, server: Server, fake: FakeWebhooks, path: str
) -> None:
    await ask(http, "POST", "", HOOK, 201)
    fake.refusal = RateLimited("At most so many a minute.", retry_after_s=9.2)
    async with http.post(f"{server.url}/v1/webhooks{path}") as answer:
        error = (await answer.json())["error"]
        assert (answer.status, answer.headers["retry-after"]) == (429, "10")
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")


async def test_others_see_nothing_of_it(http: aiohttp.ClientSession, server: Server) -> None:
    await ask(http, "POST", "", HOOK, 201)
    key = {"authorization": f"Bearer {OTHER_KEY}"}
    async with aiohttp.ClientSession(server.url, headers=key) as other:
        assert (await ask(other, "GET", ""))["data"] == []
        for method, path in (
            ("GET", "/wh_1"),
            ("PATCH", "/wh_1"),
            ("DELETE", "/wh_1"),
            ("POST", "/wh_1/rotate"),
            ("POST", "/wh_1/test"),
            ("GET", "/wh_1/deliveries"),
            ("POST", "/deliveries/msg_9/redeliver"),
        ):
            await ask(other, method, path, status=404)


async def test_allow_lists_all_methods_of_a_path(http: aiohttp.ClientSession) -> None:
    for path, methods in (
        ("/v1/webhooks", "GET, HEAD, POST"),
        ("/v1/webhooks/wh_1", "DELETE, GET, HEAD, PATCH"),
        ("/v1/webhooks/secret", "GET, HEAD"),
    ):
        async with http.put(path) as answer:
            assert (answer.status, answer.headers["allow"]) == (405, methods)
