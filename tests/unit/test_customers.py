"""Keys: their form, what is stored of them, and one answer for all that are not valid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fresh_books import sqlite_books
from safelight import customers, ledger
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.db.sqlite import SqliteDatabase
from safelight.errors import AuthenticationFailed

PEPPER = b"p" * 32


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = sqlite_books(tmp_path / "t.db", ManualClock())
    yield database
    await database.close()


def add(tx: Transaction) -> tuple[str, str]:
    customers.create_customer(tx, customer_id="cus_1", name="one")
    ledger.open_balance(tx, "cus_1")
    key, key_id = customers.new_key()
    customers.add_key(tx, key=key, key_id=key_id, customer_id="cus_1", name="one", pepper=PEPPER)
    return key, key_id


def test_new_keys_are_well_formed_and_differ() -> None:
    keys = {customers.new_key()[0] for _ in range(100)}
    assert len(keys) == 100
    assert all(customers.well_formed(key) for key in keys)


@given(position=st.integers(0, 53), replacement=st.sampled_from("0Az_ é"))
def test_any_changed_character_is_refused_without_a_look_at_the_database(
    position: int, replacement: str
) -> None:
    key = customers.new_key()[0]
    changed = key[:position] + replacement + key[position + 1 :]
    assert customers.well_formed(changed) == (changed == key)


async def test_a_key_authenticates_until_it_is_revoked(db: SqliteDatabase) -> None:
    key, key_id = await db.write(add)
    digest = customers.digest(key, PEPPER)
    identity = await db.read(lambda tx: customers.authenticate(tx, digest))
    assert (identity.customer_id, identity.key_id) == ("cus_1", key_id)
    assert await db.write(lambda tx: customers.revoke_key(tx, key_id))
    assert not await db.write(lambda tx: customers.revoke_key(tx, key_id))
    with pytest.raises(AuthenticationFailed):
        await db.read(lambda tx: customers.authenticate(tx, digest))


async def test_the_database_never_holds_the_key(db: SqliteDatabase, tmp_path: Path) -> None:
    key, _ = await db.write(add)
    await db.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.encode() not in stored
    assert key[8:40].encode() not in stored


async def test_another_pepper_does_not_recognise_the_key(db: SqliteDatabase) -> None:
    key, _ = await db.write(add)
    with pytest.raises(AuthenticationFailed):
        await db.read(lambda tx: customers.authenticate(tx, customers.digest(key, b"q" * 32)))


async def test_names_of_customers_are_unique(db: SqliteDatabase) -> None:
    await db.write(add)
    with pytest.raises(customers.NameTaken):
        await db.write(lambda tx: customers.create_customer(tx, customer_id="cus_2", name="one"))
