"""A thousand hostile requests, each with a name: the same bytes at every run.

Owns the requests as bytes on a connection. A case is one connection: what is sent, and whether the
sender stops in the middle (`cut`: then no answer is owed). How they are judged is `test_corpus`'s.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from hostile import texts
from hostile.texts import FORM_TYPE, form, part

KEY = b"{KEY}"
"""Stands for a good key, which only the test knows."""
CASES = 1000
JSON = b"application/json"
PNG = b"{PNG}"
"""Stands for a small good picture."""


@dataclass(frozen=True)
class Case:
    """One connection of a hostile client."""

    name: str
    data: bytes
    cut: bool = False
    """The sender stops in the middle; the server may close without a word."""
    answers: int = 1
    """Most answers that may come: more means that a request was smuggled in."""


def request(
    method: str = "GET",
    path: str = "/v1/models",
    body: bytes | None = None,
    *headers: tuple[bytes, bytes],
    kind: bytes = JSON,
    key: bytes | None = KEY,
) -> bytes:
    """Return a whole request; a body has a right length."""
    lines = [f"{method} {path} HTTP/1.1".encode("utf-8", "surrogatepass"), b"Host: x"]
    if key is not None:
        lines.append(b"Authorization: Bearer " + key)
    if body is not None:
        lines += [b"Content-Type: " + kind, b"Content-Length: %d" % len(body)]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def corpus() -> list[Case]:
    """Return a thousand cases; each group is there as a whole, JSON fills up what is left."""
    found = [
        *_framing(),
        *_smuggling(),
        *_heads(),
        *_paths(),
        *_queries(),
        *_forms(),
        *_sockets(),
        *_addresses(),
        *_documents(),
    ]
    chance = random.Random(9)
    mutable = [case for case in found if case.name.startswith(("json", "form"))]
    while len(found) < CASES:
        base = chance.choice(mutable)
        found.append(_mutated(base, chance, len(found)))
    return found[:CASES]


def _mutated(base: Case, chance: random.Random, number: int) -> Case:
    """Return a case with some bytes of its body changed; its length stays right."""
    head, _, body = base.data.partition(b"\r\n\r\n")
    changed = bytearray(body)
    for _ in range(chance.randint(1, 6)):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return Case(f"mutant {number} of {base.name}", head + b"\r\n\r\n" + bytes(changed), base.cut)


def _framing() -> Iterator[Case]:
    for at, data in enumerate(texts.NOT_HTTP):
        yield Case(f"framing {at}: {data[:24]!r}", data, cut=True)
    for name, extra in texts.ODD_HEADERS.items():
        yield Case(f"header {name}", request("GET", "/v1/models", None, *extra))
    for name in texts.METHODS:
        yield Case(f"method {name}", request(name, "/v1/models"))
        yield Case(f"method {name} of nothing", request(name, "/nowhere"))


def _smuggling() -> Iterator[Case]:
    """Two lengths for one body, in the forms that proxies and servers disagree about."""
    inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    for at, lines in enumerate(texts.TWO_LENGTHS):
        head = b"POST /v1/quote HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + KEY + b"\r\n"
        yield Case(f"smuggling {at}: {lines[:40]!r}", head + lines + b"\r\n\r\n" + inner, cut=True)
    for at, chunks in enumerate(texts.CHUNKS):
        head = request("POST", "/v1/quote", None, (b"Transfer-Encoding", b"chunked"))
        yield Case(f"chunks {at}: {chunks[:24]!r}", head + chunks, cut=True)


def _heads() -> Iterator[Case]:
    body = json.dumps({"model": "gpt-image-2-vip"}).encode()
    for at, value in enumerate(texts.AUTHORIZATIONS):
        head = request("GET", "/v1/jobs", None, (b"Authorization", value), key=None)
        yield Case(f"authorization {at}", head)
    for (name, path), value in product(texts.HEADERS, texts.HEADER_VALUES):
        method = "POST" if path.endswith(("generations", "quote")) else "GET"
        sent = body if method == "POST" else None
        yield Case(
            f"{name} {value[:16]!r} at {path}", request(method, path, sent, (name.encode(), value))
        )
    for kind in texts.TYPES:
        yield Case(f"type {kind!r}", request("POST", "/v1/images/edits", body, kind=kind))
    for coding in (b"gzip", b"br", b"deflate", b"zstd", b"identity, gzip", b"x", b"gzip, gzip"):
        yield Case(
            f"coding {coding!r}",
            request("POST", "/v1/quote", b"\x1f\x8b" + bytes(40), (b"Content-Encoding", coding)),
        )


def _paths() -> Iterator[Case]:
    for route, name in product(texts.ROUTES, texts.NAMES):
        yield Case(f"path {route} {name[:24]!r}", request("GET", route + name))
    for at, path in enumerate(texts.ODD_PATHS):
        yield Case(f"odd path {at}", request("GET", path))


def _queries() -> Iterator[Case]:
    for path, field, value in product(texts.LISTINGS, texts.FIELDS, texts.QUERY_VALUES):
        yield Case(f"query {path}?{field}={value[:16]}", request("GET", f"{path}?{field}={value}"))
    yield Case("query of 100 fields", request("GET", "/v1/jobs?" + "a=b&" * 100))
    yield Case("query of 60 KB", request("GET", "/v1/jobs?a=" + "b" * 60_000))


def _documents() -> Iterator[Case]:
    for route, (name, body) in product(texts.JSON_ROUTES, texts.documents().items()):
        yield Case(f"json {name} to {route}", request("POST", route, body))
    for field, value in product(texts.PARAMETERS, texts.VALUES):
        body = json.dumps({"model": "gpt-image-2-vip", "prompt": "x", field: value}).encode()
        yield Case(f"json {field}={str(value)[:20]}", request("POST", "/v1/quote", body))
    for at, text in enumerate(texts.PROMPTS):
        prompt = {"model": "gpt-image-2-vip", "size": "1024x1024", "prompt": text}
        yield Case(
            f"json prompt {at}",
            request("POST", "/v1/images/generations", json.dumps(prompt).encode()),
        )


def _forms() -> Iterator[Case]:
    for name, body in texts.forms(PNG).items():
        data = request("POST", "/v1/images/edits", body, kind=FORM_TYPE)
        yield Case(f"form {name}", data)
    good = form(part("prompt", b"x"), part("image", PNG, filename="a.png"))
    for at, kind in enumerate(texts.FORM_TYPES):
        yield Case(f"form boundary {at}", request("POST", "/v1/images/edits", good, kind=kind))
    whole = request("POST", "/v1/images/edits", good, kind=FORM_TYPE)
    for share in range(1, 10):
        yield Case(f"form cut at {share} tenths", whole[: len(whole) * share // 10], cut=True)
    for name in texts.FILE_NAMES:
        sent = form(part("purpose", b"vision"), part("file", b"x", filename=name))
        yield Case(f"file {name[:16]!r}", request("POST", "/v1/files", sent, kind=FORM_TYPE))


def _sockets() -> Iterator[Case]:
    good = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    keys = (b"AAAAAAAAAAAAAAAAAAAAAA==", b"", b"x", b"A" * 4000, b"\xff\xfe")
    for (at, key), version in product(enumerate(keys), (b"13", b"12", b"99", b"-1", b"")):
        extra = [(b"Sec-WebSocket-Key", key), (b"Sec-WebSocket-Version", version)]
        yield Case(
            f"socket key {at} of version {version!r}",
            request("GET", "/v1/jobs/job_x", None, *good, *extra),
        )
    for protocol in (b"safelight.key.", b"safelight.key.\xff", b"a," * 500, b"x" * 8000):
        extra = [
            (b"Sec-WebSocket-Key", keys[0]),
            (b"Sec-WebSocket-Version", b"13"),
            (b"Sec-WebSocket-Protocol", protocol),
        ]
        yield Case(
            f"socket protocol {protocol[:20]!r}",
            request("GET", "/v1/jobs/job_x", None, *good, *extra, key=None),
        )
    for after in ("-1", "1e9", "99999999999999999999", "%00", "x" * 3000, "٣"):
        yield Case(
            f"events after {after[:12]}",
            request("GET", f"/v1/jobs/job_x/events?after={after}", None, (b"Last-Event-ID", b"-1")),
        )


def _addresses() -> Iterator[Case]:
    for at, url in enumerate(texts.ADDRESSES):
        hook = json.dumps({"url": url, "events": ["job.completed"]}).encode()
        yield Case(f"webhook {at}: {url[:30]}", request("POST", "/v1/webhooks", hook))
        edit = json.dumps(
            {"model": "gpt-image-2", "prompt": "x", "images": [{"image_url": url}]}
        ).encode()
        yield Case(f"image_url {at}: {url[:30]}", request("POST", "/v1/images/edits", edit))
