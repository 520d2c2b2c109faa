"""Who operates: an admin key in the Authorization header, or an operator's browser session.

Owns the check before every route of the admin API: who calls, that a browser's call is our page's,
and that the role goes so far. Which role a route needs stands in the tables of routes; keys and
sessions are the doors' business (`administration.doors`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from safelight.admin_acts import Actor
from safelight.admin_keys import Role
from safelight.administration.doors import actor_of
from safelight.api.browsers import OPERATOR, address_of, bearer_of, doors_of, secret_of, session_of
from safelight.api.exchange import Exchange
from safelight.browser_sessions import Session
from safelight.errors import AuthenticationFailed, PermissionDenied

Handler = Callable[[Exchange], Awaitable[None]]
_KNOWN = "safelight.operator"


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls. `session` is None where a key is in the call itself."""

    actor: Actor
    role: Role
    session: Session | None = None


def guarded(role: Role, handler: Handler) -> Handler:
    """Return a handler that is called only for operators of that role or a higher one.

    It raises AuthenticationFailed (401) where nobody is known, PermissionDenied (403) where the
    role does not go so far or a session's call is not proved, and RateLimited (429) after too many
    wrong keys.
    """

    async def checked(exchange: Exchange) -> None:
        found = await who(exchange)
        if not found.role.covers(role):
            raise PermissionDenied(
                f"This takes the role {role}, and yours is {found.role}; an owner can give you a "
                "key that goes further.",
                code="role_required",
            )
        await handler(exchange)

    return checked


async def operator(exchange: Exchange) -> Actor:
    """Return who acts, as acts and transfers name it.

    Raises:
        AuthenticationFailed: nobody is known.
        PermissionDenied: a session's state-changing call without proof that our page sends it.
        RateLimited: too many wrong keys came from the address.
    """
    return (await who(exchange)).actor


async def who(exchange: Exchange) -> Operator:
    """Return who calls; found once for each call. Raises what `operator` raises."""
    known = exchange.scope.get(_KNOWN)
    if isinstance(known, Operator):
        return known
    found = await _find(exchange)
    exchange.scope[_KNOWN] = found
    return found


async def _find(exchange: Exchange) -> Operator:
    doors, address = doors_of(exchange), address_of(exchange)
    key = bearer_of(exchange)
    if key is not None:
        found = await doors.admin_of_key(key, address=address)
        actor = Actor(id=f"admin:{found.id}", name=found.name, address=address)
        return Operator(actor=actor, role=found.role)
    secret = secret_of(exchange, OPERATOR)
    if secret is None:
        raise AuthenticationFailed(
            "No admin key was sent. Send it in the header 'Authorization: Bearer sl_admin_...', or "
            "sign in.",
            code="invalid_admin_key",
        )
    session = await session_of(exchange, doors, secret)
    if session.role is None:
        raise AuthenticationFailed(
            "This session is a customer's; sign in with an admin key.", code="session_over"
        )
    return Operator(
        actor=actor_of(session, address=address), role=Role(session.role), session=session
    )
