"""The streaming scanner of images replies, and of event streams."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.upstreams.event_stream import EventScanner, Frame
from safelight.upstreams.reply import (
    SKELETON_MAX,
    Base64Stream,
    ReplyError,
    ReplyFault,
    ReplyScanner,
    Sink,
)

PICTURE = bytes(range(256)) * 5
TEXT = base64.b64encode(PICTURE).decode()


def scan(body: bytes, cuts: list[int] | None = None) -> tuple[bytes, ReplyScanner]:
    """Scan `body` cut at `cuts`; return the picture and the scanner."""
    out = bytearray()
    scanner = ReplyScanner(out.extend)
    edges = [0, *sorted(cuts or []), len(body)]
    for start, end in pairwise(edges):
        scanner.feed(body[start:end])
    return bytes(out), scanner


def outcome(body: bytes, cuts: list[int]) -> object:
    """Return everything observable of a scan, for comparison."""
    try:
        picture, scanner = scan(body, cuts)
        document = scanner.document() if scanner.complete else None
    except ReplyError as error:
        return error.fault
    return (
        picture if scanner.complete else None,
        document,
        scanner.complete,
        scanner.picture_bytes,
        scanner.images,
        scanner.url,
    )


def body(picture: str = TEXT, **more: object) -> bytes:
    return json.dumps({"created": 1, "data": [{"b64_json": picture}], **more}).encode()


def test_picture_goes_to_the_sink_and_the_rest_is_parsed() -> None:
    """The base64 becomes bytes, everything else stays readable."""
    picture, scanner = scan(body(usage={"total_tokens": 7}, size="1024x1024"))
    assert picture == PICTURE
    assert scanner.picture_bytes == len(PICTURE)
    assert scanner.images == 1
    assert scanner.document() == {
        "created": 1,
        "data": [{"b64_json": ""}],
        "usage": {"total_tokens": 7},
        "size": "1024x1024",
    }


@pytest.mark.parametrize(
    "reply",
    [
        body(),
        b" \r\n\t " + body() + b"\n",
        b"\xef\xbb\xbf" + body(),
        body(f"data:image/png;base64,{TEXT}"),
        body(f"data:image/png;base64,{TEXT}").replace(b"/", rb"\/"),
        body().replace(b"+", rb"\u002b").replace(b"/", rb"\u002F"),
        json.dumps({"b64_json": TEXT, "type": "image_generation.completed"}).encode(),
        json.dumps({"data": [{"url": f"data:image/png;base64,{TEXT}"}]}).encode(),
        json.dumps({"data": [{"b64_json": None}, {"b64_json": ""}, {"b64_json": TEXT}]}).encode(),
        body().replace(b"b64_json", rb"b64\u005fjson"),
        body() + b"trailing words are nobody's business",
    ],
)
def test_forms_of_a_picture(reply: bytes) -> None:
    """Prefixes, escapes, whitespace and the places where servers put base64 all give the bytes."""
    for cuts in ([], list(range(len(reply)))):
        picture, scanner = scan(reply, cuts)
        assert picture == PICTURE
        assert scanner.complete


@pytest.mark.parametrize("escaped", [True, False])
def test_an_address_instead_of_a_picture(escaped: bool) -> None:
    """A url is given as text, its escapes undone, and no picture is counted."""
    url = "https://images.example/a.png?x=1&y=2"
    reply = json.dumps({"data": [{"url": url}]})
    reply = reply.replace("/", "\\/").replace("&", "\\u0026") if escaped else reply
    picture, scanner = scan(reply.encode())
    assert (picture, scanner.url, scanner.picture_bytes) == (b"", url, 0)


def test_first_of_several_pictures_is_taken() -> None:
    """More pictures than one are counted, and only the first is kept."""
    other = base64.b64encode(b"another picture").decode()
    reply = json.dumps({"data": [{"b64_json": TEXT}, {"b64_json": other}]}).encode()
    picture, scanner = scan(reply)
    assert (picture, scanner.images) == (PICTURE, 2)


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (b"<!doctype html>", ReplyFault.NOT_JSON),
        (b"upstream connect error", ReplyFault.NOT_JSON),
        (b'{"data": nonsense}', ReplyFault.NOT_JSON),
        (b'{"data": [}', ReplyFault.NOT_JSON),
        (b"[" * 65, ReplyFault.NOT_JSON),
        (b'{"\\x": 1}', ReplyFault.NOT_JSON),
        (body("AAA*"), ReplyFault.BAD_BASE64),
        (body("AAAAA"), ReplyFault.BAD_BASE64),
        (body("AA==AAAA"), ReplyFault.BAD_BASE64),
        (body("AAAA\nAAAA"), ReplyFault.BAD_BASE64),
        (body("AA AA"), ReplyFault.BAD_BASE64),
        (body("AA\\/AA"), ReplyFault.BAD_BASE64),
        (body("data:image/svg+xml,<svg/>"), ReplyFault.BAD_BASE64),
        (body("data:image/png;base64"), ReplyFault.BAD_BASE64),
        (body("data:" + "x" * 200 + ";base64," + TEXT), ReplyFault.BAD_BASE64),
        (body(more="x" * SKELETON_MAX), ReplyFault.TOO_LARGE),
        (json.dumps({"data": [{"url": "https://a/" + "x" * 9000}]}).encode(), ReplyFault.TOO_LARGE),
    ],
)
def test_unusable_replies(reply: bytes, fault: ReplyFault) -> None:
    """Each way of being unusable has its name, whole or byte by byte."""
    assert outcome(reply, []) is fault
    if len(reply) < 5000:
        assert outcome(reply, list(range(len(reply)))) is fault


@pytest.mark.parametrize("end", [1, 30, 200, len(body()) - 1])
def test_a_cut_document_is_not_complete(end: int) -> None:
    """Without its last bracket a document is incomplete, wherever it was cut."""
    _, scanner = scan(body()[:end])
    assert not scanner.complete
    with pytest.raises(ReplyError):
        scanner.document()


replies = st.one_of(
    st.builds(
        lambda picture, more: body(base64.b64encode(picture).decode(), more=more),
        st.binary(max_size=200),
        st.recursive(st.text(max_size=8) | st.integers() | st.none(), st.lists, max_leaves=4),
    ),
    st.builds(body, st.text(alphabet='AZaz09+/=\\"u02bdata:;,\n ', max_size=40)),
    st.builds(
        lambda url: json.dumps({"data": [{"url": url}]}).encode().replace(b"/", rb"\/"),
        st.text(alphabet='data:htps/.;base64,"\\A=', max_size=40),
    ),
    st.builds(lambda text: b'{"data":[{"b64_json":"' + text, st.binary(max_size=60)),
    st.lists(
        st.sampled_from(
            [b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"1", b'"data"', b'"url"']
        ),
        max_size=20,
    ).map(b"".join),
)


@settings(max_examples=400, deadline=None)
@given(reply=replies, data=st.data())
def test_chunking_changes_nothing(reply: bytes, data: st.DataObject) -> None:
    """However the bytes are cut, the result is that of the whole."""
    cuts = data.draw(st.lists(st.integers(0, len(reply)), max_size=12))
    whole = outcome(reply, [])
    assert outcome(reply, cuts) == whole
    assert outcome(reply, list(range(len(reply)))) == whole


@settings(max_examples=150, deadline=None)
@given(picture=st.binary(max_size=400), data=st.data())
def test_any_picture_survives_any_cutting(picture: bytes, data: st.DataObject) -> None:
    """What goes out is what was encoded, escapes included."""
    reply = body(base64.b64encode(picture).decode())
    reply = reply.replace(b"/", rb"\/").replace(b"+", rb"\u002b")
    cuts = data.draw(st.lists(st.integers(0, len(reply)), max_size=20))
    assert scan(reply, cuts)[0] == picture


@pytest.mark.parametrize("escaped", [False, True])
def test_memory_does_not_grow_with_the_picture(escaped: bool) -> None:
    """A 30 MB picture in odd chunks passes through less than 2 MB of memory."""
    line = base64.b64encode(bytes(range(256)) * 3 * 64)  # a multiple of four characters
    if escaped:
        line = line.replace(b"/", rb"\/")
    sizes = [1, 7, 4095, 65_537, 16_381, 131_071]

    def chunks() -> Iterator[bytes]:
        waiting = bytearray(b'{"data": [{"b64_json": "')
        turn = 0
        for _ in range(30 * 1024 * 1024 // len(line)):
            waiting += line
            while len(waiting) > sizes[turn % len(sizes)]:
                size = sizes[turn % len(sizes)]
                yield bytes(waiting[:size])
                del waiting[:size]
                turn += 1
        yield bytes(waiting) + b'"}]}'

    total = 0

    def sink(data: bytes) -> None:
        nonlocal total
        total += len(data)

    scanner = ReplyScanner(sink)
    most = 0
    tracemalloc.start()
    for chunk in chunks():
        scanner.feed(chunk)
        most = max(most, scanner.buffered)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert scanner.complete
    assert total == scanner.picture_bytes > 20 * 1024 * 1024
    assert most < 1024
    assert peak < 2 * 1024 * 1024


def test_base64_counts_what_came_out() -> None:
    """The number of bytes is the picture's, not the text's."""
    stream = Base64Stream(lambda _data: None)
    stream.feed(b"QUJ")
    stream.feed(b"DRA==")
    stream.finish()
    assert stream.bytes_out == 4


# ---- event streams ------------------------------------------------------------------------------


def frames(stream: bytes, size: int) -> list[tuple[str, object, bytes]]:
    """Return event name, document and picture of each frame, fed in pieces of `size`."""
    pictures: list[bytearray] = []

    def open_sink() -> Sink:
        pictures.append(bytearray())
        return pictures[-1].extend

    def read(frame: Frame) -> tuple[str, object, bytes]:
        return frame.event, frame.document(), bytes(pictures[-1])

    scanner = EventScanner(open_sink)
    found = []
    for at in range(0, len(stream), size):
        found += [read(frame) for frame in scanner.feed(stream[at : at + size])]
    return found + [read(frame) for frame in scanner.finish()]


def event(name: str, picture: bytes, end: str = "\n") -> bytes:
    data = json.dumps({"type": name, "b64_json": base64.b64encode(picture).decode()})
    return f"event: {name}{end}data: {data}{end}{end}".encode()


@pytest.mark.parametrize("size", [1, 2, 7, 100, 100_000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_of_any_line_ending_and_cutting(end: str, size: int) -> None:
    """Comments and unknown fields are passed over; each frame has its own picture."""
    stream = (
        f": keep-alive{end}{end}retry: 10{end}".encode()
        + event("a.partial_image", b"one", end)
        + f": {'x' * 3000}{end}".encode()
        + event("a.completed", PICTURE, end)
        + f"data: [DONE]{end}{end}".encode()
    )
    assert frames(stream, size) == [
        ("a.partial_image", {"type": "a.partial_image", "b64_json": ""}, b"one"),
        ("a.completed", {"type": "a.completed", "b64_json": ""}, PICTURE),
        ("", None, b""),
    ]


def test_last_event_counts_without_its_blank_line() -> None:
    """A stream that ends right behind the last event's data has lost nothing."""
    whole = event("a.completed", PICTURE)
    assert frames(whole.rstrip(b"\n"), 50) == frames(whole, 50)


