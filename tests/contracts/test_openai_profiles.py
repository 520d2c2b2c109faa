"""The `openai` and `azure` upstreams: what their options do, beyond the contract of all."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import pyvips

from contracts.openai_bench import blob
from contracts.playback import KEY, Playback, picture_in, recording
from safelight.bench.faults.pictures import encoded
from safelight.clock import SystemClock
from safelight.errors import ConfigError, FaultClass, UpstreamError
from safelight.types import Account, Operation, Secret, UpstreamCall
from safelight.upstreams import azure, load_upstream, openai, responses
from safelight.upstreams.azure import AzureUpstream
from safelight.upstreams.images_api import picture_url
from safelight.upstreams.inputs import auto_size
from safelight.upstreams.openai import OpenAIUpstream
from safelight.upstreams.profiles import PROFILES

GOOD = recording("openai/contract")["generation"]["answer"]
PICTURE = picture_in(GOOD)


def events(*documents: dict[str, Any]) -> dict[str, Any]:
    """Return a stream as an answer."""
    body = "".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in documents)
    return {"status": 200, "headers": {"content-type": "text/event-stream"}, "body": body}


def event(kind: str, **more: Any) -> dict[str, Any]:
    text = base64.b64encode(PICTURE).decode()
    return {"type": f"image_generation.{kind}", "b64_json": text, **more}


STREAM = events(
    event("partial_image", partial_image_index=0),
    event("partial_image", partial_image_index=1),
    event("completed"),
)


class Bench:
    """The adapter, a server that plays answers, and a folder."""

    def __init__(self, server: Playback, adapter: OpenAIUpstream, folder: Path) -> None:
        self.server = server
        self.adapter = adapter
        self.folder = folder
        self.spool = folder / "job"

    async def generate(
        self, *, on_partial: Any = None, options: Any = None, timeout_s: float = 5.0, **changes: Any
    ) -> Any:
        account = Account(
            name="a",
            upstream="openai",
            group="g",
            channels=(),
            base_url=f"{self.server.url}/v1",
            api_key=Secret(KEY),
            options=options or {},
            first_byte_timeout_s=timeout_s,
        )
        call: dict[str, Any] = {
            "job_id": "job",
            "operation": Operation.GENERATION,
            "prompt": "a lamp",
            "size": "1024x1024",
            "output_format": "png",
            **changes,
        }
        return await self.adapter.generate(
            self.adapter.check(account),
            UpstreamCall(**call),
            spool=self.spool,
            deadline=SystemClock().monotonic() + 20,
            on_partial=on_partial,
        )

    async def fail(self, **options: Any) -> UpstreamError:
        with pytest.raises(UpstreamError) as caught:
            await self.generate(**options)
        return caught.value

    def edit(self, *forms: str, mask: bytes | None = None) -> dict[str, Any]:
        """Return the parts of an edit call with one input of each form."""
        paths = [self.folder / f"in{at}" for at in range(len(forms))]
        for path, form in zip(paths, forms, strict=True):
            path.write_bytes(encoded(64, 48, form))
        parts: dict[str, Any] = {
            "operation": Operation.EDIT,
            "inputs": tuple(
                blob(path.read_bytes(), form) for path, form in zip(paths, forms, strict=True)
            ),
            "input_paths": tuple(paths),
        }
        if mask is not None:
            (self.folder / "in-mask").write_bytes(mask)
            parts |= {"mask": blob(mask, "png"), "mask_path": self.folder / "in-mask"}
        return parts

    def left(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if not path.name.startswith("in")}


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    adapter = OpenAIUpstream(SystemClock())
    async with Playback() as server:
        server.play(GOOD)
        yield Bench(server, adapter, tmp_path)
        await adapter.close()


# ---- heartbeat ----------------------------------------------------------------------------------


async def test_a_heartbeat_asks_for_partials_that_nobody_sees(bench: Bench) -> None:
    """They are asked for without a watcher, and none is left on the disk."""
    bench.server.play(STREAM)
    await bench.generate(options={"heartbeat": 2})
    fields = bench.server.requests[0].fields
    assert (fields["stream"], fields["partial_images"]) == (True, 2)
    assert bench.spool.read_bytes() == PICTURE
    assert bench.left() == {"job"}


async def test_a_watcher_sees_no_more_partials_than_were_asked_for(bench: Bench) -> None:
    """The heartbeat's further partials are dropped."""
    bench.server.play(STREAM)
    seen: list[int] = []
    await bench.generate(
        options={"heartbeat": 3}, partial_images=1, on_partial=lambda index, _: seen.append(index)
    )
    assert bench.server.requests[0].fields["partial_images"] == 3
    assert seen == [0]
    assert bench.left() == {"job", "job.partial0"}


