"""How a secret looks when it comes out: as it is, escaped, quoted, in base64 or hex.

Owns the forms of a value that is known, and the shape by which any key of ours is known without
its value: its checksum says that it is one.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from safelight import key_text

LEAST = 8
"""Bytes; what is shorter stands in texts by chance."""
_PREFIXES = (key_text.CUSTOMER, key_text.ADMIN)
_TAIL = 46
"""Characters of a key behind its prefix: id, secret, checksum."""
_PLAIN = re.compile(rb"sl_(?:live|admin)_[0-9A-Za-z]{46}")
_HEX = re.compile(rb"736[cC]5[fF][0-9a-fA-F]{102,104}")
"""The hex of "sl_" and of what follows in either kind of key."""


def forms(secret: bytes) -> frozenset[bytes]:
    """Return every form of a secret that is looked for."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), *in_base64(secret)}
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return frozenset(found)
    once = {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]}
    twice = {json.dumps(one)[1:-1] for one in once}
    quoted = {quote(text, safe=""), quote(text), quote_plus(text)}
    found |= {one.encode() for one in once | twice | quoted}
    return frozenset(one for one in found if len(one) >= LEAST)


def in_base64(secret: bytes) -> Iterator[bytes]:
    """Yield what base64 makes of bytes wherever they stand in a longer text (RFC 4648, 4 and 5).

    Three bytes are four characters, so there are three ways; at both ends the characters that
    depend on the neighbours are left out.
    """
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + secret)
        part = whole[math.ceil(shift * 8 / 6) : (shift + len(secret)) * 8 // 6]
        yield part
        yield part.replace(b"+", b"-").replace(b"/", b"_")


def keys_in(data: bytes) -> set[str]:
    """Return every key of ours, a customer's or an operator's, that stands in data in any form."""
    found = _keys_of(match.group() for match in _PLAIN.finditer(data))
    found |= _keys_of(_of_hex(match.group()) for match in _HEX.finditer(data))
    for pattern, shift in _BASE64:
        found |= _keys_of(_of_base64(match.group(), shift) for match in pattern.finditer(data))
    return found


def _in_base64_of(prefix: str) -> Iterator[tuple[re.Pattern[bytes], int]]:
    known = list(in_base64(prefix.encode()))[::2]
    for shift, part in enumerate(known):
        yield re.compile(re.escape(part) + rb"[0-9A-Za-z+/_-]{58,66}"), shift


_BASE64 = tuple(one for prefix in _PREFIXES for one in _in_base64_of(prefix))


def _of_hex(run: bytes) -> bytes:
    return bytes.fromhex(run[: len(run) // 2 * 2].decode())


def _of_base64(run: bytes, shift: int) -> bytes:
    """Return the text that a run of base64 begins with, in the first of its characters or later."""
    run = run.replace(b"-", b"+").replace(b"_", b"/")
    whole = b"A" * math.ceil(shift * 8 / 6) + run
    # Of the first byte some bits belong to characters that the pattern leaves out.
    return b"s" + base64.b64decode(whole[: len(whole) // 4 * 4])[shift + 1 :]


def _keys_of(texts: Iterable[bytes]) -> set[str]:
    """Return the keys that texts begin with."""
    return {
        text[: len(prefix) + _TAIL].decode()
        for text in texts
        for prefix in _PREFIXES
        if text[: len(prefix) + _TAIL].isascii()
        if key_text.well_formed(text[: len(prefix) + _TAIL].decode(), prefix)
    }
