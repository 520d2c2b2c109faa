"""What every Database must do, on SQLite and on Postgres."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from safelight import customers, ledger
from safelight.clock import ManualClock
from safelight.db import Database, SchemaTooNew, Transaction, UniqueViolation
from safelight.db.postgres import PostgresDatabase
from safelight.db.schema import Dialect, Migration, migrations
from safelight.db.sqlite import SqliteDatabase
from safelight.errors import InsufficientBalance, ShuttingDown, Unavailable

PRICE = 30_000
WAIT_S = 10.0
"""How long a thread waits for another one before the test fails."""


def reopened(database_url: str, tmp_path: Path) -> Database:
    """Open the database that `any_db` is, once more."""
    if database_url:
        return PostgresDatabase(database_url, ManualClock())
    return SqliteDatabase(tmp_path / "any.db", ManualClock())


def insert(name: str) -> Callable[[Transaction], int]:
    def work(tx: Transaction) -> int:
        return tx.execute(
            "INSERT INTO customer (id, name, created_at) VALUES (:id, :name, :now)",
            {"id": f"cus_{name}", "name": name, "now": tx.now_ms},
        )

    return work


def names(tx: Transaction) -> list[str]:
    return [row["name"] for row in tx.all("SELECT name FROM customer ORDER BY name")]


def with_credit(amount: int) -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        customers.create_customer(tx, customer_id="cus_1", name="one")
        ledger.open_balance(tx, "cus_1")
        ledger.topup(
            tx,
            transfer_id="tr_first",
            customer_id="cus_1",
            amount_micros=amount,
            actor="test",
            reason="credit",
        )

    return work


def buy(number: int) -> Callable[[Transaction], None]:
    return lambda tx: ledger.reserve(
        tx,
        transfer_id=f"tr_{number}",
        customer_id="cus_1",
        job_id=f"job_{number}",
        amount_micros=PRICE,
        actor="test",
    )


async def test_a_write_is_seen_by_the_next_read(any_db: Database) -> None:
    assert await any_db.write(insert("a")) == 1
    assert await any_db.read(names) == ["a"]


async def test_a_failing_work_undoes_only_itself(any_db: Database) -> None:
    def half(tx: Transaction) -> None:
        insert("half")(tx)
        raise RuntimeError("after the insert")

    results = await asyncio.gather(
        any_db.write(insert("a")),
        any_db.write(half),
        any_db.write(insert("b")),
        return_exceptions=True,
    )
    assert isinstance(results[1], RuntimeError)
    assert await any_db.read(names) == ["a", "b"]


async def test_a_second_row_with_the_same_key_is_a_unique_violation(any_db: Database) -> None:
    await any_db.write(insert("a"))
    with pytest.raises(UniqueViolation):
        await any_db.write(insert("a"))
    await any_db.write(insert("b"))
    assert await any_db.read(names) == ["a", "b"]


async def test_300_works_at_one_time_all_arrive(any_db: Database) -> None:
    await asyncio.gather(*(any_db.write(insert(f"{i:03}")) for i in range(300)))
    assert len(await any_db.read(names)) == 300


async def test_a_read_cannot_write(any_db: Database) -> None:
    with pytest.raises(
        (sqlite3.OperationalError, psycopg.errors.ReadOnlySqlTransaction), match=r"read-?only"
    ):
        await any_db.read(insert("a"))
    assert await any_db.read(names) == []


async def test_a_mistake_in_sql_is_raised_as_the_driver_says_it(any_db: Database) -> None:
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedTable), match="nowhere"):
        await any_db.write(lambda tx: tx.one("SELECT 1 FROM nowhere"))
    assert await any_db.write(insert("a")) == 1


async def test_what_was_acknowledged_is_there_after_reopening(
    any_db: Database, database_url: str, tmp_path: Path
) -> None:
    await any_db.write(insert("a"))
    await any_db.close()
    second = reopened(database_url, tmp_path)
    assert await second.read(names) == ["a"]
    await second.close()


async def test_closing_finishes_what_was_submitted_and_refuses_what_comes_later(
    any_db: Database, database_url: str, tmp_path: Path
) -> None:
    submitted = [asyncio.create_task(any_db.write(insert(f"{i:02}"))) for i in range(40)]
    await asyncio.sleep(0)
    await any_db.close()
    assert await asyncio.gather(*submitted) == [1] * 40
    with pytest.raises(ShuttingDown):
        await any_db.write(insert("late"))
    second = reopened(database_url, tmp_path)
    assert len(await second.read(names)) == 40
    await second.close()


async def test_200_parallel_buyers_with_money_for_10_get_exactly_10(any_db: Database) -> None:
    await any_db.write(with_credit(10 * PRICE))
    results = await asyncio.gather(
        *(any_db.write(buy(i)) for i in range(200)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 10
    assert sum(isinstance(result, InsufficientBalance) for result in results) == 190
    balance = await any_db.read(lambda tx: ledger.balance(tx, "cus_1"))
    assert (balance.posted_micros, balance.held_micros) == (10 * PRICE, 10 * PRICE)


async def test_whoever_locks_a_name_counts_alone(any_db: Database) -> None:
    """Twenty works count five seats before they take one: five get one."""

    def take(number: int) -> Callable[[Transaction], bool]:
        def work(tx: Transaction) -> bool:
            tx.lock("seats")
            taken = tx.one("SELECT COUNT(*) AS taken FROM customer")
            assert taken is not None
            return taken["taken"] < 5 and insert(str(number))(tx) == 1

        return work

    got = await asyncio.gather(*(any_db.write(take(i)) for i in range(20)))
    assert sum(got) == 5
    assert len(await any_db.read(names)) == 5


async def test_a_read_sees_one_moment_however_long_it_takes(any_db: Database) -> None:
    looked, written = threading.Event(), threading.Event()

    def read(tx: Transaction) -> tuple[list[str], list[str]]:
        before = names(tx)
        looked.set()
        assert written.wait(WAIT_S)
        return before, names(tx)

    await any_db.write(insert("a"))
    reading = asyncio.create_task(any_db.read(read))
    assert await asyncio.to_thread(looked.wait, WAIT_S)
    await any_db.write(insert("b"))
    written.set()
    assert await reading == (["a"], ["a"])
    assert await any_db.read(names) == ["a", "b"]


@pytest.mark.parametrize(
    "sql",
    ["UPDATE transfer SET amount_micros = 1", "DELETE FROM transfer WHERE id = 'tr_first'"],
)
async def test_nobody_changes_or_deletes_a_transfer(any_db: Database, sql: str) -> None:
    await any_db.write(with_credit(PRICE))
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.RaiseException), match="append"):
        await any_db.write(lambda tx: tx.execute(sql))
    rows = await any_db.read(lambda tx: tx.all("SELECT amount_micros FROM transfer"))
    assert [row["amount_micros"] for row in rows] == [PRICE]


async def test_values_come_back_as_they_were_given(any_db: Database) -> None:
    """Words like :name and % inside quotes are text; sums are ints; truth is an integer."""

    def work(tx: Transaction) -> dict[str, object]:
        row = tx.one(
            "SELECT ':name 100%' AS quoted, CAST(:big AS BIGINT) AS big, "  # a comment: with :words
            "CAST(:text AS TEXT) AS text, CAST(:yes AS BIGINT) AS yes -- and :more of them, 5 %\n"
            "FROM customer WHERE name LIKE 'a%' AND id = :id",
            {"big": 2**62, "text": "50 % of :this 寫真", "yes": True, "id": "cus_a:b"},
        )
        assert row is not None
        return dict(row)

    await any_db.write(insert("a:b"))
    assert await any_db.read(work) == {
        "quoted": ":name 100%",
        "big": 2**62,
        "text": "50 % of :this 寫真",
        "yes": 1,
    }
    total = await any_db.read(lambda tx: tx.one("SELECT SUM(created_at) AS total FROM customer"))
    assert total is not None
    assert type(total["total"]) is int


async def test_bytes_and_nothing_come_back_as_they_were_given(any_db: Database) -> None:
    await any_db.write(insert("a"))

    def work(tx: Transaction) -> None:
        customers.add_key(
            tx, key="sl_live_\x01", key_id="k", customer_id="cus_a", name="n", pepper=b"\x00\xff"
        )

    await any_db.write(work)
    row = await any_db.read(lambda tx: tx.one("SELECT digest, revoked_at FROM api_key"))
    assert row is not None
    assert row["digest"] == customers.digest("sl_live_\x01", b"\x00\xff")
    assert type(row["digest"]) is bytes
    assert row["revoked_at"] is None


async def test_a_newer_schema_is_refused_and_left_alone(
    any_db: Database, database_url: str, tmp_path: Path
) -> None:
    known = migrations("sqlite")[-1].version
    await any_db.write(
        lambda tx: tx.execute(
            "INSERT INTO migration (version, name, applied_at) VALUES (:v, 'later', 0)",
            {"v": known + 7},
        )
    )
    with pytest.raises(SchemaTooNew, match=rf"{known + 7}.*{known}.*upgrade safelight") as refused:
        reopened(database_url, tmp_path)
    assert (refused.value.found, refused.value.known) == (known + 7, known)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_migrations_are_numbered_without_gaps(dialect: Dialect) -> None:
    steps: tuple[Migration, ...] = migrations(dialect)
    assert [step.version for step in steps] == list(range(1, len(steps) + 1))


# --- SQLite's own ---


async def test_another_process_holding_the_write_lock_gives_unavailable_not_a_crash(
    tmp_path: Path,
) -> None:
    db = SqliteDatabase(tmp_path / "t.db", ManualClock(), busy_timeout_s=0.05)
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as refused:
            await db.write(insert("a"))
        assert refused.value.code == "database_busy"
        assert refused.value.should_retry
        other.execute("ROLLBACK")
    await db.write(insert("a"))
    assert await db.read(names) == ["a"]
    await db.close()


def test_a_damaged_file_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    database = SqliteDatabase(path, ManualClock())
    asyncio.run(database.close())
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(sqlite3.DatabaseError):
        SqliteDatabase(path, ManualClock())
