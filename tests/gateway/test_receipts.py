"""Receipts made by a whole gateway: what they say is what happened, and they are quick to read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway.house import PEPPER, VIP, House, account
from safelight import ledger
from safelight.db import Transaction
from safelight.errors import FaultClass, NotFound, UpstreamError
from safelight.gateway.receipts import Receipt, account_alias, read_receipt
from safelight.types import Job


def fault(kind: FaultClass, *, sold: bool | None = False) -> UpstreamError:
    return UpstreamError(
        kind, "upstream_error", "It failed.", sold=sold, upstream_request_id=f"req_{kind}"
    )


async def receipt_of(house: House, job: Job) -> Receipt:
    return await house.gateway.receipt("cus_1", job.id)


async def test_a_receipt_tells_every_attempt_of_a_delivered_picture(tmp_path: Path) -> None:
    """One unanswered call, one wrong size, one good one: charged once, and the rest is there."""
    pool = tuple(account(name, group="org", image_cost_micros=9_000) for name in "abc")
    house = await House(tmp_path, accounts=pool).open()
    house.upstream.steps = [fault(FaultClass.SLOW, sold=None), "64x64", None]
    (job,) = await house.buy()
    found = await receipt_of(house, job)
    assert [one.outcome for one in found.attempts] == ["slow", "bad_output", "ok"]
    assert [one.sold for one in found.attempts] == [None, True, True]
    assert [one.settled for one in found.attempts] == [False, False, True]
    assert [one.upstream_request_id for one in found.attempts] == ["req_slow", "req_2", "req_3"]
    assert (found.charged_micros, found.free_reason) == (30_000, None)
    cost = found.cost
    assert (cost.micros, cost.complete, cost.sold, cost.unknown) == (18_000, False, 2, 1)
    assert found.margin_micros == 12_000
    assert [one.kind for one in found.movements] == ["reserve", "settle"]
    assert sum(one.held_micros for one in found.movements) == 0
    assert found.movements[-1].balance_micros == (await house.balance()).posted_micros
    await house.close()


async def test_a_free_job_says_why_and_what_it_cost_the_operator(tmp_path: Path) -> None:
    house = await House(tmp_path).open()
    house.upstream.steps = [fault(FaultClass.CLIENT)]
    (job,) = await house.buy()
    found = await receipt_of(house, job)
    assert (found.charged_micros, found.free_reason) == (0, "upstream_error")
    assert [one.kind for one in found.movements] == ["reserve", "release"]
    assert found.cost.sold == 0
    assert not found.attempts[0].settled
    await house.close()


async def test_a_refund_makes_a_delivered_picture_free(tmp_path: Path) -> None:
    house = await House(tmp_path).open()
    (job,) = await house.buy()
    settle = (await receipt_of(house, job)).movements[1]

    def give_back(tx: Transaction) -> None:
        ledger.refund(
            tx, transfer_id="tr_back", settle_id=settle.id, actor="operator", reason="blurred"
        )

    await house.db.write(give_back)
    found = await receipt_of(house, job)
    assert [one.kind for one in found.movements] == ["reserve", "settle", "refund"]
    assert (found.charged_micros, found.free_reason) == (0, "blurred")
    await house.close()


async def test_a_running_job_has_a_receipt_too(tmp_path: Path) -> None:
    """Held, not charged; its call runs, and nobody can say yet whether it is sold."""
    house = await House(tmp_path).open()
    house.upstream.gate.clear()
    order = await house.submit()
    await house.upstream.called.wait()
    found = await receipt_of(house, order.jobs[0])
    assert [one.kind for one in found.movements] == ["reserve"]
    assert (found.charged_micros, found.free_reason) == (0, None)
    assert [(one.outcome, one.sold, one.seconds) for one in found.attempts] == [(None, None, None)]
    house.upstream.gate.set()
    await house.gateway.wait(order)
    await house.close()


@pytest.mark.parametrize("job_id", ["job_none", "", "job_\x1f", "' OR 1=1 --", "x" * 9999])
async def test_what_is_no_job_of_the_customer_has_no_receipt(house: House, job_id: str) -> None:
    with pytest.raises(NotFound):
        await house.gateway.receipt("cus_1", job_id)


async def test_another_customer_gets_no_receipt(house: House) -> None:
    (job,) = await house.buy()
    with pytest.raises(NotFound):
        await house.gateway.receipt("cus_2", job.id)


async def test_the_alias_is_one_for_each_customer_and_account() -> None:
    """Stable, and of no use to somebody who tries likely names without the secret."""
    mine = account_alias(PEPPER, "cus_1", "openai-main")
    assert mine == account_alias(PEPPER, "cus_1", "openai-main")
    others = [
        account_alias(PEPPER, "cus_2", "openai-main"),
        account_alias(PEPPER, "cus_1", "openai-spare"),
        account_alias(b"other", "cus_1", "openai-main"),
    ]
    assert mine not in others
    assert mine.startswith("account-")
    assert "openai" not in mine


class Watched:
    """A transaction that notes how each of its reads would be done."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.row_factory = sqlite3.Row
        self.now_ms = 0
        self.plans: list[str] = []

    def all(self, sql: str, params: dict[str, object] | None = None) -> list[sqlite3.Row]:
        plan = self.connection.execute(f"EXPLAIN QUERY PLAN {sql}", params or {}).fetchall()
        self.plans += [row["detail"] for row in plan]
        return self.connection.execute(sql, params or {}).fetchall()

    def one(self, sql: str, params: dict[str, object] | None = None) -> sqlite3.Row | None:
        rows = self.all(sql, params)
        return rows[0] if rows else None

    def execute(self, _sql: str, _params: object = None) -> int:
        raise AssertionError("a receipt only reads")

    def lock(self, _name: str) -> None:
        raise AssertionError("a receipt only reads")


async def test_a_receipt_is_read_by_indexes_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    """However many jobs there are: no table is walked through."""
    folder = tmp_path_factory.mktemp("house")
    house = await House(folder).open()
    (job,) = await house.buy(channel=VIP)
    await house.close()
    watched = Watched(folder / "t.db")
    found = read_receipt(watched, job.id, pepper=PEPPER)  # type: ignore[arg-type]
    assert found is not None
    assert found.charged_micros == 30_000
    assert watched.plans
    assert [plan for plan in watched.plans if plan.startswith("SCAN")] == []
    watched.connection.close()
