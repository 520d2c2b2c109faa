"""Servers that are no safelight: pictures in any form, and a clear word about the rest.

The fault upstream plays them; some of it stands behind a real gateway, where the gateway's retries
and the client's work together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from client_api.scripted import Pauses
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.script import Kind
from safelight.bench.faults.server import FaultUpstream
from safelight.client import AsyncClient, BrokenPicture, NotSupported, Order, Refused
from safelight.client.errors import ServiceFailed, TimedOut
from safelight.client.transport import Patience


@pytest.fixture
async def vendor() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream(strict=True) as upstream:
        yield upstream


def client_of(vendor: FaultUpstream, pauses: Pauses) -> AsyncClient:
    return AsyncClient(vendor.base_url, "sk-vendor", patience=pauses.patience())


async def test_another_server_is_known_as_one(vendor: FaultUpstream, pauses: Pauses) -> None:
    async with client_of(vendor, pauses) as client:
        found = await client.capabilities()
    assert not found.safelight
    assert "gpt-image-2" in found.channels


async def test_base64_is_the_vendors_own_way(
    vendor: FaultUpstream, pauses: Pauses, tmp_path: Path
) -> None:
    """OpenAI's gpt-image models take no `response_format`: none is sent."""
    async with client_of(vendor, pauses) as client:
        picture = await client.generate("a lamp", model="gpt-image-2", size="1024x1024")
        saved = await client.save(picture, tmp_path / "lamp")
    assert "response_format" not in vendor.requests[0].fields
    assert vendor.requests[0].headers["idempotency-key"] == picture.idempotency_key
    assert (picture.link, picture.job_id, picture.charge_micros) == (None, None, None)
    assert (saved.width, saved.height, saved.path.suffix) == (1024, 1024, ".png")


async def test_a_link_of_another_server_is_fetched_without_the_key(
    vendor: FaultUpstream, pauses: Pauses, tmp_path: Path
) -> None:
    vendor.play(Kind.URL)
    async with client_of(vendor, pauses) as client:
        picture = await client.generate("a lamp", model="gpt-image-2", size="1024x1024")
        saved = await client.save(picture, tmp_path / "lamp.png")
    assert (saved.width, saved.height) == (1024, 1024)
    assert [stray.key for stray in vendor.strays] == [""]


async def test_an_edit_is_a_form_as_the_official_sdk_sends_it(
    vendor: FaultUpstream, pauses: Pauses, tmp_path: Path
) -> None:
    async with client_of(vendor, pauses) as client:
        first = await client.generate("a shoe", model="gpt-image-2", size="1024x1024")
        assert first.data is not None
        await client.edit("on a beach", [first.data], model="gpt-image-2", quality="low")
        await client.edit("together", [first.data, first.data], model="gpt-image-2")
    one, two = vendor.requests[1:]
    assert [file.field for file in one.files] == ["image"]
    assert [file.field for file in two.files] == ["image[]", "image[]"]
    assert one.fields == {"model": "gpt-image-2", "prompt": "on a beach", "quality": "low"}
    assert {file.content_type for file in two.files} <= {"image/png", "image/jpeg"}


@pytest.mark.parametrize("fault", [500, 502, 503, 429, Kind.RESET, Kind.SHORT])
async def test_what_passes_is_hidden(
    vendor: FaultUpstream, pauses: Pauses, fault: int | Kind
) -> None:
    vendor.play(fault)
    async with client_of(vendor, pauses) as client:
        picture = await client.generate("a lamp", model="gpt-image-2", size="1024x1024")
    assert picture.data is not None
    assert len(vendor.requests) == 2
    assert client.figures.tries == 2


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("moderation", Refused),
        (401, Refused),
        (Kind.ERROR_200, ServiceFailed),
        (Kind.HTML, ServiceFailed),
        (Kind.CUT_JSON, ServiceFailed),
        (Kind.EMPTY, BrokenPicture),
        (Kind.BAD_BASE64, BrokenPicture),
    ],
)
async def test_what_does_not_pass_is_told_and_not_bought_again(
    vendor: FaultUpstream, pauses: Pauses, fault: int | str, raised: type[Exception]
) -> None:
    vendor.play(fault)
    async with client_of(vendor, pauses) as client:
        with pytest.raises(raised):
            await client.generate("a lamp", model="gpt-image-2", size="1024x1024")
    assert len(vendor.requests) == 1


