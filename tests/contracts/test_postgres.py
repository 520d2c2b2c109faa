"""What only a database behind a wire can do: lose a session, an answer, the whole server."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest

from contracts.postgres_proxy import COMMIT, Fault, Proxy
from postgres import PostgresServer, create_database, drop_database
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.db.commit_marks import KEPT_MS
from safelight.db.postgres import PostgresDatabase
from safelight.db.postgres_opening import NotForText, prepare, schema_version
from safelight.db.schema import migrations
from safelight.errors import Unavailable

WAIT_S = 10.0


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    with Proxy(postgres_url) as made:
        yield made


@pytest.fixture
async def db(proxy: Proxy) -> AsyncIterator[PostgresDatabase]:
    """One writer and one reader behind the proxy, so that a test knows whose session it cuts."""
    made = PostgresDatabase(proxy.url, ManualClock(), connections=1, readers=1)
    yield made
    await made.close()


class Count:
    """A work that inserts one customer, and knows how often it ran."""

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.runs = 0

    def __call__(self, tx: Transaction) -> int:
        self.runs += 1
        tx.execute(
            "INSERT INTO customer (id, name, created_at) VALUES (:id, :name, 0)",
            {"id": f"cus_{self.name}", "name": self.name},
        )
        return self.runs


def names(tx: Transaction) -> list[str]:
    return [row["name"] for row in tx.all("SELECT name FROM customer ORDER BY name")]


def fail_with(sqlstate: str) -> Callable[[Transaction], int]:
    """A work during which the server says that it has failed."""
    return lambda tx: tx.execute(
        f"DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{sqlstate}'; END $$"
    )


# --- lost sessions and lost answers ---


async def test_a_session_that_ends_amid_a_work_gives_the_effect_once(
    db: PostgresDatabase, postgres_url: str
) -> None:
    count = Count()

    def work(tx: Transaction) -> int:
        row = tx.one("SELECT pg_backend_pid() AS pid")
        assert row is not None
        runs = count(tx)
        if runs == 1:
            with psycopg.connect(postgres_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [row["pid"]])
        tx.one("SELECT 1")
        return runs

    assert await db.write(work) == 2
    assert await db.read(names) == ["a"]


@pytest.mark.parametrize("fault", [Fault.SWALLOW, Fault.PARTITION])
async def test_a_commit_that_never_arrived_is_made_again(
    db: PostgresDatabase, proxy: Proxy, fault: Fault
) -> None:
    """Also where the server has not noticed and the first transaction still holds its locks."""
    count = Count()
    await db.write(lambda tx: tx.one("SELECT 1"))
    proxy.arm(fault)
    assert await db.write(count) == 2
    assert proxy.faults == 1
    assert await db.read(names) == ["a"]


async def test_a_commit_whose_answer_was_lost_is_not_made_again(
    db: PostgresDatabase, proxy: Proxy
) -> None:
    count = Count()
    await db.write(lambda tx: tx.one("SELECT 1"))
    proxy.arm(Fault.LOSE_ANSWER)
    assert await db.write(count) == 1
    assert (proxy.faults, count.runs) == (1, 1)
    assert await db.read(names) == ["a"]


@pytest.mark.parametrize(
    ("first", "runs"), [(Fault.LOSE_ANSWER, 1), (Fault.SWALLOW, 2), (Fault.PARTITION, 2)]
)
@pytest.mark.parametrize("second", [Fault.LOSE_ANSWER, Fault.SWALLOW])
async def test_the_question_for_the_outcome_may_be_lost_as_well(
    db: PostgresDatabase, proxy: Proxy, first: Fault, second: Fault, runs: int
) -> None:
    """Our own mark, left by a question whose answer was lost, is not taken for the commit's."""
    count = Count()
    await db.write(lambda tx: tx.one("SELECT 1"))
    proxy.arm(first, COMMIT)
    proxy.arm(second, b"ON CONFLICT")
    assert await db.write(count) == runs
    assert (proxy.faults, count.runs) == (2, runs)
    assert await db.read(names) == ["a"]


