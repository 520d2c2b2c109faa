"""Orders that nobody waits for, and the jobs' own routes: look, wait, list, cancel."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
import openai
import pytest

from api.asking import BODY, MODEL, error_of
from api.conftest import Server
from api.fake_gateway import OTHER_KEY
from api.pictures import png
from safelight.api.openapi import openapi_json
from safelight.types import JobClass, JobFailure, JobState

ASYNC = {"prefer": "respond-async"}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "a lamp"}]}
WEEK_S = 7 * 86_400


async def job_of(http: aiohttp.ClientSession, path: str, **sent: Any) -> dict[str, Any]:
    """Order without waiting, check the head of the answer and return the job."""
    async with http.post(path, **sent) as answer:
        assert answer.status == 202, await answer.text()
        job: dict[str, Any] = await answer.json()
        assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
        assert answer.headers["retry-after"] == "25"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-safelight-job-id"] == job["id"]
        assert answer.headers.get("preference-applied") in (None, "respond-async")
    return job


def edit_form(**fields: str) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in {"model": MODEL, "prompt": "a lamp", **fields}.items():
        form.add_field(name, value)
    form.add_field("image", png(), filename="a.png", content_type="image/png")
    return form


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/images/generations", BODY), ("/v1/chat/completions", CHAT)]
)
async def test_every_json_route_answers_202_by_header_or_field(
    http: aiohttp.ClientSession, server: Server, path: str, body: dict[str, Any]
) -> None:
    by_header = await job_of(http, path, json=body, headers=ASYNC)
    by_field = await job_of(http, path, json={**body, "async": True})
    for job in (by_header, by_field):
        assert job["object"] == "image.job"
        assert (job["status"], job["class"], job["priority"]) == ("queued", "job", 100)
        assert job["queue_position"] == 3
        assert job["expected_finish_at"] == server.clock.now_ms() // 1000 + 25
        assert job["image"] is job["batch_id"] is job["not_before"] is None
    assert all(one.done for one in server.gateway.attachments)


async def test_an_edit_answers_202_as_a_form_too(
    http: aiohttp.ClientSession, server: Server
) -> None:
    await job_of(http, "/v1/images/edits", data=edit_form(), headers=ASYNC)
    form = edit_form(**{"async": "true", "priority": "7", "delay_s": "1.5"})
    job = await job_of(http, "/v1/images/edits", data=form)
    assert job["priority"] == 7
    queued = server.gateway.queued[-1]
    assert queued is not None
    assert queued.not_before == server.clock.now_ms() + 1500
    assert queued.job_class is JobClass.JOB


@pytest.mark.parametrize(
    "prefer", ["respond-async", "handling=lenient, Respond-Async; foo=bar", "wait=10,respond-async"]
)
async def test_the_preference_is_read_among_others(
    http: aiohttp.ClientSession, prefer: str
) -> None:
    headers = {"prefer": prefer}
    async with http.post("/v1/images/generations", json=BODY, headers=headers) as answer:
        assert answer.status == 202
        assert answer.headers["preference-applied"] == "respond-async"


@pytest.mark.parametrize("prefer", ["wait=10", "return=minimal", 'x="respond-async"', ""])
async def test_other_preferences_are_ignored(http: aiohttp.ClientSession, prefer: str) -> None:
    headers = {"prefer": prefer}
    async with http.post("/v1/images/generations", json=BODY, headers=headers) as answer:
        assert answer.status == 200


async def test_the_body_overrules_the_header(http: aiohttp.ClientSession) -> None:
    body = {**BODY, "async": False}
    async with http.post("/v1/images/generations", json=body, headers=ASYNC) as answer:
        assert answer.status == 200


async def test_several_pictures_are_a_request_with_its_jobs(http: aiohttp.ClientSession) -> None:
    body = {**BODY, "model": "gpt-image-2", "n": 3}
    async with http.post("/v1/images/generations", json=body, headers=ASYNC) as answer:
        assert answer.status == 202
        found = await answer.json()
    assert found["object"] == "image.request"
    assert [job["n_index"] for job in found["jobs"]] == [0, 1, 2]
    where = f"/v1/jobs?request_id={found['id']}&order=asc"
    assert answer.headers["location"] == where
    async with http.get(where) as listed:
        assert [job["id"] for job in (await listed.json())["data"]] == [
            job["id"] for job in found["jobs"]
        ]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"async": True, "stream": True}, "stream", "unsupported_parameter"),
        ({"priority": 3}, "priority", "unsupported_parameter"),
        ({"not_before": 2_000_000_000}, "not_before", "unsupported_parameter"),
        ({"delay_s": 3}, "delay_s", "unsupported_parameter"),
        ({"async": True, "priority": 0}, "priority", "invalid_value"),
        ({"async": True, "priority": 1001}, "priority", "invalid_value"),
        ({"async": "yes"}, "async", "invalid_type"),
        ({"async": True, "delay_s": WEEK_S + 1}, "delay_s", "invalid_value"),
        ({"async": True, "not_before": 10**11}, "not_before", "invalid_value"),
        ({"async": True, "not_before": 10**10}, "not_before", "invalid_value"),
        ({"async": True, "not_before": 1, "delay_s": 1}, "delay_s", "invalid_value"),
        ({"webhook_url": "ftp://example.com/"}, "webhook_url", "invalid_value"),
        ({"webhook_url": "https:///hook"}, "webhook_url", "invalid_value"),
        ({"webhook_url": "https://[::1/"}, "webhook_url", "invalid_value"),
        ({"webhook_url": "https://a b/"}, "webhook_url", "invalid_value"),
        ({"webhook_url": "https://a/" + "x" * 2048}, "webhook_url", "invalid_value"),
        ({"async_": True}, "async_", "unknown_parameter"),
    ],
)
async def test_what_does_not_fit_is_refused_by_name(
    http: aiohttp.ClientSession, server: Server, fields: dict[str, Any], param: str, code: str
) -> None:
    for path, body in (("/v1/images/generations", BODY), ("/v1/chat/completions", CHAT)):
        async with http.post(path, json={**body, **fields}) as answer:
            assert answer.status == 400
            error = await error_of(answer)
            assert (error["param"], error["code"]) == (param, code)
    assert server.gateway.requests == []


async def test_a_job_that_would_begin_after_its_deadline_is_refused(
    http: aiohttp.ClientSession,
) -> None:
    headers = {**ASYNC, "x-request-deadline": "30"}
    async with http.post(
        "/v1/images/generations",
        json={**BODY, "delay_s": 60},
        headers=headers,
    ) as answer:
        assert answer.status == 400
        assert (await error_of(answer))["param"] == "not_before"


async def test_metadata_is_shown_on_every_job_of_the_order(http: aiohttp.ClientSession) -> None:
    mine = {"ticket": "17", "of": "Zoë"}
    body = {**BODY, "metadata": mine}
    async with http.post("/v1/images/generations", json=body, headers=ASYNC) as answer:
        job = await answer.json()
    assert job["metadata"] == mine
    async with http.get(f"/v1/jobs/{job['id']}") as answer:
        assert (await answer.json())["metadata"] == mine


@pytest.mark.parametrize(
    "metadata",
    [{str(n): "x" for n in range(17)}, {"a" * 65: "x"}, {"a": "x" * 513}, {"a": 1}, "a", ["a"]],
)
async def test_metadata_is_bounded_as_openais(
    http: aiohttp.ClientSession, metadata: object
) -> None:
    body = {**BODY, "metadata": metadata}
    async with http.post("/v1/images/generations", json=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"].startswith("metadata")


async def test_a_webhooks_address_travels_with_every_order(
    http: aiohttp.ClientSession, server: Server
) -> None:
    url = "https://example.com/hook?a=b"
    for more in ({}, {"async": True}):
        async with http.post(
            "/v1/images/generations",
            json={**BODY, **more, "webhook_url": url},
        ) as answer:
            assert answer.status in (200, 202)
    assert [caller.webhook_url for caller in server.gateway.callers] == [url, url]


async def test_partial_images_count_where_they_can_be_watched(
    http: aiohttp.ClientSession, server: Server
) -> None:
    for headers, counted in ((ASYNC, 2), ({}, 0)):
        body = {**BODY, "partial_images": 2}
        async with http.post("/v1/images/generations", json=body, headers=headers) as answer:
            assert answer.ok
        assert server.gateway.requests[-1].partial_images == counted


async def test_the_sdk_takes_a_202_without_an_exception(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    answer = await client.images.generate(model=MODEL, prompt="a lamp", extra_headers=ASYNC)
    assert answer.data is None
    raw = await client.images.with_raw_response.generate(
        model=MODEL, prompt="a lamp", extra_body={"async": True}
    )
    assert raw.status_code == 202
    job = raw.http_response.json()
    found = await client.get(f"/jobs/{job['id']}?wait=30", cast_to=object)
    assert isinstance(found, dict)
    assert found["status"] == "completed"
    assert server.gateway.waited_s == [30]
    posted = await client.post(
        "/images/generations",
        body={**BODY, "async": True},
        cast_to=object,
    )
    assert isinstance(posted, dict)
    assert posted["status"] == "queued"


def test_the_document_describes_the_202_and_the_events() -> None:
    document = msgspec.json.decode(openapi_json())
    for path in ("/v1/images/generations", "/v1/images/edits", "/v1/chat/completions"):
        operation = document["paths"][path]["post"]
        assert "Prefer" in {one["name"] for one in operation["parameters"]}
        assert set(operation["responses"]["202"]["headers"]) >= {"Location", "Retry-After"}
        assert not {"502", "504"} & set(operation["responses"])
    events = document["paths"]["/v1/jobs/{id}/events"]["get"]["responses"]
    assert set(events["200"]["content"]) == {"text/event-stream"}
    assert "409" in document["paths"]["/v1/jobs/{id}/cancel"]["post"]["responses"]
    job = document["components"]["schemas"]["JobView"]["properties"]
    assert {"class", "queue_position", "expected_finish_at"} <= set(job)
    order = document["components"]["schemas"]["GenerationBody"]["properties"]
    assert {"async", "priority", "not_before", "delay_s", "webhook_url"} <= set(order)


# --- looking and waiting -------------------------------------------------------------------------


async def test_a_look_says_when_to_look_again_until_the_job_has_ended(
    http: aiohttp.ClientSession,
) -> None:
    job = await job_of(http, "/v1/images/generations", json=BODY, headers=ASYNC)
    async with http.get(f"/v1/jobs/{job['id']}") as answer:
        assert answer.headers["retry-after"] == "25"
        assert answer.headers["cache-control"] == "no-store"
        assert (await answer.json())["status"] == "queued"
    async with http.get(f"/v1/jobs/{job['id']}?wait=5") as answer:
        assert "retry-after" not in answer.headers
        found = await answer.json()
    assert (found["status"], found["queue_position"], found["expected_finish_at"]) == (
        "completed",
        None,
        None,
    )
    async with http.get(found["image"]["url"]) as picture:
        assert picture.status == 200


@pytest.mark.parametrize("wait", ["61", "-1", "1.5", "x", "999999"])
async def test_a_wait_is_bounded(http: aiohttp.ClientSession, server: Server, wait: str) -> None:
    job = await job_of(http, "/v1/images/generations", json=BODY, headers=ASYNC)
    async with http.get(f"/v1/jobs/{job['id']}", params={"wait": wait}) as answer:
        assert answer.status == 400
        error = await error_of(answer)
        assert (error["param"], error["code"]) == ("wait", "invalid_value")
        assert "60" in error["message"]
    assert server.gateway.waited_s == []


async def test_who_hangs_up_while_waiting_leaves_the_job_alone(
    http: aiohttp.ClientSession, server: Server
) -> None:
    job = await job_of(http, "/v1/images/generations", json=BODY, headers=ASYNC)
    server.gateway.hold = asyncio.Event()
    server.gateway.waiting.clear()
    asking = asyncio.create_task(http.get(f"/v1/jobs/{job['id']}?wait=60"))
    await asyncio.wait_for(server.gateway.waiting.wait(), 5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    async with http.get(f"/v1/jobs/{job['id']}") as answer:
        assert (await answer.json())["status"] == "queued"


# --- the list ------------------------------------------------------------------------------------


async def test_the_list_has_openais_shape_and_goes_on_after_its_last_id(
    http: aiohttp.ClientSession,
) -> None:
    ids = [
        (await job_of(http, "/v1/images/generations", json=BODY, headers=ASYNC))["id"]
        for _ in range(3)
    ]
    async with http.get("/v1/jobs", params={"limit": 2}) as answer:
        page = await answer.json()
        assert answer.headers["cache-control"] == "no-store"
    assert (page["object"], page["has_more"]) == ("list", True)
    assert [job["id"] for job in page["data"]] == [ids[2], ids[1]]
    assert (page["first_id"], page["last_id"]) == (ids[2], ids[1])
    async with http.get("/v1/jobs", params={"limit": 2, "after": page["last_id"]}) as answer:
        page = await answer.json()
    assert ([job["id"] for job in page["data"]], page["has_more"]) == ([ids[0]], False)
    async with http.get("/v1/jobs", headers={"authorization": f"Bearer {OTHER_KEY}"}) as answer:
        page = await answer.json()
    assert (page["data"], page["first_id"], page["has_more"]) == ([], None, False)


async def test_filters_are_read(http: aiohttp.ClientSession, server: Server) -> None:
    params = {
        "status": "queued,failed,queued",
        "model": MODEL,
        "request_id": "req_1",
        "batch_id": "batch_1",
        "created_after": "1000",
        "created_before": "2000",
    }
    async with http.get("/v1/jobs", params=params) as answer:
        assert answer.status == 200
    (chosen,) = server.gateway.asked_for
    assert msgspec.structs.asdict(chosen) == {
        "states": (JobState.QUEUED, JobState.FAILED),
        "channel": MODEL,
        "request_id": "req_1",
        "batch_id": "batch_1",
        "from_ms": 1_000_000,
        "to_ms": 2_000_999,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "done"),
        ("status", ","),
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "x"),
        ("order", "up"),
        ("created_after", "yesterday"),
        ("created_before", "-5"),
        ("after", "job_of_nobody"),
        ("metadata", "x"),
    ],
)
async def test_a_bad_filter_is_named(http: aiohttp.ClientSession, name: str, value: str) -> None:
    async with http.get("/v1/jobs", params={name: value}) as answer:
        assert answer.status == 400
        assert (await error_of(answer))["param"] == name


# --- cancelling ----------------------------------------------------------------------------------


async def test_a_waiting_job_is_cancelled_and_so_it_stays(http: aiohttp.ClientSession) -> None:
    job = await job_of(http, "/v1/images/generations", json=BODY, headers=ASYNC)
    bodies: tuple[dict[str, Any] | None, ...] = (None, {})
    for body in bodies:
        async with http.post(f"/v1/jobs/{job['id']}/cancel", json=body) as answer:
            assert answer.status == 200
            found = await answer.json()
            assert (found["id"], found["status"]) == (job["id"], "cancelled")
            assert found["cancel_requested_at"] is not None


async def test_of_a_running_job_the_wish_is_noted(
    http: aiohttp.ClientSession, server: Server
) -> None:
    job = await job_of(http, "/v1/images/generations", json=BODY, headers=ASYNC)
    server.gateway.put(server.gateway.jobs[job["id"]], state=JobState.IN_PROGRESS)
    async with http.post(f"/v1/jobs/{job['id']}/cancel") as answer:
        assert answer.status == 200
        found = await answer.json()
    assert found["status"] == "in_progress"
    assert found["cancel_requested_at"] is not None


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED])
async def test_a_job_that_has_ended_cannot_be_cancelled(
    client: openai.AsyncOpenAI, http: aiohttp.ClientSession, server: Server, state: JobState
) -> None:
    """409, as OpenAI's batches answer; the SDK does not repeat it."""
    job = await job_of(http, "/v1/images/generations", json=BODY, headers=ASYNC)
    server.gateway.put(server.gateway.jobs[job["id"]], state=state)
    patient = client.with_options(max_retries=2)
    with pytest.raises(openai.ConflictError) as refused:
        await patient.post(f"/jobs/{job['id']}/cancel", cast_to=object)
    assert refused.value.code == "job_ended"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert str(state) in refused.value.message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/jobs/{id}"),
        ("GET", "/v1/jobs/{id}?wait=1"),
        ("POST", "/v1/jobs/{id}/cancel"),
        ("GET", "/v1/jobs/{id}/events"),
    ],
)
async def test_another_customers_job_is_not_there(
    http: aiohttp.ClientSession, method: str, path: str
) -> None:
    job = await job_of(http, "/v1/images/generations", json=BODY, headers=ASYNC)
    stranger = {"authorization": f"Bearer {OTHER_KEY}"}
    async with http.request(method, path.replace("{id}", job["id"]), headers=stranger) as answer:
        assert answer.status == 404
        assert (await error_of(answer))["code"] == "not_found"


# --- no body that a CDN replaces -----------------------------------------------------------------


@pytest.mark.parametrize("status", [502, 504])
async def test_no_answer_is_a_502_or_504_whatever_was_stored(
    http: aiohttp.ClientSession, server: Server, status: int
) -> None:
    """The body says which job it was: headers are lost on many ways."""
    server.gateway.failure = JobFailure(
        status=status, type="server_error", code="upstream_error", message="no", retry_after_s=3
    )
    for path, body in (
        ("/v1/images/generations", BODY),
        ("/v1/images/generations", {**BODY, "stream": True}),
        ("/v1/chat/completions", CHAT),
    ):
        async with http.post(path, json=body) as answer:
            assert answer.status == 503
            error = await error_of(answer)
            assert error["job_id"] == answer.headers["x-safelight-job-id"]
            assert answer.headers["retry-after"] == "3"
