"""A data folder with attempts and what the pool wrote, made by the verbs that the gateway uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from fresh_books import sqlite_books
from safelight import attempts, customers, jobs, ledger
from safelight.clock import Clock
from safelight.db import Database, Transaction
from safelight.db.address import DATABASE_FILE
from safelight.db.postgres import PostgresDatabase
from safelight.types import (
    BlobRef,
    ImageRequest,
    Job,
    Operation,
    PlanMethod,
    Received,
    SizePlan,
    Usage,
)

T = TypeVar("T")
VIP = "gpt-image-2-vip"
PRICE = 30_000


class MovableClock(Clock, Protocol):
    """A clock that a test can move."""

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""


class AttemptBooks:
    """One customer's jobs, each with the attempts that a test gives it."""

    def __init__(self, folder: Path, clock: MovableClock, *, url: str = "") -> None:
        self.clock = clock
        self.db: Database = (
            PostgresDatabase(url, clock) if url else sqlite_books(folder / DATABASE_FILE, clock)
        )
        self._jobs = 0

    async def open(self) -> AttemptBooks:
        def begin(tx: Transaction) -> None:
            customers.create_customer(tx, customer_id="cus_1", name="one")
            ledger.open_balance(tx, "cus_1", floor_micros=-(10**12))
            key, _ = customers.new_key()
            customers.add_key(
                tx, key=key, key_id="key_1", customer_id="cus_1", name="one", pepper=b"pepper"
            )

        await self.db.write(begin)
        return self

    async def write(self, work: Callable[[Transaction], T]) -> T:
        return await self.db.write(work)

    async def job(self, channel: str = VIP, price_micros: int = PRICE) -> Job:
        """Order one picture."""
        self._jobs += 1
        name = str(self._jobs)
        order = ImageRequest(operation=Operation.GENERATION, channel=channel, prompt=name)
        values = {
            "id": f"job_{name}",
            "request": f"req_{name}",
            "reserve": f"tr_{name}",
            "channel": channel,
            "order": msgspec.json.encode(order).decode(),
            "plan": msgspec.json.encode(SizePlan(PlanMethod.AUTO)).decode(),
            "price": price_micros,
            "fingerprint": name.encode(),
        }

        def insert(tx: Transaction) -> Job:
            ledger.reserve(
                tx,
                transfer_id=f"tr_{name}",
                customer_id="cus_1",
                job_id=f"job_{name}",
                amount_micros=price_micros,
                actor="test",
            )
            tx.execute(
                "INSERT INTO request (id, customer_id, key_id, route, fingerprint, retry_count, "
                "attached_until, n, created_at) VALUES (:request, 'cus_1', 'key_1', '/v1', "
                ":fingerprint, 0, 0, 1, :now)",
                {**values, "now": tx.now_ms},
            )
            tx.execute(
                "INSERT INTO job (id, request_id, customer_id, key_id, n, channel, size, state, "
                "request, size_plan, price_micros, reserve_id, epoch, deadline_at, created_at) "
                "VALUES (:id, :request, 'cus_1', 'key_1', 0, :channel, 'auto', 'queued', :order, "
                ":plan, :price, :reserve, 1, 0, :now)",
                {**values, "now": tx.now_ms},
            )
            job = jobs.get_job(tx, f"job_{name}")
            assert job is not None
            return job

        return await self.write(insert)

    async def send(self, job: Job, account: str, *, k: int = 1, group: str = "org") -> None:
        mine = await self.write(
            lambda tx: attempts.begin(tx, job, k=k, account=account, group=group)
        )
        assert mine

    async def receive(
        self,
        job: Job,
        *,
        k: int = 1,
        cost_micros: int | None = None,
        usage: Usage | None = None,
    ) -> None:
        received = Received(path=Path("x"), digest="0" * 64, bytes=9, usage=usage)
        await self.write(
            lambda tx: attempts.receive(tx, job.id, job.epoch, k, received, cost_micros=cost_micros)
        )

    async def end(self, job: Job, outcome: str, *, k: int = 1, sold: bool | None = False) -> None:
        await self.write(
            lambda tx: attempts.end(
                tx,
                job.id,
                job.epoch,
                k,
                outcome=outcome,
                code=None,
                sold=sold,
                upstream_request_id=None,
            )
        )

    async def settle(self, job: Job, *, k: int = 1) -> None:
        def settle(tx: Transaction) -> None:
            blob = BlobRef("0" * 64, 9, "png", 16, 16)
            assert jobs.complete(
                tx, job, epoch=job.epoch, k=k, image_id=job.id, blob=blob, link_ttl_s=60
            )
            ledger.settle(
                tx,
                transfer_id=f"{job.reserve_id}_settle",
                reserve_id=job.reserve_id,
                actor="test",
                reason="image delivered",
            )

        await self.write(settle)

    async def deliver(
        self,
        account: str,
        *,
        channel: str = VIP,
        price_micros: int = PRICE,
        cost_micros: int | None = None,
        took_s: float = 1.0,
        group: str = "org",
    ) -> None:
        """Order, buy and settle one picture."""
        job = await self.job(channel, price_micros)
        await self.send(job, account, group=group)
        self.clock.advance(took_s)
        await self.receive(job, cost_micros=cost_micros)
        await self.settle(job)

    async def say(
        self,
        account: str,
        state: str,
        *,
        owner: str = "p1",
        until: int | None = None,
        in_flight: int = 0,
        reason: str = "",
    ) -> None:
        """Write what a process says of an account."""
        values = {
            "account": account,
            "owner": owner,
            "state": state,
            "reason": reason,
            "until": until,
            "in_flight": in_flight,
        }
        await self.write(
            lambda tx: tx.execute(
                "INSERT INTO account_state "
                "(account, owner, state, reason, until, in_flight, updated_at) VALUES "
                "(:account, :owner, :state, :reason, :until, :in_flight, :now)",
                {**values, "now": tx.now_ms},
            )
        )

    async def limit(
        self,
        group: str,
        images_per_minute: float,
        *,
        learnt: bool = True,
        configured: float | None = None,
        cooling_until: int = 0,
        exhausted_until: int = 0,
    ) -> None:
        """Write what was learnt of a group."""
        values = {
            "name": group,
            "ipm": images_per_minute,
            "learnt": int(learnt),
            "configured": configured,
            "cooling": cooling_until,
            "exhausted": exhausted_until,
        }
        await self.write(
            lambda tx: tx.execute(
                "INSERT INTO limiter (name, images_per_minute, learnt, configured, cooling_until, "
                "exhausted_until, changed_at) VALUES "
                "(:name, :ipm, :learnt, :configured, :cooling, :exhausted, 0)",
                values,
            )
        )
