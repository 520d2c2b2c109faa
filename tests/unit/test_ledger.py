"""Money: guards, single resolution, running balances, the hash chain, on both databases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psycopg
import pytest

from fresh_books import sqlite_books
from safelight import customers, ledger
from safelight.clock import ManualClock
from safelight.db import Database, Transaction, UniqueViolation
from safelight.db.postgres import PostgresDatabase
from safelight.errors import CustomerFrozen, InsufficientBalance
from safelight.gateway.verification.money import LedgerWalk, walk

T = TypeVar("T")
CUSTOMER = "cus_1"


class Books:
    """A database with one customer, driven synchronously."""

    def __init__(self, path: Path, url: str = "") -> None:
        self._runner = asyncio.Runner()
        self.db: Database = (
            PostgresDatabase(url, ManualClock()) if url else sqlite_books(path, ManualClock())
        )
        self.count = 0

        def begin(tx: Transaction) -> None:
            customers.create_customer(tx, customer_id=CUSTOMER, name="one")
            ledger.open_balance(tx, CUSTOMER)

        self.write(begin)

    def write(self, work: Callable[[Transaction], T]) -> T:
        return self._runner.run(self.db.write(work))

    def read(self, work: Callable[[Transaction], T]) -> T:
        return self._runner.run(self.db.read(work))

    def close(self) -> None:
        self._runner.run(self.db.close())
        self._runner.close()

    def id(self) -> str:
        self.count += 1
        return f"tr_{self.count}"

    def topup(self, amount: int) -> str:
        made = self.id()
        self.write(
            lambda tx: ledger.topup(
                tx,
                transfer_id=made,
                customer_id=CUSTOMER,
                amount_micros=amount,
                actor="test",
                reason="paid",
            )
        )
        return made

    def reserve(self, amount: int) -> str:
        made = self.id()
        self.write(
            lambda tx: ledger.reserve(
                tx,
                transfer_id=made,
                customer_id=CUSTOMER,
                job_id=f"job_{made}",
                amount_micros=amount,
                actor="test",
            )
        )
        return made

    def settle(self, reserve_id: str) -> str:
        made = self.id()
        self.write(
            lambda tx: ledger.settle(
                tx, transfer_id=made, reserve_id=reserve_id, actor="test", reason="delivered"
            )
        )
        return made

    def release(self, reserve_id: str) -> None:
        made = self.id()
        self.write(
            lambda tx: ledger.release(
                tx, transfer_id=made, reserve_id=reserve_id, actor="test", reason="failed"
            )
        )

    def refund(self, settle_id: str) -> None:
        made = self.id()
        self.write(
            lambda tx: ledger.refund(
                tx, transfer_id=made, settle_id=settle_id, actor="test", reason="sorry"
            )
        )

    def adjust(self, amount: int) -> None:
        made = self.id()
        self.write(
            lambda tx: ledger.adjust(
                tx,
                transfer_id=made,
                customer_id=CUSTOMER,
                amount_micros=amount,
                actor="test",
                reason="correction",
            )
        )

    def balance(self) -> tuple[int, int]:
        balance = self.read(lambda tx: ledger.balance(tx, CUSTOMER))
        assert balance.available_micros == balance.posted_micros - balance.held_micros
        return balance.posted_micros, balance.held_micros


@pytest.fixture
def books(tmp_path: Path, database_url: str) -> Iterator[Books]:
    made = Books(tmp_path / "t.db", database_url)
    yield made
    made.close()


def test_a_settle_charges_what_was_held(books: Books) -> None:
    books.topup(100_000)
    held = books.reserve(30_000)
    assert books.balance() == (100_000, 30_000)
    books.settle(held)
    assert books.balance() == (70_000, 0)


def test_a_release_charges_nothing(books: Books) -> None:
    books.topup(100_000)
    books.release(books.reserve(30_000))
    assert books.balance() == (100_000, 0)


def test_a_reserve_beyond_the_balance_writes_nothing(books: Books) -> None:
    books.topup(30_000)
    books.reserve(30_000)
    with pytest.raises(InsufficientBalance):
        books.reserve(1)
    assert books.balance() == (30_000, 30_000)
    assert books.read(lambda tx: len(tx.all("SELECT 1 FROM transfer"))) == 2


@pytest.mark.parametrize("first", ["settle", "release"])
@pytest.mark.parametrize("second", ["settle", "release"])
def test_a_reserve_is_resolved_once(books: Books, first: str, second: str) -> None:
    books.topup(100_000)
    held = books.reserve(30_000)
    books.reserve(30_000)  # another hold, so that held alone would not stop a second resolution
    getattr(books, first)(held)
    before = books.balance()
    with pytest.raises(ledger.AlreadyResolved):
        getattr(books, second)(held)
    assert books.balance() == before


def test_a_charge_is_refunded_once(books: Books) -> None:
    books.topup(30_000)
    charge = books.settle(books.reserve(30_000))
    books.refund(charge)
    with pytest.raises(ledger.AlreadyResolved):
        books.refund(charge)
    assert books.balance() == (30_000, 0)


def test_an_adjustment_cannot_take_what_is_held(books: Books) -> None:
    books.topup(50_000)
    books.reserve(30_000)
    with pytest.raises(ledger.WouldOverdraw):
        books.adjust(-20_001)
    books.adjust(-20_000)
    assert books.balance() == (30_000, 30_000)


def test_a_topup_that_is_run_again_is_refused(books: Books) -> None:
    made = books.topup(10)
    books.count -= 1
    with pytest.raises(UniqueViolation):
        books.topup(10)
    assert made == "tr_1"
    assert books.balance() == (10, 0)


@pytest.mark.parametrize("sql", ["UPDATE transfer SET amount_micros = 1", "DELETE FROM transfer"])
def test_transfers_cannot_be_changed(books: Books, sql: str) -> None:
    books.topup(10)
    with pytest.raises((sqlite3.IntegrityError, psycopg.Error), match="append-only"):
        books.write(lambda tx: tx.execute(sql))


def test_fifty_buyers_with_money_for_ten_get_exactly_ten(books: Books) -> None:
    books.topup(300_000)

    def buy(number: int) -> Callable[[Transaction], None]:
        return lambda tx: ledger.reserve(
            tx,
            transfer_id=f"buy_{number}",
            customer_id=CUSTOMER,
            job_id=f"job_{number}",
            amount_micros=30_000,
            actor="test",
        )

    async def all_at_once() -> list[object]:
        return await asyncio.gather(
            *(books.db.write(buy(number)) for number in range(50)), return_exceptions=True
        )

    results = books._runner.run(all_at_once())
    assert sum(result is None for result in results) == 10
    assert sum(isinstance(result, InsufficientBalance) for result in results) == 40
    assert books.balance() == (300_000, 300_000)


def test_the_witness_sees_a_forged_balance_and_a_forged_transfer(
    books: Books, database_url: str
) -> None:
    books.topup(100)
    assert books.read(lambda tx: walk(tx, CUSTOMER)) == []
    books.write(lambda tx: tx.execute("UPDATE balance SET posted_micros = 1000"))
    gap, posted = books.read(lambda tx: walk(tx, CUSTOMER))
    assert (gap.check, gap.subject, gap.differs) == ("running", "tr_1", "900")
    assert (posted.check, posted.stored, posted.expected) == ("posted", "1000", "100")
    trigger = "transfer_no_change ON transfer" if database_url else "transfer_no_update"
    books.write(lambda tx: tx.execute(f"DROP TRIGGER {trigger}"))
    books.write(lambda tx: tx.execute("UPDATE transfer SET amount_micros = 1000"))
    found = {one.check for one in books.read(lambda tx: walk(tx, CUSTOMER))}
    assert found == {"content", "running"}


def test_a_long_ledger_is_walked_in_pages(books: Books) -> None:
    """A page boundary anywhere, also at the very end, changes nothing."""
    books.topup(100_000)
    for _ in range(3):
        books.settle(books.reserve(30_000))
    for page in (1, 2, 7, 100):
        ledger_walk = LedgerWalk(CUSTOMER, page=page)
        while ledger_walk.take(books.read(ledger_walk.read)):
            pass
        assert (ledger_walk.findings, ledger_walk.transfers) == ([], 7)


def test_a_frozen_customer_reserves_nothing_and_what_is_held_ends_as_ever(books: Books) -> None:
    books.topup(100_000)
    first, second = books.reserve(30_000), books.reserve(30_000)
    assert books.write(lambda tx: ledger.freeze(tx, CUSTOMER, "look"))
    assert not books.write(lambda tx: ledger.freeze(tx, CUSTOMER, "again"))
    with pytest.raises(CustomerFrozen) as refused:
        books.reserve(1)
    assert (refused.value.status, refused.value.code) == (403, "customer_frozen")
    assert not refused.value.should_retry
    books.refund(books.settle(first))
    books.release(second)
    books.topup(1)
    assert books.balance() == (100_001, 0)
    assert books.write(lambda tx: ledger.unfreeze(tx, CUSTOMER))
    assert not books.write(lambda tx: ledger.unfreeze(tx, CUSTOMER))
    books.reserve(1)


def test_without_money_a_frozen_customer_is_told_that_it_is_frozen(books: Books) -> None:
    books.write(lambda tx: ledger.freeze(tx, CUSTOMER, "look"))
    with pytest.raises(CustomerFrozen):
        books.reserve(1)
