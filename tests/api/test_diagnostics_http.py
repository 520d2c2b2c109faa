"""The routes that are silent, or take any body, for whoever tests the proxies between."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec
import pytest

from api.asking import error_of
from api.conftest import Server
from api.fake_gateway import KEY
from safelight.api.places import KeyPlaces
from safelight.errors import RateLimited

PATH = "/v1/diagnostics/silence"


async def test_a_plain_silence_is_silent_for_as_long_as_asked(
    http: aiohttp.ClientSession,
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with http.get(PATH, params={"seconds": "0.3"}) as answer:
        assert loop.time() - began >= 0.3
        found = await answer.json()
    assert found == {
        "object": "diagnostics.silence",
        "seconds": 0.3,
        "form": "plain",
        "every": 0.02,
        "deadline_s": 300.0,
        "max_request_bytes": 400_000,
        "max_json_bytes": 50_000,
        "version": found["version"],
    }
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("form", "sign"), [("blanks", b" "), ("events", b": keep-alive\n\n")])
async def test_signs_of_life_come_while_it_lasts(
    http: aiohttp.ClientSession, form: str, sign: bytes
) -> None:
    query = {"seconds": "0.45", "form": form, "every": "0.1"}
    async with http.get(PATH, params=query) as answer:
        text = await answer.read()
    assert answer.headers["x-accel-buffering"] == "no"
    assert text.startswith(sign * 5)
    body = text.removeprefix(sign * 5)
    assert msgspec.json.decode(body.removeprefix(b"data: "))["form"] == form


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"seconds": "901"}, "seconds"),
        ({"seconds": "-1"}, "seconds"),
        ({"seconds": "nan"}, "seconds"),
        ({"form": "morse"}, "form"),
        ({"every": "0"}, "every"),
        ({"second": "1"}, "second"),
    ],
)
async def test_a_query_that_cannot_be_met_is_refused(
    http: aiohttp.ClientSession, query: dict[str, str], param: str
) -> None:
    async with http.get(PATH, params=query) as answer:
        assert answer.status == 400
        assert (await error_of(answer))["param"] == param


async def test_a_body_is_counted_and_a_larger_one_refused(
    http: aiohttp.ClientSession, server: Server
) -> None:
    async with http.post("/v1/diagnostics/body", data=bytes(300_000)) as answer:
        assert (await answer.json())["bytes"] == 300_000
    most = server.services.config.server.max_request_bytes
    async with http.post("/v1/diagnostics/body", data=bytes(most + 1)) as answer:
        assert answer.status == 413


async def test_a_key_has_so_many_places_and_no_more() -> None:
    places = KeyPlaces(2)
    with places.place("a"), places.place("a"), places.place("b"):
        with pytest.raises(RateLimited) as refused, places.place("a"):
            pass
        assert refused.value.retry_after_s
    with places.place("a"):
        pass


async def test_a_process_that_leaves_waits_for_no_silence(
    server: Server, http: aiohttp.ClientSession
) -> None:
    server.gateway.leaving = True
    async with http.get(PATH, params={"seconds": "900"}) as answer:
        assert answer.status == 503
        assert (await error_of(answer))["code"] == "shutting_down"


async def test_who_hangs_up_frees_his_place(server: Server) -> None:
    """A silence of 900 s that nobody waits for any more holds nothing."""
    head = f"GET {PATH}?seconds=900 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head.encode())
    await writer.drain()
    places = server.services.diagnosing
    async with asyncio.timeout(5):
        while not places.open:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0)
        writer.close()
        while places.open:  # noqa: ASYNC110 - a count has no event
            await asyncio.sleep(0)
