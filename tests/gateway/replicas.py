"""Several gateway processes, each on a data folder of its own, that share one database.

Their pictures lie in one folder, as in an object store. Each has clocks of its own, which stand
still until told.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypeVar

from fresh_books import sqlite_books
from gateway.house import House, account
from safelight.clock import ManualClock
from safelight.db import Database
from safelight.db.postgres import PostgresDatabase
from safelight.errors import Unavailable
from safelight.gateway.orders import Order
from safelight.gateway.processes import BEAT_S, LEASE_S
from safelight.gateway.reaping import LOOK_S

T = TypeVar("T")


class Cable:
    """A database that is away while it is pulled out."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.out = False
        self.refused = asyncio.Event()

    async def write(self, work: object, *, company_s: float = 0.0) -> object:
        self._ask()
        return await self.db.write(work, company_s=company_s)  # type: ignore[arg-type]

    async def read(self, work: object) -> object:
        self._ask()
        return await self.db.read(work)  # type: ignore[arg-type]

    async def close(self) -> None:
        await self.db.close()

    def _ask(self) -> None:
        if self.out:
            self.refused.set()
            raise Unavailable("The database does not answer.")


class Replica(House):
    """One of several processes on one database."""

    clock: ManualClock

    def __init__(self, root: Path, owner: str, database_url: str, *, folder: str = "") -> None:
        clock = ManualClock()
        place = root / (folder or owner)
        place.mkdir(exist_ok=True)
        (root / "blobs").mkdir(exist_ok=True)
        if not (place / "blobs").exists():
            (place / "blobs").symlink_to(root / "blobs")
        self.cable = Cable(
            PostgresDatabase(database_url, clock)
            if database_url
            else sqlite_books(root / "shared.db", clock)
        )
        super().__init__(
            place,
            clock=clock,
            owner=owner,
            db=self.cable,  # type: ignore[arg-type]
            accounts=tuple(account(name, max_in_flight=50) for name in "ab"),
        )

    async def beat(self) -> None:
        await self.processes.beat(self.db)

    async def begun(self, **more: object) -> Order:
        """Order one picture and return when its call is under way, held at the upstream."""
        self.upstream.gate.clear()
        self.upstream.called.clear()
        order = await self.submit(**more)  # type: ignore[arg-type]
        await self.upstream.called.wait()
        return order

    async def crash(self) -> None:
        """Die with jobs, files and row as they are."""
        self.gateway.accepting = False
        await self.kill()


async def watch(seconds: float, *living: Replica, reap: bool = False) -> None:
    """Let time pass at the usual pace: the living beat, and look for what there is to end."""
    step_s = LOOK_S if reap else BEAT_S
    for _ in range(round(seconds / step_s)):
        for one in living:
            one.clock.advance(step_s)
            await one.beat()
        if reap:
            for one in living:
                await one.reaper.look()


async def silence(*living: Replica) -> None:
    """Let those who do not beat be dead for those who do."""
    await watch(LEASE_S + 2 * BEAT_S, *living)
