"""A start that finds ten thousand jobs is ready after one page, and takes the rest as jobs end."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.house import VIP, House, account
from safelight import customers, jobs, ledger, owners
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.gateway import joining
from safelight.gateway.recovery import PAGE, WINDOW
from safelight.types import ImageRequest, JobState, Operation

pytestmark = pytest.mark.parametrize("books", ["sqlite"], indirect=True)
"""One file is copied for each test; the SQL of a takeover is tried on both in test_replicas."""

MANY, FEW = 9_990, 10
PRICE = 30_000


def queue_up(house: House, tx: Transaction, customer: str, count: int) -> None:
    """Write what a process had accepted before it was killed."""
    key_id = f"key_of_{customer}"
    customers.create_customer(tx, customer_id=customer, name=customer)
    ledger.open_balance(tx, customer)
    key, _ = customers.new_key()
    customers.add_key(tx, key=key, key_id=key_id, customer_id=customer, name="k", pepper=b"p")
    ledger.topup(
        tx,
        transfer_id=f"tr_{customer}",
        customer_id=customer,
        amount_micros=count * PRICE,
        actor="test",
        reason="credit",
    )
    order = ImageRequest(
        operation=Operation.GENERATION, prompt="a lamp", channel=VIP, size="1024x1024"
    )
    quote = house.gateway.quote(order)
    digest = joining.fingerprint(order, "/v1/images/generations")
    for number in range(count):
        name = f"{customer}_{number:05}"
        row = jobs.RequestRow(
            id=f"req_{name}",
            customer_id=customer,
            key_id=key_id,
            route="/v1/images/generations",
            fingerprint=digest,
            idempotency_key=None,
            retry_of=None,
            retry_count=0,
            attached_by="killed",
            attached_until=tx.now_ms,
            n=1,
            created_at=tx.now_ms,
            delivered_at=None,
        )
        jobs.insert_request(tx, row)
        ledger.reserve(
            tx,
            transfer_id=f"tr_{name}",
            customer_id=customer,
            job_id=f"job_{name}",
            amount_micros=PRICE,
            actor="test",
        )
        jobs.insert_job(
            tx,
            job_id=f"job_{name}",
            request=row,
            n=0,
            order=order,
            size_plan=quote.size_plan,
            price_micros=PRICE,
            reserve_id=f"tr_{name}",
            lease_owner="killed",
            deadline_at=tx.now_ms + 86_400_000,
            budget_day="",
        )


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a process that was killed with ten thousand jobs queued."""
    folder = tmp_path_factory.mktemp("killed")

    async def fill() -> None:
        house = House(folder, clock=ManualClock(), owner="killed")
        # The one with many came first, and all of its jobs are older.
        await house.db.write(lambda tx: queue_up(house, tx, "many", MANY))
        await house.db.write(lambda tx: queue_up(house, tx, "few", FEW))
        await house.kill()

    asyncio.run(fill())
    return folder


@pytest.fixture
async def restarted(tmp_path: Path, left: Path) -> AsyncIterator[House]:
    """A process started on that folder; its upstream is held."""
    shutil.copytree(left, tmp_path / "data")
    house = House(
        tmp_path / "data",
        clock=ManualClock(),
        accounts=(account("a", max_in_flight=20),),
        owner="new",
    )
    house.upstream.gate.clear()
    await house.open()
    yield house
    await house.close(0)


async def open_by_owner(house: House) -> dict[str, int]:
    found: dict[str, int] = {}
    for job in await house.db.read(owners.open_jobs):
        found[job.owner] = found.get(job.owner, 0) + 1
    return found


async def test_a_start_is_ready_after_one_page_of_ten_thousand_jobs(restarted: House) -> None:
    assert restarted.gateway.accepting
    assert restarted.gateway.running == PAGE
    assert await open_by_owner(restarted) == {"killed": MANY + FEW - PAGE, "new": PAGE}
    assert len(restarted.upstream.calls) <= 20


async def test_the_rest_is_taken_as_jobs_end_never_more_than_a_window_at_once(
    restarted: House,
) -> None:
    looking = asyncio.create_task(restarted.look())
    while restarted.gateway.running < WINDOW:
        await restarted.db.read(lambda tx: tx.now_ms)
    for _ in range(20):
        await restarted.db.read(lambda tx: tx.now_ms)
    assert restarted.gateway.running == WINDOW
    assert await open_by_owner(restarted) == {"killed": MANY + FEW - WINDOW, "new": WINDOW}
    # No burst: as many calls as the account may have, whatever waits.
    assert len(restarted.upstream.calls) <= 20
    restarted.upstream.gate.set()
    rest = MANY + FEW - WINDOW
    while (await open_by_owner(restarted))["killed"] == rest:
        assert restarted.gateway.running <= WINDOW
    assert (await open_by_owner(restarted))["killed"] == rest - PAGE
    restarted.upstream.gate.clear()
    looking.cancel()


async def test_nobodys_thousands_hold_up_anothers_few(restarted: House) -> None:
    names = [name for name in restarted.gateway.running_ids if "few" in name]
    assert len(names) == FEW
    restarted.upstream.gate.set()
    while restarted.gateway.running_ids & set(names):
        await restarted.db.read(lambda tx: tx.now_ms)
    for name in names:
        job = await restarted.gateway.job("few", name)
        assert job.state is JobState.COMPLETED
