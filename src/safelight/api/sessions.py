"""/v1/session: a customer's browser signs in with an API key, once, and has a cookie since.

Owns these routes and the shape of a session, which operators' browsers have too. What a cookie is
and which calls are believed is `browsers`', sessions themselves the doors' business.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from safelight.administration.doors import Doors, Opened, session_over
from safelight.api.body import json_body
from safelight.api.browsers import (
    CUSTOMER,
    Door,
    address_of,
    agent_of,
    check_proof,
    check_site,
    cookie_header,
    doors_of,
    no_store,
    secret_of,
)
from safelight.api.exchange import Exchange
from safelight.api.wire import parse_fields, present
from safelight.browser_sessions import Session

_BODY_MAX = 4096


class SignIn(msgspec.Struct, kw_only=True):
    """POST /v1/session and /admin/v1/session."""

    key: Annotated[str, Meta(min_length=1, max_length=256)]


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session, to the browser that has it; `role` is null for a customer.

    State-changing calls carry `csrf_token` in the header `x-safelight-csrf`. `ends_at` is when it
    is over if nothing is called any more, in unix seconds.
    """

    object: str = "session"
    id: str
    name: str
    role: str | None
    csrf_token: str
    ends_at: int


async def sign_in(exchange: Exchange) -> None:
    """Answer POST /v1/session."""
    key = await key_in_body(exchange)
    opened = await doors_of(exchange).open_customer(
        key, address=address_of(exchange), agent=agent_of(exchange)
    )
    await welcome(exchange, CUSTOMER, opened)


async def show(exchange: Exchange) -> None:
    """Answer GET /v1/session: who is signed in here."""
    await show_door(exchange, CUSTOMER)


async def sign_out(exchange: Exchange) -> None:
    """Answer DELETE /v1/session: the session is over, or was."""
    await leave(exchange, CUSTOMER)


async def key_in_body(exchange: Exchange) -> str:
    """Return the key that somebody signs in with.

    Another site's page must not do that: whoever is signed in as somebody else gives that one what
    is theirs (login CSRF, in the same cheat sheet of OWASP).

    Raises:
        PermissionDenied: another site's page sent it.
        InvalidRequest: the body has no key.
    """
    check_site(exchange)
    async with json_body(exchange, _BODY_MAX) as sent:
        fields = present(sent.fields)
    return parse_fields(fields, SignIn).key.strip()


async def welcome(exchange: Exchange, door: Door, opened: Opened) -> None:
    """Answer a sign-in; the session that the browser had before is over (no fixation)."""
    doors, before = doors_of(exchange), secret_of(exchange, door)
    if before is not None:
        await doors.close(before)
    view = session_view(doors, opened.secret, opened.session)
    cookie = cookie_header(exchange, door, opened.secret)
    await exchange.respond_json(view, headers=no_store(cookie))


async def show_door(exchange: Exchange, door: Door) -> None:
    """Answer who is signed in at a door.

    Raises:
        AuthenticationFailed: nobody is.
    """
    doors, secret = doors_of(exchange), secret_of(exchange, door)
    if secret is None:
        raise session_over()
    session = await doors.session(secret)
    await exchange.respond_json(session_view(doors, secret, session), headers=no_store())


async def leave(exchange: Exchange, door: Door) -> None:
    """End the session of a browser and take its cookie away; 204 where there was none, too.

    Raises:
        PermissionDenied: it is not proved that our page asks.
    """
    doors, secret = doors_of(exchange), secret_of(exchange, door)
    if secret is not None:
        check_proof(exchange, doors, secret)
        await doors.close(secret)
    await exchange.start(204, no_store(cookie_header(exchange, door, None)))
    await exchange.finish()


def session_view(doors: Doors, secret: str, session: Session) -> SessionView:
    """Return a session as its browser sees it."""
    return SessionView(
        id=session.id,
        name=session.name,
        role=session.role,
        csrf_token=doors.csrf_token(secret),
        ends_at=session.ends_at // 1000,
    )
