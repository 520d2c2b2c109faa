"""Chat histories over HTTP: the gateway's own links under any name, and what is passed over."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import aiohttp
import msgspec
import pytest

from api.asking import MODEL, error_of
from api.conftest import Server
from api.pictures import png
from safelight.api.context import Services
from safelight.types import Operation

CHAT = "/v1/chat/completions"


def history(answer: Any, **extra: Any) -> dict[str, Any]:
    """Return a chat that asks for a change of an earlier `answer`."""
    return {
        "model": MODEL,
        "messages": [
            {"role": "user", "content": "a cat"},
            {"role": "assistant", **(answer if isinstance(answer, dict) else {"content": answer})},
            {"role": "user", "content": "make it redder"},
        ],
        **extra,
    }


class TestBelowAPath:
    """A server whose public address has a path."""

    @pytest.fixture
    def services(self, services: Services) -> Services:
        server = msgspec.structs.replace(
            services.config.server, public_url="https://studio.example.com/images"
        )
        config = msgspec.structs.replace(services.config, server=server)
        return dataclasses.replace(services, config=config)

    @pytest.mark.parametrize("whole", [False, True])
    async def test_its_own_answer_can_be_sent_back(
        self, http: aiohttp.ClientSession, server: Server, *, whole: bool
    ) -> None:
        """As text and with `images`, the next turn is an edit of the picture."""
        first = {"model": MODEL, "messages": [{"role": "user", "content": "a cat"}]}
        async with http.post(CHAT, json=first) as answer:
            message = (await answer.json())["choices"][0]["message"]
        assert "https://studio.example.com/images/i/" in message["content"]
        told = message if whole else {"content": message["content"]}
        async with http.post(CHAT, json=history(told)) as answer:
            assert answer.status == 200
        request = server.gateway.requests[1]
        assert request.operation is Operation.EDIT
        blob = request.inputs[0]
        assert server.gateway.storage.blobs[blob.digest] == server.gateway.picture


@pytest.mark.parametrize("base", ["http://localhost:18112", "https://other.example/a/path"])
async def test_a_link_made_under_another_name_is_known_by_its_signature(
    http: aiohttp.ClientSession, server: Server, base: str
) -> None:
    """In text, in parts and in an edit; the owner's counts even after it expired."""
    mine = server.gateway.add_image("cus_1", png(shade=4))
    theirs = server.gateway.add_image("cus_2", png(shade=5))
    own = base + server.services.links.sign(mine.id, "png", ttl_s=60, link_epoch=0)
    other = base + server.services.links.sign(theirs.id, "png", ttl_s=60, link_epoch=0)
    part = {"type": "image_url", "image_url": {"url": own}}

    async def inputs_of(body: dict[str, Any], path: str = CHAT) -> list[str]:
        before = len(server.gateway.requests)
        async with http.post(path, json=body) as answer:
            assert answer.status == 200, await answer.text()
        return [blob.digest for blob in server.gateway.requests[before].inputs]

    both = f"![a]({own}) ![b]({other})"
    assert await inputs_of(history(both)) == [mine.blob.digest, theirs.blob.digest]
    server.clock.advance(61)
    assert await inputs_of(history(both)) == [mine.blob.digest]
    assert await inputs_of(history({"content": None, "images": [part]})) == [mine.blob.digest]
    edit = {"model": MODEL, "prompt": "x", "image": own}
    assert await inputs_of(edit, "/v1/images/edits") == [mine.blob.digest]


async def test_a_link_elsewhere_without_our_signature_is_remote(
    http: aiohttp.ClientSession, server: Server
) -> None:
    """Passed over in an assistant's text, refused where the caller gives it; never fetched."""
    mine = server.gateway.add_image("cus_1", png(shade=4))
    signed = server.services.links.sign(mine.id, "png", ttl_s=60, link_epoch=0)
    unknown = signed.replace(mine.id, "f" * 32)
    for path in (f"/i/{mine.id}.png", signed[:-1] + ("A" if signed[-1] != "A" else "B"), unknown):
        url = f"https://evil.example{path}"
        async with http.post(CHAT, json=history(f"![x]({url})")) as answer:
            assert answer.status == 200
        assert server.gateway.requests[-1].inputs == ()
        item = {"type": "image_url", "image_url": {"url": url}}
        async with http.post(CHAT, json=history({"content": "x", "images": [item]})) as answer:
            assert answer.status == 400
            error = await error_of(answer)
            assert error["code"] == "invalid_image_url"
            assert "not fetched" in error["message"]


async def test_a_dead_link_at_this_gateway_is_not_passed_over(
    http: aiohttp.ClientSession, server: Server
) -> None:
    """A new picture, charged, is not what a change of one that is gone means."""
    link = f"{server.url}/i/{'f' * 32}.png"
    async with http.post(CHAT, json=history(f"![x]({link})")) as answer:
        assert answer.status == 400
        assert (await error_of(answer))["code"] == "invalid_image_url"


@pytest.mark.parametrize(
    "url", ["data:image/png;base64,AA!!", "data:image/png;base64,R0lGODlh", "data:image/svg+xml,x"]
)
async def test_an_unreadable_picture_in_old_text_is_passed_over(
    http: aiohttp.ClientSession, server: Server, url: str
) -> None:
    """The readable one beside it counts; as a part of the user's it is refused."""
    good = "data:image/png;base64," + base64.b64encode(png(shade=7)).decode()
    async with http.post(CHAT, json=history(f"![a]({url}) ![b]({good})")) as answer:
        assert answer.status == 200
    assert len(server.gateway.requests[0].inputs) == 1
    part = {"type": "image_url", "image_url": {"url": url}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]
    async with http.post(CHAT, json={"model": MODEL, "messages": messages}) as answer:
        assert answer.status == 400


async def test_what_is_ignored_may_be_large(http: aiohttp.ClientSession) -> None:
    """Weights of many tokens and deep tool schemas do not refuse a picture."""
    deep: dict[str, Any] = {}
    for _ in range(20):
        deep = {"properties": deep}
    extra = {
        "logit_bias": {str(n): 1 for n in range(300)},
        "tools": [{"type": "function", "function": {"parameters": deep}}],
        "provider": {"order": ["a"]},
    }
    async with http.post(CHAT, json=history("x", **extra)) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"aspect_ratio": "7:5"}, "image_config.aspect_ratio"),
        ({"aspect_ratio": "wide", "image_size": "2K"}, "image_config.aspect_ratio"),
        ({"aspect_ratio": "16:9", "image_size": "8K"}, "image_config.image_size"),
        ({"image_size": "8K"}, "image_config.image_size"),
    ],
)
async def test_a_bad_image_config_is_named_as_it_was_sent(
    http: aiohttp.ClientSession, asked: dict[str, str], param: str
) -> None:
    """Not as the size that it was read as."""
    async with http.post(CHAT, json=history("x", image_config=asked)) as answer:
        assert answer.status == 400
        error = await error_of(answer)
    assert error["param"] == param
    assert repr(asked[param.partition(".")[2]]) in error["message"]
    assert "@2K'" not in error["message"]
