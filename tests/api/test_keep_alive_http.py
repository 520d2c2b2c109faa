"""Keys whose plain answers begin with white space while the picture is made."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import openai
import pytest

from api.asking import BODY, MODEL, error_of
from api.conftest import Server
from api.fake_gateway import KEY
from safelight.types import JobFailure

ROUTES = (
    ("/v1/images/generations", BODY),
    ("/v1/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "a lamp"}]}),
)
FAILURE = JobFailure(
    status=503, type="server_error", code="upstream_error", message="no", should_retry=True
)


@pytest.fixture(autouse=True)
def slow(server: Server) -> asyncio.Event:
    """The key may be answered with white space, and its pictures wait for this."""
    server.gateway.patient_keys = {KEY}
    server.gateway.hold = asyncio.Event()
    return server.gateway.hold


async def read_on(answer: aiohttp.ClientResponse, slow: asyncio.Event) -> bytes:
    """Read two blanks, let the picture be finished, and return the rest."""
    assert await answer.content.readexactly(2) == b"  "
    slow.set()
    return await answer.read()


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_an_answer_that_takes_long_begins_with_blanks_and_is_json(
    http: aiohttp.ClientSession, server: Server, slow: asyncio.Event, path: str, body: Any
) -> None:
    async with http.post(path, json=body) as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["x-safelight-job-id"] == "job_1"
        assert "content-length" not in answer.headers
        found = json.loads(await read_on(answer, slow))
    assert found.get("data") or found.get("choices")
    assert server.gateway.attachments[0].done


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_an_error_behind_blanks_is_a_body_under_200(
    http: aiohttp.ClientSession, server: Server, slow: asyncio.Event, path: str, body: Any
) -> None:
    server.gateway.failure = FAILURE
    async with http.post(path, json=body) as answer:
        assert answer.status == 200
        error = json.loads(await read_on(answer, slow))["error"]
    assert (error["code"], error["job_id"]) == ("upstream_error", "job_1")
    assert server.gateway.attachments[0].done


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_an_early_error_keeps_its_status(
    http: aiohttp.ClientSession, server: Server, slow: asyncio.Event, path: str, body: Any
) -> None:
    slow.set()
    server.gateway.failure = FAILURE
    async with http.post(path, json=body) as answer:
        assert answer.status == 503
        assert (await error_of(answer))["code"] == "upstream_error"


async def test_a_quick_answer_and_another_key_have_no_blanks(
    http: aiohttp.ClientSession, server: Server, slow: asyncio.Event
) -> None:
    slow.set()
    async with http.post("/v1/images/generations", json=BODY) as answer:
        assert (await answer.read()).startswith(b"{")
        assert "content-length" in answer.headers
    slow.clear()
    server.gateway.patient_keys = set()
    headers = {"x-stainless-read-timeout": "0.3"}
    async with http.post("/v1/images/generations", json=BODY, headers=headers) as answer:
        assert answer.status == 503


async def test_the_sdk_reads_through_the_blanks_and_outlives_its_timeout(
    client: openai.AsyncOpenAI, server: Server, slow: asyncio.Event
) -> None:
    """Each blank is a sign of life, so the SDK's timeout, which bounds a silence, never comes."""
    impatient = client.with_options(timeout=0.5)
    asking = asyncio.create_task(impatient.images.generate(model=MODEL, prompt="a lamp"))
    await asyncio.wait_for(server.gateway.waiting.wait(), 5)
    loop = asyncio.get_running_loop()
    loop.call_later(1.0, slow.set)
    answer = await asking
    assert answer.data
    assert answer.data[0].b64_json


async def test_what_the_sdk_makes_of_an_error_behind_blanks(
    client: openai.AsyncOpenAI, server: Server, slow: asyncio.Event
) -> None:
    """It sees a success without pictures; the error is an extra of the answer."""
    server.gateway.failure = FAILURE
    asyncio.get_running_loop().call_later(0.2, slow.set)
    answer = await client.images.generate(model=MODEL, prompt="a lamp")
    assert answer.data is None
    assert answer.model_extra is not None
    assert answer.model_extra["error"]["code"] == "upstream_error"


async def test_who_hangs_up_behind_blanks_leaves_the_order_to_be_joined(
    http: aiohttp.ClientSession, server: Server
) -> None:
    async with http.post("/v1/images/generations", json=BODY) as answer:
        assert await answer.content.readexactly(1) == b" "
        answer.close()
    await asyncio.wait_for(server.gateway.detached.wait(), 5)
    assert not server.gateway.attachments[0].done
