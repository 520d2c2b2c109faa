"""The doors: who operates over HTTP, and which browser stands for which key.

Owns signing in and out, sessions, the check of admin keys, and the brakes on guessing. What the
cookie is called and which header proves a call are the HTTP skin's business.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from safelight import admin_acts, admin_keys, browser_sessions, customers
from safelight.admin_acts import Actor, Note
from safelight.admin_keys import AdminKey
from safelight.administration.brakes import Brakes
from safelight.browser_sessions import Session
from safelight.clock import Clock
from safelight.db import Database, Transaction
from safelight.errors import (
    AuthenticationFailed,
    CustomerFrozen,
    InvalidValue,
    PermissionDenied,
    Unavailable,
)
from safelight.types import Identity

log = logging.getLogger("safelight.doors")

PROVEN_MAX = 1000
"""How many keys that were right are remembered, so that no brake stops them."""
SECRET_BYTES = 32
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")

T = TypeVar("T")


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A session that was opened; `secret` goes into the cookie and nowhere else."""

    secret: str
    session: Session


class Doors:
    """Lets people in, for one process.

    Args:
        db: the database.
        clock: the time of what is remembered, and of the brakes.
        pepper: the secret under which keys and sessions are stored.
        authenticate: tells who a customer's key speaks for.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        pepper: bytes,
        authenticate: Callable[[str], Awaitable[Identity]],
    ) -> None:
        self._db = db
        self._clock = clock
        self._pepper = pepper
        self._authenticate = authenticate
        self._brakes = Brakes(clock)
        self._proven: OrderedDict[bytes, None] = OrderedDict()

    # --- keys ----------------------------------------------------------------------------------

    async def admin_of_key(self, raw_key: str, *, address: str) -> AdminKey:
        """Return the admin key with this text.

        Raises:
            AuthenticationFailed: it is none, or none any more.
            RateLimited: too many wrong ones came.
        """
        return await self._braked(raw_key, address, self._find_admin)

    async def open_admin(self, raw_key: str, *, address: str, agent: str) -> Opened:
        """Open a session for an operator's browser.

        Raises:
            AuthenticationFailed: the key is none, or none any more.
            RateLimited: too many wrong ones came.
        """
        key = await self.admin_of_key(raw_key, address=address)
        return await self._open(address=address, agent=agent, admin_key=key)

    async def open_customer(self, raw_key: str, *, address: str, agent: str) -> Opened:
        """Open a session for a customer's browser.

        Raises:
            AuthenticationFailed: the key is none, or none any more.
            CustomerFrozen: its customer is stopped.
            RateLimited: too many wrong ones came.
        """
        identity = await self._braked(raw_key, address, self._authenticate)
        return await self._open(address=address, agent=agent, identity=identity)

    async def _find_admin(self, raw_key: str) -> AdminKey:
        found = None
        if admin_keys.well_formed(raw_key):
            found = await self._db.read(lambda tx: admin_keys.find(tx, raw_key, self._pepper))
        if found is None:
            raise AuthenticationFailed(
                "This is no admin key of this gateway. The operator makes one with: "
                "safelight admin keys create NAME",
                code="invalid_admin_key",
            )
        return found

    async def _braked(self, raw_key: str, address: str, look: Callable[[str], Awaitable[T]]) -> T:
        """Return what a key opens; of wrong ones only so many are looked at.

        A key that was right before is always looked at: no stranger behind the same address can
        shut out who has worked from there.
        """
        mark = browser_sessions.digest(raw_key, self._pepper)
        if mark not in self._proven:
            self._brakes.check(address)
        try:
            found = await look(raw_key)
        except AuthenticationFailed:
            self._proven.pop(mark, None)
            if self._brakes.count(address):
                log.warning("wrong keys of an address are slowed", extra={"address": address})
            raise
        self._proven[mark] = None
        self._proven.move_to_end(mark)
        if len(self._proven) > PROVEN_MAX:
            self._proven.popitem(last=False)
        return found

    # --- sessions ------------------------------------------------------------------------------

    async def _open(
        self,
        *,
        address: str,
        agent: str,
        admin_key: AdminKey | None = None,
        identity: Identity | None = None,
    ) -> Opened:
        secret = secrets.token_urlsafe(SECRET_BYTES)
        stored = browser_sessions.digest(secret, self._pepper)
        session_id = f"ses_{secrets.token_hex(8)}"

        def work(tx: Transaction) -> Session:
            browser_sessions.begin(
                tx,
                session_id=session_id,
                stored=stored,
                admin_key_id=None if admin_key is None else admin_key.id,
                api_key_id=None if identity is None else identity.key_id,
                address=address,
                agent=agent,
            )
            found = browser_sessions.find(tx, stored)
            if found is None:
                if identity is not None:
                    _check_not_frozen(tx, identity.customer_id)
                # Between the look at the key and here it was revoked.
                raise session_over()
            if admin_key is not None:
                actor = actor_of(found, address=address)
                admin_acts.note(tx, actor, "session.open", Note(session_id, after="open"))
            return found

        return Opened(secret=secret, session=await self._db.write(work))

    async def session(self, secret: str) -> Session:
        """Return the session that a cookie stands for, and note that it is used.

        Raises:
            AuthenticationFailed: it is over, or never was.
        """
        if not _SECRET.fullmatch(secret):
            raise session_over()
        stored = browser_sessions.digest(secret, self._pepper)
        found = await self._db.read(lambda tx: browser_sessions.find(tx, stored))
        if found is None:
            raise session_over()
        if self._clock.now_ms() - found.seen_at >= browser_sessions.SEEN_MS:
            # A call that only looks is not refused where nothing can be written.
            with suppress(Unavailable):
                await self._db.write(lambda tx: browser_sessions.touch(tx, found.id))
        return found

    async def open_session(self, session_id: str) -> Session | None:
        """Return the session with this id unless it is over."""
        return await self._db.read(lambda tx: browser_sessions.get(tx, session_id))

    async def open_sessions(self, *, after: str | None, limit: int) -> tuple[list[Session], bool]:
        """Return sessions that are not over, newest first, and whether there are more.

        Raises:
            InvalidValue: `after` is no session.
        """
        try:
            found = await self._db.read(
                lambda tx: browser_sessions.open_sessions(tx, after=after, limit=limit + 1)
            )
        except LookupError:
            message = "'after' must be an id that this list has shown."
            raise InvalidValue(message, param="after") from None
        return found[:limit], len(found) > limit

    def csrf_token(self, secret: str) -> str:
        """Return what proves that a call comes from a page that may read our answers."""
        return browser_sessions.csrf_token(secret, self._pepper)

    def check_csrf(self, secret: str, token: str | None) -> None:
        """Refuse a state-changing call of a session that does not prove where it comes from.

        Raises:
            PermissionDenied: the token is missing, or another session's.
        """
        if token is None or not hmac.compare_digest(
            token.encode(), self.csrf_token(secret).encode()
        ):
            raise PermissionDenied(
                "A session's changes carry its token in the header 'x-safelight-csrf'; "
                "GET the session to learn it, or sign in again.",
                code="csrf_failed",
            )

    async def close(self, secret: str) -> None:
        """End a session; of one that is over nothing changes."""
        stored = browser_sessions.digest(secret, self._pepper)

        def work(tx: Transaction) -> None:
            found = browser_sessions.find(tx, stored)
            if found is None:
                return
            browser_sessions.end(tx, found.id)
            if found.admin_key_id is not None:
                actor = actor_of(found, address=found.address)
                admin_acts.note(tx, actor, "session.end", Note(found.id, "open", "ended"))

        await self._db.write(work)


def _check_not_frozen(tx: Transaction, customer_id: str) -> None:
    found = customers.get(tx, customer_id)
    if found is not None and found.frozen_at is not None:
        raise CustomerFrozen(
            "Nobody signs in for this customer while its books are looked into; ask the operator."
        )


def actor_of(session: Session, *, address: str) -> Actor:
    """Return who acts where a session of an operator acts."""
    return Actor(
        id=f"admin:{session.admin_key_id}",
        name=session.name,
        session_id=session.id,
        address=address,
    )


def session_over() -> AuthenticationFailed:
    """Return the one answer to every cookie that opens nothing."""
    return AuthenticationFailed(
        "Nobody is signed in here, or the session is over; sign in again.", code="session_over"
    )
