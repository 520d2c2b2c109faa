"""The client's parts: event streams, forms, pictures' headers, addresses, retries."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from python_multipart import MultipartParser

from safelight.cli.errors import AnswerError, CliError, ExitCode, OutOfTimeError, UnreachableError
from safelight.cli.forms import FilePart, form_body, json_body
from safelight.cli.http import Endpoint, Gateway, Patience
from safelight.cli.picture import Measured, measure, write_atomically
from safelight.cli.sse import data_frames
from safelight.clock import ManualClock
from stub_gateway import Answer, error_answer, json_answer, stub_gateway


def manual_patience(timeout_s: float, clock: ManualClock, pauses: list[float]) -> Patience:
    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    return Patience(timeout_s, clock=clock, sleep=sleep)


# --- event streams ---


@given(
    frames=st.lists(st.binary(min_size=1).map(lambda raw: raw.hex().encode()), max_size=5),
    cuts=st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=4),
    end=st.sampled_from([b"\n", b"\r\n"]),
)
def test_frames_do_not_depend_on_how_the_stream_is_cut(
    frames: list[bytes], cuts: list[int], end: bytes
) -> None:
    """Any division into chunks gives the same data frames."""
    stream = io.BytesIO(
        b"".join(b": beat" + end + b"data: " + frame + end + end for frame in frames)
    )
    chunks: list[bytes] = []
    while piece := stream.read(cuts[len(chunks) % len(cuts)]):
        chunks.append(piece)
    assert list(data_frames(chunks)) == frames


def test_several_data_lines_are_one_frame_and_a_cut_frame_is_none() -> None:
    """Data lines join by a line feed; what has no blank line behind it never happened."""
    stream = b"event: a\ndata: one\ndata: two\n\nid: 7\n\ndata: cut off"
    assert list(data_frames([stream])) == [b"one\ntwo"]


# --- bodies ---


def test_json_leaves_out_what_is_not_set() -> None:
    """A field that is None is not sent, so the gateway's default holds."""
    assert json_body({"prompt": "x", "size": None, "n": 2}).data == b'{"prompt":"x","n":2}'


def test_a_form_is_read_back_by_a_real_parser() -> None:
    """Names, file names, types and bytes arrive as they were, whatever they hold."""
    data = bytes(range(256)) * 3 + b"\r\n--"
    body = form_body(
        {"prompt": "Größe 安全灯", "stream": True, "n": 2, "size": None},
        [FilePart("image[]", 'a "b".png', "image/png", data)],
    )
    seen = _parsed(body.data, body.content_type)
    assert seen == [
        ('form-data; name="prompt"', "Größe 安全灯".encode()),
        ('form-data; name="stream"', b"true"),
        ('form-data; name="n"', b"2"),
        ('form-data; name="image[]"; filename="a %22b%22.png"', data),
    ]


def _parsed(body: bytes, content_type: str) -> list[tuple[str, bytes]]:
    parts: list[tuple[str, bytes]] = []
    name, value, content = bytearray(), bytearray(), bytearray()
    headers: dict[bytes, bytes] = {}

    def header_end() -> None:
        headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def part_end() -> None:
        parts.append((headers[b"content-disposition"].decode(), bytes(content)))
        content.clear()
        headers.clear()

    parser = MultipartParser(
        content_type.partition("boundary=")[2],
        {
            "on_header_field": lambda data, start, end: name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: value.extend(data[start:end]),
            "on_header_end": header_end,
            "on_part_data": lambda data, start, end: content.extend(data[start:end]),
            "on_part_end": part_end,
        },
    )
    parser.write(body)
    parser.finalize()
    return parts


# --- pictures ---


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [
        (".png", "png"),
        (".jpg", "jpeg"),
        (".jpg[interlace]", "jpeg"),
        (".webp", "webp"),
        (".webp[lossless]", "webp"),
    ],
)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1820, 780), (33, 2049)])
def test_measures_what_a_real_encoder_wrote(
    suffix: str, expected: str, width: int, height: int
) -> None:
    """Format and pixels come from the header of files that libvips made."""
    data = pyvips.Image.black(width, height, bands=3).write_to_buffer(suffix)
    assert measure(data) == Measured(expected, width, height)  # type: ignore[arg-type]


def test_measures_a_webp_with_alpha() -> None:
    """The extended WebP container has its canvas size elsewhere."""
    image = pyvips.Image.black(40, 30, bands=4).copy(interpretation="srgb")
    data = image.write_to_buffer(".webp")
    assert measure(data) == Measured("webp", 40, 30)


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"\xff\xd8\xff\xe0\x00\x04ab", b"RIFF" + b"x" * 40]
)
def test_refuses_what_is_no_picture(data: bytes) -> None:
    """Garbage and cut headers are errors, not sizes."""
    with pytest.raises(ValueError, match=r"JPEG|WebP"):
        measure(data)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """The new bytes are there and nothing else is left in the folder."""
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """If the target cannot be replaced, the part file is removed."""
    folder = tmp_path / "a.png"
    folder.mkdir()
    with pytest.raises(OSError, match=r"a\.png"):
        write_atomically(folder, b"new")
    assert list(tmp_path.iterdir()) == [folder]