async def test_an_outcome_that_nobody_can_say_is_unavailable_in_the_end(
    proxy: Proxy, postgres_url: str
) -> None:
    db = PostgresDatabase(proxy.url, ManualClock(), connections=1, resolve_s=0.1)
    await db.write(lambda tx: tx.one("SELECT 1"))
    proxy.arm(Fault.LOSE_ANSWER)
    proxy.silent = True
    with pytest.raises(Unavailable, match="did not say whether this took effect") as refused:
        await db.write(Count())
    assert refused.value.should_retry
    proxy.silent = False
    proxy.hang_up()
    assert await db.read(names) == ["a"]
    await db.close()


async def test_a_read_whose_session_ends_is_made_again(db: PostgresDatabase, proxy: Proxy) -> None:
    await db.write(Count())
    assert await db.read(names) == ["a"]
    proxy.hang_up()
    assert await db.read(names) == ["a"]


async def test_behind_a_bad_wire_every_work_takes_effect_once(postgres_url: str) -> None:
    """Of 150 works some are refused; those that are acknowledged are there, each one once."""
    rng = random.Random(7)

    def work(number: int) -> Callable[[Transaction], None]:
        count = Count(f"{number:03}")

        def both(tx: Transaction) -> None:
            tx.execute("UPDATE customer SET link_epoch = link_epoch + 1 WHERE id = 'cus_total'")
            count(tx)

        return both

    with Proxy(postgres_url, rng=rng) as proxy:
        db = PostgresDatabase(proxy.url, ManualClock(), connections=4, rng=rng)
        await db.write(Count("total"))
        proxy.loss = 0.04
        results = await asyncio.gather(
            *(db.write(work(i)) for i in range(150)), return_exceptions=True
        )
        proxy.loss = 0.0
        there = await db.read(names)
        total = await db.read(
            lambda tx: tx.one("SELECT link_epoch FROM customer WHERE id = 'cus_total'")
        )
        await db.close()
    assert proxy.faults > 20
    assert all(result is None or isinstance(result, Unavailable) for result in results)
    acknowledged = {f"{i:03}" for i, result in enumerate(results) if result is None}
    assert set(there) == acknowledged | {"total"}
    assert total is not None
    assert total["link_epoch"] == 1 + len(acknowledged)
    assert len(acknowledged) > 100


# --- other transactions ---


async def test_of_two_works_in_a_deadlock_both_succeed_in_the_end(postgres_url: str) -> None:
    db = PostgresDatabase(postgres_url, ManualClock(), connections=2)
    await db.write(Count("a"))
    await db.write(Count("b"))
    meeting = threading.Barrier(2)
    runs: list[str] = []

    def rename(first: str, second: str) -> Callable[[Transaction], None]:
        def work(tx: Transaction) -> None:
            runs.append(first)
            sql = "UPDATE customer SET link_epoch = link_epoch + 1 WHERE name = :name"
            tx.execute(sql, {"name": first})
            if len(runs) <= 2:
                meeting.wait(WAIT_S)
            tx.execute(sql, {"name": second})

        return work

    await asyncio.gather(db.write(rename("a", "b")), db.write(rename("b", "a")))
    rows = await db.read(lambda tx: tx.all("SELECT link_epoch FROM customer"))
    assert [row["link_epoch"] for row in rows] == [3, 3]
    assert len(runs) >= 3
    await db.close()


async def test_a_row_that_is_held_keeps_no_other_customer_waiting(postgres_url: str) -> None:
    db = PostgresDatabase(postgres_url, ManualClock(), connections=2)
    holding, done = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> int:
        Count("held")(tx)
        holding.set()
        assert done.wait(WAIT_S)
        return 1

    held = asyncio.create_task(db.write(hold))
    assert await asyncio.to_thread(holding.wait, WAIT_S)
    for number in range(5):
        await db.write(Count(str(number)))
    assert len(await db.read(names)) == 5
    done.set()
    assert await held == 1
    await db.close()


