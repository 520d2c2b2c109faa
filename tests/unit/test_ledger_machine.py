"""Any order of the ledger's verbs, with crashes in the middle, keeps it equal to a model of ints.

Two customers, every verb, every misuse of it, and a crash before any statement of any of them.
After each step the stored balances are those of the model and the verification finds nothing. The
short run is part of the tests; the campaign plays 50 steps 2,000 times on SQLite and 200 times on
Postgres.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from safelight import customers, ledger
from safelight.clock import ManualClock
from safelight.db import Row, Transaction, UniqueViolation
from safelight.db.postgres import PostgresDatabase
from safelight.db.schema import migrations
from safelight.db.sqlite_transaction import SqliteTransaction
from safelight.db.sqlite_trouble import Trouble
from safelight.errors import CustomerFrozen, InsufficientBalance
from safelight.gateway.verification.money import walk

T = TypeVar("T")
Verb = Callable[[Transaction], object]
REFUSALS = (
    CustomerFrozen,
    InsufficientBalance,
    UniqueViolation,
    ledger.AlreadyResolved,
    ledger.WouldOverdraw,
)
BOTH = (0, 1)
FIRST = 60_000
"""With what a customer begins: some reserves succeed, some do not."""

# Few and round, so that what is there is often exactly what is asked, or a little less.
prices = st.sampled_from([30_000, 60_000, 10_000, 90_000, 0, 1])
topups = st.sampled_from([10_000, 30_000, 1])
corrections = st.sampled_from([-30_000, -60_000, 10_000, -10_000, -1])
lines = st.sampled_from([0, 10_000, 30_000])
crashes = st.integers(0, 19).map(lambda number: number - 14 if number >= 14 else None)
"""Before which statement of a verb the process dies; a verb that has fewer ends well."""


class Crash(Exception):
    """The process died."""


class Crashing:
    """A transaction in which the process dies before a certain statement."""

    def __init__(self, tx: Transaction, before: int | None) -> None:
        self._tx = tx
        self._left = before
        self.now_ms = tx.now_ms

    def execute(self, sql: str, params: Mapping[str, Any] | None = None) -> int:
        self._count()
        return self._tx.execute(sql, params)

    def one(self, sql: str, params: Mapping[str, Any] | None = None) -> Row | None:
        self._count()
        return self._tx.one(sql, params)

    def all(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        self._count()
        return self._tx.all(sql, params)

    def lock(self, name: str) -> None:
        self._tx.lock(name)

    def number_on(self, table: str, column: str) -> None:
        self._tx.number_on(table, column)

    def _count(self) -> None:
        if self._left == 0:
            raise Crash
        if self._left is not None:
            self._left -= 1


class Ledgers(Protocol):
    """Where the machine's customers have their balances."""

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Run a work in one transaction, or not at all."""
        ...


class InMemory:
    """SQLite in this process: the real SQL and constraints without the cost of a disk."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA foreign_keys=ON")
        for step in migrations("sqlite"):
            self._connection.executescript(step.sql)
        self._trouble = Trouble(Path("memory"))
        self._now_ms = itertools.count(1_800_000_000_000)

    def run(self, work: Callable[[Transaction], T]) -> T:
        self._connection.execute("BEGIN")
        try:
            result = work(SqliteTransaction(self._connection, next(self._now_ms), self._trouble))
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        return result

    def close(self) -> None:
        self._connection.close()