def test_an_event_over_several_data_lines() -> None:
    """Data lines of one frame are one document."""
    assert frames(b'data: {"type":\ndata:  "x"}\n\n', 3) == [("", {"type": "x"}, b"")]


def test_a_cut_event_is_no_event() -> None:
    """Half a frame at the end of the stream is not reported."""
    assert frames(event("a.completed", PICTURE)[:200], 50) == []


def test_in_frame_tells_working_from_sending() -> None:
    """Between frames the upstream works; inside one it must keep sending."""
    scanner = EventScanner(_nowhere)
    before = scanner.in_frame
    assert list(scanner.feed(b': still here\n\nevent: x\ndata: {"b64')) == []
    inside = scanner.in_frame
    assert len(list(scanner.feed(b'_json": ""}\n\n: hm'))) == 1
    assert (before, inside, scanner.in_frame) == (False, True, False)


def _nowhere() -> Callable[[bytes], object]:
    return lambda _data: None


def taken(body: bytes, cuts: list[int]) -> object:
    """Return the same as `outcome` where pictures are taken without a copy, as from a socket."""
    out = bytearray()
    scanner = ReplyScanner(out.extend)
    try:
        for start, end in pairwise([0, *sorted(cuts), len(body)]):
            piece = body[start:end]
            if not (scanner.in_picture and scanner.take(memoryview(bytearray(piece)))):
                scanner.feed(piece)
        document = scanner.document() if scanner.complete else None
    except ReplyError as error:
        return error.fault
    return (
        bytes(out) if scanner.complete else None,
        document,
        scanner.complete,
        scanner.picture_bytes,
        scanner.images,
        scanner.url,
    )


