"""Hostile JSON documents (failure catalogue C12, C13)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.api.strict_json import LENIENT, MAX_STRUCTURE, parse_object
from safelight.errors import InvalidRequest

HOSTILE = {
    "empty": b"",
    "not json": b"prompt=a",
    "list": b"[1]",
    "string": b'"x"',
    "trailing": b'{"a":1} x',
    "nan": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "huge float": b'{"a":1e999}',
    "5000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "duplicate key": b'{"a":1,"a":2}',
    "nested duplicate": b'{"b":{"a":1,"a":2}}',
    "depth 1000": b'{"a":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "depth 100000": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth 17": b'{"a":' * 17 + b"1" + b"}" * 17,
    "65 keys": b"{" + b",".join(b'"%d":1' % n for n in range(65)) + b"}",
    "flood": b'{"a":[' + b"1," * MAX_STRUCTURE + b"1]}",
    "lone surrogate": rb'{"a":"\ud800"}',
    "lone surrogate key": rb'{"\ud800":1}',
    "deep surrogate": rb'{"a":[{"b":"\udfff"}]}',
    "nul": rb'{"a":"x\u0000"}',
    "bad utf-8": b'{"a":"\xff"}',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "control character": b'{"a":"x\x01"}',
    "truncated": b'{"a":"x',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_documents_are_refused(body: bytes) -> None:
    """Each is a 400 with a short message of our own, never another exception."""
    with pytest.raises(InvalidRequest) as caught:
        parse_object(body)
    assert caught.value.code == "invalid_json"
    assert len(caught.value.message) < 200


def test_ordinary_documents_are_read() -> None:
    """Depth 16, escapes, pairs of surrogates and long base64 are fine."""
    assert parse_object(rb'{"a":"\ud83d\ude00","b":[1,2.5,null,true]}') == {
        "a": "\U0001f600",
        "b": [1, 2.5, None, True],
    }
    assert parse_object(b'{"a":' * 16 + b"1" + b"}" * 16)["a"]["a"]
    assert len(parse_object(b'{"a":"' + b"A" * 1_000_000 + b'"}')["a"]) == 1_000_000


def test_lenient_limits_are_limits() -> None:
    """What chat sends along may be built more freely, but not without end."""
    many = b"{" + b",".join(b'"%d":1' % n for n in range(65)) + b"}"
    assert len(parse_object(many, LENIENT)) == 65
    assert parse_object(b'{"a":' * 64 + b"1" + b"}" * 64, LENIENT)
    with pytest.raises(InvalidRequest, match="deeper than 64 levels"):
        parse_object(b'{"a":' * 65 + b"1" + b"}" * 65, LENIENT)
    with pytest.raises(InvalidRequest, match="more than 4096 keys"):
        parse_object(b"{" + b",".join(b'"%d":1' % n for n in range(4097)) + b"}", LENIENT)


def test_a_bytearray_is_emptied_and_nothing_has_its_own_words() -> None:
    """The bytes of a large body go as soon as they are text."""
    body = bytearray(b'{"a":1}')
    assert parse_object(body) == {"a": 1}
    assert body == b""
    for nothing in (b"", b" \r\n"):
        with pytest.raises(InvalidRequest, match="cannot be read: it is empty"):
            parse_object(nothing)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_no_bytes_raise_anything_else(body: bytes) -> None:
    """Whatever comes in, out comes an object or a refusal."""
    with suppress(InvalidRequest):
        assert isinstance(parse_object(body), dict)
