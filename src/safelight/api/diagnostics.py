"""/v1/diagnostics: what the way between a caller and this process does to a connection.

Owns the two routes that `safelight doctor` asks through proxies: one that is silent for a chosen
time in each of the forms that answers of the gateway have, one that takes a body. They make
nothing, cost nothing and write nothing. What is concluded from them is the doctor's business.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

import safelight
from safelight.api.body import read_chunks
from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.api.problems import Headers
from safelight.api.stream import KEEP_ALIVE, SSE_HEADERS
from safelight.errors import InvalidValue, ShuttingDown, UnknownParameter

Form = Literal["plain", "blanks", "events"]

QUERY = ("seconds", "form", "every")
SECONDS_MAX = 900.0
_FORMS: tuple[Form, ...] = ("plain", "blanks", "events")
_EVERY_MIN_S, _EVERY_MAX_S = 0.1, 120.0
_NUMBER = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
_LOOK_S = 1.0
"""How often a silence looks whether the process is leaving: it must not hold up a restart."""
_NO_STORE = (b"cache-control", b"no-store")
_BLANKS_HEADERS: Headers = [
    (b"content-type", b"application/json"),
    _NO_STORE,
    (b"x-accel-buffering", b"no"),
]


class SilenceView(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/diagnostics/silence: what was asked for, and what this gateway needs of its proxies.

    `deadline_s` is how long a plain answer may be silent: the longest of any channel. The body
    limits are those of the gateway itself.
    """

    object: str = "diagnostics.silence"
    seconds: float
    form: Form
    every: float
    deadline_s: float
    max_request_bytes: int
    max_json_bytes: int
    version: str


class BodyView(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/diagnostics/body: how many bytes arrived."""

    object: str = "diagnostics.body"
    bytes: int


@dataclass(frozen=True, slots=True)
class _Asked:
    seconds: float
    form: Form
    every_s: float


async def silence(exchange: Exchange) -> None:
    """Answer GET /v1/diagnostics/silence after `seconds`.

    `plain` is silent until then; `blanks` sends white space as keys with `keep_alive` get it,
    `events` comments of server-sent events, both after `every` seconds without a byte.

    Raises:
        RateLimited: the key has too many of them open.
        ShuttingDown: the process is leaving.
    """
    identity = await authenticate(exchange)
    asked = _read(exchange.query(), exchange.services.keep_alive_s)
    with exchange.services.diagnosing.place(identity.key_id):
        async with exchange.watched():
            if asked.form == "plain":
                await _quiet(exchange, asked.seconds)
                await exchange.respond(200, _view(exchange, asked), headers=[_NO_STORE])
            else:
                await _with_signs_of_life(exchange, asked)


async def body(exchange: Exchange) -> None:
    """Answer POST /v1/diagnostics/body with the count of its bytes; they are kept nowhere."""
    identity = await authenticate(exchange)
    limit = exchange.services.config.server.max_request_bytes
    received = 0
    with exchange.services.diagnosing.place(identity.key_id):
        async for chunk in read_chunks(exchange, limit):
            received += len(chunk)
        await exchange.respond_json(BodyView(bytes=received), headers=[_NO_STORE])


async def _with_signs_of_life(exchange: Exchange, asked: _Asked) -> None:
    events = asked.form == "events"
    await exchange.start(200, SSE_HEADERS if events else _BLANKS_HEADERS)
    pauses, rest_s = divmod(asked.seconds, asked.every_s)
    for pause_s in (*[asked.every_s] * int(pauses), rest_s):
        await _quiet(exchange, pause_s)
        await exchange.write(KEEP_ALIVE if events else b" ")
    view = _view(exchange, asked)
    await exchange.write(b"data: " + view + b"\n\n" if events else view)
    await exchange.finish()


async def _quiet(exchange: Exchange, seconds: float) -> None:
    """Send nothing for so long, as long as the caller stays and the process does."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    nothing: asyncio.Future[None] = loop.create_future()
    gateway = exchange.services.gateway
    while (left_s := until - loop.time()) > 0:
        if gateway.leaving or not gateway.accepting:
            raise ShuttingDown
        await exchange.either(nothing, timeout_s=min(left_s, _LOOK_S))


def _view(exchange: Exchange, asked: _Asked) -> bytes:
    config = exchange.services.config
    return msgspec.json.encode(
        SilenceView(
            seconds=asked.seconds,
            form=asked.form,
            every=asked.every_s,
            deadline_s=max(channel.deadline_s for channel in config.channels.values()),
            max_request_bytes=config.server.max_request_bytes,
            max_json_bytes=config.server.max_json_bytes,
            version=safelight.__version__,
        )
    )


def _read(query: Mapping[str, str], every_s: float) -> _Asked:
    for name in query:
        if name not in QUERY:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    form = next((one for one in _FORMS if one == query.get("form", "plain")), None)
    if form is None:
        raise InvalidValue(f"'form' is one of {', '.join(_FORMS)}.", param="form")
    return _Asked(
        seconds=_number(query, "seconds", 0.0, 0.0, SECONDS_MAX),
        form=form,
        every_s=_number(query, "every", every_s, _EVERY_MIN_S, _EVERY_MAX_S),
    )


def _number(
    query: Mapping[str, str], name: str, default: float, least: float, most: float
) -> float:
    text = query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not least <= float(text) <= most:
        message = f"{name!r} is a number of seconds from {least:g} to {most:g}."
        raise InvalidValue(message, param=name)
    return float(text)
