"""Spans of time in a ledger are found by halving, and are those that a look at all would find."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from fresh_books import sqlite_books
from safelight import customers, ledger
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.db.schema import migrations


def begin(tx: Transaction) -> None:
    for name in ("a", "b"):
        customers.create_customer(tx, customer_id=name, name=name)
        ledger.open_balance(tx, name)


def move(name: str, number: int) -> object:
    def work(tx: Transaction) -> None:
        ledger.topup(
            tx,
            transfer_id=f"{name}-{number}",
            customer_id=name,
            amount_micros=1 + number,
            actor="test",
            reason="paid",
        )

    return work


@pytest.mark.parametrize("jumps", [(), (-5.0,), (-3600.0, 50.0, -7.0), (90_000.0, -90_000.0)])
async def test_every_span_has_just_its_transfers(tmp_path: Path, jumps: tuple[float, ...]) -> None:
    """Also where the clock was set back, or forward and back."""
    rng, clock = random.Random(len(jumps)), ManualClock()
    db = sqlite_books(tmp_path / "t.db", clock)
    await db.write(begin)
    for number in range(120):
        await db.write(move(rng.choice("ab"), number))  # type: ignore[arg-type]
        clock.advance(rng.choice([0.0, 0.5, 60.0, 600.0]))
        if jumps and number % 40 == 39:
            clock.jump(jumps[number // 40 % len(jumps)])
    every = await db.read(lambda tx: ledger.transfers(tx, "a", limit=1000))
    times = sorted({row["created_at"] + by for row in every for by in (-1, 0, 1)})
    for _ in range(40):
        from_ms, to_ms = sorted(rng.choices(times, k=2))
        found = await db.read(
            lambda tx, f=from_ms, t=to_ms: ledger.transfers(  # type: ignore[misc]
                tx, "a", limit=1000, from_ms=f, to_ms=t
            )
        )
        wanted = [row["id"] for row in every if from_ms <= row["created_at"] < to_ms]
        assert [row["id"] for row in found] == wanted
        before = await db.read(lambda tx, f=from_ms: ledger.posted_before(tx, "a", f))  # type: ignore[misc]
        assert before == sum(r["amount_micros"] for r in every if r["created_at"] < from_ms)
    await db.close()


def test_books_of_an_older_schema_are_told_how_their_transfers_lie_in_time(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    steps = migrations("sqlite")
    for step in steps:
        if step.version < 11:
            connection.executescript(step.sql)
    connection.execute("INSERT INTO customer (id, name, created_at) VALUES ('a', 'a', 1)")
    connection.execute("INSERT INTO balance (customer_id, chain) VALUES ('a', x'00')")
    for seq, at in enumerate((100, 200, 170, 180, 150, 300), 1):
        connection.execute(
            "INSERT INTO transfer (id, kind, customer_id, debit, credit, amount_micros, actor, "
            "reason, created_at, balance_micros, prev_hash, hash) VALUES "
            "(?, 'topup', 'a', 'x', 'a', 1, 'test', 'paid', ?, 0, x'00', x'00')",
            (f"t{seq}", at),
        )
    connection.executescript(next(step.sql for step in steps if step.version == 11))
    found = connection.execute("SELECT latest_at, set_back_ms FROM balance").fetchone()
    connection.close()
    assert found == (300, 50)
