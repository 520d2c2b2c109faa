"""Who calls, by the Authorization header, and what makes a request a retry of an earlier one.

Owns the reading of those headers; keys and join rules are the gateway's business.
"""

from __future__ import annotations

import re

from safelight.api.exchange import Exchange
from safelight.errors import AuthenticationFailed, InvalidValue
from safelight.gateway.orders import Caller
from safelight.types import Identity

_VISIBLE_ASCII = re.compile(r"[!-~]{1,255}")
_RETRY_COUNT_MAX = 1000
_PATIENCE_HEADERS = ("x-stainless-read-timeout", "x-stainless-timeout")
"""Seconds after which the SDK gives up: the Python SDK's header, and the JavaScript one's."""
_PATIENCE_S = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_PATIENCE_DEFAULT_S = 600.0
"""The SDKs' own default."""


async def authenticate(exchange: Exchange) -> Identity:
    """Return who calls.

    Raises:
        AuthenticationFailed: no key, or none that is valid.
    """
    scheme, _, key = (exchange.header("authorization") or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise AuthenticationFailed(
            "No API key was sent. Send it in the header 'Authorization: Bearer <key>'."
        )
    return await exchange.services.gateway.authenticate(key)


def caller_of(exchange: Exchange, identity: Identity) -> Caller:
    """Return the caller of an order.

    Raises:
        InvalidValue: the Idempotency-Key is not 1 to 255 visible ASCII characters.
    """
    key = exchange.header("idempotency-key")
    if key is not None and not _VISIBLE_ASCII.fullmatch(key):
        raise InvalidValue(
            "An Idempotency-Key is 1 to 255 visible ASCII characters.", param="Idempotency-Key"
        )
    return Caller(
        customer_id=identity.customer_id,
        key_id=identity.key_id,
        route=exchange.scope["path"],
        retry_count=_retry_count(exchange.header("x-stainless-retry-count")),
        idempotency_key=key,
        patience_s=_patience(exchange),
    )


def _patience(exchange: Exchange) -> float:
    """Return how long the caller waits, seconds; unreadable counts as the SDKs' default."""
    for name in _PATIENCE_HEADERS:
        text = exchange.header(name)
        if text is not None and _PATIENCE_S.fullmatch(text):
            return float(text)
    return _PATIENCE_DEFAULT_S


def _retry_count(text: str | None) -> int:
    """Return the SDK's count of its retries; what is no number counts as none."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 4):
        return 0
    return min(int(text), _RETRY_COUNT_MAX)
