"""Which answers are tried again, when, and what is said in the end."""

from __future__ import annotations

import asyncio
import socket

import pytest

from client_api.scripted import PNG, Pauses, Play, Scripted, error, image_answer
from safelight.client import (
    AsyncClient,
    BrokenPicture,
    OutOfMoney,
    RateLimited,
    Refused,
    ServiceFailed,
    TimedOut,
    Unreachable,
)
from safelight.client.transport import Patience

GENERATIONS = "/v1/images/generations"


def client_of(server: Scripted, patience: Patience) -> AsyncClient:
    return AsyncClient(server.url, "sk-test", patience=patience)


async def test_pauses_double_from_a_second_and_jitter(scripted: Scripted, pauses: Pauses) -> None:
    """A 5xx is tried again after about 1, 2 and 4 seconds, and then told."""
    scripted.play(GENERATIONS, error(500))
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises(ServiceFailed) as failed:
            await client.generate("a lamp")
    assert (failed.value.status, failed.value.code) == (500, "some_code")
    assert len(scripted.to(GENERATIONS)) == 4
    for pause, full in zip(pauses.seconds, (1, 2, 4), strict=True):
        assert 0.75 * full <= pause <= 1.25 * full


async def test_every_try_of_an_order_has_the_same_key(scripted: Scripted, pauses: Pauses) -> None:
    scripted.play(GENERATIONS, error(503), Play(cut=True), image_answer("/i/a.png"))
    async with client_of(scripted, pauses.patience()) as client:
        picture = await client.generate("a lamp")
    keys = {asked.headers["idempotency-key"] for asked in scripted.to(GENERATIONS)}
    assert keys == {picture.idempotency_key}
    assert len(scripted.to(GENERATIONS)) == 3


async def test_a_key_of_the_caller_is_kept(scripted: Scripted, pauses: Pauses) -> None:
    scripted.play(GENERATIONS, image_answer("/i/a.png"))
    async with client_of(scripted, pauses.patience()) as client:
        await client.generate("a lamp", idempotency_key="mine")
    assert scripted.to(GENERATIONS)[0].headers["idempotency-key"] == "mine"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
async def test_refusals_are_told_at_once(scripted: Scripted, pauses: Pauses, status: int) -> None:
    scripted.play(GENERATIONS, error(status))
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises(Refused) as refused:
            await client.generate("a lamp")
    assert refused.value.status == status
    assert len(scripted.to(GENERATIONS)) == 1


@pytest.mark.parametrize(
    ("status", "advice", "tries"),
    [(409, "true", 4), (503, "false", 1), (429, "false", 1), (408, None, 4), (500, "true", 4)],
)
async def test_the_servers_advice_counts_before_the_status(
    scripted: Scripted, pauses: Pauses, status: int, advice: str | None, tries: int
) -> None:
    """`x-should-retry` decides where it is there; 409 is repeated only so."""
    headers = {} if advice is None else {"x_should_retry": advice}
    scripted.play(GENERATIONS, error(status, **headers))
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises((Refused, ServiceFailed, RateLimited)):
            await client.generate("a lamp")
    assert len(scripted.to(GENERATIONS)) == tries


async def test_a_full_house_is_waited_for_as_long_as_it_says(
    scripted: Scripted, pauses: Pauses
) -> None:
    """Tries with a Retry-After do not use up the retries."""
    full = error(429, "rate_limit_exceeded", retry_after="2")
    scripted.play(GENERATIONS, full, full, full, full, full, image_answer("/i/a.png"))
    async with client_of(scripted, pauses.patience(retries=1)) as client:
        await client.generate("a lamp")
    assert pauses.seconds == [2.0] * 5


async def test_a_house_that_stays_full_is_told_with_its_time(
    scripted: Scripted, pauses: Pauses
) -> None:
    """Pauses that together are longer than one try may take do count."""
    scripted.play(GENERATIONS, error(429, "rate_limit_exceeded", retry_after="20"))
    async with client_of(scripted, pauses.patience(timeout_s=20)) as client:
        with pytest.raises(RateLimited) as limited:
            await client.generate("a lamp")
    assert limited.value.retry_after_s == 20
    assert pauses.seconds == [20.0] * 3


async def test_nobody_sits_still_for_an_hour(scripted: Scripted, pauses: Pauses) -> None:
    scripted.play(GENERATIONS, error(503, retry_after="3600"))
    async with client_of(scripted, pauses.patience(timeout_s=20)) as client:
        with pytest.raises(ServiceFailed) as failed:
            await client.generate("a lamp")
    assert failed.value.retry_after_s == 3600
    assert pauses.seconds == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(402, "insufficient_balance"), (429, "insufficient_quota"), (402, "budget_exceeded")],
)
async def test_no_money_is_told_at_once_whatever_its_status(
    scripted: Scripted, pauses: Pauses, status: int, code: str
) -> None:
    scripted.play(GENERATIONS, error(status, code))
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises(OutOfMoney) as refused:
            await client.generate("a lamp")
    assert refused.value.code == code
    assert pauses.seconds == []


