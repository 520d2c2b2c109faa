"""Guards that stand in a WHERE or an index hold against whoever read before, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from safelight import customers, jobs, ledger
from safelight.db import Database, Transaction, UniqueViolation

T = TypeVar("T")
CUSTOMER = "cus_1"


def request(name: str, *, idempotency_key: str | None = None) -> jobs.RequestRow:
    return jobs.RequestRow(
        id=name,
        customer_id=CUSTOMER,
        key_id="key_1",
        route="/v1/images/generations",
        fingerprint=b"f" * 32,
        idempotency_key=idempotency_key,
        retry_of=None,
        retry_count=0,
        attached_by=None,
        attached_until=0,
        n=1,
        created_at=0,
        delivered_at=None,
    )


def a_customer(tx: Transaction) -> None:
    customers.create_customer(tx, customer_id=CUSTOMER, name="one")
    tx.execute(
        "INSERT INTO api_key (id, customer_id, name, digest, last4, created_at) "
        "VALUES ('key_1', :customer, 'k', :digest, 'abcd', 0)",
        {"customer": CUSTOMER, "digest": b"d" * 32},
    )
    ledger.open_balance(tx, CUSTOMER)
    ledger.topup(
        tx,
        transfer_id="tr_0",
        customer_id=CUSTOMER,
        amount_micros=100_000,
        actor="test",
        reason="paid",
    )


def claiming(seen: jobs.RequestRow, *, owner: str) -> Callable[[Transaction], bool]:
    return lambda tx: jobs.claim_request(tx, seen, owner=owner, retry_count=1, until=1)


async def test_of_many_who_read_a_request_one_claims_it(any_db: Database) -> None:
    """Whoever claims it raises its retry count, which the others have read before."""
    seen = request("req_1")
    await any_db.write(a_customer)
    await any_db.write(lambda tx: jobs.insert_request(tx, seen))
    claimed = await asyncio.gather(
        *(any_db.write(claiming(seen, owner=f"process {number}")) for number in range(20))
    )
    assert claimed.count(True) == 1


async def test_a_delivered_request_is_not_claimed(any_db: Database) -> None:
    seen = request("req_1")
    await any_db.write(a_customer)
    await any_db.write(lambda tx: jobs.insert_request(tx, seen))
    await any_db.write(lambda tx: jobs.deliver_request(tx, seen.id, retry_count=0))
    assert not await any_db.write(claiming(seen, owner="process"))


async def test_of_many_who_insert_one_idempotency_key_one_does(any_db: Database) -> None:
    await any_db.write(a_customer)

    def insert(number: int) -> Callable[[Transaction], None]:
        row = request(f"req_{number}", idempotency_key="the key")
        return lambda tx: jobs.insert_request(tx, row)

    ends = await asyncio.gather(
        *(any_db.write(insert(number)) for number in range(20)), return_exceptions=True
    )
    assert ends.count(None) == 1
    assert [type(end) for end in ends if end is not None] == [UniqueViolation] * 19


async def test_a_job_holds_its_price_once(any_db: Database) -> None:
    await any_db.write(a_customer)

    def reserve(number: int) -> Callable[[Transaction], None]:
        return lambda tx: ledger.reserve(
            tx,
            transfer_id=f"tr_{number}",
            customer_id=CUSTOMER,
            job_id="job_1",
            amount_micros=30_000,
            actor="test",
        )

    await any_db.write(reserve(1))
    with pytest.raises(UniqueViolation):
        await any_db.write(reserve(2))
    assert (await any_db.read(lambda tx: ledger.balance(tx, CUSTOMER))).held_micros == 30_000


async def test_of_many_who_resolve_one_reserve_one_does(any_db: Database) -> None:
    """Another hold is open, so that the sum of holds alone would stop nobody."""
    await any_db.write(a_customer)
    for number in (1, 2):
        await any_db.write(
            lambda tx, number=number: ledger.reserve(  # type: ignore[misc]
                tx,
                transfer_id=f"tr_{number}",
                customer_id=CUSTOMER,
                job_id=f"job_{number}",
                amount_micros=30_000,
                actor="test",
            )
        )

    def resolve(number: int) -> Callable[[Transaction], None]:
        verb = ledger.settle if number % 2 else ledger.release
        name = f"tr_end_{number}"
        return lambda tx: verb(
            tx, transfer_id=name, reserve_id="tr_1", actor="test", reason="an end"
        )

    ends = await asyncio.gather(
        *(any_db.write(resolve(number)) for number in range(20)), return_exceptions=True
    )
    assert ends.count(None) == 1
    assert [type(end) for end in ends if end is not None] == [ledger.AlreadyResolved] * 19
    found = await any_db.read(lambda tx: ledger.balance(tx, CUSTOMER))
    assert found.held_micros == 30_000
    assert found.posted_micros in (70_000, 100_000)