async def test_what_only_a_safelight_has_says_so(vendor: FaultUpstream, pauses: Pauses) -> None:
    order = Order("a lamp", model="gpt-image-2")
    async with client_of(vendor, pauses) as client:
        for call, what in (
            (lambda: client.quote(order), "a quote"),
            (lambda: client.submit(order), "a job"),
            (lambda: client.wait("job_1"), "a job"),
            (lambda: client.cancel("job_1"), "a job"),
            (client.balance, "a balance"),
            (client.sizes, "a list of sizes"),
            (lambda: anext(client.statement()), "a statement"),
            (lambda: anext(client.jobs()), "a list of jobs"),
            (lambda: anext(client.events("job_1")), "a job"),
        ):
            with pytest.raises(NotSupported, match=f"^{what} is not to be had at"):
                await call()
    assert vendor.requests == []


async def test_a_server_without_a_list_of_models_is_no_safelight(
    vendor: FaultUpstream, pauses: Pauses
) -> None:
    async with AsyncClient(
        f"{vendor.origin}/elsewhere", "sk-vendor", patience=pauses.patience()
    ) as client:
        assert not (await client.capabilities()).safelight


# --- the fault upstream behind a real gateway ---


async def test_a_call_that_was_given_up_is_joined_and_paid_once(
    upstream: FaultUpstream, gateway: GatewayProcess, key: str, pauses: Pauses
) -> None:
    """The client's own time limit is shorter than the picture takes; its retry finds the job."""
    upstream.play({"kind": "ok", "latency_s": 1.2})
    sold = len(upstream.sales)
    patience = pauses.patience(timeout_s=0.7, retries=10)
    async with AsyncClient(gateway.base_url, key, patience=patience) as client:
        picture = await client.generate("a lamp", size="1024x1024")
        lines = [line async for line in client.statement() if line.job_id == picture.job_id]
    assert [line.amount_micros for line in lines] == [-30_000]
    assert len(upstream.sales) == sold + 1
    assert picture.replayed
    assert client.figures.tries > 1


@pytest.mark.campaign
async def test_a_gateway_that_dies_is_waited_for_and_the_job_is_one(
    upstream: FaultUpstream, tmp_path: Path
) -> None:
    """kill -9 while a watcher watches: it goes on after the restart, and pays once."""
    upstream.play({"kind": "ok", "latency_s": 0.8})
    with GatewayProcess(tmp_path, accounts(upstream.base_url)) as gateway:
        key = gateway.first_key or gateway.key()
        killed = False
        quick = Patience(pause_s=0.05, retries=6)
        async with AsyncClient(gateway.base_url, key, patience=quick) as client:
            job = await client.submit(Order("a lamp", size="1024x1024"))
            async for change in client.watch(job, timeout_s=60):
                if change.job.stage == "sent" and not killed:
                    killed = True
                    gateway.kill()
                    gateway.start()
            assert change.job.status == "completed"
            lines = [line async for line in client.statement() if line.kind == "settle"]
        assert len(lines) == 1


async def test_a_deadline_ends_an_order_for_good_and_free(
    upstream: FaultUpstream, gateway: GatewayProcess, key: str
) -> None:
    upstream.play({"kind": "stall", "seconds": 5})
    async with AsyncClient(gateway.base_url, key) as client:
        with pytest.raises(TimedOut) as late:
            await client.generate("a lamp", size="1024x1024", deadline_s=0.6)
        assert late.value.job_id is not None
        assert (await client.job(late.value.job_id)).status == "failed"
        lines = [line async for line in client.statement() if line.job_id == late.value.job_id]
    assert [(line.amount_micros, line.reason) for line in lines] == [(0, "deadline_exceeded")]
    assert client.figures.tries == 1
