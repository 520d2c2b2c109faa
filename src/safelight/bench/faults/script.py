"""What the fault upstream does with each request: behaviours and the scripts that choose them."""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from safelight.bench.faults.chance import uniform


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

SHAPES = (
    *("openai", "policy", "azure", "relay_500", "relay_451", "ok_200", "stream"),
    *("no_code", "content_filter"),
)
"""The ways in which a moderation refusal comes. `ok_200` answers a stream with an error event."""

FIVE_SHAPES = ("openai", "no_code", "ok_200", "relay_500", "content_filter")
"""What the shape `any` chooses from, by prompt: a refused prompt is refused alike everywhere."""

_SERVER_FAULTS = frozenset({Kind.ERROR_200, Kind.EMPTY, Kind.HTML, Kind.TEXT, Kind.RESET})
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
    """For MODERATION: one of SHAPES, or `any`."""
    url: str = ""
    """The address for URL and REDIRECT, in place of the server's own."""
    partials: int = 0
    padding: int = 0
    """Extra bytes inside the picture, to make it big."""

    @property
    def sells(self) -> bool:
        """True when the vendor bills for this answer."""
        return self.kind in SELLING or (self.kind is Kind.STATUS and self.status == 524)

    @property
    def is_server_fault(self) -> bool:
        """True for failures that take the server's time (`failure_s` of the scenario)."""
        return self.kind in _SERVER_FAULTS or (self.kind is Kind.STATUS and self.status >= 500)

    def shape_for(self, prompt: str) -> str:
        """Return the shape of a moderation refusal of `prompt`."""
        if self.shape != "any":
            return self.shape
        return FIVE_SHAPES[zlib.crc32(prompt.encode()) % len(FIVE_SHAPES)]


Act = Behaviour | Kind | str | int | Mapping[str, Any]
"""A behaviour, or short for one: `"ok"`, `"500"`, `429`, `"moderation:any"`,
`{"kind": "stall", "seconds": 2}`."""


def behaviour(act: Act) -> Behaviour:
    """Return the behaviour that `act` is short for."""
    if isinstance(act, Behaviour):
        return act
    if isinstance(act, Mapping):
        if act.get("shape", "any") not in {*SHAPES, "any"}:
            raise ValueError(f"no shape {act['shape']!r}")
        rest = {name: value for name, value in act.items() if name != "kind"}
        base = behaviour(act.get("kind", "status" if "status" in rest else "ok"))
        return Behaviour(**{"kind": base.kind, "status": base.status, **rest})
    text = str(act)
    if text.isdecimal():
        status = int(text)
        return Behaviour(kind=_BY_STATUS.get(status, Kind.STATUS), status=status)
    name, _, shape = text.partition(":")
    if shape:
        return behaviour({"kind": Kind(name), "shape": shape})
    return Behaviour(kind=Kind(name))


Script = Callable[[Any], Act]
"""Chooses for each request (a `server.Seen`)."""


def queue(acts: Iterable[Act], *, then: Any = Kind.OK) -> Script:
    """Return a script that plays `acts` in order of arrival, then `then` for ever."""
    waiting = deque(behaviour(act) for act in acts)
    last = script(then)
    return lambda seen: waiting.popleft() if waiting else last(seen)


def by_key(scripts: Mapping[str, Any], *, then: Any = Kind.OK) -> Script:
    """Return a script with a script of its own for each API key."""
    made = {key: script(value) for key, value in scripts.items()}
    last = script(then)
    return lambda seen: made[seen.key](seen) if seen.key in made else last(seen)


def by_prompt(scripts: Mapping[str, Any], *, then: Any = Kind.OK) -> Script:
    """Return a script with a script for prompts that hold a word; the first word found rules."""
    made = {word: script(value) for word, value in scripts.items()}
    last = script(then)

    def choose(seen: Any) -> Act:
        return next((one for word, one in made.items() if word in seen.prompt), last)(seen)

    return choose


def mix(
    shares: Mapping[str, float] | Iterable[Mapping[str, Any]],
    *,
    seed: int = 0,
    then: Any = Kind.OK,
) -> Script:
    """Return a script that plays each act with its probability; the rest of the time `then`.

    The choice depends on the seed and the request's number alone. `shares` maps an act to its
    share, or lists `{"act": …, "share": …}`.
    """
    if isinstance(shares, Mapping):
        pairs: list[tuple[Act, float]] = list(shares.items())
    else:
        pairs = [(one["act"], one["share"]) for one in shares]
    if any(share < 0 for _, share in pairs) or sum(share for _, share in pairs) > 1 + 1e-9:
        raise ValueError("the shares of a mix lie between 0 and 1, as does their sum")
    for act, _ in pairs:
        behaviour(act)
    last = script(then)

    def choose(seen: Any) -> Act:
        drawn = uniform(seed, "mix", seen.number)
        for act, share in pairs:
            drawn -= share
            if drawn < 0:
                return act
        return last(seen)

    return choose


def script(source: Any, *, seed: int = 0) -> Script:
    """Return the script that `source` means: a callable, one act, a list of acts, or its JSON form.

    JSON: `["500", "ok"]`, `{"mix": {"500": 0.2}, "seed": 7, "then": "ok"}`,
    `{"keys": {"key-a": ["401"]}, "then": "ok"}`, `{"prompts": {"gore": "moderation:any"}}`, or one
    behaviour. A `then`, and a script of a key or prompt, is again any of these. `seed` is for
    mixes that name none.

    Raises:
        ValueError: it means none.
    """
    if callable(source):
        chosen: Script = source
        return chosen
    if isinstance(source, Mapping) and source.keys() & {"mix", "keys", "prompts", "queue"}:
        return _composed(source, seed)
    if isinstance(source, Sequence) and not isinstance(source, str):
        return queue(source)
    always = behaviour(source)
    return lambda _seen: always


def _composed(source: Mapping[str, Any], seed: int) -> Script:
    then = script(source.get("then", Kind.OK), seed=seed)
    if "mix" in source:
        return mix(source["mix"], seed=source.get("seed", seed), then=then)
    if "keys" in source:
        return by_key(_scripts(source["keys"], seed), then=then)
    if "prompts" in source:
        return by_prompt(_scripts(source["prompts"], seed), then=then)
    return queue(source["queue"], then=then)


def _scripts(sources: Mapping[str, Any], seed: int) -> dict[str, Script]:
    return {name: script(source, seed=seed) for name, source in sources.items()}


def load(text: str) -> Script:
    """Return the script in a JSON text, or in the JSON file named `@path`."""
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8")
    return script(json.loads(text))
