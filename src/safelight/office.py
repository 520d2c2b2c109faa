"""The office: what the operator's commands do, whether a server runs or not.

Puts the office's verbs together over the database of a data folder; they hold beside a running
server. Customers and keys are `office_customers`', money `office_money`'s, verification, stops and
pauses `office_watch`'s: the admin API calls those too.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from safelight import accounts, attempts, customers
from safelight.clock import SystemClock
from safelight.db import Database, Transaction
from safelight.gateway.reading import statement_page
from safelight.keyring import Keyring
from safelight.office_acting import NotCharged
from safelight.office_books import OfficeBooks
from safelight.office_customers import UNLIMITED, OfficeCustomers
from safelight.office_money import OfficeMoney
from safelight.office_pictures import OfficePictures
from safelight.office_watch import OfficeWatch
from safelight.opening import make_data_folder, open_database, open_store
from safelight.storage import BlobStore
from safelight.types import StatementLine

__all__ = ["UNLIMITED", "NotCharged", "Office", "open_office"]

STATEMENT_PAGE = 1000


class Office(OfficeCustomers, OfficeMoney, OfficeWatch):
    """What an operator's commands do with customers, keys and money."""

    def __init__(self, db: Database, keyring: Keyring, store: BlobStore | None = None) -> None:
        OfficeCustomers.__init__(self, db, keyring.pepper())
        OfficeWatch.__init__(self, db, store, SystemClock())
        self.books = OfficeBooks(db, self._pepper)
        self.pictures = None if store is None else OfficePictures(db, store, SystemClock())

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

    async def audit(self) -> list[str]:
        """Return what in the books and among the pictures does not fit together, in words."""
        return [str(one) for one in (await self.verify()).findings]


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
