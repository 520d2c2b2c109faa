"""Budgets through the gateway: refusals, failed jobs, dead processes, alerts; credit lines."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.house import House
from safelight import budgets, ledger
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.errors import BudgetExceeded, FaultClass, InsufficientBalance, UpstreamError
from safelight.keyring import Keyring
from safelight.office import Office
from safelight.types import Identity, JobState, KeyBalance, Period

ALL = "gpt-image-2-all"
PRICE = 30_000


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path, clock=ManualClock()).open()
    yield made
    assert await made.db.read(budgets.verify) == []
    assert await made.audit() == []
    await made.close()


async def put(house: House, period: Period, limit_micros: int) -> None:
    def work(tx: Transaction) -> None:
        ledger.hold_still(tx, "cus_1")
        budgets.put(tx, key_id="key_1", period=period, limit_micros=limit_micros)

    await house.db.write(work)


async def money(house: House) -> KeyBalance:
    return await house.gateway.key_balance(Identity("cus_1", "key_1"))


async def used(house: House) -> dict[Period, int]:
    return {state.period: state.used_micros for state in (await money(house)).budgets}


async def test_an_order_above_the_budget_is_refused_and_writes_nothing(house: House) -> None:
    await put(house, "day", 2 * PRICE)
    await house.buy("first")
    before = await money(house)
    with pytest.raises(BudgetExceeded):
        await house.submit("three lamps", channel=ALL, n=3)
    assert await money(house) == before
    assert len(await house.db.read(lambda tx: tx.all("SELECT id FROM request"))) == 1
    assert len(await house.statement()) == 2
    await house.buy("second")
    assert await used(house) == {"day": 2 * PRICE}


async def test_a_retry_of_an_order_that_used_the_budget_up_joins_it(house: House) -> None:
    await put(house, "day", PRICE)
    order = await house.submit("a lamp", key="k")
    again = await house.submit("a lamp", key="k")
    assert (again.joined, again.request_id) == (True, order.request_id)
    await house.gateway.wait(order)


async def test_a_failed_job_gives_its_price_back_and_a_delivered_one_does_not(
    house: House,
) -> None:
    for period in ("day", "month", "total"):
        await put(house, period, 10 * PRICE)
    refused = UpstreamError(FaultClass.CLIENT, "moderation_blocked", "No.", final_status=400)
    house.upstream.steps = [refused]
    assert (await house.buy("bad"))[0].state is JobState.FAILED
    assert await used(house) == {"day": 0, "month": 0, "total": 0}
    assert (await house.buy("good"))[0].state is JobState.COMPLETED
    assert await used(house) == {"day": PRICE, "month": PRICE, "total": PRICE}


async def test_what_a_dead_process_held_comes_back_when_its_job_is_released(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    first = await House(tmp_path, clock=clock, owner="first").open()
    await put(first, "total", PRICE)
    first.upstream.gate.clear()
    order = await first.submit("a lamp")
    await first.kill()
    clock.advance(1000)
    second = await House(tmp_path, clock=clock, owner="second").open()
    (job,) = await second.gateway.wait(order)
    assert job.state is JobState.FAILED
    assert await used(second) == {"total": 0}
    assert (await second.buy("another"))[0].state is JobState.COMPLETED
    await second.close()


async def test_alerts_are_logged_once_and_shown_with_the_balance(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="safelight.gateway")
    await put(house, "month", 4 * PRICE)
    shown = []
    for number in range(4):
        await house.buy(f"lamp {number}")
        shown.append((await money(house)).budgets[0].alerted)
    assert shown == [0, 50, 50, 100]
    told = [
        (record.__dict__["key_id"], record.__dict__["customer_id"], record.__dict__["share"])
        for record in caplog.records
        if record.__dict__.get("period") == "month"
    ]
    assert told == [("key_1", "cus_1", 50), ("key_1", "cus_1", 100)]


async def test_a_credit_line_lets_a_customer_owe_so_much_and_no_more(tmp_path: Path) -> None:
    house = await House(tmp_path).open(credit=PRICE)
    await house.db.write(lambda tx: ledger.set_credit_line(tx, "cus_1", 2 * PRICE))
    for number in range(3):
        await house.buy(f"lamp {number}")
    with pytest.raises(InsufficientBalance):
        await house.submit("one more")
    balance = await house.balance()
    assert (balance.available_micros, balance.credit_line_micros) == (-2 * PRICE, 2 * PRICE)
    with pytest.raises(ledger.WouldOverdraw):
        await house.db.write(lambda tx: ledger.set_credit_line(tx, "cus_1", 2 * PRICE - 1))
    assert (await house.balance()).credit_line_micros == 2 * PRICE
    assert await house.audit() == []
    await house.close()


async def test_shares_of_a_credit_line_are_announced_once_until_it_is_paid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="safelight.gateway")
    house = await House(tmp_path).open(credit=PRICE)
    office = Office(house.db, Keyring.load_or_create(tmp_path / "office"))

    def told() -> list[int]:
        shares = [
            record.__dict__["share"]
            for record in caplog.records
            if record.getMessage() == "a customer's credit line has reached a share"
        ]
        caplog.clear()
        return shares

    await office.set_credit_line("one", 4 * PRICE)
    for number in range(3):
        await house.buy(f"lamp {number}")
    assert told() == [50]  # the first lamp was paid for, of the line two are owed
    house.upstream.gate.clear()
    order = await house.submit("a lamp that waits")  # what is held counts
    assert told() == []  # 75 %
    last = await house.submit("the last lamp")
    assert told() == [100]
    house.upstream.gate.set()
    await house.gateway.wait(order)
    await house.gateway.wait(last)
    await office.credit("one", 2 * PRICE, "paid")  # 50 % are owed still
    await house.buy("another lamp")
    assert told() == []  # 75 %, and 50 is known
    await house.buy("another lamp again")
    assert told() == [100]
    await office.set_credit_line("one", 10 * PRICE)
    await house.buy("with a longer line")
    assert told() == [50]
    await house.close()