class InPostgres:
    """A Postgres database behind its adapter."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._db = PostgresDatabase(url, ManualClock(), connections=1, readers=1)

    def run(self, work: Callable[[Transaction], T]) -> T:
        return self._runner.run(self._db.write(work))

    def close(self) -> None:
        self._runner.run(self._db.close())
        self._runner.close()


@dataclass
class Account:
    """What the ledger should say of one customer."""

    id: str
    posted: int = 0
    line: int = 0
    frozen: bool = False
    held: dict[str, int] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=dict)
    refunded: set[str] = field(default_factory=set)

    @property
    def available(self) -> int:
        return self.posted - sum(self.held.values())


class LedgerMachine(RuleBasedStateMachine):
    """See the module's docstring."""

    reserves = Bundle("reserves")
    charges = Bundle("charges")
    used = Bundle("used")

    def __init__(self, ledgers: Ledgers, seen: Counter[str], numbers: Iterator[int]) -> None:
        super().__init__()
        self.ledgers = ledgers
        self.seen = seen
        self.numbers = numbers
        self.accounts = [Account(f"cus_{next(numbers)}", posted=FIRST) for _ in BOTH]
        ledgers.run(self._begin)

    def _begin(self, tx: Transaction) -> None:
        for one in self.accounts:
            customers.create_customer(tx, customer_id=one.id, name=one.id)
            ledger.open_balance(tx, one.id)
            _topup(one, self.new_id(), FIRST)(tx)

    def new_id(self) -> str:
        return f"tr_{next(self.numbers)}"

    def do(self, name: str, verb: Verb, crash: int | None, expected: str) -> bool:
        """Carry out a verb; return whether it took effect, which must be what was expected."""
        try:
            self.ledgers.run(lambda tx: verb(Crashing(tx, crash)))
            end = "done"
        except Crash:
            end = "crashed"
        except REFUSALS as error:
            end = type(error).__name__
        assert end == expected or (crash is not None and end == "crashed"), (name, end, expected)
        self.seen[f"{name} {end}"] += 1
        return end == "done"

    @rule(target=used, who=st.sampled_from(BOTH), amount=topups, crash=crashes)
    def topup(self, who: int, amount: int, crash: int | None) -> Any:
        one, transfer = self.accounts[who], self.new_id()
        verb = _topup(one, transfer, amount)
        if not self.do("topup", verb, crash, "done"):
            return multiple()
        one.posted += amount
        return ("topup", verb)

    @rule(
        target=used,
        who=st.sampled_from(BOTH),
        amount=corrections,
        crash=crashes,
    )
    def adjust(self, who: int, amount: int, crash: int | None) -> Any:
        one, transfer = self.accounts[who], self.new_id()
        enough = one.available + amount >= -one.line
        verb = _adjust(one, transfer, amount)
        if not self.do("adjust", verb, crash, "done" if enough else "WouldOverdraw"):
            return multiple()
        one.posted += amount
        return ("adjust", verb) if amount > 0 else multiple()

    @rule(again=used)
    def run_again(self, again: tuple[str, Verb]) -> None:
        """What adds money and is run again with the same id adds nothing."""
        name, verb = again
        assert not self.do(f"{name} again", verb, None, "UniqueViolation")

    @rule(who=st.sampled_from(BOTH), line=lines, crash=crashes)
    def set_floor(self, who: int, line: int, crash: int | None) -> None:
        one = self.accounts[who]
        expected = "done" if one.available >= -line else "WouldOverdraw"
        if self.do("floor", lambda tx: ledger.set_credit_line(tx, one.id, line), crash, expected):
            one.line = line

    @rule(who=st.sampled_from(BOTH), stop=st.booleans(), crash=crashes)
    def freeze_or_not(self, who: int, stop: bool, crash: int | None) -> None:
        one = self.accounts[who]

        def verb(tx: Transaction) -> None:
            changed = ledger.freeze(tx, one.id, "look") if stop else ledger.unfreeze(tx, one.id)
            assert changed == (one.frozen != stop)

        if self.do("freeze" if stop else "unfreeze", verb, crash, "done"):
            one.frozen = stop

    @rule(target=reserves, who=st.sampled_from(BOTH), amount=prices, crash=crashes)
    def reserve(self, who: int, amount: int, crash: int | None) -> Any:
        one, transfer = self.accounts[who], self.new_id()
        expected = "done" if one.available + one.line >= amount else "InsufficientBalance"
        expected = "CustomerFrozen" if one.frozen else expected
        if not self.do("reserve", _reserve(one, transfer, transfer, amount), crash, expected):
            return multiple()
        one.held[transfer] = amount
        return (who, transfer, amount)

    @rule(hold=reserves, same_job=st.booleans())
    def reserve_again(self, hold: tuple[int, str, int], same_job: bool) -> None:
        """A reserve that is run again, or a second one for a job, holds nothing more."""
        who, transfer, amount = hold
        one = self.accounts[who]
        enough = one.available + one.line >= amount
        expected = "UniqueViolation" if enough else "InsufficientBalance"
        expected = "CustomerFrozen" if one.frozen else expected
        again = self.new_id() if same_job else transfer
        job = transfer if same_job else self.new_id()
        assert not self.do("reserve again", _reserve(one, again, job, amount), None, expected)

    @rule(target=charges, hold=reserves, crash=crashes)
    def settle(self, hold: tuple[int, str, int], crash: int | None) -> Any:
        who, reserve, amount = hold
        one, transfer = self.accounts[who], self.new_id()
        expected = "done" if reserve in one.held else "AlreadyResolved"
        if not self.do("settle", _end(ledger.settle, reserve, transfer), crash, expected):
            return multiple()
        one.posted -= one.held.pop(reserve)
        one.charged[transfer] = amount
        return (who, transfer) if amount else multiple()  # of nothing, nothing can be given back

    @rule(hold=reserves, crash=crashes)
    def release(self, hold: tuple[int, str, int], crash: int | None) -> None:
        who, reserve, _ = hold
        one = self.accounts[who]
        expected = "done" if reserve in one.held else "AlreadyResolved"
        if self.do("release", _end(ledger.release, reserve, self.new_id()), crash, expected):
            del one.held[reserve]

    @rule(hold=reserves)
    def settle_and_release_at_once(self, hold: tuple[int, str, int]) -> None:
        """Two ends of one job in one transaction: both or neither, so neither."""
        _, reserve, _ = hold
        first, second = self.new_id(), self.new_id()

        def verb(tx: Transaction) -> None:
            _end(ledger.settle, reserve, first)(tx)
            _end(ledger.release, reserve, second)(tx)

        assert not self.do("settle and release", verb, None, "AlreadyResolved")

    @rule(charge=charges, crash=crashes)
    def refund(self, charge: tuple[int, str], crash: int | None) -> None:
        who, settle = charge
        one, transfer = self.accounts[who], self.new_id()
        expected = "AlreadyResolved" if settle in one.refunded else "done"
        verb = _refund(settle, transfer)
        if self.do("refund", verb, crash, expected):
            one.refunded.add(settle)
            one.posted += one.charged[settle]

    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        self.ledgers.run(self._compare)

    def _compare(self, tx: Transaction) -> None:
        for one in self.accounts:
            row = tx.one("SELECT * FROM balance WHERE customer_id = :id", {"id": one.id})
            assert row is not None
            posted, held = row["posted_micros"], row["held_micros"]
            assert (posted, held) == (one.posted, sum(one.held.values()))
            assert held >= 0
            assert posted - held >= row["floor_micros"] == -one.line
            assert (row["frozen_at"] is not None) == one.frozen
            assert walk(tx, one.id) == []
            # What a customer has is what the others gave: over all parties the sum is zero.
            assert posted + sum(_others(tx, one.id)) == 0


