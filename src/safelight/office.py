"""The office: what the operator's commands do, whether a server runs or not.

Owns customers, keys and their money as the operator sees them. Every verb is one transaction on the
database of a data folder; the gateway's promises hold beside a running server.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

from safelight import accounts, attempts, customers, ledger
from safelight.app import make_data_folder, open_database
from safelight.clock import SystemClock
from safelight.db import Database, Transaction
from safelight.gateway.audit import audit
from safelight.gateway.reading import statement_page
from safelight.keyring import Keyring
from safelight.types import Balance, Micros, StatementLine

STATEMENT_PAGE = 1000


class Office:
    """What an operator's commands do with customers, keys and money."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._pepper = keyring.pepper()

    async def create_customer_key(self, name: str, credit_micros: Micros) -> str:
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

        await self._db.write(work)
        return key

    async def list_keys(self) -> list[customers.KeyInfo]:
        """Return every key, oldest first."""
        return await self._db.read(customers.list_keys)

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
            customer_id = _customer(tx, customer)
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
            return ledger.balance(tx, customer_id)

        return await self._db.write(work)

    async def statement(self, customer: str) -> tuple[StatementLine, ...]:
        """Return every statement line of a customer.

        Raises:
            LookupError: no such customer.
        """

        def work(tx: Transaction) -> tuple[StatementLine, ...]:
            customer_id = _customer(tx, customer)
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

    async def audit(self) -> list[str]:
        """Return what in the books does not fit together; empty means sound."""
        return await self._db.read(audit)


@contextlib.asynccontextmanager
async def open_office(data_dir: Path) -> AsyncIterator[Office]:
    """Open a data folder for an operator's command, whether a server runs on it or not."""
    make_data_folder(data_dir)
    # Checked when the server starts: a command shall not read the whole file for one line.
    db = open_database(data_dir, SystemClock(), check=False)
    try:
        yield Office(db, Keyring.load_or_create(data_dir))
    finally:
        await db.close()


def _customer(tx: Transaction, name: str) -> str:
    found = customers.find_customer(tx, name)
    if found is None:
        raise LookupError(f"no customer is named {name!r}")
    return found


def _topup(tx: Transaction, customer_id: str, amount_micros: Micros, reason: str) -> None:
    ledger.topup(
        tx,
        transfer_id=f"tr_{secrets.token_hex(12)}",
        customer_id=customer_id,
        amount_micros=amount_micros,
        actor="operator",
        reason=reason,
    )
