"""Callers of the real application without a socket: with a key, a cookie, both or neither.

Owns how a call looks that comes from a program or from a page in a browser, and the browser's jar
of cookies. The clock stands still unless a test moves it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from e2e.in_process import Answer, InProcess, running
from safelight.admin_keys import Role
from safelight.office import Office

HOST = "gateway.test"


@dataclass
class Visitor:
    """Somebody who calls; `csrf` is sent with every call as soon as a sign-in has told it."""

    app: Any
    key: str | None = None
    address: str = "203.0.113.7"
    scheme: str = "http"
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str | None = None

    async def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        headers: Mapping[str, str | None] | None = None,
    ) -> Answer:
        """Send a call; `headers` stand above those that it would have, None leaves one out."""
        path, _, query = target.partition("?")
        data = b"" if body is None else json.dumps(body).encode()
        sent: dict[str, str | None] = {"host": HOST, "content-length": str(len(data))}
        if data:
            sent["content-type"] = "application/json"
        if self.key is not None:
            sent["authorization"] = f"Bearer {self.key}"
        if self.cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if self.csrf is not None:
            sent["x-safelight-csrf"] = self.csrf
        sent.update(headers or {})
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": self.scheme,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in sent.items() if v is not None],
            "client": (self.address, 1),
            "server": ("127.0.0.1", 80),
        }
        answer = await _exchange(self.app, scope, data)
        self._keep(answer)
        return answer

    async def sign_in(self, key: str, door: str = "/v1/session") -> Answer:
        """Sign in as a page does: the cookie stays in the jar, the token is sent from now on."""
        answer = await self.ask("POST", door, {"key": key})
        assert answer.status == 200, answer.body
        self.csrf = answer.json()["csrf_token"]
        return answer

    def _keep(self, answer: Answer) -> None:
        for name, morsel in SimpleCookie(answer.headers.get("set-cookie", "")).items():
            if morsel.value:
                self.cookies[name] = morsel.value
            else:
                self.cookies.pop(name, None)


async def _exchange(app: Any, scope: dict[str, Any], data: bytes) -> Answer:
    """Send one request; who calls hangs up behind the head of an answer that does not end."""
    answer, unsent, begun = Answer(), [data], asyncio.Event()

    async def receive() -> dict[str, Any]:
        if unsent:
            return {"type": "http.request", "body": unsent.pop(), "more_body": False}
        await begun.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            if "event-stream" in answer.headers.get("content-type", ""):
                begun.set()
        else:
            answer.body += message.get("body", b"")

    await app(scope, receive, send)
    return answer


class House:
    """One application, the keys of two customers, and of an operator of each role."""

    def __init__(self, inside: InProcess) -> None:
        self.app = inside.app
        self.clock = inside.clock
        self.office = Office(inside.app.db, inside.app.keyring)
        self.key = inside.key
        self.other_key = ""
        self.admin: dict[Role, str] = {}

    def visitor(self, key: str | None = None, **values: Any) -> Visitor:
        """Return somebody who calls with that key, or with none."""
        return Visitor(self.app.asgi, key, **values)

    async def customer(self, **values: Any) -> Visitor:
        """Return a browser in which the first customer is signed in."""
        found = self.visitor(**values)
        await found.sign_in(self.key)
        return found

    async def operator(self, role: Role = Role.OWNER, **values: Any) -> Visitor:
        """Return a browser in which an operator is signed in."""
        found = self.visitor(**values)
        await found.sign_in(self.admin[role], "/admin/v1/session")
        return found


@asynccontextmanager
async def open_house(folder: Path, config: str = "") -> AsyncIterator[House]:
    """Start an application with everybody's keys."""
    async with running(folder, config) as inside:
        house = House(inside)
        house.other_key = await house.office.create_customer_key("others", 1_000_000)
        for role in Role:
            house.admin[role], _ = await house.office.create_admin_key(f"the {role}", role)
        yield house