async def test_a_work_that_is_given_up_before_its_turn_does_not_happen(postgres_url: str) -> None:
    db = PostgresDatabase(postgres_url, ManualClock(), connections=1)
    holding, done = threading.Event(), threading.Event()

    def hold(tx: Transaction) -> None:
        tx.one("SELECT 1")
        holding.set()
        assert done.wait(WAIT_S)

    held = asyncio.create_task(db.write(hold))
    assert await asyncio.to_thread(holding.wait, WAIT_S)
    given_up = asyncio.create_task(db.write(Count("given up")))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    done.set()
    await held
    await db.write(Count("later"))
    assert await db.read(names) == ["later"]
    await db.close()


# --- a server that is away, full, read-only ---


async def test_while_the_server_is_away_the_answer_comes_in_about_a_second() -> None:
    """And the same database object works again when the server does."""
    with PostgresServer(fsync=False) as server:
        db = PostgresDatabase(server.create_database(), ManualClock())
        await db.write(Count("before"))
        assert await db.read(names) == ["before"]
        server.stop("immediate")
        began = time.monotonic()
        results = await asyncio.gather(
            *(db.write(Count(f"away {i}")) for i in range(100)),
            *(db.read(names) for _ in range(20)),
            return_exceptions=True,
        )
        assert time.monotonic() - began < 2.5
        assert {getattr(result, "code", result) for result in results} == {"database_unavailable"}
        assert all(getattr(result, "should_retry", False) for result in results)
        server.start()
        while True:
            try:
                await db.write(Count("after"))
            except Unavailable:
                continue
            break
        assert await db.read(names) == ["after", "before"]
        await db.close()


async def test_a_server_that_says_nothing_is_away_too(db: PostgresDatabase, proxy: Proxy) -> None:
    await db.write(Count("before"))
    proxy.silent = True
    proxy.hang_up()
    began = time.monotonic()
    results = await asyncio.gather(
        *(db.write(Count(str(i))) for i in range(20)), return_exceptions=True
    )
    # The one whose session was lost waits for a connection; the others have not begun.
    assert time.monotonic() - began < 6
    assert {getattr(result, "code", result) for result in results} == {"database_unavailable"}
    proxy.silent = False
    proxy.hang_up()
    while True:
        try:
            await db.write(Count("after"))
        except Unavailable:
            continue
        break
    assert await db.read(names) == ["after", "before"]


@pytest.mark.parametrize(
    ("sqlstate", "code"),
    [
        ("53100", "storage_full"),
        ("53200", "database_unavailable"),
        ("58030", "database_unavailable"),
        ("55P03", "database_busy"),
        ("XX001", "database_damaged"),
        ("25006", "database_read_only"),
    ],
)
async def test_what_the_server_cannot_do_is_unavailable(
    db: PostgresDatabase, sqlstate: str, code: str
) -> None:
    with pytest.raises(Unavailable) as refused:
        await db.write(fail_with(sqlstate))
    assert refused.value.code == code
    assert refused.value.should_retry == (code not in {"storage_full", "database_damaged"})
    assert await db.write(Count()) == 1


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_a_conflict_that_never_ends_is_busy_after_ten_runs(
    db: PostgresDatabase, sqlstate: str
) -> None:
    count = 0

    def work(tx: Transaction) -> None:
        nonlocal count
        count += 1
        fail_with(sqlstate)(tx)

    with pytest.raises(Unavailable) as refused:
        await db.write(work)
    assert (refused.value.code, count) == ("database_busy", 10)


async def test_a_database_that_takes_no_writes_is_left_and_found_again(
    db: PostgresDatabase, postgres_url: str
) -> None:
    name = postgres_url.rsplit("/", 1)[1]

    def set_read_only(word: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SET default_transaction_read_only = off")
            other.execute(
                f"ALTER DATABASE {name} SET default_transaction_read_only = {word}".encode()
            )

    await db.write(Count("before"))
    set_read_only("on")
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name LIKE 'safelight-%' AND datname = current_database()"
        )
    with pytest.raises(Unavailable) as refused:
        await db.write(Count("meanwhile"))
    assert refused.value.code == "database_read_only"
    set_read_only("off")
    assert await db.write(Count("after")) == 1
    assert await db.read(names) == ["after", "before"]


