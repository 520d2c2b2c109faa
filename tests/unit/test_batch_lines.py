"""Lines of a vendor's batch as they arrive in pieces: pictures to disk, the rest classified."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pybase64
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safelight.errors import FaultClass, UpstreamError
from safelight.upstreams.batch_lines import LineReader
from safelight.upstreams.batches import BatchLine

DATA = bytes(range(256)) * 40


def good(name: str, data: bytes = DATA, **more: Any) -> bytes:
    body = {"created": 1, "data": [{"b64_json": pybase64.b64encode(data).decode()}], **more}
    response = {"status_code": 200, "request_id": f"req_{name}", "body": body}
    line = {"id": "batch_req_1", "custom_id": name, "response": response, "error": None}
    return json.dumps(line).encode() + b"\n"


def bare(name: str, **parts: Any) -> bytes:
    return (
        json.dumps({"custom_id": name, "response": None, "error": None, **parts}).encode() + b"\n"
    )


def classify(status: int, document: object) -> UpstreamError:
    return UpstreamError(FaultClass.FAST, "told", str(document), status=status)


def read(folder: Path, pieces: list[bytes]) -> list[tuple[BatchLine, bytes | None]]:
    """Return the lines with their pictures; as soon as a line is given out its file is there."""
    found: list[tuple[BatchLine, bytes | None]] = []
    scratch = folder / "scratch"

    def keep(line: BatchLine) -> None:
        came = line.received
        found.append((line, None if came is None else came.path.read_bytes()))

    with LineReader(scratch, classify) as reader:
        for piece in pieces:
            for line in reader.feed(piece):
                keep(line)
        last = reader.end()
        if last is not None:
            keep(last)
    assert list(folder.iterdir()) == []
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 45_000), max_size=12))
def test_pieces_may_be_cut_anywhere(tmp_path: Path, cuts: list[int]) -> None:
    text = good("a", usage={"output_tokens": 7}) + b"\n" + bare("b") + good("c", DATA[:999])
    text = text[:-1]  # the last line may lack its line feed
    at = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    found = read(tmp_path, [text[i:j] for i, j in itertools.pairwise(at)])
    assert [(line.custom_id, data) for line, data in found] == [
        ("a", DATA),
        ("b", None),
        ("c", DATA[:999]),
    ]
    first = found[0][0].received
    assert first is not None
    assert first.usage is not None
    assert (first.upstream_request_id, first.usage.output_tokens) == ("req_a", 7)
    assert found[1][0].error is None  # not executed, not billed


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_what_was_not_executed_is_no_failure(tmp_path: Path, code: str) -> None:
    ((line, _),) = read(tmp_path, [bare("a", error={"code": code, "message": "late"})])
    assert (line.received, line.error) == (None, None)


def test_errors_are_classified_by_status_and_body(tmp_path: Path) -> None:
    response = {"status_code": 429, "request_id": "req_1", "body": {"error": {"code": "x"}}}
    ((line, _),) = read(tmp_path, [bare("a", response=response)])
    assert line.error is not None
    assert (line.error.status, line.error.upstream_request_id) == (429, "req_1")


def test_a_damaged_picture_is_told_by_the_name_before_it(tmp_path: Path) -> None:
    """The lines behind it are read as if nothing had been."""
    text = good("a").replace(b"AAEC", b"A*EC", 1) + good("b")
    found = read(tmp_path, [text])
    assert found[0][0].custom_id == "a"
    assert found[0][0].error is not None
    assert found[0][0].error.fault is FaultClass.BAD_OUTPUT
    assert (found[1][0].custom_id, found[1][1]) == ("b", DATA)


def test_lines_that_name_nobody_are_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, [b"no json\n", b'{"custom_id": 7}\n', b"[]\n", good("b")])
    assert [line.custom_id for line, _ in found] == ["b"]


def test_a_second_picture_of_a_line_is_not_taken(tmp_path: Path) -> None:
    line = json.loads(good("a"))
    line["response"]["body"]["data"] *= 2
    ((found, data),) = read(tmp_path, [json.dumps(line).encode() + b"\n"])
    assert (found.custom_id, data) == ("a", DATA)


def test_a_picture_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """Thirty megabytes come in pieces of 64 KB; what is kept between them is less than one."""
    data = DATA * 3000
    text = good("a", data)
    with LineReader(tmp_path / "scratch", classify) as reader:
        kept = 0
        for at in range(0, len(text), 65_536):
            for line in reader.feed(text[at : at + 65_536]):
                assert line.received is not None
                assert line.received.bytes == len(data)
            kept = max(kept, reader.buffered)
    assert kept < 65_536
