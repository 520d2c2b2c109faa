"""A gateway of the tests' own on loopback: plays scripted answers and keeps what it was asked.

For tests of the client commands, which know the gateway only by HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Answer:
    """What to answer. `cut` closes the connection after so many bytes of the body."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut: int | None = None
    hold: threading.Event | None = None


@dataclass
class StubGateway:
    """The running stub: its address, the requests so far, and `arrived` set by each of them."""

    url: str
    asked: list[Asked]
    arrived: threading.Event


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
    """Return a JSON answer."""
    return Answer(status=status, body=msgspec.json.encode(value), headers=dict(headers))


def error_answer(
    status: int, code: str, message: str = "no", headers: Mapping[str, str] = NO_HEADERS
) -> Answer:
    """Return an error in the OpenAI envelope."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return json_answer({"error": error}, status, headers)


def stream_answer(*events: Any, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
    """Return an image stream of `events`."""
    frames = [
        b"event: " + event.get("type", "error").encode() + b"\ndata: " + msgspec.json.encode(event)
        for event in events
    ]
    body = b": keep-alive\n\n" + b"".join(frame + b"\n\n" for frame in frames)
    return Answer(body=body, headers=dict(headers), content_type="text/event-stream")


@contextmanager
def stub_gateway(*script: Answer | Callable[[Asked], Answer]) -> Iterator[StubGateway]:
    """Serve `script`, one answer a request; the last one answers all further requests."""
    asked: list[Asked] = []
    arrived = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def _play(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Asked(self.command, self.path, headers, self.rfile.read(length))
            step = script[min(len(asked), len(script) - 1)]
            asked.append(request)
            arrived.set()
            answer = step(request) if callable(step) else step
            if answer.hold:
                answer.hold.wait(30)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.content_type != "text/event-stream":
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])
            self.close_connection = True

        do_GET = do_POST = _play  # noqa: N815 - the base class looks for these names

        def log_message(self, *_: Any) -> None:
            """Keep the tests' output quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield StubGateway(f"http://127.0.0.1:{server.server_port}", asked, arrived)
        finally:
            server.shutdown()
            thread.join()
