"""/admin/v1/session, /sessions and /admin-keys: how operators get in, and who else may.

Owns these routes. Who may call which stands in the table; `access` checks it. The shape of a
session and its cookie are those of customers (`api.sessions`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from safelight.admin_keys import AdminKey, Role
from safelight.api.admin.access import Handler, Operator, guarded, who
from safelight.api.body import json_body, read_chunks
from safelight.api.browsers import OPERATOR, address_of, agent_of, doors_of, no_store
from safelight.api.exchange import Exchange
from safelight.api.job_views import seconds
from safelight.api.sessions import key_in_body, leave, show_door, welcome
from safelight.api.wire import parse_fields, present
from safelight.browser_sessions import Session
from safelight.errors import InvalidValue, NotFound, PermissionDenied, UnknownParameter
from safelight.office_customers import OfficeCustomers

PAGE = 200
_BODY_MAX = 4096


class AdminKeyBody(msgspec.Struct, kw_only=True):
    """POST /admin/v1/admin-keys; without a role it is an operator's."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    role: Role | None = None


class AdminKeyView(msgspec.Struct, frozen=True, kw_only=True):
    """An admin key; `key` itself is in the answer to its making and nowhere else."""

    object: str = "admin_key"
    id: str
    name: str
    role: Role
    last4: str
    created_at: int
    revoked_at: int | None
    key: str | msgspec.UnsetType = msgspec.UNSET


