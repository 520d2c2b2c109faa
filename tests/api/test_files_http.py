"""/v1/files with the stock SDK and without, over a real socket."""

from __future__ import annotations

import aiohttp
import openai
import pytest

from api.conftest import Server
from api.fake_files import FakeFiling
from api.fake_gateway import OTHER_KEY
from api.pictures import png

MODEL = "gpt-image-2-vip"


def form(**fields: str) -> aiohttp.FormData:
    """A form with a file and these fields."""
    made = aiohttp.FormData()
    made.add_field("file", b'{"a": 1}\n', filename="in.jsonl")
    for name, value in fields.items():
        made.add_field(name, value)
    return made


async def test_the_sdk_uploads_lists_reads_and_deletes(client: openai.AsyncOpenAI) -> None:
    data = b'{"custom_id": "a"}\n' * 100
    made = await client.files.create(
        file=("../../etc/pass\u2028wd.jsonl", data),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (made.object, made.bytes, made.purpose) == ("file", len(data), "batch")
    assert made.filename == "passwd.jsonl"
    assert made.expires_at == made.created_at + 3600
    other = await client.files.create(file=b"x", purpose="user_data")
    assert other.expires_at is None
    newest_first = [one.id async for one in client.files.list()]
    assert newest_first == [other.id, made.id]
    assert [one.id async for one in client.files.list(order="asc", limit=1)] == newest_first[::-1]
    assert [one.id async for one in client.files.list(purpose="batch")] == [made.id]
    assert (await client.files.content(made.id)).content == data
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(made.id)


async def test_another_customers_file_is_not_there(
    client: openai.AsyncOpenAI, server: Server
) -> None:
    made = await client.files.create(file=b"x", purpose="user_data")
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key=OTHER_KEY, max_retries=0
    ) as stranger:
        for ask in (stranger.files.retrieve, stranger.files.content, stranger.files.delete):
            with pytest.raises(openai.NotFoundError):
                await ask(made.id)
        assert [one async for one in stranger.files.list()] == []
        body = {"model": MODEL, "prompt": "x", "images": [{"file_id": made.id}]}
        with pytest.raises(openai.NotFoundError) as refused:
            await stranger.post("/images/edits", body=body, cast_to=object)
        assert refused.value.param == "images[0].file_id"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "fine-tune"}, "purpose"),
        ({"purpose": "batch", "expires_after[anchor]": "now"}, "expires_after.anchor"),
        (
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "59",
            },
            "expires_after.seconds",
        ),
        ({"purpose": "batch", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"purpose": "batch", "colour": "red"}, "colour"),
    ],
)
async def test_a_form_out_of_order_is_refused_by_name(
    http: aiohttp.ClientSession, fields: dict[str, str], param: str
) -> None:
    async with http.post("/v1/files", data=form(**fields)) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == param


async def test_a_file_that_is_none_is_refused(http: aiohttp.ClientSession) -> None:
    """A text in its place, nothing at all, an empty one, one beside it, and no form."""
    text, empty, beside = (
        aiohttp.FormData({"purpose": "batch"}, default_to_multipart=True) for _ in range(3)
    )
    text.add_field("file", "just words")
    empty.add_field("file", b"", filename="a")
    beside.add_field("picture", b"x", filename="a")
    for sent, param in ((text, "file"), (empty, "file"), (beside, "picture")):
        async with http.post("/v1/files", data=sent) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["param"] == param
    async with http.post("/v1/files", json={"purpose": "batch"}) as answer:
        assert answer.status == 415


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "order=up", "colour=red"])
async def test_a_list_is_asked_for_in_its_own_words(
    http: aiohttp.ClientSession, query: str
) -> None:
    async with http.get(f"/v1/files?{query}") as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == query.partition("=")[0]


async def test_an_edit_takes_its_pictures_from_files(
    client: openai.AsyncOpenAI, http: aiohttp.ClientSession, server: Server
) -> None:
    """`images: [{"file_id": ...}]` in JSON, and the mask likewise."""
    picture, mask = png(shade=3), png(shade=4)
    names = [
        (await client.files.create(file=data, purpose="vision")).id for data in (picture, mask)
    ]
    filing = server.services.filing
    assert isinstance(filing, FakeFiling)
    body = {
        "model": MODEL,
        "prompt": "blue",
        "images": [{"file_id": names[0]}],
        "mask": {"file_id": names[1]},
    }
    async with http.post("/v1/images/edits", json=body) as answer:
        assert answer.status == 200, await answer.text()
    (request,) = server.gateway.requests
    assert request.mask is not None
    blobs = server.gateway.storage.blobs
    assert [blobs[ref.digest] for ref in (*request.inputs, request.mask)] == [picture, mask]


async def test_batches_are_asked_for_in_openai_s_words(
    client: openai.AsyncOpenAI, http: aiohttp.ClientSession
) -> None:
    """What is missing or out of bounds is named; nobody's batch is 404."""
    good = {"input_file_id": "f", "endpoint": "/v1/images/edits", "completion_window": "24h"}
    for change, param in (
        ({"input_file_id": None}, "input_file_id"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "output_expires_after.seconds",
        ),
        ({"colour": "red"}, "colour"),
    ):
        async with http.post("/v1/batches", json={**good, **change}) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["param"] == param
    assert [one async for one in client.batches.list()] == []
    with pytest.raises(openai.NotFoundError):
        await client.batches.retrieve("batch_x")
    with pytest.raises(openai.NotFoundError):
        await client.batches.cancel("batch_x")
