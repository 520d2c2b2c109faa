"""The official SDK against the skin, over a real socket."""

from __future__ import annotations

import asyncio
import base64
import io
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import pytest

from api.conftest import Server
from api.fake_gateway import USAGE
from api.pictures import png
from safelight.errors import (
    BudgetExceeded,
    IdempotencyKeyReused,
    InsufficientBalance,
    RateLimited,
    Unavailable,
)
from safelight.notices import LimitNotice
from safelight.types import JobFailure, Operation

MODEL = "gpt-image-2-vip"


async def test_a_generation_answers_base64_by_default(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """The answer is OpenAI's shape, its base64 the stored bytes, its size measured."""
    result = await client.images.generate(model=MODEL, prompt="a lamp", size="2048x1152")
    assert result.data is not None
    assert base64.b64decode(result.data[0].b64_json or "", validate=True) == server.gateway.picture
    assert result.data[0].url is None
    assert (result.size, result.output_format) == ("8x6", "png")
    assert result.usage is not None
    assert result.usage.total_tokens == USAGE.total_tokens
    request = server.gateway.requests[0]
    assert (request.operation, request.size) == (Operation.GENERATION, "2048x1152")
    assert server.gateway.attachments[0].done


@pytest.mark.parametrize("size", [1, 2, 3, 31, 60])
async def test_base64_is_exact_for_every_remainder(
    client: openai.AsyncOpenAI, server: Server, size: int
) -> None:
    """Content-Length and padding are right whatever the picture's length is."""
    server.gateway.picture = png() + b"x" * size
    result = await client.images.generate(model=MODEL, prompt="a lamp")
    assert result.data is not None
    assert base64.b64decode(result.data[0].b64_json or "") == server.gateway.picture


async def test_a_url_answer_can_be_fetched(client: openai.AsyncOpenAI, server: Server) -> None:
    """`response_format="url"` gives an absolute signed link to the same bytes."""
    result = await client.images.generate(model=MODEL, prompt="a lamp", response_format="url")
    assert result.data is not None
    url = result.data[0].url
    assert url is not None
    assert url.startswith(f"{server.url}/i/")
    assert "response_format" in server.gateway.given[0]
    fetched = await client._client.get(url)
    assert fetched.content == server.gateway.picture
    assert fetched.headers["content-type"] == "image/png"


async def test_facts_travel_in_headers(client: openai.AsyncOpenAI, server: Server) -> None:
    """Job, plan, price and request id are there without breaking the typed answer."""
    raw = await client.images.with_raw_response.generate(
        model=MODEL, prompt="a lamp", size="1820x1024"
    )
    assert raw.headers["x-safelight-job-id"] == "job_1"
    assert raw.headers["x-safelight-size-plan"] == "crop from 1824x1024"
    assert raw.headers["x-safelight-price-micros"] == "30000"
    assert raw.headers["x-safelight-image-sha256"] == sha256(server.gateway.picture).hexdigest()
    assert raw.headers["x-request-id"].startswith("req_")
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert "idempotent-replayed" not in raw.headers


async def test_several_images_leave_out_the_failed_ones(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """With n=3 and one failure two pictures come, and the header names the third job."""
    server.gateway.failure = JobFailure(
        status=503, type="server_error", code="upstream_error", message="no"
    )
    server.gateway.failed_jobs = 1
    raw = await client.images.with_raw_response.generate(
        model="gpt-image-2-all", prompt="three lamps", n=3
    )
    result = raw.parse()
    assert result.data is not None
    assert len(result.data) == 2
    assert result.usage is not None
    assert result.usage.output_tokens == 2 * USAGE.output_tokens
    assert raw.headers["x-safelight-job-id"] == "job_1,job_2,job_3"
    assert raw.headers["x-safelight-failed-jobs"] == "job_1;upstream_error"
    assert raw.headers["x-safelight-price-micros"] == "60000"


async def test_an_edit_takes_files_lists_and_bytes(
    client: openai.AsyncOpenAI, server: Server, tmp_path: Path
) -> None:
    """The three upload forms of the SDK arrive in order, the mask beside them."""
    first, second = png(shade=1), png(shade=2)
    path = tmp_path / "a.png"
    path.write_bytes(first)
    with path.open("rb") as file:
        await client.images.edit(model=MODEL, prompt="blue", image=file)
    await client.images.edit(
        model=MODEL, prompt="blue", image=[io.BytesIO(first), second], mask=second
    )
    await client.images.edit(model=MODEL, prompt="blue", image=second)
    one, two, three = server.gateway.requests
    blobs = server.gateway.storage.blobs
    assert [blobs[blob.digest] for blob in one.inputs] == [first]
    assert [blobs[blob.digest] for blob in two.inputs] == [first, second]
    assert two.mask is not None
    assert blobs[two.mask.digest] == second
    assert [blobs[blob.digest] for blob in three.inputs] == [second]
    assert {request.operation for request in server.gateway.requests} == {Operation.EDIT}


async def test_form_values_are_read_as_their_types(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """Integers and booleans of a form are strings on the wire and numbers in the order."""
    await client.images.edit(
        model="gpt-image-2",
        prompt="1",
        image=png(),
        n=2,
        output_format="jpeg",
        output_compression=40,
        stream=False,
        extra_body={"moderation": "low", "safety_identifier": "person", "user": "other"},
    )
    request = server.gateway.requests[0]
    assert (request.n, request.output_compression, request.prompt) == (2, 40, "1")
    assert (request.moderation, request.user) == ("low", "person")


async def test_a_stream_brings_partial_images_then_the_whole(
    client: openai.AsyncOpenAI, server: Server, tmp_path: Path
) -> None:
    """Partial events carry the spooled files, the last event the stored picture and usage."""
    coarse = tmp_path / "partial"
    coarse.write_bytes(png(shade=7))
    server.gateway.partials = [coarse, coarse]
    stream = await client.images.generate(
        model=MODEL, prompt="a lamp", stream=True, partial_images=2
    )
    events: list[Any] = [event async for event in stream]
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert base64.b64decode(events[0].b64_json) == coarse.read_bytes()
    assert base64.b64decode(events[2].b64_json) == server.gateway.picture
    assert events[2].usage.total_tokens == USAGE.total_tokens
    assert events[2].size == "8x6"
    assert server.gateway.requests[0].partial_images == 2
    assert server.gateway.attachments[0].done


async def test_a_stream_of_an_edit_names_its_events_so(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """Event names follow the operation."""
    stream = await client.images.edit(model=MODEL, prompt="a lamp", image=png(), stream=True)
    assert [event.type async for event in stream] == ["image_edit.completed"]


async def test_a_failure_before_the_stream_is_a_plain_error(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """An early refusal has its own status, not a 200 with an event."""
    server.gateway.failure = JobFailure(
        status=400,
        type="image_generation_user_error",
        code="moderation_blocked",
        message="refused",
        moderation_details={"moderation_stage": "input", "categories": ["violence"]},
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await client.images.generate(model=MODEL, prompt="a lamp", stream=True)
    assert caught.value.code == "moderation_blocked"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["moderation_details"]["categories"] == ["violence"]
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_a_failure_inside_the_stream_is_an_error_event(
    client: openai.AsyncOpenAI, server: Server, tmp_path: Path
) -> None:
    """After the first byte the SDK raises from the nested error object of the event."""
    coarse = tmp_path / "partial"
    coarse.write_bytes(png())
    server.gateway.partials = [coarse]
    server.gateway.failure = JobFailure(
        status=503, type="server_error", code="upstream_error", message="gone"
    )
    stream = await client.images.generate(
        model=MODEL, prompt="a lamp", stream=True, partial_images=1
    )
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "upstream_error"


async def test_chat_answers_a_link_and_the_picture_beside_it(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """The content is one markdown link; `message.images` has the same link; no base64."""
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "system", "content": "ink"}, {"role": "user", "content": "a cat"}],
        temperature=0.3,
        extra_body={"size": "16:9@2K"},
    )
    message: Any = answer.choices[0].message
    url = message.images[0]["image_url"]["url"]
    assert message.content == f"![image]({url})"
    assert url.startswith(f"{server.url}/i/")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == USAGE.output_tokens
    request = server.gateway.requests[0]
    assert (request.prompt, request.size) == ("ink\n\na cat", "2048x1152")
    assert request.operation is Operation.GENERATION


async def test_chat_gives_data_urls_to_clients_that_say_image(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """With `modalities` naming "image" the picture is inline, the content still a link."""
    answer = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "a cat"}],
        extra_body={"modalities": ["image", "text"]},
    )
    message: Any = answer.choices[0].message
    url = message.images[0]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,")
    assert base64.b64decode(url.partition(",")[2]) == server.gateway.picture
    assert "base64" not in message.content


async def test_chat_edits_the_newest_answer(client: openai.AsyncOpenAI, server: Server) -> None:
    """Pictures of earlier assistant turns come first, newest first, then the user's own."""
    first = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "a cat"}]
    )
    own = base64.b64encode(png(shade=9)).decode()
    older = server.gateway.add_image("cus_1", png(shade=5))
    link = server.services.links.sign(older.id, "png", ttl_s=60, link_epoch=0)
    server.clock.advance(3600 * 48)  # the owner's links count even after they expired
    await client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "a cat"},
            {"role": "assistant", "content": f"![old]({link}) ![web](https://example.com/x.png)"},
            {"role": "user", "content": "another"},
            {"role": "assistant", "content": first.choices[0].message.content},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "in this style"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{own}"}},
                ],
            },
        ],
    )
    request = server.gateway.requests[1]
    assert request.operation is Operation.EDIT
    assert request.prompt == "in this style"
    blobs = server.gateway.storage.blobs
    assert [blobs[blob.digest] for blob in request.inputs] == [
        server.gateway.picture,
        png(shade=5),
        png(shade=9),
    ]


