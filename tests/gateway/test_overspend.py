"""Overspend: money for ten pictures, two hundred parallel buyers, and exactly ten are sold."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from gateway.house import House
from gateway.shop import open_houses
from safelight import budgets, ledger
from safelight.db import Transaction
from safelight.errors import BudgetExceeded, InsufficientBalance
from safelight.gateway.orders import Order
from safelight.types import JobState, Period

PRICE, BUYERS, PLACES = 30_000, 200, 10
RICH = 10**9

campaign = pytest.mark.campaign
played = pytest.mark.parametrize(
    ("processes", "rounds"),
    [(1, 1), (2, 5), pytest.param(1, 50, marks=campaign), pytest.param(2, 50, marks=campaign)],
)


async def buy_in_parallel(houses: list[House], number: int) -> Counter[str]:
    """Send all buyers at once, in turn to each process; return what they met, by its name."""
    met = await asyncio.gather(
        *(
            houses[buyer % len(houses)].submit(f"round {number}, buyer {buyer}")
            for buyer in range(BUYERS)
        ),
        return_exceptions=True,
    )
    counts: Counter[str] = Counter()
    for buyer, result in enumerate(met):
        if isinstance(result, Order):
            (job,) = await houses[buyer % len(houses)].gateway.wait(result)
            assert job.state is JobState.COMPLETED
        counts[type(result).__name__] += 1
    return counts


async def count_reserves(house: House) -> int:
    rows = await house.db.read(lambda tx: tx.all("SELECT id FROM transfer WHERE kind = 'reserve'"))
    return len(rows)


@played
async def test_money_for_ten_buys_ten(
    database_url: str, tmp_path: Path, processes: int, rounds: int
) -> None:
    """Each round tops up ten prices; whatever the buyers do, the balance ends at nothing."""

    def top_up(tx: Transaction) -> None:
        ledger.topup(
            tx,
            transfer_id=f"tr_round_{number}",
            customer_id="cus_1",
            amount_micros=PLACES * PRICE,
            actor="test",
            reason="ten pictures",
        )

    async with open_houses(database_url, tmp_path, processes, credit=0) as houses:
        for number in range(rounds):
            await houses[0].db.write(top_up)
            counts = await buy_in_parallel(houses, number)
            assert counts == {"Order": PLACES, InsufficientBalance.__name__: BUYERS - PLACES}
            balance = await houses[0].balance()
            assert (balance.posted_micros, balance.held_micros) == (0, 0)
        await conclude(houses, "money", rounds, database_url)


@played
async def test_a_budget_for_ten_buys_ten(
    database_url: str, tmp_path: Path, processes: int, rounds: int
) -> None:
    """The customer is rich, the key has a day's, a month's and a total budget of ten more each."""

    def put(tx: Transaction) -> None:
        ledger.hold_still(tx, "cus_1")
        for period in periods:
            limit_micros = (number + 1) * PLACES * PRICE
            budgets.put(tx, key_id="key_1", period=period, limit_micros=limit_micros)

    periods: tuple[Period, ...] = ("day", "month", "total")
    async with open_houses(database_url, tmp_path, processes, credit=RICH) as houses:
        for number in range(rounds):
            await houses[0].db.write(put)
            counts = await buy_in_parallel(houses, number)
            assert counts == {"Order": PLACES, BudgetExceeded.__name__: BUYERS - PLACES}
            states = await houses[0].db.read(lambda tx: budgets.states(tx, "key_1"))
            assert [state.remaining_micros for state in states] == [0, 0, 0]
        await conclude(houses, "a key's budgets", rounds, database_url)


async def conclude(houses: list[House], what: str, rounds: int, database_url: str) -> None:
    """Count what the upstreams sold and the ledger held, and print it."""
    sold = [house.upstream.sold for house in houses]
    assert sum(sold) == rounds * PLACES == await count_reserves(houses[0])
    print(
        f"{what} for {PLACES}, {BUYERS} buyers, {rounds} rounds, {len(houses)} process(es) on "
        f"{database_url.partition(':')[0] or 'sqlite'}: "
        f"{sum(sold)} sold ({' + '.join(map(str, sold))}), {rounds * (BUYERS - PLACES)} refused"
    )
