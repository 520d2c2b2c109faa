"""What the fault upstream does with each request: behaviours and the scripts that choose them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    """One way to answer. A comment says what the client sees."""

    OK = "ok"
    URL = "url"  # an address instead of base64
    DATA_PREFIX = "data_prefix"  # base64 behind `data:image/png;base64,`
    ESCAPED = "escaped"  # `\/` and `\u002b` inside the base64
    KEEP_ALIVE = "keep_alive"  # headers and spaces at once, the document after the latency
    TWO_IMAGES = "two_images"
    GZIP = "gzip"  # compressed although nobody asked
    WRONG_SIZE = "wrong_size"
    WRONG_FORMAT = "wrong_format"
    CORRUPT = "corrupt"  # a picture with one wrong byte: a PNG's CRC no longer holds
    BAD_BASE64 = "bad_base64"
    SHORT = "short"  # Content-Length promises more than comes
    CUT_JSON = "cut_json"  # good HTTP, but the document ends early
    STALL_BODY = "stall_body"  # half the body, then silence for `seconds`
    TRICKLE = "trickle"  # a few bytes at a time
    HUGE = "huge"  # more than 64 MB
    GZIP_BOMB = "gzip_bomb"
    STATUS = "status"  # `status`, with `body` if given
    THROTTLED = "throttled"
    QUOTA = "quota"
    BILLING_LIMIT = "billing_limit"
    PAYMENT = "payment"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    MODEL_MISSING = "model_missing"
    MODEL_GONE = "model_gone"
    BAD_PARAM = "bad_param"
    MODERATION = "moderation"  # in one of SHAPES
    ERROR_200 = "error_200"
    EMPTY = "empty"
    HTML = "html"
    TEXT = "text"
    REDIRECT = "redirect"
    RESET = "reset"
    STALL = "stall"  # no header for `seconds`
    STREAM_ERROR = "stream_error"  # `partials` events, then an error event


SELLING = frozenset(
    {
        Kind.OK,
        Kind.URL,
        Kind.DATA_PREFIX,
        Kind.ESCAPED,
        Kind.KEEP_ALIVE,
        Kind.TWO_IMAGES,
        Kind.GZIP,
        Kind.WRONG_SIZE,
        Kind.WRONG_FORMAT,
        Kind.CORRUPT,
        Kind.BAD_BASE64,
        Kind.SHORT,
        Kind.CUT_JSON,
        Kind.STALL_BODY,
        Kind.TRICKLE,
        Kind.HUGE,
        Kind.GZIP_BOMB,
    }
)
"""Kinds for which the vendor made and billed a picture (and STATUS with 524)."""

SHAPES = ("openai", "policy", "azure", "relay_500", "relay_451", "ok_200", "stream")
"""The ways in which a moderation refusal comes."""

_BY_STATUS = {
    400: Kind.BAD_PARAM,
    401: Kind.AUTH,
    402: Kind.PAYMENT,
    403: Kind.FORBIDDEN,
    404: Kind.MODEL_MISSING,
    429: Kind.THROTTLED,
}


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one request is answered. Durations in seconds; None: the server's default."""

    kind: Kind = Kind.OK
    status: int = 500
    latency_s: float | None = None
    """How long the picture takes; errors come at once unless this is given."""
    seconds: float | None = None
    """How long a stall lasts; None: until the client leaves."""
    retry_after: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """JSON for STATUS, in place of a plain server error."""
    shape: str = "openai"
    url: str = ""
    """The address for URL and REDIRECT, in place of the server's own."""
    partials: int = 0
    padding: int = 0
    """Extra bytes inside the picture, to make it big."""

    @property
    def sells(self) -> bool:
        """True when the vendor bills for this answer."""
        return self.kind in SELLING or (self.kind is Kind.STATUS and self.status == 524)


Act = Behaviour | Kind | str | int | Mapping[str, Any]
"""A behaviour, or short for one: `"ok"`, `"500"`, `429`, `{"kind": "stall", "seconds": 2}`."""


def behaviour(act: Act) -> Behaviour:
    """Return the behaviour that `act` is short for."""
    if isinstance(act, Behaviour):
        return act
    if isinstance(act, Mapping):
        rest = {name: value for name, value in act.items() if name != "kind"}
        base = behaviour(act.get("kind", "status" if "status" in rest else "ok"))
        return Behaviour(**{"kind": base.kind, "status": base.status, **rest})
    text = str(act)
    if text.isdecimal():
        status = int(text)
        return Behaviour(kind=_BY_STATUS.get(status, Kind.STATUS), status=status)
    return Behaviour(kind=Kind(text))


Script = Callable[[Any], Act]
"""Chooses for each request (a `faults.server.Seen`)."""


def queue(acts: Iterable[Act], *, then: Act = Kind.OK) -> Script:
    """Return a script that plays `acts` in order of arrival, then `then` for ever."""
    waiting = [behaviour(act) for act in acts]
    last = behaviour(then)
    return lambda _seen: waiting.pop(0) if waiting else last


def by_key(scripts: Mapping[str, Any], *, then: Act = Kind.OK) -> Script:
    """Return a script with a script of its own for each API key."""
    made = {key: script(value) for key, value in scripts.items()}
    last = behaviour(then)
    return lambda seen: made[seen.key](seen) if seen.key in made else last


def mix(shares: Mapping[str, float], *, seed: int = 0, then: Act = Kind.OK) -> Script:
    """Return a script that plays each act with its probability; the rest of the time `then`.

    The choice depends on the seed and the request's number alone.
    """

    def choose(seen: Any) -> Act:
        drawn = random.Random(f"{seed}:{seen.number}").random()
        for act, share in shares.items():
            drawn -= share
            if drawn < 0:
                return act
        return then

    return choose


def script(source: Any) -> Script:
    """Return the script that `source` means: a callable, one act, a list of acts, or its JSON form.

    JSON: `["500", "ok"]`, `{"mix": {"500": 0.2}, "seed": 7, "then": "ok"}`,
    `{"keys": {"key-a": ["401"]}, "then": "ok"}`, or one behaviour.
    """
    if callable(source):
        chosen: Script = source
        return chosen
    if isinstance(source, Mapping):
        then = source.get("then", Kind.OK)
        if "mix" in source:
            return mix(source["mix"], seed=source.get("seed", 0), then=then)
        if "keys" in source:
            return by_key(source["keys"], then=then)
        if "queue" in source:
            return queue(source["queue"], then=then)
    if isinstance(source, Sequence) and not isinstance(source, str):
        return queue(source)
    always = behaviour(source)
    return lambda _seen: always


def load(text: str) -> Script:
    """Return the script in a JSON text, or in the JSON file named `@path`."""
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    return script(json.loads(text))
