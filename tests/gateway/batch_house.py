"""Files and batches over a House: its queue runs, its batches are visited by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from engines import MemoryEngine, Queues
from gateway.house import VIP, House
from safelight.api.batch_forms import BatchForms
from safelight.api.context import RetentionPort, Services
from safelight.api.webhook_port import WebhookPort
from safelight.batches import BatchRow
from safelight.config_batches import BatchesConfig, FilesConfig
from safelight.files import FileRow
from safelight.gateway.batching import Batching, NewBatch
from safelight.gateway.filing import Filing
from safelight.gateway.parts import Parts
from safelight.gateway.queueing import Queueing
from safelight.gateway.vendor_lane import VendorLane
from safelight.keyring import Keyring
from safelight.links import Links
from safelight.types import Identity

ME = Identity("cus_1", "key_1")
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
TURNS_MAX = 60


def line(custom_id: str, endpoint: str = GENERATIONS, **body: Any) -> dict[str, Any]:
    """Return an input line; `body` over a good generation."""
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": endpoint,
        "body": {"model": VIP, "prompt": f"a lamp {custom_id}", "size": "1024x1024", **body},
    }


def jsonl(lines: Iterable[Any]) -> bytes:
    """Return lines as a file; a bytes line stands as it is."""
    return b"".join(
        (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in lines
    )


class BatchHouse:
    """A House with files and batches; `queues` outlives it when it is killed."""

    def __init__(
        self,
        house: House,
        folder: Path,
        *,
        queues: Queues | None = None,
        config: BatchesConfig | None = None,
        files: FilesConfig | None = None,
    ) -> None:
        self.house = house
        self.queues = queues or Queues()
        self.folder = folder / f"uploads-{house.processes.owner}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = config or BatchesConfig()
        self.files = files or FilesConfig()
        owner = house.processes.owner
        self.engine = MemoryEngine(self.queues, owner, {"jobs": self._run})
        self.queueing = Queueing(house.gateway, house.parts, house.processes, self.engine, width=16)
        house.gateway.remind = self.queueing.remind
        self.filing = Filing(house.parts, self.files)
        self.lane = self.lane_over(house.parts)
        self.batching = self.batching_over(house.parts)
        self.services = Services(
            gateway=house.gateway,
            channels=house.parts.channels,
            links=Links(Keyring.load_or_create(folder), house.clock),
            storage=house.store,
            webhooks=cast("WebhookPort", None),
            filing=self.filing,
            batching=self.batching,
            retention=cast("RetentionPort", None),
            clock=house.clock,
            config=house.config,
            spool_dir=self.folder,
        )

    def batching_over(self, parts: Parts) -> Batching:
        """Make batches over parts of which some may fail."""
        return Batching(
            parts,
            engine=self.engine,
            acceptance=self.house.gateway.acceptance,
            remind=self.house.gateway.remind,
            cancel_job=self.house.gateway.cancel,
            forms=BatchForms(lambda: self.services),
            filing=Filing(parts, self.files),
            config=self.config,
            lane=self.lane,
            folder=self.folder,
        )

    def lane_over(self, parts: Parts) -> VendorLane:
        """Make the way to vendors' Batch APIs over parts of which some may fail."""
        house = self.house
        return VendorLane(
            parts,
            house.gateway,
            self.engine,
            house.processes.owner,
            house.accounts,
            house.config.vendor_batches,
        )

    async def _run(self, job_id: str) -> None:
        await self.queueing.run(job_id)

    async def upload(self, data: bytes, *, purpose: str = "batch", **more: Any) -> FileRow:
        path = self.folder / f"sent-{len(data)}-{id(data)}"
        path.write_bytes(data)
        values = {"filename": "in.jsonl", "keep_s": None, **more}
        return await self.filing.add("cus_1", path, purpose=purpose, **values)

    async def submit(
        self, lines: Iterable[Any], endpoint: str = GENERATIONS, **more: Any
    ) -> BatchRow:
        """Upload lines and make a batch of them."""
        file = await self.upload(jsonl(lines))
        values = {
            "input_file_id": file.id,
            "endpoint": endpoint,
            "completion_window": "24h",
            "metadata": None,
            "keep_output_s": None,
            "origin": "http://gateway.test",
            **more,
        }
        batch, _ = await self.batching.create(ME, NewBatch(**values))
        return batch

    async def look(self, batch_id: str) -> BatchRow:
        """Return a batch with its counts as they are now."""
        batch, counts = await self.batching.batch("cus_1", batch_id)
        return msgspec.structs.replace(batch, completed=counts.completed, failed=counts.failed)

    async def settle(self) -> None:
        """Wait until no job waits or runs."""
        async with asyncio.timeout(30):
            while self.queues.waiting("jobs") or self.house.gateway.running:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def finish(self, batch_id: str) -> BatchRow:
        """Visit a batch until it has ended."""
        for _ in range(TURNS_MAX):
            await self.batching.feed(batch_id)
            batch = await self.look(batch_id)
            if batch.status.ended:
                return batch
            await self.settle()
        raise AssertionError(f"the batch is still {batch.status}")

    async def content(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the lines of a file; none where there is no file."""
        if file_id is None:
            return []
        row = await self.filing.file("cus_1", file_id)
        data = b"".join([chunk async for chunk in self.house.store.read(row.digest)])
        assert len(data) == row.bytes
        return [json.loads(one) for one in data.splitlines()]

    async def charged(self) -> int:
        """Return for how many pictures the statement charges."""
        return sum(one.kind == "settle" for one in await self.house.statement())


@asynccontextmanager
async def batch_house(
    folder: Path,
    *,
    credit: int = 10_000_000,
    config: BatchesConfig | None = None,
    files: FilesConfig | None = None,
    **more: Any,
) -> AsyncIterator[BatchHouse]:
    """Open a house with batches, and sign its books at the end."""
    house = await House(folder, **more).open(credit)
    made = BatchHouse(house, folder, config=config, files=files)
    await made.engine.start()
    try:
        yield made
    finally:
        await made.engine.stop()
        await house.close()
    witness = House(folder, owner="witness", clock=house.clock)
    assert await witness.audit() == []
    await witness.close(0)
