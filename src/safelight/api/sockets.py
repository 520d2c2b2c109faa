"""WebSocket /v1/jobs/{id}: the events of a job, one JSON text message each.

Owns the handshake and the close codes (RFC 6455, section 7.4; IANA's registry for 1012 and 1013).
Tells only: what a client sends is read and thrown away. The events are `events`'.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import msgspec
from starlette.types import Message, Receive, Scope, Send

from safelight.api.budget import ByteBudget
from safelight.api.callers import key_of
from safelight.api.context import Services
from safelight.api.events import JobEvent, job_events, last_event_id
from safelight.api.exchange import ClientGone, Exchange, settled
from safelight.api.problems import error_body, error_headers, wire_status
from safelight.errors import AuthenticationFailed, InternalError, SafelightError, ShuttingDown

log = logging.getLogger("safelight.api")

SOCKET_PATH = re.compile(r"/v1/jobs/(?P<id>[^/]+)")
PROTOCOL = "safelight.events.v1"
"""The subprotocol that is spoken; a client need not name one."""
KEY_PROTOCOL = "safelight-key."
"""Browsers cannot set headers: they name a second subprotocol, this with the key behind it. It is
never chosen, so it is in no answer, and unlike a query it is in no proxy's log of addresses."""
SEND_S = 60.0
"""A client that takes this long to take one message in has stopped reading."""

DONE, LATER, RESTART, FAILED = 1000, 1013, 1012, 1011


class JobSocket:
    """One WebSocket, from its handshake to its close."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, services: Services, budget: ByteBudget
    ) -> None:
        # The head is that of a GET (RFC 6455, section 1.3), and is read as one.
        head = {**scope, "scheme": "https" if scope["scheme"] == "wss" else "http"}
        self._exchange = Exchange(head, receive, send, services, budget)
        self._scope = scope
        self._receive = receive
        self._send = send

    async def serve(self) -> None:
        """Answer the handshake, tell the events, and close."""
        await self._receive()  # websocket.connect
        try:
            after = last_event_id(self._exchange)
            gateway = self._exchange.services.gateway
            identity = await gateway.authenticate(self._key())
            job_id = self._exchange.path_param("id")
            found = await gateway.job(identity.customer_id, job_id)
        except SafelightError as error:
            await self._refuse(error)
            return
        except Exception:  # the last resort, as for every request
            log.exception("a WebSocket failed inside the gateway")
            await self._refuse(InternalError("The gateway failed; its log has the cause."))
            return
        chosen = PROTOCOL if PROTOCOL in self._scope["subprotocols"] else None
        headers = [(b"x-request-id", self._exchange.request_id.encode())]
        await self._send({"type": "websocket.accept", "subprotocol": chosen, "headers": headers})
        telling = asyncio.ensure_future(self._tell(job_events(self._exchange, found, after=after)))
        leaving = asyncio.ensure_future(self._until_gone())
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await settled(leaving)
            await settled(telling)

    def _key(self) -> str:
        for name in self._scope["subprotocols"]:
            if name.startswith(KEY_PROTOCOL):
                return str(name.removeprefix(KEY_PROTOCOL))
        try:
            return key_of(self._exchange)
        except AuthenticationFailed as error:
            raise AuthenticationFailed(
                f"{error.message} Browsers send it as a subprotocol: "
                f"new WebSocket(url, ['{PROTOCOL}', '{KEY_PROTOCOL}' + key])."
            ) from None

    async def _refuse(self, error: SafelightError) -> None:
        """Answer the handshake with the error that a GET would have got."""
        body = error_body(error)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", self._exchange.request_id.encode()),
            *error_headers(error),
        ]
        start = "websocket.http.response.start"
        await self._send({"type": start, "status": wire_status(error), "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": body})

    async def _until_gone(self) -> None:
        """Read what the client sends, for its goodbye alone."""
        while True:
            message: Message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return

    async def _tell(self, events: AsyncGenerator[JobEvent, None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    async with asyncio.timeout(SEND_S):
                        await self._write(msgspec.json.encode(event).decode())
        except ShuttingDown:
            await self._close(RESTART, "the gateway is restarting; connect again")
        except SafelightError:
            await self._close(LATER, "the events cannot be told now; connect again")
        except (ClientGone, TimeoutError):
            return  # one that does not read would not read a goodbye either
        except Exception:  # the last resort: whatever it was, the client is told to go
            log.exception("a WebSocket failed inside the gateway")
            await self._close(FAILED, "the gateway failed")
        else:
            await self._close(DONE, "the job has ended")

    async def _write(self, text: str) -> None:
        try:
            await self._send({"type": "websocket.send", "text": text})
        except OSError as error:  # what a server raises whose client has gone (ASGI, 2.4)
            raise ClientGone from error

    async def _close(self, code: int, reason: str) -> None:
        with suppress(OSError):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