# --- addresses ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8080", Endpoint(False, "127.0.0.1", 8080, "")),
        ("http://127.0.0.1:8080/v1", Endpoint(False, "127.0.0.1", 8080, "")),
        ("http://127.0.0.1:8080/v1/", Endpoint(False, "127.0.0.1", 8080, "")),
        ("https://images.example.com/safe/v1", Endpoint(True, "images.example.com", 443, "/safe")),
        ("http://[::1]:9000/", Endpoint(False, "::1", 9000, "")),
    ],
)
def test_reads_addresses_with_or_without_v1(url: str, expected: Endpoint) -> None:
    """Both spellings of a base address mean the same gateway."""
    assert Endpoint.parse(url) == expected


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "http://x:port", ""])
def test_refuses_what_is_no_address(url: str) -> None:
    """A malformed address is a usage error."""
    with pytest.raises(CliError) as caught:
        Endpoint.parse(url)
    assert caught.value.exit_code == ExitCode.USAGE


# --- retries ---


def test_waits_as_long_as_retry_after_says() -> None:
    """A 429 with Retry-After is repeated after exactly that pause."""
    pauses: list[float] = []
    script = (
        error_answer(429, "rate_limit_exceeded", headers={"retry-after": "7"}),
        json_answer({"ok": 1}),
    )
    with stub_gateway(*script) as stub:
        gateway = Gateway(stub.url, "k", manual_patience(60, ManualClock(), pauses))
        assert gateway.get("/v1/sizes") == {"ok": 1}
    assert pauses == [7.0]
    assert stub.asked[0].headers["authorization"] == "Bearer k"


def test_backs_off_and_gives_up_after_six_tries() -> None:
    """A server error without Retry-After is tried six times with growing pauses."""
    pauses: list[float] = []
    with stub_gateway(error_answer(503, "unavailable", "busy")) as stub:
        gateway = Gateway(stub.url, "k", manual_patience(600, ManualClock(), pauses))
        with pytest.raises(AnswerError, match="busy"):
            gateway.get("/v1/sizes")
    assert len(stub.asked) == 6
    for pause, full in zip(pauses, [0.5, 1, 2, 4, 8], strict=True):
        assert 0.75 * full <= pause <= full


def test_does_not_repeat_what_the_gateway_calls_final() -> None:
    """`x-should-retry: false` stands above the status."""
    pauses: list[float] = []
    answer = error_answer(
        503, "upstream_error", headers={"x-should-retry": "false", "x-request-id": "req_1"}
    )
    with stub_gateway(answer) as stub:
        gateway = Gateway(stub.url, "k", manual_patience(60, ManualClock(), pauses))
        with pytest.raises(AnswerError) as caught:
            gateway.get("/v1/sizes")
    assert len(stub.asked) == 1
    assert caught.value.details["request_id"] == "req_1"


def test_does_not_wait_beyond_the_deadline() -> None:
    """A Retry-After that ends after --timeout is answered at once with the gateway's error."""
    pauses: list[float] = []
    with stub_gateway(
        error_answer(429, "rate_limit_exceeded", headers={"retry-after": "90"})
    ) as stub:
        gateway = Gateway(stub.url, "k", manual_patience(60, ManualClock(), pauses))
        with pytest.raises(AnswerError):
            gateway.get("/v1/sizes")
    assert (len(stub.asked), pauses) == (1, [])


def test_says_out_of_time_when_no_time_is_left() -> None:
    """Nothing is sent after the deadline."""
    clock = ManualClock()
    with stub_gateway(json_answer({})) as stub:
        gateway = Gateway(stub.url, "k", manual_patience(5, clock, []))
        clock.advance(5)
        with pytest.raises(OutOfTimeError):
            gateway.get("/v1/sizes")
    assert stub.asked == []


def test_a_cut_answer_is_repeated() -> None:
    """A body shorter than its Content-Length is a broken connection, not a result."""
    cut = Answer(body=b'{"data": []}', cut=5)
    with stub_gateway(cut, json_answer({"data": [1]})) as stub:
        gateway = Gateway(stub.url, "k", manual_patience(60, ManualClock(), []))
        assert gateway.get("/v1/sizes") == {"data": [1]}


def test_nobody_listening_is_unreachable() -> None:
    """A refused connection ends, after its tries, as unreachable."""
    with stub_gateway(json_answer({})) as stub:
        pass
    gateway = Gateway(stub.url, "k", manual_patience(60, ManualClock(), []))
    with pytest.raises(UnreachableError) as caught:
        gateway.get("/v1/sizes")
    assert caught.value.exit_code == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalid_value", ExitCode.REFUSED),
        (400, "moderation_blocked", ExitCode.MODERATION),
        (401, "invalid_api_key", ExitCode.REFUSED),
        (402, "insufficient_balance", ExitCode.NO_BALANCE),
        (402, "budget_exceeded", ExitCode.NO_BALANCE),
        (503, "deadline_exceeded", ExitCode.TIMEOUT),
        (503, "upstream_timeout", ExitCode.TIMEOUT),
        (504, None, ExitCode.TIMEOUT),
        (None, "moderation_blocked", ExitCode.MODERATION),
        (None, "insufficient_balance", ExitCode.NO_BALANCE),
        (503, "upstream_error", ExitCode.REFUSED),
    ],
)
def test_errors_become_the_documented_exit_codes(
    status: int | None, code: str, expected: ExitCode
) -> None:
    """Scripts can tell the cases apart by the exit code alone."""
    assert AnswerError({"message": "m", "code": code}, status=status).exit_code == expected
