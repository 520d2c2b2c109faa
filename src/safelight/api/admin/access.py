"""Who operates: an admin key in the Authorization header.

Owns the check before every route of the admin API: who calls, and that the role goes so far. Which
role a route needs stands in the table of routes; keys are the doors' business
(`administration.doors`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from safelight.admin_acts import Actor
from safelight.admin_keys import Role
from safelight.api.callers import key_of
from safelight.api.exchange import Exchange
from safelight.errors import NotFound, PermissionDenied

Handler = Callable[[Exchange], Awaitable[None]]
_KNOWN = "safelight.operator"


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls."""

    actor: Actor
    role: Role


def guarded(role: Role, handler: Handler) -> Handler:
    """Return a handler that is called only for operators of that role or a higher one."""

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
        RateLimited: too many wrong keys came from the address.
    """
    return (await who(exchange)).actor


async def who(exchange: Exchange) -> Operator:
    """Return who calls; found once for each call. Raises what `operator` raises."""
    known = exchange.scope.get(_KNOWN)
    if isinstance(known, Operator):
        return known
    house = exchange.services.administration
    if house is None:
        raise NotFound("This gateway has no operators over HTTP.")
    client = exchange.scope.get("client")
    address = "" if client is None else str(client[0])
    key = await house.doors.admin_of_key(key_of(exchange), address=address)
    actor = Actor(id=f"admin:{key.id}", name=key.name, address=address)
    found = Operator(actor=actor, role=key.role)
    exchange.scope[_KNOWN] = found
    return found
