"""Deadlines and patience: what headers are taken, and what they do to an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.asking import BODY, MODEL, error_of
from api.conftest import Server
from api.pictures import png
from safelight.api.budget import ByteBudget
from safelight.api.context import Services
from safelight.api.exchange import Exchange
from safelight.api.timing import Timing, deadline_at, margin_s
from safelight.clock import ManualClock
from safelight.errors import InvalidValue
from safelight.types import JobFailure

NOW_MS = 1_800_000_000_000
SECONDS = "x-stainless-read-timeout"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "a lamp"}]}


@pytest.fixture
def services(services: Services) -> Services:
    """Streams are as silent as callers bear."""
    return replace(services, keep_alive_s=60.0, stream_patience_s=60.0)


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("30", NOW_MS + 30_000),
        ("30s", NOW_MS + 30_000),
        ("1.5s", NOW_MS + 1500),
        ("0.25", NOW_MS + 250),
        ("500ms", NOW_MS + 500),
        ("1000000000", NOW_MS + 10**12),
        ("1800000001", NOW_MS + 1000),
        ("1800000000.5", NOW_MS + 500),
        ("9999999999s", NOW_MS + 9_999_999_999_000),
        ("2027-01-15T08:00:01Z", NOW_MS + 1000),
        ("2027-01-15t08:00:01.250z", NOW_MS + 1250),
        ("2027-01-15T10:00:01+02:00", NOW_MS + 1000),
        ("2027-01-14T23:00:01.123456789-09:00", NOW_MS + 1123),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
    ],
)
def test_deadlines_that_are_taken(text: str, expected_ms: int) -> None:
    """Seconds and milliseconds from now, unix seconds, and date-times (RFC 3339)."""
    assert deadline_at(text, NOW_MS) == expected_ms


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "0s", "0ms", "0.0001ms", "-1", "-30s", "+30", "nan", "inf", "1e3", "soon"),
        *("30 s", "30m", "1h", "1.s", ".5", "1_000", "0x10", "²", "30,5", "30;", "9" * 400),
        *("1799999999", "1800000000", "1500000000.9", "1800000000000", "100000000000"),
        *("2027-01-15T08:00:00Z", "2020-01-01T00:00:00Z", "2027-01-16T08:00:00", "2027-01-16"),
        *("2027-02-30T08:00:00Z", "2027-01-16T25:00:00Z", "20270116T080000Z", "0001-01-01T00:00"),
        *(
            "Sat, 16 Jan 2027 08:00:00 GMT",
            "2027-01-16T08:00:00+99:00",
            "0001-01-01T00:00:00+14:00",
        ),
    ],
)
def test_deadlines_that_are_refused(text: str) -> None:
    """Malformed, zero, negative and past times, naming the header."""
    with pytest.raises(InvalidValue) as refused:
        deadline_at(text, NOW_MS)
    assert refused.value.param == "x-request-deadline"
    assert "500ms" in refused.value.message


@given(
    st.text(st.characters(max_codepoint=255), max_size=40)
    | st.from_regex(r"[0-9+\-.:TZ eEms]{1,30}", fullmatch=True)
    | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)")
)
def test_garbage_is_refused_or_is_a_time_to_come(text: str) -> None:
    """No header value makes anything else."""
    try:
        time_ms = deadline_at(text, NOW_MS)
    except InvalidValue:
        return
    assert NOW_MS < time_ms < 2**62


@given(
    st.datetimes(datetime(2027, 1, 16), datetime(9998, 1, 1)),  # noqa: DTZ001 - see astimezone
    st.integers(-1439, 1439),
)
def test_every_date_time_to_come_is_taken(when: datetime, offset_min: int) -> None:
    """In any offset, to the millisecond."""
    local = when.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=offset_min)))
    assert abs(deadline_at(local.isoformat(), NOW_MS) - local.timestamp() * 1000) <= 1


@pytest.mark.parametrize(
    ("patience_s", "margin"), [(600, 5), (50, 5), (20, 2), (2, 0.25), (0.5, 0.25), (0.2, 0.1)]
)
def test_the_margin_before_the_clients_cut(patience_s: float, margin: float) -> None:
    """A tenth of the patience, at least a quarter of a second, at most five."""
    assert margin_s(patience_s) == pytest.approx(margin)


@pytest.fixture
def timing_of(services: Services) -> Callable[..., Timing]:
    """Read the headers of a request whose head has just arrived."""

    async def unused(*_: Any) -> Any:
        raise AssertionError("only the head is read")

    def make(**headers: str) -> Timing:
        raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
        scope = {"type": "http", "headers": raw}
        return Timing(Exchange(scope, unused, unused, services, ByteBudget(1, patience_s=1)))

    return make


def test_the_python_sdk_counts_from_the_end_of_its_body_the_javascript_one_from_the_start(
    services: Services, timing_of: Callable[..., Timing]
) -> None:
    """A long upload costs the first nothing of its patience."""
    clock = services.clock
    assert isinstance(clock, ManualClock)
    python, script = timing_of(x_stainless_read_timeout="20"), timing_of(x_stainless_timeout="20")
    for timing in (python, script):
        assert timing.left_s() == pytest.approx(18)
    clock.advance(10)
    for timing in (python, script):
        timing.body_read()
    clock.advance(1)
    assert python.left_s() == pytest.approx(17)
    assert script.left_s() == pytest.approx(7)


@pytest.mark.parametrize(
    ("value", "patience_s", "silence_s"),
    [("600", 600, 10), ("6", 6, 2), ("0.1", 0.1, 0.1), ("0", 0, 0.1), ("soon", 600, 10)],
)
def test_how_long_a_stream_may_be_silent(
    timing_of: Callable[..., Timing], value: str, patience_s: float, silence_s: float
) -> None:
    """A third of the patience and at most ten seconds; an unreadable timeout is the default's."""
    timing = timing_of(x_stainless_read_timeout=value)
    assert timing.patience_s == patience_s
    assert timing.silence_s() == pytest.approx(silence_s)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/images/generations", BODY),
        ("/v1/images/edits", {**BODY, "images": [{"image_url": "unread"}]}),
        ("/v1/chat/completions", CHAT),
    ],
)
async def test_a_bad_deadline_is_refused_before_anything_is_ordered(
    http: aiohttp.ClientSession, server: Server, path: str, body: dict[str, Any]
) -> None:
    """On every route that orders; after the key was checked."""
    for value in ("soon", "-1", "2020-01-01T00:00:00Z"):
        headers = {"x-request-deadline": value}
        async with http.post(path, json=body, headers=headers) as answer:
            assert answer.status == 400
            error = await error_of(answer)
        assert (error["code"], error["param"]) == ("invalid_value", "x-request-deadline")
    async with http.post(path, json=body, headers={**headers, "authorization": "no"}) as answer:
        assert answer.status == 401
    assert server.gateway.requests == []


