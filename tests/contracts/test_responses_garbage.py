"""The `responses` upstream under garbage, hang-ups and large answers; the scanner's places."""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
import tempfile
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.responses_bench import KEY, Bench, body_of, ignore, opened_bench, recordings
from safelight.errors import UpstreamError
from safelight.upstreams.reply import Place, ReplyScanner, Role
from safelight.upstreams.responses_receive import PLACES

TABLES = [
    recordings(name) for name in ("good", "good_streams", "failed", "failed_streams", "http_errors")
]
GOOD, GOOD_STREAMS = TABLES[:2]
PLAYABLE = [recording for table in TABLES for recording in table.values()]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(tmp_path) as bench:
        bench.server.play(GOOD["generation"])
        yield bench


# ---- size and hang-ups --------------------------------------------------------------------------


def large(table: dict[str, Any], name: str, data: bytes) -> dict[str, Any]:
    """Return a recording with its picture exchanged for `data`."""
    text = json.dumps(table[name])
    picture = GOOD["generation"]["body"]["output"][1]["result"]
    exchanged: dict[str, Any] = json.loads(text.replace(picture, base64.b64encode(data).decode()))
    return exchanged


@pytest.mark.parametrize("stream", [False, True])
async def test_a_large_picture_goes_to_disk_as_it_comes(bench: Bench, stream: bool) -> None:
    """8 MB of picture, twice in a stream, pass through 2 MB of memory."""
    data = bytes(range(256)) * 32_768
    name = "no_partials" if stream else "generation"
    bench.server.play(large(GOOD_STREAMS if stream else GOOD, name, data))
    bench.server.sizes = (65_521,)
    tracemalloc.start()
    received = await bench.generate(partial_images=1, on_partial=ignore if stream else None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received.digest == hashlib.sha256(data).hexdigest()
    assert received.usage is not None
    assert peak < 2 * 1024 * 1024


async def hung_up(bench: Bench, *, until: str) -> None:
    """Cancel a call once the file `until` is there."""
    call = asyncio.create_task(bench.generate(partial_images=1, on_partial=ignore))
    # Polling, for a file system tells nobody that a file has appeared.
    while not (bench.folder / until).exists():  # noqa: ASYNC110
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelling_leaves_no_part(bench: Bench, stream: bool) -> None:
    """A cancelled call removes what had arrived of its picture."""
    recording = large(
        GOOD_STREAMS if stream else GOOD, "no_partials" if stream else "generation", b"x" * 300_000
    )
    bench.server.play(recording)
    bench.server.held, bench.server.cut_at = True, 200_000
    await hung_up(bench, until="job.part")
    assert list(bench.folder.iterdir()) == []


async def test_cancelling_behind_the_picture_keeps_it(bench: Bench) -> None:
    """A picture that is whole is durable before its tokens are known: it is never bought again."""
    events = GOOD_STREAMS["no_partials"]["events"]
    bench.server.play({**GOOD_STREAMS["no_partials"], "events": events[:-1]})
    bench.server.held, bench.server.cut_at = True, len(bench.server.body)
    await hung_up(bench, until="job")
    assert [path.name for path in bench.folder.iterdir()] == ["job"]


# ---- where pictures are -------------------------------------------------------------------------


def scanned(document: object, places: dict[Place, Role]) -> tuple[bytes, ReplyScanner]:
    out = bytearray()
    scanner = ReplyScanner(out.extend, places)
    scanner.feed(json.dumps(document).encode())
    return bytes(out), scanner


@pytest.mark.parametrize(
    ("document", "taken"),
    [
        ({"output": [{"result": "QUJD"}]}, b"ABC"),
        ({"item": {"result": "QUJD"}}, b"ABC"),
        ({"response": {"output": [{}, {"result": "QUJD"}]}}, b"ABC"),
        ({"partial_image_b64": "QUJD"}, b"ABC"),
        ({"result": "QUJD"}, b""),
        ({"output": {"null": {"result": "QUJD"}}}, b""),
        ({"output": [[{"result": "QUJD"}]]}, b""),
        ({"output": [{"result": ["QUJD"]}]}, b""),
        ({"data": [{"b64_json": "QUJD"}]}, b""),
        ([{"item": {"result": "QUJD"}}], b""),
    ],
)
def test_places_are_whole_paths(document: object, taken: bytes) -> None:
    """Only a string at exactly such a path is a picture; elsewhere it stays text."""
    picture, scanner = scanned(document, dict(PLACES))
    assert picture == taken
    assert json.dumps(scanner.document()) == json.dumps(document).replace(
        "QUJD", "" if taken else "QUJD"
    )


def test_ignored_strings_are_dropped() -> None:
    """What nobody needs may be longer than all that is kept, and escaped in any way."""
    long = 'data:image/png;base64,\\"' + "x" * 2_000_000
    document = {"tools": [{"input_image_mask": {"image_url": long}, "type": "t"}], "id": 1}
    picture, scanner = scanned(document, dict(PLACES))
    assert (picture, scanner.images) == (b"", 0)
    assert scanner.document() == {
        "tools": [{"input_image_mask": {"image_url": ""}, "type": "t"}],
        "id": 1,
    }


def test_two_forms_of_one_picture_are_one() -> None:
    """Pictures are counted by their position in the list."""
    item = {"b64_json": "QUJD", "url": "data:image/png;base64,QUJD"}
    for count in (1, 2):
        scanner = ReplyScanner(lambda _data: None)
        scanner.feed(json.dumps({"data": [item] * count}).encode())
        assert scanner.images == count


# ---- garbage ------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.sampled_from(["", "error", "failed", "image_generation_call", "AAAA", "data:", "é\u0000"]),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from(["error", "type", "code", "message"]), st.text(max_size=4)),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container and key in a JSON tree."""
    found = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in list(pairs):
        found.append((value, key))
        if isinstance(child, dict | list):
            found += places(child)
    return found


@st.composite
def garbage(draw: st.DrawFn) -> tuple[int, dict[str, str], bytes]:
    """Give a recorded answer with values exchanged, and bytes replaced, removed or put in."""
    recording = copy.deepcopy(draw(st.sampled_from(PLAYABLE)))
    tree = recording.get("body") or recording.get("events") or {}
    for _ in range(draw(st.integers(0, 4))):
        spots = places(tree)
        if spots:
            container, key = draw(st.sampled_from(spots))
            if not (container is tree and isinstance(tree, list)):
                container[key] = draw(JUNK)
    for event in recording.get("events", []):
        event["type"] = event["type"] if isinstance(event["type"], str) else "x"
    body = bytearray(body_of(recording))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 40))] = draw(st.binary(max_size=8))
    status = draw(st.sampled_from([recording["status"]] * 6 + [200, 400, 429, 500]))
    return status, recording["headers"], bytes(body)


async def _survives(folder: Path, status: int, headers: dict[str, str], body: bytes) -> None:
    async with opened_bench(folder) as bench:
        bench.server.status, bench.server.headers, bench.server.body = status, headers, body
        bench.server.sizes = (1021,)
        try:
            received = await bench.generate(partial_images=1, on_partial=ignore)
        except UpstreamError:
            assert not bench.spool.exists()
        else:
            assert hashlib.sha256(bench.spool.read_bytes()).hexdigest() == received.digest
        assert not (folder / "job.part").exists()


@settings(max_examples=250, deadline=None)
@given(answer=garbage())
def test_any_garbage_ends_in_a_picture_or_an_upstream_error(
    answer: tuple[int, dict[str, str], bytes],
) -> None:
    """Whatever comes, nothing but UpstreamError leaves, and no part file stays."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_survives(Path(folder), *answer))


def test_the_recordings_hold_no_secret() -> None:
    """Recordings are published; they were written by hand and name nobody."""
    assert KEY not in json.dumps(PLAYABLE)
