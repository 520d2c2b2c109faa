"""Sessions and admin keys in the database, on SQLite and Postgres alike."""

from __future__ import annotations

import asyncio

from safelight import admin_keys, browser_sessions, customers, ledger
from safelight.admin_keys import AdminKey, Role
from safelight.browser_sessions import Session
from safelight.db import Database, Transaction
from safelight.errors import Conflict
from safelight.office_customers import OfficeCustomers

PEPPER = b"pepper"


async def customer_session(any_db: Database, secret: str) -> str:
    """Make a customer with a key and a session; return the key's id."""
    key, key_id = customers.new_key()

    def work(tx: Transaction) -> None:
        customers.create_customer(tx, customer_id="cus_1", name="team")
        ledger.open_balance(tx, "cus_1")
        customers.add_key(
            tx, key=key, key_id=key_id, customer_id="cus_1", name="team", pepper=PEPPER
        )
        begin(tx, "ses_1", secret, api_key_id=key_id)

    await any_db.write(work)
    return key_id


def begin(
    tx: Transaction,
    session_id: str,
    secret: str,
    *,
    api_key_id: str | None = None,
    admin_key_id: str | None = None,
) -> None:
    browser_sessions.begin(
        tx,
        session_id=session_id,
        stored=browser_sessions.digest(secret, PEPPER),
        api_key_id=api_key_id,
        admin_key_id=admin_key_id,
        address="192.0.2.1",
        agent="Lynx",
    )


async def find(any_db: Database, secret: str) -> Session | None:
    stored = browser_sessions.digest(secret, PEPPER)
    return await any_db.read(lambda tx: browser_sessions.find(tx, stored))


async def test_a_session_is_found_until_its_customer_is_frozen_or_its_key_revoked(
    any_db: Database,
) -> None:
    key_id = await customer_session(any_db, "a")
    found = await find(any_db, "a")
    assert found is not None
    assert (found.customer_id, found.name, found.role) == ("cus_1", "team", None)
    assert await find(any_db, "b") is None
    await any_db.write(lambda tx: ledger.freeze(tx, "cus_1", "looked into"))
    assert await find(any_db, "a") is None
    await any_db.write(lambda tx: ledger.unfreeze(tx, "cus_1"))
    assert await find(any_db, "a") is not None
    await any_db.write(lambda tx: customers.revoke_key(tx, key_id))
    assert await find(any_db, "a") is None
    assert await any_db.read(browser_sessions.open_sessions) == []


async def test_a_key_has_a_hundred_sessions_and_the_newest_stay(any_db: Database) -> None:
    """Those of other keys are not counted."""
    office = OfficeCustomers(any_db, PEPPER)
    _, ada = await office.create_admin_key("Ada", Role.OWNER)
    _, bob = await office.create_admin_key("Bob", Role.VIEWER)
    await any_db.write(lambda tx: begin(tx, "ses_bob", "bob", admin_key_id=bob.id))

    def many(tx: Transaction) -> None:
        for number in range(browser_sessions.OF_A_KEY + 5):
            begin(tx, f"ses_{number:03d}", f"{number:03d}", admin_key_id=ada.id)

    await any_db.write(many)
    left = {one.id for one in await any_db.read(browser_sessions.open_sessions)}
    assert left == {"ses_bob", *(f"ses_{n:03d}" for n in range(5, browser_sessions.OF_A_KEY + 5))}


async def test_two_owners_who_revoke_each_other_do_not_both_succeed(any_db: Database) -> None:
    office = OfficeCustomers(any_db, PEPPER)
    made = [await office.create_admin_key(name, Role.OWNER) for name in ("Ada", "Eve")]

    async def revoke(key: AdminKey) -> bool:
        try:
            return await office.revoke_admin_key(key.id, keep_owner=True) is not None
        except Conflict:
            return False

    done = await asyncio.gather(*(revoke(key) for _, key in made))
    assert sorted(done) == [False, True]
    keys = await any_db.read(admin_keys.all_keys)
    assert sum(key.revoked_at is None for key in keys) == 1
