"""One shop of several gateway processes: on one data folder, or on one Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from gateway.house import House
from safelight import budgets
from safelight.clock import ManualClock
from safelight.config import LimitsConfig
from safelight.db.postgres import PostgresDatabase


@asynccontextmanager
async def open_houses(
    database_url: str,
    folder: Path,
    count: int,
    *,
    credit: int,
    limits: LimitsConfig | None = None,
) -> AsyncIterator[list[House]]:
    """Open `count` processes on one database, and sign its books at the end.

    Args:
        database_url: a Postgres, or empty for SQLite in the folder.
        folder: where they keep their files.
        count: how many processes.
        credit: what the customer has, micro-dollars.
        limits: of keys that have none of their own.
    """
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        houses = []
        for number in range(count):
            db = PostgresDatabase(database_url, clock) if database_url else None
            house = House(folder, clock=clock, owner=f"process-{number}", db=db, limits=limits)
            houses.append(await house.open(credit))
            stack.push_async_callback(house.close)
        yield houses
        for house in houses:
            await house.gateway.drain(5)
        assert await houses[0].audit() == []
        assert await houses[0].db.read(budgets.verify) == []
