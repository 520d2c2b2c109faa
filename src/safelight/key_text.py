"""The text of keys: how one is made, known for one of ours, and what of it is stored.

A key is a prefix that says what it opens, 8 characters of public id, 32 of secret (190 bits) and 6
of checksum, base62: a typo or a made-up key is refused without a look at the database, and secret
scanners can recognise ours. Stored is only HMAC-SHA256(pepper, key); with that much entropy a slow
password hash would protect nothing more. Owns no rows.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib

CUSTOMER = "sl_live_"
ADMIN = "sl_admin_"

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS, _SECRET_CHARS, _SUM_CHARS = 8, 32, 6


def new_key(prefix: str) -> tuple[str, str]:
    """Return a fresh key and its public id."""
    key_id = _random(_ID_CHARS)
    body = prefix + key_id + _random(_SECRET_CHARS)
    return body + _checksum(body), key_id


def well_formed(key: str, prefix: str) -> bool:
    """Return whether the key's prefix, length and checksum are right."""
    if len(key) != len(prefix) + _ID_CHARS + _SECRET_CHARS + _SUM_CHARS:
        return False
    body, checksum = key[:-_SUM_CHARS], key[-_SUM_CHARS:]
    return (
        body.startswith(prefix) and key.isascii() and hmac.compare_digest(checksum, _checksum(body))
    )


def digest(key: str, pepper: bytes) -> bytes:
    """Return what is stored of a key."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).digest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def _checksum(body: str) -> str:
    number, text = zlib.crc32(body.encode()), ""
    for _ in range(_SUM_CHARS):
        number, digit = divmod(number, 62)
        text = _BASE62[digit] + text
    return text
