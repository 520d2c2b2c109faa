"""Three hundred answers of a vendor gone bad, and the server that gives them.

Owns the answers as bytes on the wire. Every text in them has `MARK`, which no caller may ever read.
None of them is the picture that was asked for.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import socketserver
import struct
import threading
import zlib
from collections.abc import Iterator
from itertools import product
from typing import Any

from hostile.bombs import bombs, polyglots, sample

MARK = "FOREIGN-7c1e"
SCRIPT = f"<script>{MARK}</script>"
PAGE = base64.b64encode(SCRIPT.encode()).decode()
COUNT = 300
HOSTILE = [
    SCRIPT,
    f"{MARK}\r\nSet-Cookie: a=b\r\n\r\n",
    f"\u202e{MARK}\x1b[31m",
    f"sk-proj-{MARK}0123456789abcdef0123456789 at http://10.0.0.7/internal",
]


def answer(
    body: bytes, *headers: str, status: str = "200 OK", kind: str = "application/json"
) -> bytes:
    """Return a whole HTTP answer with a right length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return (
        "\r\n".join([*lines, "Connection: close", *headers]).encode("latin-1") + b"\r\n\r\n" + body
    )


def replies() -> dict[str, bytes]:
    """Return three hundred answers by name."""
    found = dict([*_pictures(), *_documents(), *_addresses(), *_errors(), *_framing()])
    assert len(found) >= COUNT, len(found)
    return dict(list(found.items())[:COUNT])


def _images(**data: Any) -> bytes:
    return json.dumps({"created": 1, "data": [data], "usage": {}}).encode()


