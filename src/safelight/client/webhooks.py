"""Messages that a gateway sends: whether they are its own, and what they say.

Owns the check of the Standard Webhooks form (version 1.0, "Verifying webhook authenticity"): an id,
a timestamp and one or more `v1` signatures, HMAC-SHA256 over `id.timestamp.body`. Several secrets
may be given, and several signatures may come: both are how a secret is changed without a gap.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from safelight.client.answers import Job
from safelight.client.errors import BadSignature, Misconfigured, StaleMessage

TOLERANCE_S = 300
"""How far a timestamp may be from now, seconds; what the official packages allow."""
_PREFIX = "whsec_"
_VERSION = "v1"


class WebhookMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is genuine.

    `id` is the same when a message is sent again: note it, and do nothing twice. `type` is
    `job.completed`, `batch.failed`, ...; `data` is what it is about, as the gateway shows it.
    """

    id: str
    sent_at: int
    type: str
    timestamp: str | None = None
    data: dict[str, Any]

    def job(self) -> Job:
        """Return the job of a `job....` message.

        Raises:
            ValueError: the message is about something else.
        """
        if not self.type.startswith("job."):
            raise ValueError(f"a {self.type} message has no job")
        return msgspec.convert(self.data, Job)


class _Body(msgspec.Struct):
    type: str
    data: dict[str, Any]
    timestamp: str | None = None


def verify(
    headers: Mapping[str, str],
    body: bytes | str,
    secret: str | Iterable[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now: float | None = None,
) -> WebhookMessage:
    """Return a message that was signed with the secret, or with one of several.

    Args:
        headers: of the request, in any case.
        body: as it came, before anything decoded it.
        secret: `whsec_...`; while it is being changed, the new one and the old one.
        tolerance_s: how old a message may be, and how far ahead a clock, seconds.
        now: unix seconds; None: the system's clock.

    Raises:
        BadSignature: not signed so, or a header is missing.
        StaleMessage: signed, but not now.
        Misconfigured: a secret that is none.
    """
    raw = body.encode() if isinstance(body, str) else body
    known = {name.lower(): value for name, value in headers.items()}
    message_id, sent = known.get("webhook-id", ""), known.get("webhook-timestamp", "")
    given = known.get("webhook-signature", "")
    if not message_id or not sent or not given:
        raise BadSignature(
            "webhook-id, webhook-timestamp or webhook-signature is missing: this is no webhook"
        )
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 12):
        raise BadSignature("webhook-timestamp is no time")
    keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret)]
    # A server that hands on bytes which are no text gives surrogates: no signature is over those.
    content = b".".join((message_id.encode(errors="replace"), sent.encode(), raw))
    if not _signed(keys, content, given):
        raise BadSignature("the signature is by another secret, or the body was changed on its way")
    sent_at = int(sent)
    if abs((time.time() if now is None else now) - sent_at) > tolerance_s:
        raise StaleMessage(
            f"signed {sent_at}, more than {tolerance_s:g} s from now: a replay, or a wrong clock"
        )
    return _message(message_id, sent_at, raw)


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise Misconfigured(
            "this is no webhook secret: it begins with whsec_ and goes on in base64"
        )
    return key


def _signed(keys: Iterable[bytes], content: bytes, given: str) -> bool:
    """Whether one of the signatures is by one of the keys; all are compared, in constant time."""
    wanted = [base64.b64encode(hmac.digest(key, content, "sha256")) for key in keys]
    found = False
    for signature in given.split():
        version, _, tag = signature.partition(",")
        for one in wanted:
            found |= version == _VERSION and hmac.compare_digest(tag.encode(errors="replace"), one)
    return found


def _message(message_id: str, sent_at: int, raw: bytes) -> WebhookMessage:
    try:
        told = msgspec.json.decode(raw, type=_Body)
    except msgspec.DecodeError as error:
        raise BadSignature("signed, but not a message: it has no type or no data") from error
    return WebhookMessage(
        id=message_id,
        sent_at=sent_at,
        type=told.type,
        timestamp=told.timestamp,
        data=told.data,
    )