async def test_chat_streams_role_link_images_usage(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """The frames come in the order that chat clients expect."""
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "a cat"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks: list[Any] = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
    assert deltas[0].role == "assistant"
    assert deltas[1].content.startswith("![image](http")
    assert deltas[2].images[0]["image_url"]["url"] in deltas[1].content
    assert chunks[3].choices[0].finish_reason == "stop"
    assert chunks[4].choices == []
    assert chunks[4].usage.total_tokens == USAGE.total_tokens
    assert len({chunk.id for chunk in chunks}) == 1
    assert server.gateway.attachments[0].done


async def test_a_failure_in_a_chat_stream_raises(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """The role is out already, so the error is a frame; the SDK raises it."""
    server.gateway.failure = JobFailure(
        status=400, type="image_generation_user_error", code="moderation_blocked", message="no"
    )
    stream = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "a cat"}], stream=True
    )
    with pytest.raises(openai.APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "moderation_blocked"


async def test_chat_answers_404_for_an_unknown_model(client: openai.AsyncOpenAI) -> None:
    """Chat says 404 where the images routes say 400, as OpenAI does."""
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(
            model="nope", messages=[{"role": "user", "content": "a cat"}]
        )
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as other:
        await client.images.generate(model="nope", prompt="a cat")
    assert (other.value.code, other.value.param) == ("invalid_value", "model")


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (InsufficientBalance("top up"), openai.APIStatusError),
        (BudgetExceeded("used up"), openai.APIStatusError),
        (IdempotencyKeyReused("other body"), openai.UnprocessableEntityError),
        (RateLimited("later", retry_after_s=500.2), openai.RateLimitError),
        (Unavailable("draining", retry_after_s=2), openai.InternalServerError),
        (RuntimeError("a secret"), openai.InternalServerError),
    ],
)
async def test_refusals_are_the_sdks_classes(
    client: openai.AsyncOpenAI, server: Server, refusal: Exception, kind: type[Exception]
) -> None:
    """Each refusal has its status; an unexpected exception never shows its text."""
    server.gateway.refusal = refusal
    with pytest.raises(kind) as caught:
        await client.images.generate(model=MODEL, prompt="a cat")
    error = caught.value
    assert isinstance(error, openai.APIStatusError)
    assert error.status_code == getattr(refusal, "status", 500)
    assert "secret" not in error.response.text
    assert error.response.headers["x-should-retry"] in ("true", "false")
    if isinstance(refusal, RateLimited):
        assert error.response.headers["retry-after"] == "60"


