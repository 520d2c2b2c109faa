"""A house whose batches may go to a vendor's Batch API: the fault upstream's, over HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from gateway.batch_house import BatchHouse, line
from gateway.house import VIP, House
from safelight import attempts, backlog, vendor_batches
from safelight.batches import BatchRow
from safelight.bench.faults.batch_api import BatchPlan
from safelight.bench.faults.server import FaultUpstream
from safelight.clock import ManualClock
from safelight.config import Config, load_config
from safelight.config_batches import BatchesConfig, VendorBatchesConfig
from safelight.db import Database
from safelight.types import Account, Secret
from safelight.upstreams.openai import OpenAIUpstream
from safelight.vendor_batches import Status, VendorBatch, items

SHORT = VendorBatchesConfig(
    live_reserve_s=3600, cancel_s=600, min_room_s=3600, collect_s=60, poll_min_s=10, poll_max_s=60
)
PRICE, LANE_PRICE = 30_000, 18_000
HOUR_S = 3600


def lane_config(folder: Path, *, policy: str = "always", **bounds: Any) -> Config:
    """Return a configuration whose vip channel uses vendor batches."""
    config = load_config(None, folder, environ={})
    vip = msgspec.structs.replace(
        config.channels[VIP],
        vendor_batches=policy,
        vendor_batch_price_micros=LANE_PRICE,
    )
    return msgspec.structs.replace(
        config,
        channels={**config.channels, VIP: vip},
        vendor_batches=msgspec.structs.replace(SHORT, **bounds),
    )


def lane_account(upstream: FaultUpstream, **more: Any) -> Account:
    """Return an account of the fault upstream that may use its Batch API."""
    values = {"vendor_batches": True, "channels": (VIP,), **more}
    return Account(
        name="org",
        upstream="openai",
        group="org",
        base_url=upstream.base_url,
        api_key=Secret("key-a"),
        **values,
    )


class LaneHouse(BatchHouse):
    """A batch house and its vendor. Visits to vendor batches are made by hand."""

    vendor: FaultUpstream

    @classmethod
    async def build(
        cls,
        folder: Path,
        vendor: FaultUpstream,
        clock: ManualClock,
        *,
        owner: str = "test",
        config: Config | None = None,
        db: Database | None = None,
        credit: int = 10_000_000,
        bounds: BatchesConfig | None = None,
        **more: Any,
    ) -> LaneHouse:
        """Open a process on a folder."""
        house = House(
            folder,
            clock=clock,
            accounts=(lane_account(vendor),),
            owner=owner,
            config=config or lane_config(folder),
            db=db,
        )
        house.parts.upstreams["openai"] = OpenAIUpstream(clock)
        await house.open(credit)
        made = cls(house, folder, config=bounds, **more)
        made.vendor = vendor
        await made.engine.start()
        return made

    async def close(self) -> None:
        """End this process as it should."""
        await self.engine.stop()
        await self.house.close()
        await self.house.parts.upstreams["openai"].close()

    async def kill(self) -> None:
        """End this process as a killed one."""
        await self.engine.stop()
        await self.house.kill()
        await self.house.parts.upstreams["openai"].close()

    async def order(self, count: int, prefix: str = "i", **more: Any) -> BatchRow:
        """Submit a batch of good lines, and feed it."""
        batch = await self.submit([line(f"{prefix}{n}") for n in range(count)], **more)
        await self.batching.feed(batch.id)
        return batch

    async def vendor_batches(self) -> list[VendorBatch]:
        """Return all vendor batches, oldest first."""
        found = await self.house.db.read(
            lambda tx: vendor_batches.listed(tx, open_only=False, limit=100)
        )
        return found[::-1]

    async def visit_all(self) -> list[Status]:
        """Visit every vendor batch once; return how far they are."""
        for one in await self.vendor_batches():
            await self.lane.visit(one.id)
        await self.settle()
        return [one.status for one in await self.vendor_batches()]

    async def settle(self) -> None:
        """Wait until no job waits or runs, those included that are only being reminded of."""
        async with asyncio.timeout(30):
            while await self.house.db.read(backlog.count):  # noqa: ASYNC110  (nobody tells)
                await asyncio.sleep(0.002)
        await super().settle()

    async def states(self) -> dict[str, int]:
        """Return how many places of all vendor batches are in which state."""
        ids = [one.id for one in await self.vendor_batches()]
        found = await self.house.db.read(lambda tx: items.counts(tx, ids))
        return dict(sum((Counter(one) for one in found.values()), Counter()))

    async def audit_against_the_vendor(self) -> None:
        """Its books are ours: every sale is a settled picture or waste."""
        waste = await self.house.db.read(attempts.waste)
        counted = sum(one.sold for one in waste.values())
        unknown = sum(one.unknown for one in waste.values())
        assert len(self.vendor.sales) == await self.charged() + counted + unknown
        assert await self.house.audit() == []

    async def costs(self) -> list[int | None]:
        """Return what each attempt cost, in the order of sending."""
        rows = await self.house.db.read(
            lambda tx: tx.all("SELECT vendor_cost_micros AS cost FROM attempt ORDER BY sent_at, k")
        )
        return [row["cost"] for row in rows]


@asynccontextmanager
async def lane_house(
    folder: Path,
    act: Any = "ok",
    *,
    plan: BatchPlan | None = None,
    config: Config | None = None,
    **more: Any,
) -> AsyncIterator[tuple[LaneHouse, ManualClock]]:
    """Open a vendor and a house, and compare their books at the end."""
    clock = ManualClock()
    async with FaultUpstream(act, monotonic=clock.monotonic, batches=plan or BatchPlan()) as vendor:
        shop = await LaneHouse.build(folder, vendor, clock, config=config, **more)
        try:
            yield shop, clock
            await shop.audit_against_the_vendor()
        finally:
            await shop.close()


def names_of(found: Iterable[dict[str, Any]]) -> set[str]:
    """Return the custom ids of lines."""
    return {one["custom_id"] for one in found}
