"""What a way does beside silence: bodies, long heads, streams, versions of HTTP and TLS.

Owns those probes; each is one or a few short requests. What follows from them `verdicts` says.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from safelight.doctor.chain.wire import CONNECT_TIMEOUT_S, Answer, Ending, Origin, Request, ask
from safelight.doctor.machine import offset_s

MB = 1024 * 1024
BODY_PATH = "/v1/diagnostics/body"
SILENCE_PATH = "/v1/diagnostics/silence"
_BODY_STEPS_MB = (0.5, 0.9, 1.5, 3, 6, 9, 15, 24, 31, 48, 60, 96, 130, 200)
"""Between the limits that proxies and their operators choose: 1, 2, 4, 8, 10, 16, 25, 32, 50, 64
and 100 MB."""
_HEAD_STEPS_KB = (3, 6, 14, 30)
_REFUSAL_S = 2.0
"""A proxy that refuses a body by its announced length has said so by then."""
_SENT_BYTES = 2 * MB
_STREAM_S, _STREAM_EVERY_S = 2.0, 0.25
_SHORT_S = 20.0


class Facts(msgspec.Struct, frozen=True):
    """What the gateway says of itself in an answer after no silence."""

    deadline_s: float
    max_request_bytes: int
    max_json_bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class Greeting:
    """The first look at a way: `facts` where the gateway knew the key and the route."""

    answer: Answer
    facts: Facts | None
    ahead_s: float | None
    """How far the clock behind the header Date is ahead of ours, seconds."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The largest that passed and the smallest that did not, bytes; `refusal` is the answer."""

    passed: int
    refused: int | None = None
    refusal: Answer | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """The handshake: when the certificate ends (unix seconds), and which HTTP would be spoken."""

    ends_at: float | None
    http: str
    tls: str
    problem: str = ""


async def greet(origin: Origin, now_s: float) -> Greeting:
    """Ask for an answer after no silence, `now_s` being the time of day here."""
    path = f"{SILENCE_PATH}?seconds=0" if origin.key else "/healthz"
    answer = await ask(origin, Request(path=path), timeout_s=_SHORT_S)
    facts = None
    if origin.key and answer.status == 200 and answer.from_gateway:
        try:
            facts = msgspec.json.decode(answer.body, type=Facts)
        except msgspec.DecodeError:
            facts = None
    return Greeting(answer, facts, offset_s(answer.headers, round(now_s * 1000)))


async def bodies(origin: Origin, limit: int) -> Limit:
    """Find the largest body that a way takes, by announcing bodies that never come.

    Proxies refuse by Content-Length before a byte of the body has come; so does the gateway.
    """
    steps = [round(mb * MB) for mb in _BODY_STEPS_MB if mb * MB < limit] + [limit]
    asked = [Request("POST", BODY_PATH, announced=step) for step in steps]
    answers = await asyncio.gather(*(ask(origin, one, timeout_s=_REFUSAL_S) for one in asked))
    return _limit(steps, answers, refused=lambda answer: answer.ending is not Ending.SILENT)


async def sent(origin: Origin, limit: int) -> Limit:
    """Send a body of a usual picture's size for real."""
    length = min(_SENT_BYTES, limit)
    answer = await ask(
        origin, Request("POST", BODY_PATH, body_bytes=length), timeout_s=_SHORT_S * 3
    )
    fine = answer.status == 200 and answer.from_gateway
    return Limit(length) if fine else Limit(0, length, answer)


async def heads(origin: Origin) -> Limit:
    """Find the longest head that a way takes, up to 30 KB in one header."""
    path = f"{SILENCE_PATH}?seconds=0"
    steps = [kb * 1024 for kb in _HEAD_STEPS_KB]
    asked = [Request(path=path, headers=(("X-Padding", "x" * step),)) for step in steps]
    answers = await asyncio.gather(*(ask(origin, one, timeout_s=_SHORT_S) for one in asked))
    return _limit(steps, answers, refused=lambda answer: answer.status != 200)


def _limit(
    steps: Sequence[int], answers: Sequence[Answer], *, refused: Callable[[Answer], bool]
) -> Limit:
    passed = 0
    for step, answer in zip(steps, answers, strict=True):
        if refused(answer):
            return Limit(passed, step, answer)
        passed = step
    return Limit(passed)


async def streams(origin: Origin) -> Answer:
    """Return a stream of two seconds with a comment every quarter, as it arrived."""
    path = f"{SILENCE_PATH}?seconds={_STREAM_S}&form=events&every={_STREAM_EVERY_S}"
    return await ask(origin, Request(path=path), timeout_s=_SHORT_S)


def held_back_s(answer: Answer) -> float | None:
    """Return how long a stream of `streams` was held back, seconds; None: it did not come."""
    if answer.ending is not Ending.COMPLETE or answer.status != 200 or not answer.arrivals:
        return None
    return max(0.0, answer.arrivals[0] - _STREAM_EVERY_S)


async def certificate(origin: Origin) -> Certificate | None:
    """Look at the TLS of a way; None: it is in clear."""
    context = origin.tls(("h2", "http/1.1"))
    if context is None:
        return None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(origin.host, origin.port, ssl=context)
    except OSError as error:  # ssl.SSLError and TimeoutError are two
        words = getattr(error, "verify_message", "") or str(error) or type(error).__name__
        return Certificate(None, "", "", " ".join(words.split())[:200])
    try:
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        ends = (tls.getpeercert() or {}).get("notAfter")
        ends_at = ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None
        chosen = tls.selected_alpn_protocol() or "http/1.1"
        return Certificate(ends_at, chosen, tls.version() or "")
    finally:
        writer.transport.abort()
