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
from safelight.db import Database
from safelight.errors import SafelightError
from safelight.gateway import Gateway
from safelight.gateway.retention import Retention
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
        ended = await self._noted(
            "job.cancel", job.id, self._rooms.gateway.cancel(job.customer_id, job.id)
        )
        await self._note("job.cancel", Note(job.id, job.state, ended.state))
        return ended

    async def pin(self, image: ImageRecord) -> ImageRecord:
        """Keep anybody's picture."""
        kept = await self._noted(
            "image.pin", image.id, self._rooms.retention.pin(image.customer_id, image.id)
        )
        await self._note("image.pin", Note(image.id, _kept(image), _kept(kept)))
        return kept

    async def unpin(self, image: ImageRecord) -> ImageRecord:
        """Let anybody's picture expire again."""
        kept = await self._noted(
            "image.unpin", image.id, self._rooms.retention.unpin(image.customer_id, image.id)
        )
        await self._note("image.unpin", Note(image.id, _kept(image), _kept(kept)))
        return kept

    async def delete(self, image: ImageRecord) -> None:
        """Delete anybody's picture; its lines stay."""
        deleting = self._rooms.retention.delete(image.customer_id, image.id)
        await self._noted("image.delete", image.id, deleting)
        await self._note("image.delete", Note(image.id, _kept(image), "deleted"))

    async def verify(self) -> Report:
        """Verify all books now.

        Raises:
            Conflict: this process is at it.
        """
        report = await self._noted("books.verify", "books", self._rooms.auditor.run_now())
        await self._note("books.verify", Note("books", after=f"{len(report.findings)} findings"))
        return report

    async def _noted(self, act: str, subject: str, doing: Awaitable[T]) -> T:
        try:
            return await doing
        except SafelightError as error:
            if error.status < 500:
                await self._note(act, Note(subject), outcome=f"refused: {error.message}")
            raise

    async def _note(self, act: str, note: Note, *, outcome: str = admin_acts.DONE) -> None:
        await self._rooms.db.write(
            lambda tx: admin_acts.note(tx, self._actor, act, note, outcome=outcome)
        )


def _kept(image: ImageRecord) -> str:
    if image.deleted_at is not None:
        return "deleted"
    return "pinned" if image.pinned else "expires"
