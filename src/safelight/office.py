"""The office: what the operator's commands do, whether a server runs or not.

Owns customers, keys and their money as the operator sees them. Every verb is one transaction on the
database of a data folder; the gateway's promises hold beside a running server.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from safelight import accounts, attempts, budgets, credit_lines, customers, jobs, ledger
from safelight.app import make_data_folder, open_database, open_store
from safelight.clock import SystemClock
from safelight.db import Database, Transaction
from safelight.gateway.reading import statement_page
from safelight.gateway.verification import Report, Verification, known
from safelight.keyring import Keyring
from safelight.office_books import OfficeBooks
from safelight.office_pictures import OfficePictures
from safelight.storage import BlobStore
from safelight.types import Balance, LimitChange, Micros, StatementLine

STATEMENT_PAGE = 1000
UNLIMITED = LimitChange()


class NotCharged(Exception):
    """There is nothing to give back; the text says why."""


class Office:
    """What an operator's commands do with customers, keys and money."""

    def __init__(self, db: Database, keyring: Keyring, store: BlobStore | None = None) -> None:
        self._db = db
        self._store = store
        self._pepper = keyring.pepper()
        self.books = OfficeBooks(db, self._pepper)
        self.pictures = None if store is None else OfficePictures(db, store, SystemClock())

    async def create_customer_key(
        self, name: str, credit_micros: Micros, limits: LimitChange = UNLIMITED
    ) -> str:
        """Make a key for the customer `name`, whom it makes if there is none, with credit."""
        key, key_id = customers.new_key()
        customer_id = f"cus_{secrets.token_hex(8)}"

        def work(tx: Transaction) -> None:
            owner = customers.find_customer(tx, name)
            if owner is None:
                owner = customer_id
                customers.create_customer(tx, customer_id=owner, name=name)
                ledger.open_balance(tx, owner)
            customers.add_key(
                tx, key=key, key_id=key_id, customer_id=owner, name=name, pepper=self._pepper
            )
            if credit_micros > 0:
                _topup(tx, owner, credit_micros, "first credit")
            _change_limits(tx, owner, key_id, limits)

        await self._db.write(work)
        return key

    async def list_keys(self) -> list[customers.KeyInfo]:
        """Return every key with its limits, oldest first."""
        return await self._db.read(_keys)

    async def limit_key(self, key_id: str, change: LimitChange) -> customers.KeyInfo:
        """Change the limits of a key and return it; orders in flight are not touched.

        Raises:
            LookupError: no key in use has the id.
        """

        def work(tx: Transaction) -> customers.KeyInfo:
            customer_id = customers.customer_of_key(tx, key_id)
            if customer_id is None:
                raise LookupError(f"no key in use has the id {key_id!r}")
            _change_limits(tx, customer_id, key_id, change)
            return next(key for key in _keys(tx) if key.id == key_id)

        return await self._db.write(work)

    async def set_keep_alive(self, key_id: str, *, on: bool) -> bool:
        """Say whether plain answers to a key may begin with white space; False: no such key."""
        return await self._db.write(lambda tx: customers.set_keep_alive(tx, key_id, on=on))

    async def revoke_key(self, key_id: str) -> bool:
        """End a key; False when there is no such key in use."""
        return await self._db.write(lambda tx: customers.revoke_key(tx, key_id))

    async def credit(self, customer: str, amount_micros: Micros, reason: str) -> Balance:
        """Top up a customer, or correct the balance downwards with a negative amount.

        Raises:
            LookupError: no such customer.
            ledger.WouldOverdraw: less than that is available.
        """

        def work(tx: Transaction) -> Balance:
            customer_id = customers.customer_named(tx, customer)
            if amount_micros > 0:
                _topup(tx, customer_id, amount_micros, reason)
            else:
                ledger.adjust(
                    tx,
                    transfer_id=f"tr_{secrets.token_hex(12)}",
                    customer_id=customer_id,
                    amount_micros=amount_micros,
                    actor="operator",
                    reason=reason,
                )
            credit_lines.look_again(tx, customer_id)
            return ledger.balance(tx, customer_id)

        return await self._db.write(work)

    async def refund(self, job_id: str, reason: str) -> tuple[Micros, Balance]:
        """Give the charge of a job back, once; return how much, and the customer's balance.

        Raises:
            LookupError: no job has the id.
            NotCharged: it has cost nothing (yet).
            ledger.AlreadyResolved: it was given back before.
        """
        transfer_id = f"tr_{secrets.token_hex(12)}"

        def work(tx: Transaction) -> tuple[Micros, Balance]:
            job = jobs.get_job(tx, job_id)
            if job is None:
                raise LookupError(f"no job has the id {job_id!r}")
            story = ledger.story(tx, job.reserve_id)
            settled = [row for row in story if row["kind"] == "settle"]
            if not settled:
                raise NotCharged(f"the job {job_id} is {job.state} and has cost nothing")
            ledger.refund(
                tx,
                transfer_id=transfer_id,
                settle_id=settled[0]["id"],
                actor="operator",
                reason=reason,
            )
            credit_lines.look_again(tx, job.customer_id)
            return settled[0]["amount_micros"], ledger.balance(tx, job.customer_id)

        return await self._db.write(work)

    async def set_credit_line(self, customer: str, line_micros: Micros) -> Balance:
        """Let a customer owe at most so much; 0 is prepaid.

        Raises:
            LookupError: no such customer.
            ledger.WouldOverdraw: more than that is owed or held already.
        """

        def work(tx: Transaction) -> Balance:
            customer_id = customers.customer_named(tx, customer)
            ledger.set_credit_line(tx, customer_id, line_micros)
            credit_lines.look_again(tx, customer_id)
            return ledger.balance(tx, customer_id)

        return await self._db.write(work)

    async def statement(self, customer: str) -> tuple[StatementLine, ...]:
        """Return every statement line of a customer.

        Raises:
            LookupError: no such customer.
        """

        def work(tx: Transaction) -> tuple[StatementLine, ...]:
            customer_id = customers.customer_named(tx, customer)
            lines: list[StatementLine] = []
            more = True
            while more:
                after = lines[-1].id if lines else None
                page = statement_page(tx, customer_id, after=after, limit=STATEMENT_PAGE)
                lines += page.lines
                more = page.has_more
            return tuple(lines)

        return await self._db.read(work)

    async def waste(self) -> dict[str, attempts.Waste]:
        """Return, by account, the images that were sold and given to nobody."""
        return await self._db.read(attempts.waste)

    async def account_book(self, since_s: float | None) -> accounts.AccountBook:
        """Return every account's figures of the last `since_s` seconds; None: of all time."""
        return await self._db.read(lambda tx: accounts.read(tx, since_s=since_s))

    async def verify(
        self, customer: str | None = None, *, blobs: float | None = 1.0, freeze: bool = False
    ) -> Report:
        """Return what in the books does not fit together; every finding was looked for twice.

        Args:
            customer: only this one's books; None: everybody's.
            blobs: share of the pictures to read and hash, None not to look at pictures at all.
            freeze: stop the admissions of the customers concerned, as a server does.

        Raises:
            LookupError: no such customer.
        """
        customer_id = None
        if customer is not None:
            customer_id = await self._db.read(lambda tx: customers.customer_named(tx, customer))
        looking = Verification(self._db, self._store, SystemClock())
        report = await looking.run(customer_id=customer_id, blobs=blobs)
        report.findings = await looking.again(report, blobs=blobs)
        if freeze and (lasting := [one for one in report.findings if not one.passing]):
            await self._db.write(lambda tx: known.keep(tx, lasting))
        return report

    async def audit(self) -> list[str]:
        """Return what in the books and among the pictures does not fit together, in words."""
        return [str(one) for one in (await self.verify()).findings]

    async def freeze(self, customer: str, reason: str) -> bool:
        """Stop a customer's admissions; False when they were stopped before.

        Raises:
            LookupError: no such customer.
        """
        return await self._db.write(
            lambda tx: ledger.freeze(tx, customers.customer_named(tx, customer), reason)
        )

    async def unfreeze(self, customer: str, reason: str) -> tuple[bool, tuple[str, ...]]:
        """Let a customer order again and accept what is found of him now and was before.

        Returns:
            Whether admissions were stopped, and in words the findings that count no more.

        Raises:
            LookupError: no such customer.
        """
        standing = (await self.verify(customer, blobs=0.0)).findings

        def work(tx: Transaction) -> tuple[bool, tuple[str, ...]]:
            customer_id = customers.customer_named(tx, customer)
            known.note(tx, standing)
            accepted = known.accept(tx, customer_id, reason)
            return ledger.unfreeze(tx, customer_id), accepted

        return await self._db.write(work)