@given(
    st.sampled_from(
        [
            body(),
            body(f"data:image/png;base64,{TEXT}"),
            body(TEXT).replace(b"/", b"\\/"),
            body(TEXT[:400] + "=" + TEXT[401:]),
            body(TEXT[:-1] + "!"),
            body(TEXT[:-2]),
            json.dumps({"data": [{"b64_json": TEXT}, {"b64_json": TEXT}]}).encode(),
        ]
    ),
    st.lists(st.integers(0, len(TEXT)), max_size=12),
)
def test_a_picture_that_is_taken_is_the_one_that_is_fed(reply: bytes, cuts: list[int]) -> None:
    assert taken(reply, cuts) == outcome(reply, cuts)


@pytest.mark.parametrize(
    "head",
    [
        b'{"created":1,"data":[{"b64_json":"',
        b' {"created": 1, "background": "opaque", "n": null, "data": [ {"b64_json": "',
        b'{"url":"x","data":[{"b64_json":"',
        b'{"data":1,"data":[{"b64_json":"',
        b'{"b64_json":"AAAA","data":[{"b64_json":"',
        b'{"a":"\\"","data":[{"b64_json":"',
        b'{"a":[1],"data":[{"b64_json":"',
        b'{"data":[{"revised_prompt":"x","b64_json":"',
        b'{"data":[[{"b64_json":"',
        b'{"a":01,"data":[{"b64_json":"',
    ],
)
@pytest.mark.parametrize("tail", [b'"}]}', b'"},{"b64_json":"AAAA"}]}', b'","url":"y"}]}', b'"}'])
def test_a_usual_beginning_is_taken_for_what_the_walk_finds(head: bytes, tail: bytes) -> None:
    reply = head + TEXT.encode() + tail
    step_by_step = list(range(1, len(head)))
    assert outcome(reply, []) == outcome(reply, step_by_step)