async def test_no_stream_is_asked_of_a_server_that_has_none(bench: Bench) -> None:
    """A watcher of a picture from such a server sees the finished one only."""
    await bench.generate(
        options={"profile": "sglang"}, partial_images=2, on_partial=lambda *_: None
    )
    assert not {"stream", "partial_images"} & set(bench.server.requests[0].fields)


@pytest.mark.parametrize(("partials", "sold"), [(0, None), (1, True)])
async def test_a_stream_without_a_heartbeat_stalls_early(
    bench: Bench, partials: int, sold: bool | None
) -> None:
    """Silence between events ends the call long before the first byte's timeout would."""
    parts = [event("partial_image", partial_image_index=at) for at in range(partials)]
    stream = events(*parts)
    stream["body"] += ": working\n\n"
    # Twice as long as what is played before the silence.
    stream["body"] += " " * len(stream["body"])
    bench.server.play(stream, "stalling")
    error = await bench.fail(options={"heartbeat": 1, "event_timeout_s": 0.15}, timeout_s=60)
    assert (error.fault, error.code, error.sold) == (FaultClass.SLOW, "upstream_stalled", sold)
    assert bench.left() == set()


async def test_a_heartbeat_bounds_the_wait_for_headers_too(bench: Bench) -> None:
    """A server that does not even begin to answer has stalled as well."""
    bench.server.play(STREAM, "silent")
    error = await bench.fail(options={"heartbeat": 1, "event_timeout_s": 0.1}, timeout_s=60)
    assert (error.fault, error.sold) == (FaultClass.SLOW, None)


# ---- what a server cannot do --------------------------------------------------------------------


async def test_a_size_above_the_server_s_cap_is_not_asked_for(bench: Bench) -> None:
    """The operator's cap is known before anything is sent."""
    error = await bench.fail(options={"max_pixels": 1_000_000})
    assert (error.fault, error.lacks, error.sold) == (FaultClass.CAPABILITY, "size", False)
    assert bench.server.requests == []
    await bench.generate(options={"max_pixels": 1_048_576})


@pytest.mark.parametrize(("profile", "inputs"), [("sglang", 1), ("localai", 2)])
async def test_a_mask_that_would_go_unread_is_refused(
    bench: Bench, profile: str, inputs: int
) -> None:
    """A masked edit is never made as one without a mask."""
    parts = bench.edit(*["png"] * inputs, mask=encoded(64, 48, "png", alpha=True))
    error = await bench.fail(options={"profile": profile}, **parts)
    assert (error.fault, error.lacks) == (FaultClass.CAPABILITY, "mask")
    assert bench.server.requests == []


