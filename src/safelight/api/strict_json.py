"""JSON as strangers send it: one object, or a 400 that says what is wrong.

Owns the limits that keep a hostile document cheap (failure catalogue C12, C13): depth, keys per
object, structure characters, number length. Knows nothing of parameters.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from safelight.errors import InvalidRequest


class Limits(NamedTuple):
    """How a document may be built: levels of nesting, and keys in one object."""

    depth: int
    keys: int


STRICT = Limits(depth=16, keys=64)
"""For bodies of which every part is read."""
LENIENT = Limits(depth=64, keys=4096)
"""For chat: tools, their schemas and token weights are sent along and passed over."""
MAX_STRUCTURE = 50_000
"""Commas and opening brackets in one body; text and base64 hold few, a flood of fields many."""
_MAX_DIGITS = 25


def _refuse(what: str) -> NoReturn:
    raise InvalidRequest(f"The JSON body cannot be read: {what}.", code="invalid_json")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        _refuse("a number is too long")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _refuse("a number is too large")
    return value


def _no_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not JSON")


@lru_cache(maxsize=4)
def _decoder(max_keys: int) -> json.JSONDecoder:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) > max_keys:
            _refuse(f"an object has more than {max_keys} keys")
        found = dict(pairs)
        if len(found) != len(pairs):
            _refuse("an object has the same key twice")
        return found

    return json.JSONDecoder(
        object_pairs_hook=unique,
        parse_int=_integer,
        parse_float=_real,
        parse_constant=_no_constant,
    )


def _check_text(text: str) -> None:
    if "\x00" in text:
        _refuse("a string holds the character U+0000")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            _refuse("a string holds half of a surrogate pair")


def _check_tree(root: dict[str, Any], max_depth: int) -> None:
    level: list[Any] = [root]
    for _ in range(max_depth):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                for key, value in node.items():
                    _check_text(key)
                    below.append(value)
            elif isinstance(node, list):
                below.extend(node)
            elif isinstance(node, str):
                _check_text(node)
        if not below:
            return
        level = below
    if any(isinstance(node, dict | list) for node in level):
        _refuse(f"it is nested deeper than {max_depth} levels")
    for node in level:
        if isinstance(node, str):
            _check_text(node)


def parse_object(body: bytes | bytearray, limits: Limits = STRICT) -> dict[str, Any]:
    """Return the one JSON object in `body`; a bytearray is empty afterwards.

    Raises:
        InvalidRequest: it is no JSON object in UTF-8, breaks a limit above, holds a key twice,
            NaN or Infinity, U+0000 (databases refuse it) or a lone surrogate.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_STRUCTURE:
        _refuse(f"it holds more than {MAX_STRUCTURE} values")
    try:
        text = body.decode()
        if isinstance(body, bytearray):
            # Text and values are in memory together for a moment; the bytes need not be, too.
            body.clear()
        if not text or text.isspace():
            _refuse("it is empty")
        found = _decoder(limits.keys).decode(text)
    except UnicodeDecodeError:
        _refuse("it is not UTF-8")
    except json.JSONDecodeError as error:
        _refuse(f"{error.msg} at character {error.pos}")
    except RecursionError:
        _refuse(f"it is nested deeper than {limits.depth} levels")
    if not isinstance(found, dict):
        _refuse("an object was expected")
    _check_tree(found, limits.depth)
    return found
