"""Money: guards, single resolution, running balances, the hash chain; SQLite runs the SQL."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from safelight import customers, ledger
from safelight.clock import ManualClock
from safelight.db import Transaction, UniqueViolation
from safelight.db.sqlite import SqliteDatabase
from safelight.errors import InsufficientBalance

T = TypeVar("T")
CUSTOMER = "cus_1"


class Books:
    """A database with one customer, driven synchronously."""

    def __init__(self, path: Path) -> None:
        self._runner = asyncio.Runner()
        self.db = SqliteDatabase(path, ManualClock())
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
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path / "t.db")
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
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
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


def test_the_witness_sees_a_forged_balance_and_a_forged_transfer(books: Books) -> None:
    books.topup(100)
    assert books.read(ledger.verify) == []
    books.write(lambda tx: tx.execute("UPDATE balance SET posted_micros = 1000"))
    assert any("posted is 1000" in fault for fault in books.read(ledger.verify))
    books.write(lambda tx: tx.execute("DROP TRIGGER transfer_no_update"))
    books.write(lambda tx: tx.execute("UPDATE transfer SET amount_micros = 1000"))
    assert any("hash chain" in fault for fault in books.read(ledger.verify))


class Money(RuleBasedStateMachine):
    """Any order of verbs keeps the books equal to a model of three numbers."""

    reserves = Bundle("reserves")
    charges = Bundle("charges")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.books = Books(Path(self.folder.name) / "t.db")
        self.posted = 0
        self.held: dict[str, int] = {}

    def teardown(self) -> None:
        assert self.books.read(ledger.verify) == []
        self.books.close()
        self.folder.cleanup()

    @rule(amount=st.integers(1, 100_000))
    def topup(self, amount: int) -> None:
        self.books.topup(amount)
        self.posted += amount

    @rule(target=reserves, amount=st.integers(0, 60_000))
    def reserve(self, amount: int) -> str:
        if amount > self.posted - sum(self.held.values()):
            with pytest.raises(InsufficientBalance):
                self.books.reserve(amount)
            return ""
        made = self.books.reserve(amount)
        self.held[made] = amount
        return made

    @rule(target=charges, held=reserves)
    def settle(self, held: str) -> str:
        if held not in self.held:
            if held:
                with pytest.raises(ledger.AlreadyResolved):
                    self.books.settle(held)
            return ""
        self.posted -= self.held.pop(held)
        return self.books.settle(held)

    @rule(held=reserves)
    def release(self, held: str) -> None:
        if held in self.held:
            del self.held[held]
            self.books.release(held)

    @rule(charge=consumes(charges))
    def refund(self, charge: str) -> None:
        if not charge:
            return
        before = self.books.balance()[0]
        amount = self.books.read(
            lambda tx: tx.one("SELECT amount_micros FROM transfer WHERE id = :id", {"id": charge})
        )
        assert amount is not None
        if amount["amount_micros"] == 0:
            return  # a charge of nothing leaves nothing to give back
        self.books.refund(charge)
        self.posted = before + amount["amount_micros"]

    @rule(amount=st.integers(-50_000, 50_000).filter(bool))
    def adjust(self, amount: int) -> None:
        if self.posted - sum(self.held.values()) + amount < 0:
            with pytest.raises(ledger.WouldOverdraw):
                self.books.adjust(amount)
            return
        self.books.adjust(amount)
        self.posted += amount

    @invariant()
    def books_equal_the_model(self) -> None:
        assert self.books.balance() == (self.posted, sum(self.held.values()))


TestMoney = Money.TestCase
TestMoney.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
