"""The doors: who operates over HTTP, and which browser stands for which key.

Owns signing in and out, sessions, the check of admin keys, and the brakes on guessing. What the
cookie is called and which header proves a call are the HTTP skin's business.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from safelight import admin_acts, admin_keys, browser_sessions
from safelight.admin_acts import Actor, Note
from safelight.admin_keys import AdminKey
from safelight.administration.brakes import Brakes
from safelight.browser_sessions import Session
from safelight.clock import Clock
from safelight.db import Database, Transaction
from safelight.errors import AuthenticationFailed, PermissionDenied
from safelight.types import Identity

KNOWN_S = 1.0
"""A revoked key or an ended session is refused at most this much later."""
KNOWN_MAX = 1000
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
        self._known: dict[bytes, tuple[AdminKey | Session, float]] = {}

    # --- keys ----------------------------------------------------------------------------------

    async def admin_of_key(self, raw_key: str, *, address: str) -> AdminKey:
        """Return the admin key with this text.

        Raises:
            AuthenticationFailed: it is none, or none any more.
            RateLimited: too many wrong ones came.
        """
        mark = browser_sessions.digest(raw_key, self._pepper)
        found = self._remembered(mark)
        if not isinstance(found, AdminKey):
            found = await self._guarded(address, lambda: self._find_admin(raw_key))
            self._remember(mark, found)
        return found

    async def open_admin(self, raw_key: str, *, address: str, agent: str) -> Opened:
        """Open a session for an operator's browser.

        Raises:
            AuthenticationFailed: the key is none, or none any more.
            RateLimited: too many wrong ones came.
        """
        key = await self._guarded(address, lambda: self._find_admin(raw_key))
        actor = Actor(id=f"admin:{key.id}", name=key.name, address=address)
        return await self._open(actor, agent=agent, admin_key_id=key.id)

    async def open_customer(self, raw_key: str, *, address: str, agent: str) -> Opened:
        """Open a session for a customer's browser.

        Raises:
            AuthenticationFailed: the key is none, or none any more.
            RateLimited: too many wrong ones came.
        """
        identity = await self._guarded(address, lambda: self._authenticate(raw_key))
        return await self._open(None, agent=agent, api_key_id=identity.key_id, address=address)

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

    async def _guarded(self, address: str, look: Callable[[], Awaitable[T]]) -> T:
        self._brakes.take(address)
        try:
            found = await look()
        except AuthenticationFailed:
            raise
        except BaseException:
            self._brakes.give_back(address)
            raise
        self._brakes.give_back(address)
        return found

    # --- sessions ------------------------------------------------------------------------------

    async def _open(
        self,
        actor: Actor | None,
        *,
        agent: str,
        admin_key_id: str | None = None,
        api_key_id: str | None = None,
        address: str = "",
    ) -> Opened:
        secret = secrets.token_urlsafe(SECRET_BYTES)
        stored = browser_sessions.digest(secret, self._pepper)
        session_id = f"ses_{secrets.token_hex(8)}"

        def work(tx: Transaction) -> Session:
            browser_sessions.begin(
                tx,
                session_id=session_id,
                stored=stored,
                admin_key_id=admin_key_id,
                api_key_id=api_key_id,
                address=address if actor is None else actor.address,
                agent=agent,
            )
            if actor is not None:
                admin_acts.note(tx, actor, "session.open", Note(session_id, after="open"))
            found = browser_sessions.find(tx, stored)
            if found is None:
                # Between the look at the key and here it was revoked.
                raise session_over()
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
        found = self._remembered(stored)
        if not isinstance(found, Session):
            self._known.pop(stored, None)
            found = await self._db.read(lambda tx: browser_sessions.find(tx, stored))
            if found is None:
                raise session_over()
            self._remember(stored, found)
            if self._clock.now_ms() - found.seen_at >= browser_sessions.SEEN_MS:
                session_id = found.id
                await self._db.write(lambda tx: browser_sessions.touch(tx, session_id))
        return found

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
        """End a session."""
        stored = browser_sessions.digest(secret, self._pepper)
        self._known.pop(stored, None)

        def work(tx: Transaction) -> None:
            found = browser_sessions.find(tx, stored)
            if found is None:
                return
            browser_sessions.end(tx, found.id)
            if found.admin_key_id is not None:
                actor = actor_of(found, address=found.address)
                admin_acts.note(tx, actor, "session.end", Note(found.id, "open", "ended"))

        await self._db.write(work)

    def forget(self) -> None:
        """Look at everything anew: something was revoked or ended here."""
        self._known.clear()

    # --- what is remembered --------------------------------------------------------------------

    def _remembered(self, mark: bytes) -> AdminKey | Session | None:
        found, until = self._known.get(mark, (None, 0.0))
        return found if until > self._clock.monotonic() else None

    def _remember(self, mark: bytes, found: AdminKey | Session) -> None:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[mark] = found, self._clock.monotonic() + KNOWN_S


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
