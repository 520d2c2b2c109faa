"""The real application without a socket: ASGI requests, with a clock that moves when told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import planting
from engines import MemoryEngine, Queues
from safelight.app import App
from safelight.clock import ManualClock
from safelight.config import Config, load_config
from safelight.db import Database
from safelight.db.postgres import PostgresDatabase
from safelight.engine import Engine
from safelight.office import Office


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


class AppInMemory(App):
    """The application with queues that only this process knows, and its books where a test says."""

    def __init__(self, config: Config, clock: ManualClock, *, books: str = "") -> None:
        self._books = books
        super().__init__(config, clock)

    def make_database(self) -> Database:
        if not self._books:
            return super().make_database()
        return PostgresDatabase(self._books, self.clock, connections=4, readers=2)

    def make_engine(self) -> Engine:
        return MemoryEngine(Queues(), self.owner, self.handlers)


class InProcess:
    """One application on one folder, and a customer's key for it."""

    def __init__(self, app: App, clock: ManualClock, key: str) -> None:
        self.app = app
        self.clock = clock
        self.key = planting.learn("customer's key", key)

    async def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; `target` is path and query, `body` becomes JSON if it is no bytes."""
        path, _, query = target.partition("?")
        data = b"" if body is None else body
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        named = {
            "host": "gateway.test",
            "content-length": str(len(data)),
            "authorization": f"Bearer {key or self.key}",
            **({"content-type": "application/json"} if data else {}),
            **(headers or {}),
        }
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        answer, unsent, forever = Answer(), [data], asyncio.Event()

        async def receive() -> dict[str, Any]:
            if unsent:
                return {"type": "http.request", "body": unsent.pop(), "more_body": False}
            await forever.wait()
            raise AssertionError("nobody hangs up here")

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {
                    name.decode(): value.decode() for name, value in message["headers"]
                }
            else:
                answer.body += message.get("body", b"")

        await self.app.asgi(scope, receive, send)
        planting.answer(f"{method} {path}", answer.status, answer.headers, answer.body)
        return answer


@asynccontextmanager
async def running(folder: Path, config: str = "", *, books: str = "") -> AsyncIterator[InProcess]:
    """Start an application over the proof upstream, on a clock that stands still."""
    clock = ManualClock()
    config = planting.config(config)
    path = folder / "safelight.toml" if config else None
    if path is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(config)
    app = AppInMemory(load_config(path, folder, environ=planting.environ()), clock, books=books)
    key = await Office(app.db, app.keyring).create_customer_key("team", 10_000_000)
    await app.start()
    try:
        gateway = InProcess(app, clock, key)
        yield gateway
        planting.see("metrics", (await gateway.ask("GET", "/metrics")).body)
    finally:
        await app.stop(5)