def _others(tx: Transaction, customer: str) -> Iterator[int]:
    for row in tx.all(
        "SELECT debit, amount_micros FROM transfer WHERE customer_id = :id "
        "AND kind IN ('topup', 'settle', 'refund', 'adjust') ORDER BY seq",
        {"id": customer},
    ):
        yield row["amount_micros"] if row["debit"] == customer else -row["amount_micros"]


def _topup(one: Account, transfer: str, amount: int) -> Verb:
    return lambda tx: ledger.topup(
        tx,
        transfer_id=transfer,
        customer_id=one.id,
        amount_micros=amount,
        actor="operator",
        reason="paid",
    )


def _adjust(one: Account, transfer: str, amount: int) -> Verb:
    return lambda tx: ledger.adjust(
        tx,
        transfer_id=transfer,
        customer_id=one.id,
        amount_micros=amount,
        actor="operator",
        reason="correction",
    )


def _reserve(one: Account, transfer: str, job: str, amount: int) -> Verb:
    return lambda tx: ledger.reserve(
        tx,
        transfer_id=transfer,
        customer_id=one.id,
        job_id=f"job_{job}",
        amount_micros=amount,
        actor="key",
    )


def _end(verb: Callable[..., None], reserve: str, transfer: str) -> Verb:
    return lambda tx: verb(
        tx, transfer_id=transfer, reserve_id=reserve, actor="gateway", reason="ended"
    )


def _refund(settle: str, transfer: str) -> Verb:
    return lambda tx: ledger.refund(
        tx, transfer_id=transfer, settle_id=settle, actor="operator", reason="sorry"
    )


