"""What the operator does about trouble: verifies the books, stops customers, pauses accounts.

Owns these verbs of the office. What a verification looks at is `gateway.verification`'s business,
what a pause means the pool's.
"""

from __future__ import annotations

from safelight import account_pauses, customers, ledger
from safelight.account_pauses import Pause
from safelight.clock import Clock
from safelight.db import Database, Transaction
from safelight.gateway.verification import Report, Verification, known
from safelight.office_acting import COMMAND, Acting, Actor, Note
from safelight.storage import BlobStore


class OfficeWatch(Acting):
    """Looks after one data folder.

    Args:
        db: the database.
        store: the pictures; None: verifications do not look at them.
        clock: measures how long a verification takes.
        actor: who acts.
    """

    def __init__(
        self, db: Database, store: BlobStore | None, clock: Clock, actor: Actor = COMMAND
    ) -> None:
        Acting.__init__(self, db, actor)
        self._store = store
        self._clock = clock

    async def verify(
        self, customer: str | None = None, *, blobs: float | None = 1.0, freeze: bool = False
    ) -> Report:
        """Return what in the books does not fit together; every finding was looked for twice.

        Args:
            customer: only this one's books, by name; None: everybody's.
            blobs: share of the pictures to read and hash, None not to look at pictures at all.
            freeze: stop the admissions of the customers concerned, as a server does.

        Raises:
            LookupError: no such customer.
        """
        customer_id = None
        if customer is not None:
            customer_id = await self._db.read(lambda tx: customers.customer_named(tx, customer))
        report = await self._verify(customer_id, blobs)
        if freeze and (lasting := [one for one in report.findings if not one.passing]):

            def work(tx: Transaction, note: Note) -> None:
                known.keep(tx, lasting)
                note.after = f"{len(lasting)} findings"

            await self._act("customer.freeze", "verification", work)
        return report

    async def _verify(self, customer_id: str | None, blobs: float | None) -> Report:
        looking = Verification(self._db, self._store, self._clock)
        report = await looking.run(customer_id=customer_id, blobs=blobs)
        report.findings = await looking.again(report, blobs=blobs)
        return report

    async def freeze(self, customer: str, reason: str) -> bool:
        """Stop the admissions of a customer, by name; False when they were stopped before.

        Raises:
            LookupError: no such customer.
        """
        customer_id = await self._db.read(lambda tx: customers.customer_named(tx, customer))
        return await self.freeze_by_id(customer_id, reason)

    async def freeze_by_id(self, customer_id: str, reason: str) -> bool:
        """Do the same for the customer with an id."""

        def work(tx: Transaction, note: Note) -> bool:
            ledger.balance(tx, customer_id)
            stopped = ledger.freeze(tx, customer_id, reason)
            note.before = "active" if stopped else "frozen"
            note.after = f"frozen: {reason}"
            return stopped

        return await self._act("customer.freeze", customer_id, work)

    async def unfreeze(self, customer: str, reason: str) -> tuple[bool, tuple[str, ...]]:
        """Let a customer, by name, order again; accept what is found of him now and was before.

        Returns:
            Whether admissions were stopped, and in words the findings that count no more.

        Raises:
            LookupError: no such customer.
        """
        customer_id = await self._db.read(lambda tx: customers.customer_named(tx, customer))
        return await self.unfreeze_by_id(customer_id, reason)

    async def unfreeze_by_id(self, customer_id: str, reason: str) -> tuple[bool, tuple[str, ...]]:
        """Do the same for the customer with an id."""
        standing = (await self._verify(customer_id, 0.0)).findings

        def work(tx: Transaction, note: Note) -> tuple[bool, tuple[str, ...]]:
            ledger.balance(tx, customer_id)
            known.note(tx, standing)
            accepted = known.accept(tx, customer_id, reason)
            stopped = ledger.unfreeze(tx, customer_id)
            note.before = "frozen" if stopped else "active"
            note.after = f"active, {len(accepted)} findings accepted: {reason}"
            return stopped, accepted

        return await self._act("customer.unfreeze", customer_id, work)

    async def pause_account(self, account: str, reason: str) -> Pause:
        """Let an account have no new attempt; what is under way ends. Paused twice is once."""

        def work(tx: Transaction, note: Note) -> Pause:
            paused = account_pauses.pause(tx, account, reason=reason, by=self._actor.name)
            note.before = "in use" if paused else "paused"
            note.after = f"paused: {reason}"
            return account_pauses.all_pauses(tx)[account]

        return await self._act("account.pause", account, work)

    async def resume_account(self, account: str) -> bool:
        """Let an account go on; False where it was not paused."""

        def work(tx: Transaction, note: Note) -> bool:
            resumed = account_pauses.resume(tx, account)
            note.before = "paused" if resumed else "in use"
            note.after = "in use"
            return resumed

        return await self._act("account.resume", account, work)
