"""Which customer calls, and what makes a request a retry of an earlier one.

Owns the one decision between a key in the Authorization header and a browser's session. Keys and
join rules are the gateway's business, sessions the doors', times `timing`'s.
"""

from __future__ import annotations

import re

from safelight import tracing
from safelight.api.browsers import CUSTOMER, secret_of, session_of
from safelight.api.exchange import Exchange
from safelight.api.timing import Timing
from safelight.errors import AuthenticationFailed, InvalidValue
from safelight.gateway.orders import Caller
from safelight.types import Identity, Metadata

_VISIBLE_ASCII = re.compile(r"[!-~]{1,255}")
_RETRY_COUNT_MAX = 1000


async def authenticate(exchange: Exchange) -> Identity:
    """Return who calls: a key in the Authorization header goes before a browser's session.

    Raises:
        AuthenticationFailed: neither is there, or it is not valid any more.
        PermissionDenied: a session's state-changing call without proof that our page sends it.
    """
    try:
        key = key_of(exchange)
    except AuthenticationFailed:
        found = await _signed_in(exchange)
        if found is None:
            raise
        return found
    return await exchange.services.gateway.authenticate(key)


async def _signed_in(exchange: Exchange) -> Identity | None:
    """Return the customer of the browser's session, or None where there is no such cookie."""
    house, secret = exchange.services.administration, secret_of(exchange, CUSTOMER)
    if house is None or secret is None:
        return None
    session = await session_of(exchange, house.doors, secret)
    if session.customer_id is None or session.api_key_id is None:
        return None
    return Identity(session.customer_id, session.api_key_id, keep_alive=session.keep_alive)


def key_of(exchange: Exchange) -> str:
    """Return the key in the Authorization header.

    Raises:
        AuthenticationFailed: there is none.
    """
    scheme, _, key = (exchange.header("authorization") or "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise AuthenticationFailed(
            "No API key was sent. Send it in the header 'Authorization: Bearer <key>'."
        )
    return key


def caller_of(
    exchange: Exchange,
    identity: Identity,
    timing: Timing,
    *,
    webhook_url: str | None = None,
    persist: bool = False,
    metadata: Metadata = (),
) -> Caller:
    """Return the caller of an order, who may want somebody told of its end, or its pictures kept,
    or something written on its jobs.

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
        patience_s=timing.patience_s,
        deadline_at=timing.deadline_at,
        webhook_url=webhook_url,
        persist=persist,
        metadata=metadata,
        traceparent=tracing.valid(exchange.header("traceparent")),
    )


def _retry_count(text: str | None) -> int:
    """Return the SDK's count of its retries; what is no number counts as none."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 4):
        return 0
    return min(int(text), _RETRY_COUNT_MAX)