@contextlib.asynccontextmanager
async def open_office(data_dir: Path) -> AsyncIterator[Office]:
    """Open a data folder for an operator's command, whether a server runs on it or not."""
    make_data_folder(data_dir)
    # Checked when the server starts: a command shall not read the whole file for one line.
    db = open_database(data_dir, SystemClock(), check=False)
    store = open_store(data_dir)
    try:
        yield Office(db, Keyring.load_or_create(data_dir), store)
    finally:
        store.close()
        await db.close()


def _keys(tx: Transaction) -> list[customers.KeyInfo]:
    states = budgets.all_states(tx)
    return [
        msgspec.structs.replace(key, budgets=states.get(key.id, ()))
        for key in customers.list_keys(tx)
    ]


def _change_limits(tx: Transaction, customer_id: str, key_id: str, change: LimitChange) -> None:
    customers.change_limits(tx, key_id, change)
    if change.budgets:
        ledger.hold_still(tx, customer_id)
    for period, limit_micros in change.budgets.items():
        if limit_micros is None:
            budgets.remove(tx, key_id=key_id, period=period)
        else:
            budgets.put(tx, key_id=key_id, period=period, limit_micros=limit_micros)


def _topup(tx: Transaction, customer_id: str, amount_micros: Micros, reason: str) -> None:
    ledger.topup(
        tx,
        transfer_id=f"tr_{secrets.token_hex(12)}",
        customer_id=customer_id,
        amount_micros=amount_micros,
        actor="operator",
        reason=reason,
    )