EVERY_END = {
    *("topup done", "topup crashed", "topup again UniqueViolation"),
    *("adjust done", "adjust crashed", "adjust WouldOverdraw", "adjust again UniqueViolation"),
    *("floor done", "floor crashed", "floor WouldOverdraw"),
    *("freeze done", "freeze crashed", "unfreeze done", "unfreeze crashed"),
    *("reserve done", "reserve crashed", "reserve InsufficientBalance", "reserve CustomerFrozen"),
    *("reserve again UniqueViolation", "reserve again InsufficientBalance"),
    *("reserve again CustomerFrozen", "settle and release AlreadyResolved"),
    *("settle done", "settle crashed", "settle AlreadyResolved"),
    *("release done", "release crashed", "release AlreadyResolved"),
    *("refund done", "refund crashed", "refund AlreadyResolved"),
}
"""Every way in which a verb can end."""


def _play(ledgers: Ledgers, *, examples: int, steps: int, derandomize: bool) -> Counter[str]:
    seen: Counter[str] = Counter()
    numbers = itertools.count(1)
    run_state_machine_as_test(
        lambda: LedgerMachine(ledgers, seen, numbers),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=derandomize,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return seen


@pytest.fixture
def in_memory() -> Iterator[InMemory]:
    ledgers = InMemory()
    yield ledgers
    ledgers.close()


@pytest.fixture
def in_postgres(postgres_url: str) -> Iterator[InPostgres]:
    ledgers = InPostgres(postgres_url)
    yield ledgers
    ledgers.close()


def test_any_order_of_verbs_keeps_the_books_equal_to_the_model(in_memory: InMemory) -> None:
    assert _play(in_memory, examples=80, steps=40, derandomize=True).total() > 1000


def test_the_same_on_postgres(in_postgres: InPostgres) -> None:
    assert _play(in_postgres, examples=10, steps=30, derandomize=True).total() > 100


@pytest.mark.parametrize("kind", ["in_memory", "in_postgres"])
def test_every_verb_ends_in_every_way(kind: str, request: pytest.FixtureRequest) -> None:
    """Whatever the random runs happen to play, these ends were all seen."""
    seen: Counter[str] = Counter()
    machine = LedgerMachine(request.getfixturevalue(kind), seen, itertools.count(1))
    _play_every_end(machine)
    machine.the_books_are_those_of_the_model()
    assert set(seen) == EVERY_END


def _play_every_end(machine: LedgerMachine) -> None:
    for crash in (3, None):  # what dies before its fourth statement has changed the balance
        again = machine.topup(0, 30_000, crash), machine.adjust(0, 10_000, crash)
        machine.set_floor(0, 10_000, 0 if crash else None)
        hold = machine.reserve(0, 60_000, crash)
        free = machine.reserve(0, 30_000, crash)
    for one in again:
        machine.run_again(one)
    machine.settle_and_release_at_once(hold)
    machine.reserve_again(free, same_job=True)
    machine.topup(0, 30_000, None)
    machine.reserve_again(free, same_job=True)
    machine.reserve(0, 90_000, None)
    machine.adjust(0, -60_000, None)
    machine.settle(hold, 3)
    charge = machine.settle(hold, None)
    machine.settle(hold, None)
    machine.reserve_again(hold, same_job=False)
    for crash in (3, None, None):
        machine.release(free, crash)
    for stop in (True, False):
        for crash in (0, None):
            machine.freeze_or_not(0, stop, crash)
        if stop:
            machine.reserve(0, 1, None)
            machine.reserve_again(free, same_job=True)
    machine.adjust(0, -75_000, None)
    machine.set_floor(0, 0, None)
    for crash in (3, None, None):
        machine.refund(charge, crash)


@pytest.mark.campaign
def test_two_thousand_runs_of_fifty_steps_on_sqlite(in_memory: InMemory) -> None:
    began = time.monotonic()
    seen = _play(in_memory, examples=2000, steps=50, derandomize=False)
    assert seen.total() > 50_000
    print(f"\nledger machine on SQLite: {seen.total()} verbs, {time.monotonic() - began:.0f} s")


@pytest.mark.campaign
def test_two_hundred_runs_of_fifty_steps_on_postgres(in_postgres: InPostgres) -> None:
    began = time.monotonic()
    seen = _play(in_postgres, examples=200, steps=50, derandomize=False)
    assert seen.total() > 5_000
    print(f"\nledger machine on Postgres: {seen.total()} verbs, {time.monotonic() - began:.0f} s")