class AdminKeyList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /admin/v1/admin-keys: all of them, oldest first; they are few."""

    object: str = "list"
    data: tuple[AdminKeyView, ...]
    last_id: str | None
    has_more: bool = False


class OpenSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session, to operators: whose, from where, and with which browser by its own word.

    `kind` is operator or customer; `current` is the one that asks.
    """

    object: str = "session"
    id: str
    kind: str
    name: str
    role: str | None
    key_id: str | None
    address: str
    agent: str
    created_at: int
    seen_at: int
    ends_at: int
    current: bool


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /admin/v1/sessions: those that are not over, newest first; `after` gives the next."""

    object: str = "list"
    data: tuple[OpenSession, ...]
    last_id: str | None
    has_more: bool


async def sign_in(exchange: Exchange) -> None:
    """Answer POST /admin/v1/session."""
    key = await key_in_body(exchange)
    opened = await doors_of(exchange).open_admin(
        key, address=address_of(exchange), agent=agent_of(exchange)
    )
    await welcome(exchange, OPERATOR, opened)


async def show(exchange: Exchange) -> None:
    """Answer GET /admin/v1/session: who is signed in here."""
    await show_door(exchange, OPERATOR)


async def sign_out(exchange: Exchange) -> None:
    """Answer DELETE /admin/v1/session: the session is over, or was."""
    await leave(exchange, OPERATOR)


async def sessions(exchange: Exchange) -> None:
    """Answer GET /admin/v1/sessions."""
    caller, query = await who(exchange), exchange.query()
    for name in query:
        if name != "after":
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    found, more = await doors_of(exchange).open_sessions(
        after=query.get("after") or None, limit=PAGE
    )
    views = tuple(_session_view(one, caller) for one in found)
    last_id = views[-1].id if views else None
    listed = SessionList(data=views, last_id=last_id, has_more=more)
    await exchange.respond_json(listed, headers=no_store())


async def end_session(exchange: Exchange) -> None:
    """Answer DELETE /admin/v1/sessions/{id}: an owner ends any, others those of their own key.

    Raises:
        NotFound: none that is open has the id.
        PermissionDenied: it is another's.
    """
    caller, session_id = await who(exchange), exchange.path_param("id")
    wanted = await doors_of(exchange).open_session(session_id)
    if wanted is not None and not _is_own(wanted, caller) and caller.role is not Role.OWNER:
        raise PermissionDenied(
            "Only an owner ends other people's sessions; yours are those of your own key.",
            code="role_required",
        )
    if wanted is None or not await _customers(exchange, caller).end_session(session_id):
        raise NotFound(f"No open session has the id {session_id[:64]!r}.", param="id")
    await exchange.start(204, no_store())
    await exchange.finish()


async def admin_keys(exchange: Exchange) -> None:
    """Answer GET /admin/v1/admin-keys."""
    found = [
        _key_view(one) for one in await _customers(exchange, await who(exchange)).list_admin_keys()
    ]
    listed = AdminKeyList(data=tuple(found), last_id=found[-1].id if found else None)
    await exchange.respond_json(listed, headers=no_store())


async def create_admin_key(exchange: Exchange) -> None:
    """Answer POST /admin/v1/admin-keys; the key is shown in this answer alone."""
    caller = await who(exchange)
    async with json_body(exchange, _BODY_MAX) as sent:
        fields = present(sent.fields)
    body = parse_fields(fields, AdminKeyBody)
    if body.name != body.name.strip() or not body.name.isprintable():
        raise InvalidValue(
            "'name' is a name without blanks around it or unprintable characters.", param="name"
        )
    role = body.role or Role.OPERATOR
    key, made = await _customers(exchange, caller).create_admin_key(body.name, role)
    view = msgspec.structs.replace(_key_view(made), key=key)
    await exchange.respond_json(view, status=201, headers=no_store())


async def revoke_admin_key(exchange: Exchange) -> None:
    """Answer POST /admin/v1/admin-keys/{id}/revoke; its sessions are over with it.

    Raises:
        NotFound: no key in use has the id.
        Conflict: it is the last owner's, and nobody could make another over HTTP.
    """
    caller = await who(exchange)
    async for _ in read_chunks(exchange, _BODY_MAX):
        pass  # some clients send an empty object
    key_id = exchange.path_param("id")
    revoked = await _customers(exchange, caller).revoke_admin_key(key_id, keep_owner=True)
    if revoked is None:
        raise NotFound(f"No admin key in use has the id {key_id[:64]!r}.", param="id")
    await exchange.respond_json(_key_view(revoked), headers=no_store())


SESSION_ROUTES: tuple[tuple[str, str, Role | None, Handler], ...] = (
    ("POST", "/admin/v1/session", None, sign_in),
    ("GET", "/admin/v1/session", None, show),
    ("DELETE", "/admin/v1/session", None, sign_out),
    ("GET", "/admin/v1/sessions", Role.VIEWER, sessions),
    ("DELETE", "/admin/v1/sessions/{id}", Role.VIEWER, end_session),
    ("GET", "/admin/v1/admin-keys", Role.OWNER, admin_keys),
    ("POST", "/admin/v1/admin-keys", Role.OWNER, create_admin_key),
    ("POST", "/admin/v1/admin-keys/{id}/revoke", Role.OWNER, revoke_admin_key),
)
"""Method, path, the least role, handler; without a role a route answers anybody itself."""


def checked(role: Role | None, handler: Handler) -> Handler:
    """Return a handler behind the check that its row of a table asks for."""
    return handler if role is None else guarded(role, handler)


def _customers(exchange: Exchange, caller: Operator) -> OfficeCustomers:
    house = exchange.services.administration
    assert house is not None  # it has let the caller in
    return house.acting_as(caller.actor).customers


def _is_own(session: Session, caller: Operator) -> bool:
    return session.admin_key_id is not None and f"admin:{session.admin_key_id}" == caller.actor.id


def _session_view(session: Session, caller: Operator) -> OpenSession:
    return OpenSession(
        id=session.id,
        kind="customer" if session.admin_key_id is None else "operator",
        name=session.name,
        role=session.role,
        key_id=session.admin_key_id or session.api_key_id,
        address=session.address,
        agent=session.agent,
        created_at=session.created_at // 1000,
        seen_at=session.seen_at // 1000,
        ends_at=session.ends_at // 1000,
        current=caller.session is not None and caller.session.id == session.id,
    )


def _key_view(key: AdminKey) -> AdminKeyView:
    return AdminKeyView(
        id=key.id,
        name=key.name,
        role=key.role,
        last4=key.last4,
        created_at=key.created_at // 1000,
        revoked_at=seconds(key.revoked_at),
    )