async def test_a_deadline_goes_with_the_order(http: aiohttp.ClientSession, server: Server) -> None:
    """As an absolute time, counted from the arrival; and none where none was sent."""
    for headers in ({"x-request-deadline": "30"}, {}):
        async with http.post("/v1/images/generations", json=BODY, headers=headers) as answer:
            assert answer.status == 200
    asked = [caller.deadline_at for caller in server.gateway.callers]
    assert asked == [server.clock.now_ms() + 30_000, None]
    assert server.gateway.requests[0] == server.gateway.requests[1]


async def test_a_job_that_ran_out_of_the_callers_time_is_not_tried_again(
    http: aiohttp.ClientSession, server: Server
) -> None:
    """The SDK would order it anew with a new deadline, against its caller's word."""
    server.gateway.failure = JobFailure(
        status=503,
        type="server_error",
        code="deadline_exceeded",
        message="Out of time.",
        should_retry=True,
    )
    for path, body in (("/v1/images/generations", BODY), ("/v1/chat/completions", CHAT)):
        for headers, again in (({"x-request-deadline": "30"}, "false"), ({}, "true")):
            async with http.post(path, json=body, headers=headers) as answer:
                assert answer.status == 503
                await error_of(answer)
                assert answer.headers["x-should-retry"] == again


async def orders(http: aiohttp.ClientSession, patience: str) -> Iterable[aiohttp.ClientResponse]:
    """Order a picture at each route that answers as a whole."""
    headers = {SECONDS: patience}
    form = aiohttp.FormData({"model": MODEL, "prompt": "blue"})
    form.add_field("image", png(), filename="x.png")
    return await asyncio.gather(
        http.post("/v1/images/generations", json=BODY, headers=headers),
        http.post("/v1/images/edits", data=form, headers=headers),
        http.post("/v1/chat/completions", json=CHAT, headers=headers),
    )


@pytest.mark.parametrize(("expected_s", "sent"), [(0.2, "1"), (7.3, "8"), (400.0, "60")])
async def test_what_does_not_fit_is_answered_before_the_cut(
    http: aiohttp.ClientSession, server: Server, expected_s: float, sent: str
) -> None:
    """503 with the job's id and a Retry-After that older SDKs obey; nothing counts as delivered."""
    server.gateway.hold = asyncio.Event()
    server.gateway.come_again_s = expected_s
    async with asyncio.timeout(5):
        answers = await orders(http, "0.3")
    for answer in answers:
        assert answer.status == 503
        error = await error_of(answer)
        assert (error["code"], error["type"]) == ("deadline_exceeded", "server_error")
        assert answer.headers["x-safelight-job-id"].startswith("job_")
        assert answer.headers["x-safelight-price-micros"] == "0"
        assert answer.headers["x-should-retry"] == "true"
        assert answer.headers["retry-after"] == sent
    assert len(server.gateway.attachments) == 3
    assert not any(attachment.done for attachment in server.gateway.attachments)


async def test_a_finished_picture_is_given_to_the_most_impatient_caller(
    http: aiohttp.ClientSession, server: Server
) -> None:
    """A retry that joins a finished order needs no waiting."""
    for answer in await orders(http, "0"):
        assert answer.status == 200
        await answer.read()
    assert all(attachment.done for attachment in server.gateway.attachments)


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/images/generations", BODY), ("/v1/chat/completions", CHAT)]
)
async def test_a_stream_is_never_silent_for_as_long_as_its_caller_waits(
    http: aiohttp.ClientSession, server: Server, path: str, body: dict[str, Any]
) -> None:
    """Comments come well within the SDK's timeout, and the picture after many of them."""
    server.gateway.hold = asyncio.Event()
    loop = asyncio.get_running_loop()
    headers = {SECONDS: "0.6"}
    async with http.post(path, json={**body, "stream": True}, headers=headers) as answer:
        assert answer.status == 200
        for _ in range(4):
            began_s = loop.time()
            while not (await answer.content.readline()).startswith(b": keep-alive"):
                pass
            assert loop.time() - began_s < 0.5
        server.gateway.hold.set()
        rest = await answer.content.read()
    assert b"completed" in rest or b"![image]" in rest
    assert server.gateway.attachments[0].done
