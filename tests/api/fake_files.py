# ruff: noqa: ARG002  (a double takes what the real one takes, and needs less of it)
"""Files in memory for the HTTP skin's tests, and a customer who never made a batch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from api.fake_gateway import MemoryStore
from safelight.batches import BatchRow, Counts
from safelight.clock import Clock
from safelight.errors import InvalidRequest, NotFound
from safelight.files import FileRow
from safelight.gateway.batching import NewBatch
from safelight.gateway.filing import no_such_file
from safelight.types import Identity


class FakeFiling:
    """Keeps files in a dictionary, their bytes in the store."""

    def __init__(self, storage: MemoryStore, clock: Clock) -> None:
        self.rows: dict[str, FileRow] = {}
        self._storage = storage
        self._clock = clock

    async def add(
        self, customer_id: str, path: Path, *, purpose: str, filename: str, keep_s: int | None
    ) -> FileRow:
        data = path.read_bytes()
        now = self._clock.now_ms()
        row = FileRow(
            id=f"file-{len(self.rows) + 1}",
            customer_id=customer_id,
            purpose=purpose,
            filename=filename,
            digest=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            created_at=now,
            expires_at=None if keep_s is None else now + keep_s * 1000,
        )
        await self._storage.put(path, row.digest)
        self.rows[row.id] = row
        return row

    async def file(self, customer_id: str, file_id: str) -> FileRow:
        row = self.rows.get(file_id)
        if row is None or row.customer_id != customer_id:
            raise no_such_file(file_id)
        return row

    async def page(
        self,
        customer_id: str,
        *,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> tuple[list[FileRow], bool]:
        rows = [
            row
            for row in self.rows.values()
            if row.customer_id == customer_id and purpose in (None, row.purpose)
        ]
        rows = rows[::-1] if newest_first else rows
        names = [row.id for row in rows]
        rows = rows[names.index(after) + 1 :] if after else rows
        return rows[:limit], len(rows) > limit

    async def delete(self, customer_id: str, file_id: str) -> None:
        await self.file(customer_id, file_id)
        del self.rows[file_id]


class NoBatches:
    """Batches of somebody who has none."""

    async def create(self, identity: Identity, new: NewBatch) -> tuple[BatchRow, Counts]:
        raise InvalidRequest("no", code="invalid_input_file", param="input_file_id")

    async def batch(self, customer_id: str, batch_id: str) -> tuple[BatchRow, Counts]:
        raise NotFound("no")

    async def page(
        self, customer_id: str, *, after: str | None, limit: int
    ) -> tuple[list[tuple[BatchRow, Counts]], bool]:
        return [], False

    async def cancel(self, customer_id: str, batch_id: str) -> tuple[BatchRow, Counts]:
        raise NotFound("no")