async def test_limits_of_the_key_travel_in_openais_headers(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """A good answer says what is left of the minute, a refusal when to come again."""
    server.gateway.limits = (LimitNotice(unit="requests", limit=60, remaining=59, reset_s=60),)
    raw = await client.images.with_raw_response.generate(model=MODEL, prompt="a cat")
    left = LimitNotice(unit="requests", limit=60, remaining=0, reset_s=7.25)
    server.gateway.refusal = RateLimited("later", retry_after_s=6.01, limits=(left,))
    with pytest.raises(openai.RateLimitError) as caught:
        await client.images.generate(model=MODEL, prompt="a cat")
    names = [f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset")]
    assert [raw.headers[name] for name in names] == ["60", "59", "1m0s"]
    refused = caught.value.response.headers
    assert [refused[name] for name in names] == ["60", "0", "7.25s"]
    assert (refused["retry-after"], refused["x-should-retry"]) == ("7", "true")


@pytest.mark.parametrize(
    ("extra", "code", "param"),
    [
        ({"quality": "high"}, "unsupported_parameter", "quality"),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"size": "1792x936"}, "invalid_value", "size"),
        ({"style": "vivid"}, "unsupported_parameter", "style"),
        ({"extra_body": {"seed": 4}}, "unknown_parameter", "seed"),
        ({"extra_body": {"base_url": "http://x"}}, "unknown_parameter", "base_url"),
        ({"extra_body": {"api_key": "x"}}, "unknown_parameter", "api_key"),
        ({"extra_body": {"n": "1"}}, "invalid_type", "n"),
        ({"output_format": "gif"}, "invalid_value", "output_format"),
    ],
)
async def test_bad_parameters_are_named(
    client: openai.AsyncOpenAI, extra: dict[str, Any], code: str, param: str
) -> None:
    """Each refusal names the parameter and has the code of the contract."""
    with pytest.raises(openai.BadRequestError) as caught:
        await client.images.generate(model=MODEL, prompt="a cat", **extra)
    assert (caught.value.code, caught.value.param) == (code, param)


