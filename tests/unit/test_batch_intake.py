"""Reading the lines of a batch's file, however its bytes arrive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.gateway.batching.intake import FAULTS_MAX, Found, Intake, lines_of

ENDPOINT = "/v1/images/generations"


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def read(data: bytes, size: int, max_bytes: int = 10_000) -> list[Found]:
    async def all_lines() -> list[Found]:
        return [found async for found in lines_of(chunks(data, size), max_bytes)]

    return asyncio.run(all_lines())


TEXTS = st.lists(st.binary(max_size=12).filter(lambda one: b"\n" not in one), max_size=8)


@given(texts=TEXTS, size=st.integers(1, 40), ends=st.booleans())
def test_lines_are_found_where_they_stand(texts: list[bytes], size: int, ends: bool) -> None:
    """Numbers, places and bytes are the same for any chunks; blank lines count and are left out."""
    data = b"\n".join(texts) + (b"\n" if ends else b"")
    mark = b"\xef\xbb\xbf"
    expected = []
    for number, text in enumerate(data.split(b"\n"), start=1):
        body = text.removeprefix(mark) if number == 1 else text
        if body.strip(b" \t\r\x0b\x0c"):
            expected.append((number, body))
    found = read(data, size)
    assert [(one.line, one.data) for one in found] == expected
    for one in found:
        assert data[one.start : one.start + one.length] == one.data


@given(size=st.integers(1, 40))
def test_a_long_line_is_passed_over_and_told(size: int) -> None:
    found = read(b"short\n" + b"x" * 50 + b"\nagain", size, max_bytes=10)
    assert [(one.line, one.data, one.length) for one in found] == [
        (1, b"short", 5),
        (2, None, 50),
        (3, b"again", 5),
    ]


def intake(*lines: object, max_lines: int = 1000) -> Intake:
    made = Intake(ENDPOINT, max_lines=max_lines, max_line_bytes=10_000)
    data = b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines)
    for found in read(data, 4096):
        made.take(found)
        if made.full:
            break
    made.end()
    return made


def good(custom_id: object = "a", **more: object) -> dict[str, object]:
    body = {"model": "m", "prompt": "p"}
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body, **more}


def test_a_good_file_has_a_model_and_a_count() -> None:
    made = intake(good("a"), good("b"), b"", good("c"))
    assert (made.faults, made.model, made.total) == ([], "m", 3)


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"\xff\xfe", "invalid_json_line", None),
        (b'{"custom_id": "a"} trailing', "invalid_json_line", None),
        (b"[" * 5000, "invalid_json_line", None),
        (b'"text"', "invalid_type", None),
        (good(custom_id=""), "invalid_value", "custom_id"),
        (good(custom_id="x" * 513), "invalid_value", "custom_id"),
        (good(custom_id="a\0b"), "invalid_value", "custom_id"),
        (good(custom_id=None), "invalid_type", "custom_id"),
        (good(body="text"), "invalid_type", "body"),
        (good(method="post"), "invalid_method", "method"),
        (good(url="/v1/images/edits"), "url_mismatch", "url"),
    ],
)
def test_a_line_out_of_form_is_named(line: object, code: str, param: str | None) -> None:
    fault = intake(good("z"), line).faults[0]
    assert (fault.code, fault.param, fault.line) == (code, param, 2)
    assert fault.message


def test_what_is_wrong_in_a_body_alone_is_left_to_its_line() -> None:
    """A body without a model, or with nonsense in it, is refused by itself."""
    made = intake(good("a"), good("b", body={"prompt": 3}), good("c", body={"model": 7}))
    assert (made.faults, made.total) == ([], 3)


def test_a_file_of_another_kind_lists_so_many_faults() -> None:
    made = intake(*[b"nothing"] * 500)
    assert len(made.faults) == FAULTS_MAX