async def test_nothing_is_tried_past_the_deadline(scripted: Scripted, pauses: Pauses) -> None:
    """Of half a second the first pause leaves nothing: a second try is not made."""
    scripted.play(GENERATIONS, error(503))
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises(ServiceFailed):
            await client.generate("a lamp", deadline_s=0.5)
    assert pauses.seconds == []
    assert len(scripted.to(GENERATIONS)) == 1


async def test_the_server_is_told_what_is_left_of_the_deadline(
    scripted: Scripted, pauses: Pauses
) -> None:
    scripted.play(GENERATIONS, error(503), image_answer("/i/a.png"))
    async with client_of(scripted, pauses.patience()) as client:
        await client.generate("a lamp", deadline_s=30)
    told = [asked.headers["x-request-deadline"] for asked in scripted.to(GENERATIONS)]
    left_ms = [int(text.removesuffix("ms")) for text in told]
    assert 30_000 >= left_ms[0] >= left_ms[1] > 25_000


async def test_a_silent_server_is_given_up_and_the_key_is_told(
    scripted: Scripted, pauses: Pauses
) -> None:
    scripted.play(GENERATIONS, Play(hang=True))
    async with client_of(scripted, pauses.patience(retries=1, timeout_s=0.1)) as client:
        with pytest.raises(TimedOut) as late:
            await client.generate("a lamp", idempotency_key="mine")
    assert late.value.idempotency_key == "mine"
    assert "collect it without paying twice" in str(late.value)
    assert len(scripted.to(GENERATIONS)) == 2


async def test_nobody_there_is_unreachable(pauses: Pauses) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with AsyncClient(url, "sk-test", patience=pauses.patience()) as client:
            with pytest.raises(Unreachable):
                await client.generate("a lamp")
    assert len(pauses.seconds) == 3


async def test_a_redirect_is_not_followed_with_an_order(scripted: Scripted, pauses: Pauses) -> None:
    moved = Play(308, headers={"location": "https://elsewhere.example/v1"})
    scripted.play(GENERATIONS, moved)
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises(ServiceFailed, match="use that one as base_url"):
            await client.generate("a lamp")


async def test_a_page_instead_of_an_api_says_so(scripted: Scripted, pauses: Pauses) -> None:
    page = Play(body=b"<html>", headers={"content-type": "text/html"})
    scripted.play(GENERATIONS, page)
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises(ServiceFailed, match="is the address right"):
            await client.generate("a lamp")


async def test_an_error_behind_white_space_is_an_error(scripted: Scripted, pauses: Pauses) -> None:
    """A key that is kept alive gets its errors under 200."""
    late = b'   {"error": {"message": "No.", "type": "server_error", "code": "upstream_error"}}'
    scripted.play(GENERATIONS, Play(body=late, headers={"x-safelight-job-id": "job_1"}))
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises(ServiceFailed) as failed:
            await client.generate("a lamp")
    assert (failed.value.code, failed.value.job_id) == ("upstream_error", "job_1")


async def test_an_answer_without_a_picture_is_told(scripted: Scripted, pauses: Pauses) -> None:
    scripted.play(GENERATIONS, Play(body={"created": 1, "data": []}))
    async with client_of(scripted, pauses.patience()) as client:
        with pytest.raises(BrokenPicture):
            await client.generate("a lamp")


async def test_a_call_that_is_cancelled_leaves_no_connection(
    scripted: Scripted, pauses: Pauses
) -> None:
    scripted.play(GENERATIONS, Play(hang=True))
    async with client_of(scripted, pauses.patience()) as client:
        call = asyncio.create_task(client.generate("a lamp"))
        await scripted.hanging.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert len(scripted.to(GENERATIONS)) == 1


async def test_the_figures_count_tries_failures_and_pictures(
    scripted: Scripted, pauses: Pauses
) -> None:
    link = f"{scripted.url}/i/a.png"
    scripted.play(GENERATIONS, error(500), Play(cut=True), image_answer(link))
    scripted.play("/i/a.png", Play(503), Play(body=PNG))
    async with client_of(scripted, pauses.patience()) as client:
        assert client.figures.mean_generation_s is None
        picture = await client.generate("a lamp")
        assert picture.link == link
    figures = client.figures
    assert (figures.tries, figures.server_errors, figures.pictures) == (3, 1, 1)
    assert figures.server_error_rate == pytest.approx(1 / 3)
    assert figures.mean_generation_s == pytest.approx(figures.generation_s)