async def test_a_hang_up_leaves_the_order_to_be_joined(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """A caller that hangs up is noticed while its job runs, and nothing counts as delivered."""
    server.gateway.hold = asyncio.Event()
    order = asyncio.create_task(client.images.generate(model=MODEL, prompt="a cat"))
    await asyncio.wait_for(server.gateway.waiting.wait(), 5)
    order.cancel()
    await asyncio.wait_for(server.gateway.detached.wait(), 5)
    assert not server.gateway.attachments[0].done


async def test_the_answer_comes_before_the_clients_cut(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    """Where the SDK would time out it is told when to come again; its retry gets the picture."""
    server.gateway.hold = asyncio.Event()
    impatient = client.with_options(timeout=0.4)
    with pytest.raises(openai.InternalServerError) as told:
        await impatient.images.generate(model=MODEL, prompt="a cat")
    assert told.value.status_code == 503
    assert told.value.code == "deadline_exceeded"
    await asyncio.wait_for(server.gateway.detached.wait(), 5)
    assert not server.gateway.attachments[0].done
    asyncio.get_running_loop().call_later(0.5, server.gateway.hold.set)
    result = await impatient.with_options(max_retries=1).images.generate(
        model=MODEL, prompt="a cat"
    )
    assert result.data is not None
    assert [caller.retry_count for caller in server.gateway.callers] == [0, 0, 1]


async def test_the_retry_says_so(client: openai.AsyncOpenAI, server: Server) -> None:
    """The SDK's retry count and a caller's key reach the gateway."""
    await client.images.generate(
        model=MODEL,
        prompt="a cat",
        extra_headers={"Idempotency-Key": "order-1", "x-stainless-retry-count": "2"},
    )
    caller = server.gateway.callers[0]
    assert (caller.idempotency_key, caller.retry_count) == ("order-1", 2)
    assert caller.route == "/v1/images/generations"


async def test_a_replay_says_so(client: openai.AsyncOpenAI, server: Server) -> None:
    """A replayed order is marked in a header."""
    server.gateway.replayed = True
    raw = await client.images.with_raw_response.generate(model=MODEL, prompt="a cat")
    assert raw.headers["idempotent-replayed"] == "true"


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    """The channels are the models, in the configuration's order."""
    listed = await client.models.list()
    assert [model.id for model in listed.data] == [
        "gpt-image-2",
        "gpt-image-2-all",
        "gpt-image-2-vip",
    ]
    one = await client.models.retrieve("gpt-image-2-vip")
    assert one == listed.data[2]
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("dall-e-3")


async def test_a_wrong_key_is_a_401(server: Server) -> None:
    """One class of error for a key that is not ours."""
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="sk-wrong", max_retries=0
    ) as stranger:
        with pytest.raises(openai.AuthenticationError) as caught:
            await stranger.images.generate(model=MODEL, prompt="a cat")
    assert caught.value.code == "invalid_api_key"