# --- settings, marks, time, opening ---


async def test_sessions_are_durable_and_bounded(db: PostgresDatabase) -> None:
    def settings(tx: Transaction) -> dict[str, str]:
        rows = tx.all(
            "SELECT name, setting, unit FROM pg_settings WHERE name IN ('synchronous_commit', "
            "'statement_timeout', 'idle_in_transaction_session_timeout', 'lock_timeout', "
            "'transaction_isolation', 'transaction_read_only') ORDER BY name"
        )
        return {row["name"]: row["setting"] for row in rows}

    assert await db.write(settings) == {
        "idle_in_transaction_session_timeout": "30000",
        "lock_timeout": "5000",
        "statement_timeout": "10000",
        "synchronous_commit": "on",
        "transaction_isolation": "read committed",
        "transaction_read_only": "off",
    }
    reading = await db.read(settings)
    assert reading["transaction_isolation"] == "repeatable read"
    assert reading["transaction_read_only"] == "on"


async def test_each_commit_leaves_a_mark_and_old_ones_are_removed(postgres_url: str) -> None:
    clock = ManualClock()
    db = PostgresDatabase(postgres_url, clock, connections=1, sweep_s=0)
    for number in range(5):
        await db.write(Count(str(number)))

    def marks(tx: Transaction) -> list[int]:
        return [row["at"] for row in tx.all("SELECT at FROM commit_mark ORDER BY at")]

    first = clock.now_ms()
    assert await db.write(marks) == [first] * 5
    clock.advance(KEPT_MS / 1000 + 1)
    await db.write(Count("later"))
    await db.write(Count("even later"))  # begins after the sweep behind the one before
    assert first not in await db.write(marks)
    await db.close()


async def test_a_column_that_a_newer_process_adds_disturbs_nobody(
    db: PostgresDatabase, postgres_url: str
) -> None:
    """Prepared statements with `SELECT *` fail in the session that knows the old columns."""

    def look(tx: Transaction) -> set[str]:
        row = tx.one("SELECT * FROM customer")
        assert row is not None
        return set(row)

    await db.write(Count())
    for _ in range(10):
        before = await db.read(look), await db.write(look)
    with psycopg.connect(postgres_url, autocommit=True) as newer:
        newer.execute("ALTER TABLE customer ADD COLUMN later BIGINT")
    after = await db.read(look), await db.write(look)
    assert [new - old for new, old in zip(after, before, strict=True)] == [{"later"}, {"later"}]
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        await db.write(fail_with("0A000"))


async def test_without_a_clock_the_time_is_the_databases(postgres_url: str) -> None:
    db = PostgresDatabase(postgres_url)
    before = time.time_ns() // 1_000_000
    written = await db.write(lambda tx: tx.now_ms)
    read = await db.read(lambda tx: tx.now_ms)
    after = time.time_ns() // 1_000_000
    assert before - 1 <= written <= read <= after + 1
    await db.close()


async def test_transfers_cannot_be_truncated(db: PostgresDatabase) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        await db.write(lambda tx: tx.execute("TRUNCATE transfer CASCADE"))


def test_four_processes_that_start_at_one_time_migrate_once(postgres_server_url: str) -> None:
    url = create_database(postgres_server_url)
    assert schema_version(url) == 0
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(prepare(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    newest = migrations("postgresql")[-1].version
    assert len(found) == 4
    assert schema_version(url) == newest
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT version FROM migration ORDER BY version").fetchall()
    assert [row[0] for row in rows] == list(range(1, newest + 1))
    assert sorted(found) == [0, newest, newest, newest]
    drop_database(url, postgres_server_url)


def test_a_database_that_cannot_hold_every_text_is_refused(postgres_server_url: str) -> None:
    url = create_database(postgres_server_url, "template0 ENCODING 'LATIN1'")
    with pytest.raises(NotForText, match="LATIN1"):
        prepare(url)
    drop_database(url, postgres_server_url)
