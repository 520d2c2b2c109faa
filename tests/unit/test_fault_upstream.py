"""The fault upstream itself: a witness must be trusted before it is asked."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import pyvips

from safelight.bench.faults.pictures import Mould, corrupted, encoded, unique
from safelight.bench.faults.script import Behaviour, Kind, behaviour, load, mix
from safelight.bench.faults.server import FaultUpstream


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_pictures_are_valid_exact_and_unique(form: str, alpha: bool) -> None:
    """Two sales of one size have the same pixels and different bytes."""
    plain = encoded(848, 1280, form, alpha=alpha and form != "jpeg")
    one, two = unique(plain, form, "one", padding=70_000), unique(plain, form, "two")
    assert one != two
    for data in (one, two):
        picture = pyvips.Image.new_from_buffer(data, "", fail_on="warning")
        assert (picture.width, picture.height) == (848, 1280)
        assert picture.hasalpha() == (alpha and form != "jpeg")
        assert picture.avg() > 0


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_a_mould_casts_what_would_be_made_by_hand(form: str) -> None:
    """The quick way to a unique picture gives the same file, base64 and digest as the long one."""
    plain = encoded(816, 816, form)
    for tag in ("sale_0123456789", "sale_abcdefghij"):
        whole = unique(plain, form, tag)
        cast = Mould(plain, form, "816x816", len(tag)).cast(tag)
        assert cast.data == whole
        assert b"".join(cast.text) == base64.b64encode(whole)
        assert cast.sha256 == hashlib.sha256(whole).hexdigest()
        assert cast.bytes == len(whole)


def test_a_corrupt_png_is_corrupt() -> None:
    """A decoder that checks finds the flipped bit."""
    data = corrupted(unique(encoded(64, 64, "png"), "png", "x"))
    with pytest.raises(pyvips.Error):
        pyvips.Image.new_from_buffer(data, "", fail_on="warning").avg()


def test_short_forms_of_behaviours() -> None:
    """A status or a name is enough."""
    assert behaviour("429").kind is Kind.THROTTLED
    assert behaviour(503) == Behaviour(kind=Kind.STATUS, status=503)
    assert behaviour({"kind": "stall", "seconds": 2}) == Behaviour(kind=Kind.STALL, seconds=2)
    assert behaviour({"status": 418}).status == 418
    assert behaviour("524").sells


def test_a_mix_depends_on_its_seed_alone() -> None:
    """The same seed plays the same faults, in about the given shares."""

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number

    def drawn(seed: int) -> list[Any]:
        chooses = mix({"500": 0.3, "stall": 0.1}, seed=seed)
        return [chooses(Numbered(number)) for number in range(2000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 0.26 < drawn(1).count("500") / 2000 < 0.34
    assert 0.07 < drawn(1).count("stall") / 2000 < 0.13


def test_the_official_sdk_is_served() -> None:
    """The SDK's own calls are answered, from a thread, and booked."""
    with FaultUpstream.in_thread(["500", "ok"]) as upstream:
        client = openai.OpenAI(base_url=upstream.base_url, api_key="k", max_retries=1)
        answer = client.images.generate(model="gpt-image-2", prompt="p", size="1536x1024")
        edit = client.images.edit(
            model="gpt-image-2", prompt="p", image=("a.png", encoded(64, 64, "png"), "image/png")
        )
        client.close()
    assert answer.data is not None
    assert edit.data is not None
    data = base64.b64decode(answer.data[0].b64_json or "")
    assert hashlib.sha256(data).hexdigest() == upstream.sales[0].sha256
    assert [seen.operation for seen in upstream.requests] == ["generations", "generations", "edits"]
    assert [sale.delivered for sale in upstream.sales] == [True, True]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "1000x1000"}, "size"),
        ({"size": "4096x1024"}, "size"),
        ({"response_format": "b64_json"}, "response_format"),
        ({"output_compression": 50}, "output_compression"),
        ({"model": "dall-e-3"}, "model"),
    ],
)
async def test_the_vendor_s_own_checks(fields: dict[str, Any], param: str) -> None:
    """What the vendor refuses is refused before the script, and not sold."""
    body = {"model": "gpt-image-2", "prompt": "p", **fields}
    async with FaultUpstream() as upstream, aiohttp.ClientSession() as session:
        url = f"{upstream.base_url}/images/generations"
        async with session.post(url, json=body, headers={"Authorization": "Bearer k"}) as answer:
            refused = await answer.json()
    assert (answer.status, refused["error"]["param"]) == (400, param)
    assert upstream.sales == []


async def test_a_client_that_leaves_has_bought() -> None:
    """The picture is booked when it is made, though nobody is there to take it."""
    brief = aiohttp.ClientTimeout(total=0.1)
    async with FaultUpstream(latency_s=0.3) as upstream, aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            await session.post(
                f"{upstream.base_url}/images/generations",
                json={"model": "gpt-image-2", "prompt": "p"},
                headers={"Authorization": "Bearer k"},
                timeout=brief,
            )
        assert upstream.sales == []
        await upstream.work(0.4)
        assert [sale.delivered for sale in upstream.sales] == [False]


def test_as_a_process_with_a_log(tmp_path: Path) -> None:
    """Run as a program it prints its address and writes each request and sale at once."""
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "safelight.bench.faults", "--log", str(log)]
    command += ["--script", '["503", "ok"]']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        client = openai.OpenAI(base_url=base_url, api_key="k", max_retries=1)
        client.images.generate(model="gpt-image-2", prompt="p")
        client.close()
        at_once = [json.loads(line)["event"] for line in log.read_text().splitlines()]
        books = asyncio.run(_books(base_url))
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 0
    assert at_once[:3] == ["request", "request", "sale"]
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["request", "request", "sale", "delivered"]
    assert books["sales"][0]["sha256"] == events[2]["sha256"]
    assert load('{"keys": {"a": ["401"]}, "then": "ok"}') is not None


async def _books(base_url: str) -> Any:
    url = base_url.removesuffix("/v1") + "/log"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.json()
