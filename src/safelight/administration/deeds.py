"""What operators do over HTTP, in the name of who asks.

Owns the verbs that go through a running gateway: jobs are cancelled and pictures kept or deleted
by the same rooms that customers call. The rest are the office's verbs, beside any server.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from safelight import admin_acts
from safelight.admin_acts import Actor, Note
from safelight.db import Database, Transaction
from safelight.errors import SafelightError
from safelight.gateway import Gateway
from safelight.gateway.retention import Noted, Retention
from safelight.gateway.verification import Report
from safelight.gateway.verification.auditor import Auditor
from safelight.office_customers import OfficeCustomers
from safelight.office_money import OfficeMoney
from safelight.office_watch import OfficeWatch
from safelight.types import ImageRecord, Job

T = TypeVar("T")


@dataclass(frozen=True)
class Rooms:
    """What deeds go through in a running process."""

    db: Database
    gateway: Gateway
    retention: Retention
    auditor: Auditor


class Deeds:
    """What one operator does in one call.

    Args:
        rooms: what the deeds go through.
        actor: who acts.
        customers: verbs on customers and keys, in the same name.
        money: verbs on money.
        watch: verbs on trouble.
    """

    def __init__(
        self,
        rooms: Rooms,
        actor: Actor,
        *,
        customers: OfficeCustomers,
        money: OfficeMoney,
        watch: OfficeWatch,
    ) -> None:
        self._rooms = rooms
        self._actor = actor
        self.customers = customers
        self.money = money
        self.watch = watch

    async def cancel(self, job: Job) -> Job:
        """Cancel anybody's job, as its customer could."""

        def noted(tx: Transaction, before: Job, after: Job) -> None:
            words = "no further attempt" if after.state is before.state else after.state
            self._write(tx, "job.cancel", Note(job.id, before.state, words))

        gateway = self._rooms.gateway
        return await self._refusals(
            "job.cancel", job.id, gateway.cancel(job.customer_id, job.id, noted=noted)
        )

    async def pin(self, image: ImageRecord) -> ImageRecord:
        """Keep anybody's picture."""
        retention, noted = self._rooms.retention, self._changed("image.pin")
        return await self._refusals(
            "image.pin", image.id, retention.pin(image.customer_id, image.id, noted=noted)
        )

    async def unpin(self, image: ImageRecord) -> ImageRecord:
        """Let anybody's picture expire again."""
        retention, noted = self._rooms.retention, self._changed("image.unpin")
        return await self._refusals(
            "image.unpin", image.id, retention.unpin(image.customer_id, image.id, noted=noted)
        )

    async def delete(self, image: ImageRecord) -> None:
        """Delete anybody's picture; its lines stay."""
        retention, noted = self._rooms.retention, self._changed("image.delete")
        await self._refusals(
            "image.delete", image.id, retention.delete(image.customer_id, image.id, noted=noted)
        )

    async def verify(self) -> Report:
        """Verify all books now; a verification is many transactions, the act is noted at its end.

        Raises:
            Conflict: this process is at it.
        """
        report = await self._refusals("books.verify", "books", self._rooms.auditor.run_now())
        note = Note("books", after=f"{len(report.findings)} findings")
        await self._rooms.db.write(lambda tx: self._write(tx, "books.verify", note))
        return report

    def _changed(self, act: str) -> Noted:
        def noted(tx: Transaction, before: ImageRecord, after: ImageRecord) -> None:
            self._write(tx, act, Note(before.id, _kept(before), _kept(after)))

        return noted

    async def _refusals(self, act: str, subject: str, doing: Awaitable[T]) -> T:
        try:
            return await doing
        except SafelightError as error:
            if error.status < 500:
                words, note = f"refused: {error.message}", Note(subject)
                await self._rooms.db.write(
                    lambda tx: admin_acts.note(tx, self._actor, act, note, outcome=words)
                )
            raise

    def _write(self, tx: Transaction, act: str, note: Note) -> None:
        admin_acts.note(tx, self._actor, act, note)


def _kept(image: ImageRecord) -> str:
    if image.deleted_at is not None:
        return "deleted"
    return "pinned" if image.pinned else "expires"
