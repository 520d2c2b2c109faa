"""A key that spends: orders and their ends on a bare database, as the gateway does them."""

from __future__ import annotations

import itertools

from safelight import budgets, customers, jobs, ledger
from safelight.db import Database, Transaction
from safelight.gateway import ending
from safelight.gateway.failures import internal
from safelight.sizes import plan_size
from safelight.types import BudgetState, ImageRequest, LimitChange, Operation, Period

CUSTOMER, KEY = "cus_1", "key_1"
DEBT_MAX = 10**12


class Spender:
    """One customer with an endless credit line and one key."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._numbers = itertools.count(1)

    async def open(self, limits: LimitChange | None = None) -> Spender:
        def begin(tx: Transaction) -> None:
            customers.create_customer(tx, customer_id=CUSTOMER, name="one")
            ledger.open_balance(tx, CUSTOMER, floor_micros=-DEBT_MAX)
            customers.add_key(
                tx, key="k", key_id=KEY, customer_id=CUSTOMER, name="one", pepper=b"pepper"
            )
            if limits is not None:
                customers.change_limits(tx, KEY, limits)

        await self.db.write(begin)
        return self

    async def put(self, period: Period, limit_micros: int | None) -> None:
        def work(tx: Transaction) -> None:
            ledger.hold_still(tx, CUSTOMER)
            if limit_micros is None:
                budgets.remove(tx, key_id=KEY, period=period)
            else:
                budgets.put(tx, key_id=KEY, period=period, limit_micros=limit_micros)

        await self.db.write(work)

    async def order(self, price_micros: int, n: int = 1) -> tuple[list[str], budgets.Taken]:
        """Hold the price of `n` pictures and insert their jobs."""
        number = next(self._numbers)
        ids = [f"job_{number}_{at}" for at in range(n)]

        def work(tx: Transaction) -> budgets.Taken:
            row = _request(f"req_{number}", n, tx.now_ms)
            jobs.insert_request(tx, row)
            for job_id in ids:
                ledger.reserve(
                    tx,
                    transfer_id=f"hold_{job_id}",
                    customer_id=CUSTOMER,
                    job_id=job_id,
                    amount_micros=price_micros,
                    actor="test",
                )
            taken = budgets.take(tx, KEY, price_micros * n)
            for at, job_id in enumerate(ids):
                _insert_job(tx, row, job_id, at, price_micros, taken.day)
            return taken

        return ids, await self.db.write(work)

    async def fail(self, job_id: str) -> None:
        """End a job without a picture, as the gateway does."""

        def work(tx: Transaction) -> None:
            job = jobs.get_job(tx, job_id)
            assert job is not None
            assert ending.release(tx, job, internal(), transfer_id=f"free_{job_id}")

        await self.db.write(work)

    async def complete(self, job_id: str) -> None:
        """End a job with its picture, as far as money is concerned."""

        def work(tx: Transaction) -> None:
            tx.execute("UPDATE job SET state = 'completed' WHERE id = :id", {"id": job_id})
            ledger.settle(
                tx,
                transfer_id=f"paid_{job_id}",
                reserve_id=f"hold_{job_id}",
                actor="test",
                reason="delivered",
            )

        await self.db.write(work)

    async def states(self) -> dict[Period, BudgetState]:
        found = await self.db.read(lambda tx: budgets.states(tx, KEY))
        return {state.period: state for state in found}

    async def used(self) -> dict[Period, int]:
        return {period: state.used_micros for period, state in (await self.states()).items()}

    async def faults(self) -> list[str]:
        return await self.db.read(budgets.verify)


def _request(request_id: str, n: int, now_ms: int) -> jobs.RequestRow:
    return jobs.RequestRow(
        id=request_id,
        customer_id=CUSTOMER,
        key_id=KEY,
        route="/v1/images/generations",
        fingerprint=b"f",
        idempotency_key=None,
        retry_of=None,
        retry_count=0,
        attached_by=None,
        attached_until=0,
        n=n,
        created_at=now_ms,
        delivered_at=None,
    )


def _insert_job(
    tx: Transaction, row: jobs.RequestRow, job_id: str, n: int, price_micros: int, day: str
) -> None:
    jobs.insert_job(
        tx,
        job_id=job_id,
        request=row,
        n=n,
        order=ImageRequest(
            operation=Operation.GENERATION, channel="c", prompt="a lamp", size="1024x1024"
        ),
        size_plan=plan_size(1024, 1024),
        price_micros=price_micros,
        reserve_id=f"hold_{job_id}",
        lease_owner="test",
        deadline_at=tx.now_ms + 300_000,
        budget_day=day,
    )
