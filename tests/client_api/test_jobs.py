"""Jobs at a real gateway: submitting, waiting, watching, cancelling, listing."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from client_api.scripted import PNG, Pauses, Play, Scripted, error
from safelight.bench.faults.server import FaultUpstream
from safelight.client import (
    AsyncClient,
    Job,
    JobChange,
    Order,
    OutOfMoney,
    Refused,
    ServiceFailed,
    TimedOut,
)
from safelight.client.errors import BadOrder, BrokenPicture

LATER = {"delay_s": 3600}


async def test_a_job_is_there_at_once_and_its_picture_later(
    client: AsyncClient, tmp_path: Path
) -> None:
    order = Order("a lamp", size="1024x1024", parameters={"metadata": {"row": "7"}}).with_key()
    job = await client.submit(order)
    assert job.status in ("queued", "in_progress")
    assert job.metadata == {"row": "7"}
    assert (await client.submit(order)).id == job.id
    ended = await client.wait(job, timeout_s=30)
    assert ended.status == "completed"
    saved = await client.save(ended.picture(), tmp_path / "lamp")
    assert saved.sha256 == ended.picture().sha256
    assert client.figures.pictures == 1


async def test_an_edit_can_be_a_job_too(client: AsyncClient, tmp_path: Path) -> None:
    picture = await client.save(
        await client.generate("a shoe", size="1024x1024"), tmp_path / "shoe"
    )
    order = Order("on a beach", inputs=(picture.path,), parameters={"metadata": {"row": "1"}})
    job = await client.wait(await client.submit(order), timeout_s=30)
    assert (job.status, job.metadata) == ("completed", {"row": "1"})


async def test_a_watcher_sees_every_state_and_the_partial_pictures(
    upstream: FaultUpstream, client: AsyncClient
) -> None:
    upstream.play({"kind": "ok", "partials": 2, "latency_s": 0.6})
    changes: list[JobChange] = []
    job = await client.submit(Order("a lamp", size="1024x1024", parameters={"partial_images": 2}))
    ended = await client.wait(job, timeout_s=30, on_change=changes.append)
    assert ended == changes[-1].job
    kinds = [change.event.type for change in changes]
    assert (kinds[0], kinds[-1]) == ("job.queued", "job.completed")
    stages = [change.job.stage for change in changes]
    assert [stage for stage in dict.fromkeys(stages) if stage] == [
        *("sent", "received", "verified", "stored", "settled")
    ]
    partials = [change.partial for change in changes if change.partial]
    assert partials
    assert all(partial.startswith(b"\x89PNG") for partial in partials)


async def test_events_are_gone_on_with_after_any_of_them(client: AsyncClient) -> None:
    job = await client.wait(await client.submit(Order("a lamp", size="1024x1024")), timeout_s=30)
    told = [event async for event in client.events(job)]
    assert told[-1].last
    rest = [event.id async for event in client.events(job.id, after=told[1].id)]
    assert rest == [event.id for event in told[2:]]
    assert [event async for event in client.events(job.id, after=told[-1].id)] == []


async def test_waiting_ends_with_its_time_and_the_job_goes_on(client: AsyncClient) -> None:
    job = await client.submit(Order("a lamp", parameters=LATER))
    for on_change in (None, lambda _change: None):
        with pytest.raises(TimedOut, match="it goes on") as late:
            await client.wait(job, timeout_s=0.2, on_change=on_change)
        assert late.value.job_id == job.id
    assert (await client.job(job.id)).status == "queued"
    await client.cancel(job)


async def test_a_cancelled_job_is_free_and_has_no_picture(client: AsyncClient) -> None:
    before = (await client.balance()).available_micros
    job = await client.submit(Order("a lamp", parameters=LATER))
    assert (await client.balance()).available_micros == before - 30_000
    cancelled = await client.cancel(job.id)
    assert (cancelled.status, cancelled.ended) == ("cancelled", True)
    assert (await client.cancel(job.id)).status == "cancelled"
    assert (await client.wait(job)).status == "cancelled"
    with pytest.raises(Refused) as refused:
        cancelled.picture()
    assert refused.value.code == "job_cancelled"
    assert (await client.balance()).available_micros == before


async def test_a_job_that_has_ended_cannot_be_cancelled(client: AsyncClient) -> None:
    job = await client.wait(await client.submit(Order("a lamp", size="1024x1024")))
    with pytest.raises(Refused) as refused:
        await client.cancel(job)
    assert (refused.value.status, refused.value.code) == (409, "job_ended")


async def test_jobs_are_listed_by_what_is_asked(client: AsyncClient) -> None:
    waiting = [await client.submit(Order("a lamp", parameters=LATER)) for _ in range(3)]
    listed = [job.id async for job in client.jobs(status=["queued"])]
    assert listed == [job.id for job in reversed(waiting)]
    oldest_first = [job.id async for job in client.jobs(status="queued", newest_first=False)]
    assert oldest_first == [job.id for job in waiting]
    one = [job.id async for job in client.jobs(request_id=waiting[1].request_id)]
    assert one == [waiting[1].id]
    for job in waiting:
        await client.cancel(job)
    assert [job async for job in client.jobs(status="queued")] == []


async def test_a_job_of_nobody_is_refused(client: AsyncClient) -> None:
    with pytest.raises(Refused) as refused:
        await client.wait("job_none")
    assert refused.value.status == 404
    with pytest.raises(BadOrder):
        await client.job(" ")


def view(status: str = "queued", **more: Any) -> dict[str, Any]:
    return {"id": "job_1", "status": status, "created_at": 1, "model": "m", **more}


def frames(*events: dict[str, Any]) -> bytes:
    return b": keep-alive\n\n" + b"".join(
        b"id: %s\nevent: %s\ndata: %s\n\n"
        % (event["id"].encode(), event["type"].encode(), msgspec.json.encode(event))
        for event in events
    )


def event(id_: str, type_: str, status: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "type": type_, "job_id": "job_1", "created_at": 1, "status": status, **more}


async def test_events_that_are_cut_are_gone_on_with_where_they_were(
    scripted: Scripted, pauses: Pauses
) -> None:
    """A cut in the middle of an event loses nothing; new events forgive old cuts."""
    first = event("1", "job.queued", "queued", job=view())
    second = event("2", "job.in_progress", "in_progress", stage="sent")
    last = event("3", "job.completed", "completed", job=view("completed"))
    scripted.play("/v1/jobs/job_1", Play(body=view("in_progress")))
    scripted.play(
        "/v1/jobs/job_1/events",
        Play(body=frames(first) + b'id: 2\ndata: {"typ', cut=True),
        Play(503),
        Play(body=frames(second)),
        Play(body=frames(last)),
    )
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        told = [one.id async for one in client.events("job_1")]
    assert told == ["1", "2", "3"]
    after = [asked.headers.get("last-event-id") for asked in scripted.to("/v1/jobs/job_1/events")]
    assert after == [None, "1", "1", "2"]


async def test_events_that_stay_away_are_an_error(scripted: Scripted, pauses: Pauses) -> None:
    scripted.play("/v1/jobs/job_1/events", error(503))
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        with pytest.raises(ServiceFailed):
            _ = [one async for one in client.events("job_1")]
    assert len(pauses.seconds) == 3


async def test_whoever_stops_watching_leaves_no_connection(
    scripted: Scripted, pauses: Pauses
) -> None:
    first = event("1", "job.queued", "queued", job=view())
    scripted.play("/v1/jobs/job_1/events", Play(body=frames(first)))
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        async with aclosing(client.watch("job_1")) as changes:
            change = await anext(changes)
        assert change.job.status == "queued"


async def test_a_server_that_allows_no_long_looks_is_asked_more_often(
    scripted: Scripted, pauses: Pauses
) -> None:
    """`max_wait_s` is the operator's; a refusal of `wait` is answered by looking again."""
    refused = {"error": {"message": "Too long.", "code": "invalid_value", "param": "wait"}}
    scripted.play(
        "/v1/jobs/job_1",
        Play(400, refused),
        Play(body=view(), headers={"retry-after": "7"}),
        Play(body=view("completed")),
    )
    async with AsyncClient(scripted.url, "sk-test", patience=pauses.patience()) as client:
        assert (await client.wait("job_1")).status == "completed"
    assert [asked.query["wait"] for asked in scripted.to("/v1/jobs/job_1")] == ["30", "0", "0"]
    assert pauses.seconds == [7.0]


@pytest.mark.parametrize(
    ("type_", "raised"),
    [
        ("invalid_request_error", Refused),
        ("image_generation_user_error", Refused),
        ("server_error", ServiceFailed),
        ("insufficient_quota", OutOfMoney),
    ],
)
def test_a_failed_job_raises_what_a_call_would_have(type_: str, raised: type[Exception]) -> None:
    problem = {"message": "No.", "type": type_, "code": "c", "param": None}
    job = msgspec.convert(view("failed", error=problem), Job)
    with pytest.raises(raised) as failed:
        job.picture()
    assert str(failed.value) == "No."


def test_a_job_that_has_not_ended_has_no_picture_yet() -> None:
    with pytest.raises(BrokenPicture, match=r"wait\(\) for it first"):
        msgspec.convert(view(), Job).picture()


def test_fields_of_a_later_release_are_ignored() -> None:
    image = {
        "id": "i",
        "url": "u",
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "bytes": 1,
        "width": 2,
        "height": 3,
        "format": "png",
        "from_the_future": True,
    }
    job = msgspec.convert(view("completed", image=image, more={"a": 1}), Job)
    assert job.picture().size == "2x3"