def _pictures() -> Iterator[tuple[str, bytes]]:
    """Base64 of everything but the picture that was ordered."""
    files = {**bombs(), **polyglots()}
    for name, data in files.items():
        if len(data) < 2_000_000:
            yield f"picture: {name}", answer(_images(b64_json=base64.b64encode(data).decode()))
    for kind in ("png", "jpeg", "webp"):
        data = sample(kind)
        yield f"small {kind}", answer(_images(b64_json=base64.b64encode(data).decode()))
        for share in range(1, 6):
            cut = data[: len(data) * share // 6]
            yield f"{kind} cut {share}", answer(_images(b64_json=base64.b64encode(cut).decode()))
    text = base64.b64encode(sample("png")).decode()
    for name, spoilt in {
        "url-safe": text.replace("+", "-").replace("/", "_") + "_-",
        "of blanks": " ".join(text),
        "of line breaks": "\n".join(text[at : at + 4] for at in range(0, len(text), 4)),
        "of a mark": text[:8] + MARK + text[8:],
        "padded inside": text[:8] + "====" + text[8:],
        "of one letter": "A",
        "empty": "",
        "that is a data: URL of a page": "data:text/html;base64," + PAGE,
    }.items():
        yield f"base64 {name}", answer(_images(b64_json=spoilt))


def _documents() -> Iterator[tuple[str, bytes]]:
    values: dict[str, Any] = {
        "null": None,
        "number": 1e308,
        "text": MARK,
        "list": [MARK],
        "no data": {"created": 1},
        "data null": {"data": None},
        "data text": {"data": MARK},
        "data object": {"data": {"b64_json": MARK}},
        "data empty": {"data": []},
        "data of nulls": {"data": [None]},
        "data of numbers": {"data": [1, 2]},
        "data of lists": {"data": [[[[MARK]]]]},
        "picture null": {"data": [{"b64_json": None}]},
        "picture number": {"data": [{"b64_json": 17}]},
        "picture object": {"data": [{"b64_json": {"b64_json": MARK}}]},
        "picture elsewhere": {"result": {"data": [{"b64_json": MARK}]}},
        "revised prompt": {"data": [{"revised_prompt": SCRIPT}]},
        "error inside": {"data": [], "error": {"message": SCRIPT, "code": MARK}},
    }
    for name, value in values.items():
        yield f"json {name}", answer(json.dumps(value).encode())
    for at, body in enumerate(
        [
            b"",
            b"{",
            b"\xff\xfe\x00\x00",
            b"[" * 50_000,
            b'{"data":' * 5_000,
            b'{"data": [{"b64_json": "\\ud800"}]}',
            b'{"data": [{"b64_json": NaN}]}',
            b'{"data": [{"b64_json": "' + b"A" * 3_000_000,
            b'{"' + MARK.encode() * 50_000 + b'": 1}',
            SCRIPT.encode(),
            zlib.compress(MARK.encode()),
        ]
    ):
        yield f"body {at}", answer(body)
        yield f"page {at}", answer(body, kind="text/html")
        yield f"stream {at}", answer(b"data: " + body + b"\n\n", kind="text/event-stream")


def _addresses() -> Iterator[tuple[str, bytes]]:
    """Addresses in the place of pictures: none of them may be fetched."""
    for url in (
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
        "http://[::1]/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_",
        f"https://{MARK}.invalid/",
        "data:image/png;base64,!!!!",
        f"javascript:{MARK}",
        "https://user:word@127.0.0.1/",
        "//127.0.0.1/",
        "x" * 100_000,
    ):
        yield f"url {url[:40]}", answer(_images(url=url))
    for status in ("301 M", "302 F", "303 S", "307 T", "308 P", "300 C"):
        for target in ("http://127.0.0.1:1/", f"https://{MARK}.invalid/"):
            yield f"{status} to {target}", answer(b"", f"Location: {target}", status=status)


def _errors() -> Iterator[tuple[str, bytes]]:
    statuses = [400, 401, 402, 403, 404, 409, 413, 418, 422, 451]
    statuses += [500, 502, 503, 504, 520, 529, 599, 600, 999]
    for status, (at, text) in product(statuses, enumerate(HOSTILE)):
        error = {"message": text, "type": text, "code": text, "param": text}
        yield (
            f"{status} with {at}",
            answer(json.dumps({"error": error}).encode(), status=f"{status} {MARK}"),
        )


def _framing() -> Iterator[tuple[str, bytes]]:
    good = _images(b64_json=MARK)
    bomb = gzip.compress(bytes(20_000_000))
    for name, data in {
        "nothing": b"",
        "no http": f"{MARK}\r\n\r\n".encode(),
        "ssh": b"SSH-2.0-OpenSSH_9.9\r\n",
        "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
        "http/9": b"HTTP/9.9 200 OK\r\n\r\n",
        "a head without an end": b"HTTP/1.1 200 OK\r\nX: y\r\n",
        "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000,
        "a header of 1 MB": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + good,
        "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n" + good,
        "length and chunks": answer(good, "Transfer-Encoding: chunked"),
        "a bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + good,
        "a short body": b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + good,
        "a nul in a header": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n" + good,
        "a split header": answer(good, "X: a\r\n\r\nHTTP/1.1 200 OK"),
        "early hints for ever": b"HTTP/1.1 103 Early\r\n\r\n" * 5_000,
        "a gzip bomb": answer(bomb, "Content-Encoding: gzip"),
        "broken gzip": answer(good, "Content-Encoding: gzip"),
        "unknown coding": answer(good, f"Content-Encoding: {MARK}"),
        "an upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        "a request id with a page": answer(good, f"x-request-id: {SCRIPT}"),
        "a retry of a century": answer(good, "Retry-After: 99999999999", status="429 T"),
        "a retry of nonsense": answer(good, f"Retry-After: {MARK}", status="503 T"),
        "limits of nonsense": answer(good, f"x-ratelimit-remaining-images: {MARK}", status="429 T"),
        "a second answer": answer(good) + answer(good),
    }.items():
        yield f"framing {name}", data
    for at in range(60):
        noise = struct.pack("<60I", *(at * 2654435761 * n % 2**32 for n in range(60)))
        yield f"noise {at}", answer(noise)


class HostileVendor:
    """A server on loopback that answers each request with the next of its answers."""

    def __init__(self) -> None:
        self.next = b""
        self.asked = 0
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = self.rfile.readline()
                    if not line:
                        return
                    head += line
                length = re.search(rb"(?i)content-length: (\d+)", head)
                if length is not None:
                    self.rfile.read(int(length[1]))
                if b"/images/" not in head.partition(b"\r\n")[0]:
                    self.wfile.write(answer(b'{"data": []}'))  # a look whether the key is good
                    return
                outer.asked += 1
                with contextlib.suppress(OSError):  # the gateway has had enough of it
                    self.wfile.write(outer.next)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> HostileVendor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