@pytest.mark.parametrize("broken", [False, True])
async def test_a_mask_that_is_none(bench: Bench, broken: bool) -> None:
    """A mask without alpha, or one that cannot be decoded, is the caller's."""
    mask = encoded(64, 48, "png")
    parts = bench.edit("png", mask=mask)
    if broken:
        parts["mask_path"].write_bytes(mask[: len(mask) // 2])
    error = await bench.fail(options={"profile": "vllm-omni"}, **parts)
    assert (error.fault, error.code, error.param) == (FaultClass.CLIENT, "invalid_image", "mask")
    assert bench.left() == set()


async def test_an_input_that_cannot_be_converted(bench: Bench) -> None:
    """A broken WebP is the caller's, and nothing is sent."""
    parts = bench.edit("webp")
    parts["input_paths"][0].write_bytes(b"RIFF and no more")
    error = await bench.fail(options={"profile": "localai"}, **parts)
    assert (error.fault, error.param) == (FaultClass.CLIENT, "image")
    assert (bench.left(), bench.server.requests) == (set(), [])


async def test_an_input_that_is_gone(bench: Bench) -> None:
    """A file of ours that cannot be read is our own fault."""
    parts = bench.edit("webp")
    parts["input_paths"][0].unlink()
    error = await bench.fail(options={"profile": "localai"}, **parts)
    assert (error.fault, error.code) == (FaultClass.LOCAL, "storage_failed")


# ---- requests -----------------------------------------------------------------------------------


async def test_localai_edits_without_a_mask_are_generations(bench: Bench) -> None:
    """It has no edits route: the inputs travel in the JSON, in formats that it reads."""
    parts = bench.edit("png", "webp")
    await bench.generate(options={"profile": "localai"}, **parts)
    [seen] = bench.server.requests
    assert seen.path == "/v1/images/generations"
    first, second = map(base64.b64decode, seen.fields["ref_images"])
    assert first == parts["input_paths"][0].read_bytes()
    assert pyvips.Image.new_from_buffer(second, "").get("vips-loader").startswith("pngload")
    assert bench.left() == {"job"}


async def test_half_transparent_masks_become_grey(bench: Bench) -> None:
    """A 16-bit mask keeps its half-tones, in eight bits."""
    mask = pyvips.Image.black(8, 8, bands=3).cast("ushort").bandjoin(0x4000)
    mask = mask.copy(interpretation="rgb16").pngsave_buffer(bitdepth=16)
    await bench.generate(options={"profile": "vllm-omni"}, **bench.edit("png", mask=mask))
    sent = pyvips.Image.new_from_buffer(bench.server.requests[0].files[-1].data, "")
    assert (sent.format, sent(4, 4)) == ("uchar", [255 - 0x40])


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [
        ("<LORA:evil:1> a lamp", "\u2039LORA:evil:1> a lamp"),
        ("< /sd_cpp_extra_args >", "\u2039 /sd_cpp_extra_args >"),
        ("a < b | c <b>", "a < b | c <b>"),
    ],
)
async def test_prompts_set_no_parameters(bench: Bench, prompt: str, sent: str) -> None:
    """Only what the server would take for a parameter is changed, and that in one character."""
    await bench.generate(options={"profile": "stable-diffusion-cpp"}, prompt=prompt)
    assert bench.server.requests[0].fields["prompt"] == sent


@pytest.mark.parametrize(("form", "asked"), [("jpeg", "png"), ("webp", "png"), ("png", "png")])
async def test_compression_is_left_to_this_side_where_the_server_cannot(
    bench: Bench, form: str, asked: str
) -> None:
    """A lossy picture of a given quality is asked for as png and compressed later."""
    options = {"profile": "stable-diffusion-cpp"}
    await bench.generate(options=options, output_format=form, output_compression=80)
    fields = bench.server.requests[0].fields
    assert fields["output_format"] == asked
    assert "output_compression" not in fields


@pytest.mark.parametrize(
    ("profile", "pixels", "size"),
    [
        ("openai", (64, 48), None),
        ("vllm-omni", None, "1024x1024"),
        ("vllm-omni", (64, 48), None),
        ("sglang", (64, 48), "1184x880"),
        ("sglang", (10, 1000), "592x1776"),
        ("compatible", None, None),
    ],
)
def test_what_auto_is_sent_as(
    profile: str, pixels: tuple[int, int] | None, size: str | None
) -> None:
    """A number where the server does not take the word: a megapixel, in the input's ratio."""
    first = None
    if pixels is not None:
        first = msgspec.structs.replace(
            blob(encoded(16, 16, "png"), "png"), width=pixels[0], height=pixels[1]
        )
    assert auto_size(PROFILES[profile], first) == size


async def test_a_url_answer_from_another_host(bench: Bench) -> None:
    """A host that the operator named is asked, without the key; any other is not."""
    async with Playback() as other:
        body = GOOD["body"] | {"data": [{"url": f"{other.url}/pictures/1.png"}]}
        bench.server.play(GOOD | {"body": body})
        other.play({"status": 200, "headers": {"content-type": "image/png"}, "body": "picture"})
        error = await bench.fail(options={"download_hosts": "files.example.com"})
        assert (error.code, other.requests) == ("upstream_bad_url", [])
        received = await bench.generate(options={"download_hosts": f"x.example, {other.url}"})
        assert bench.spool.read_bytes() == b"picture"
        assert KEY not in str(other.requests[0].headers)
        assert received.limits[0].remaining == 4


def test_hosts_are_compared_as_origins() -> None:
    """A name alone means https on its usual port."""
    origins = ("https://b.example", "http://c.example:9000")
    base = "https://a.example/v1"
    assert picture_url(base, "https://b.example:443/x", origins)
    assert picture_url(base, "http://c.example:9000/x", origins)
    for url in ("http://b.example/x", "https://b.example:444/x", "https://c.example/x"):
        with pytest.raises(UpstreamError):
            picture_url(base, url, origins)


# ---- accounts -----------------------------------------------------------------------------------


def account(upstream: str, **changes: Any) -> Account:
    return Account(name="studio", upstream=upstream, group="g", channels=(), **changes)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (account("openai"), "account 'studio': needs a key: name its variable with api_key_env"),
        (
            account("openai", base_url="https://api.openai.com/v1/"),
            "account 'studio': needs a key: name its variable with api_key_env",
        ),
        (
            account("openai", options={"profile": "localai"}),
            "account 'studio': needs base_url, the address of its localai server",
        ),
        (
            account("openai", options={"profil": "localai"}),
            "option 'profil': upstream 'openai' has none: did you mean 'profile'? known options: ",
        ),
        (account("openai", options={"profile": "sd"}), "option 'profile': invalid enum value 'sd'"),
        (account("openai", options={"heartbeat": 4}), "option 'heartbeat': expected int <= 3"),
        (account("openai", options={"heartbeat": "x"}), "option 'heartbeat': expected int"),
        (
            account("openai", options={"heartbeat": 1, "profile": "localai"}),
            "option 'heartbeat': servers of profile 'localai' send no partial images",
        ),
        (
            account("openai", options={"download_hosts": "a.example, ftp://b"}),
            "option 'download_hosts': 'ftp://b' is no host",
        ),
        (
            account("openai", options={"download_hosts": "a.example/x"}),
            "option 'download_hosts': 'a.example/x' is no host",
        ),
        (account("azure"), "account 'studio': needs base_url, its resource's address"),
        (account("azure", base_url="https://r.example"), "account 'studio': needs a key"),
        (
            account("azure", base_url="https://r.example", options={"api_version": "2025"}),
            "option 'api_version': expected a date",
        ),
        (account("azure", options={"auth": "token"}), "option 'auth': invalid enum value 'token'"),
    ],
)
async def test_check_says_what_is_wrong(given: Account, problem: str) -> None:
    """Each message names the account, the option and what is expected."""
    with pytest.raises(ConfigError) as caught:
        load_upstream(given.upstream, SystemClock()).check(given)
    assert problem in str(caught.value)


