"""Books with everything in them: two customers, each with every kind of job and of transfer.

Made by the noun modules' own verbs in the gateway's own order, on any database, with real blobs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from safelight import attempts, budgets, customers, jobs, ledger, lifetimes
from safelight.db import Database, Transaction
from safelight.gateway import ending
from safelight.storage import BlobStore
from safelight.types import (
    BlobRef,
    ImageRequest,
    Job,
    JobFailure,
    Operation,
    PlanMethod,
    Received,
    SizePlan,
)

PRICE = 30_000
PLAN = SizePlan(
    width=1024,
    height=1024,
    method=PlanMethod.NATIVE,
    canvas_width=1024,
    canvas_height=1024,
)
ORDER = ImageRequest(
    operation=Operation.GENERATION, channel="gpt-image-2-vip", prompt="a lamp", size="1024x1024"
)
FAILURE = JobFailure(
    status=503, type="server_error", code="upstream_stalled", message="It stalled."
)


class MixedBooks:
    """Writes one customer after another; ids tell what they are: `acme-done-0`, `tr-acme-...`."""

    def __init__(self, db: Database, store: BlobStore, folder: Path) -> None:
        self._db = db
        self._store = store
        self._folder = folder

    async def customer(self, name: str) -> None:
        """Make a customer with every kind of job and transfer."""
        await self._db.write(lambda tx: _begin(tx, name))
        for number in range(3):  # one request, n=3
            await self._complete(name, f"done-{number}", original=number == 2)
        await self._complete(name, "refunded")
        await self._complete(name, "late", before=("slow", True), lost=True)
        await self._db.write(lambda tx: _fail(tx, name, "failed"))
        await self._db.write(lambda tx: _fail(tx, name, "unsent", sent=False))
        await self._db.write(lambda tx: _cancel(tx, name, "cancelled"))
        await self._db.write(lambda tx: _open(tx, name, "queued", sent=False))
        await self._db.write(lambda tx: _open(tx, name, "running", sent=True))
        await self._db.write(lambda tx: _correct(tx, name))

    async def _complete(
        self,
        name: str,
        what: str,
        *,
        before: tuple[str, bool] | None = None,
        lost: bool = False,
        original: bool = False,
    ) -> None:
        job = await self._db.write(lambda tx: accept(tx, name, what))
        path, blob = await self._stored("picture", f"{name}-{what}")
        _, kept = await self._stored("original", f"{name}-{what}") if original else (path, None)

        def work(tx: Transaction) -> None:
            k = 1
            if before is not None:
                _attempt(tx, job, k, *before)
                k += 1
            _send(tx, job, k)
            if lost:
                attempts.lose(tx, job.id)  # a late picture of a process that was thought dead
            received = Received(path=path, digest=blob.digest, bytes=blob.bytes)
            attempts.receive(tx, job.id, job.epoch, k, received)
            image_id = hashlib.md5(job.id.encode(), usedforsecurity=False).hexdigest()
            assert jobs.complete(
                tx, job, epoch=job.epoch, k=k, image_id=image_id, blob=blob, link_ttl_s=60
            )
            if kept is not None:
                lifetimes.keep_original(tx, image_id, kept)
            ledger.settle(
                tx,
                transfer_id=f"settle-{job.id}",
                reserve_id=job.reserve_id,
                actor="gateway",
                reason="image delivered",
            )

        await self._db.write(work)

    async def _stored(self, kind: str, of: str) -> tuple[Path, BlobRef]:
        """Store something that stands for a file of that kind, and return where it was made."""
        path = self._folder / f"{kind}-{of}"
        path.write_bytes(f"the {kind} of {of}".encode() * 50)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        await self._store.put(path, digest)
        return path, BlobRef(digest, path.stat().st_size, "png", 1024, 1024)


def accept(tx: Transaction, name: str, what: str) -> Job:
    """Accept one job as the gateway does: hold, budget, request, job."""
    job_id, reserve_id = f"{name}-{what}", f"hold-{name}-{what}"
    request = jobs.RequestRow(
        id=f"req-{name}-{what}",
        customer_id=f"cus-{name}",
        key_id=f"key-{name}",
        route="/v1/images/generations",
        fingerprint=hashlib.sha256(job_id.encode()).digest(),
        idempotency_key=None,
        retry_of=None,
        retry_count=0,
        attached_by=None,
        attached_until=0,
        n=1,
        created_at=tx.now_ms,
        delivered_at=None,
    )
    jobs.insert_request(tx, request)
    ledger.reserve(
        tx,
        transfer_id=reserve_id,
        customer_id=request.customer_id,
        job_id=job_id,
        amount_micros=PRICE,
        actor=f"key:{request.key_id}",
    )
    taken = budgets.take(tx, request.key_id, PRICE)
    jobs.insert_job(
        tx,
        job_id=job_id,
        request=request,
        n=0,
        order=ORDER,
        size_plan=PLAN,
        price_micros=PRICE,
        reserve_id=reserve_id,
        lease_owner="process",
        deadline_at=tx.now_ms + 300_000,
        budget_day=taken.day,
    )
    job = jobs.get_job(tx, job_id)
    assert job is not None
    return job


def _begin(tx: Transaction, name: str) -> None:
    customer_id, key_id = f"cus-{name}", f"key-{name}"
    customers.create_customer(tx, customer_id=customer_id, name=name)
    ledger.open_balance(tx, customer_id, floor_micros=-50_000)
    customers.add_key(
        tx, key=f"sl_live_{name}", key_id=key_id, customer_id=customer_id, name=name, pepper=b"p"
    )
    for period in ("day", "total"):
        budgets.put(tx, key_id=key_id, period=period, limit_micros=10_000_000)
    for number, amount in enumerate((200_000, 100_000)):
        ledger.topup(
            tx,
            transfer_id=f"topup-{name}-{number}",
            customer_id=customer_id,
            amount_micros=amount,
            actor="operator",
            reason="paid",
        )


def _send(tx: Transaction, job: Job, k: int) -> None:
    assert attempts.begin(tx, job, k=k, account="a", group="g")


def _attempt(tx: Transaction, job: Job, k: int, outcome: str, sold: bool | None) -> None:
    _send(tx, job, k)
    attempts.end(
        tx, job.id, job.epoch, k, outcome=outcome, code=None, sold=sold, upstream_request_id=None
    )


def _fail(tx: Transaction, name: str, what: str, *, sent: bool = True) -> None:
    job = accept(tx, name, what)
    if sent:
        _attempt(tx, job, 1, "fast", sold=False)
        _send(tx, job, 2)  # still out when the job ends: nobody knows whether it was sold
    assert ending.release(tx, job, FAILURE, transfer_id=f"release-{job.id}")


def _cancel(tx: Transaction, name: str, what: str) -> None:
    _fail(tx, name, what, sent=False)
    tx.execute("UPDATE job SET state = 'cancelled' WHERE id = :id", {"id": f"{name}-{what}"})


def _open(tx: Transaction, name: str, what: str, *, sent: bool) -> None:
    job = accept(tx, name, what)
    if sent:
        _attempt(tx, job, 1, "slow", sold=None)
        _send(tx, job, 2)


def _correct(tx: Transaction, name: str) -> None:
    customer_id = f"cus-{name}"
    ledger.refund(
        tx,
        transfer_id=f"refund-{name}",
        settle_id=f"settle-{name}-refunded",
        actor="operator",
        reason="sorry",
    )
    for number, amount in enumerate((25_000, -10_000)):
        ledger.adjust(
            tx,
            transfer_id=f"adjust-{name}-{number}",
            customer_id=customer_id,
            amount_micros=amount,
            actor="operator",
            reason="correction",
        )
