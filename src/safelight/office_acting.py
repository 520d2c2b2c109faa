"""Acting: one transaction that does something and notes who did it.

Owns how every administrative act, by command or over HTTP, is written down (`admin_acts`): with it
where it is done, and by itself where it was refused for a reason. What is refused because the
database is away is not noted: nothing could be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from safelight import admin_acts, customers, ledger
from safelight.admin_acts import COMMAND, Actor, Note
from safelight.db import Database, Transaction
from safelight.errors import Conflict, NotFound

T = TypeVar("T")

__all__ = ["COMMAND", "Acting", "Actor", "NotCharged", "Note"]


class NotCharged(Exception):
    """There is nothing to give back; the text says why."""


REFUSALS = (
    LookupError,
    NotCharged,
    customers.NameTaken,
    ledger.WouldOverdraw,
    ledger.AlreadyResolved,
    NotFound,
    Conflict,
)


class Acting:
    """Acts in somebody's name.

    Args:
        db: the database.
        actor: who acts.
    """

    def __init__(self, db: Database, actor: Actor = COMMAND) -> None:
        self._db = db
        self._actor = actor

    async def _act(self, act: str, subject: str, work: Callable[[Transaction, Note], T]) -> T:
        """Return what `work` returns, which may fill the note in; all of it in one transaction."""

        def noted(tx: Transaction) -> T:
            # Made here: the database may ask to do the work again.
            note = Note(subject)
            result = work(tx, note)
            admin_acts.note(tx, self._actor, act, note)
            return result

        try:
            return await self._db.write(noted)
        except REFUSALS as error:
            await self._refused(act, subject, error)
            raise

    async def _refused(self, act: str, subject: str, error: Exception) -> None:
        outcome = f"refused: {error or type(error).__name__}"
        await self._db.write(
            lambda tx: admin_acts.note(tx, self._actor, act, Note(subject), outcome=outcome)
        )