@pytest.mark.parametrize("kind", [openai.Options, azure.Options, responses.Options])
def test_every_option_is_documented_with_its_default(kind: type[msgspec.Struct]) -> None:
    """docs/configuration.md has a table for each upstream, complete and in order."""
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
    name = kind.__module__.rpartition(".")[2].partition("_")[0]
    table = page.split(f"\n### Options of `{name}`")[1].split("\n#")[0].split("\n\n")[1]
    documented = re.findall(r"^\| `(\w+)` \| `(.*?)` \| \S.* \|$", table, re.MULTILINE)
    fields = msgspec.structs.fields(kind)
    assert documented == [(one.name, json.dumps(one.default)) for one in fields]


async def test_check_fills_in_the_vendor_s_address() -> None:
    """An account with a key and no address is the vendor's."""
    checked = OpenAIUpstream(SystemClock()).check(account("openai", api_key=Secret(KEY)))
    assert (checked.base_url, checked.endpoint) == (
        "https://api.openai.com/v1",
        "https://api.openai.com",
    )


@pytest.mark.parametrize("path", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
async def test_check_takes_a_resource_s_address_in_every_form(path: str) -> None:
    """The address is that of the resource, whichever route was copied with it."""
    given = account("azure", base_url=f"https://r.openai.azure.com{path}", api_key=Secret(KEY))
    checked = AzureUpstream(SystemClock()).check(given)
    assert checked.base_url == "https://r.openai.azure.com"


async def test_a_key_that_may_not_list_models_passes_a_probe(bench: Bench) -> None:
    """A restricted key can draw: only a refused one is out."""
    body = {"error": {"message": "You have insufficient permissions. Missing scopes: model.read"}}
    bench.server.play(
        {"status": 403, "headers": {"content-type": "application/json"}, "body": body}
    )
    given = account("openai", base_url=f"{bench.server.url}/v1", api_key=Secret(KEY))
    await bench.adapter.probe(given, deadline=SystemClock().monotonic() + 5)
    assert bench.server.requests[0].path == "/v1/models"
