"""Files and batches as the HTTP skin sees them.

Owns the shapes alone; `safelight.gateway.filing` and `safelight.gateway.batching` fill them in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from safelight.batches import BatchRow, Counts
from safelight.files import FileRow
from safelight.gateway.batching import NewBatch
from safelight.types import Identity


class FilingPort(Protocol):
    """The files of customers."""

    async def add(
        self, customer_id: str, path: Path, *, purpose: str, filename: str, keep_s: int | None
    ) -> FileRow:
        """Keep a copy of a local file, or raise InvalidRequest beyond the quota."""
        ...

    async def file(self, customer_id: str, file_id: str) -> FileRow:
        """Return a customer's file, or raise NotFound."""
        ...

    async def page(
        self,
        customer_id: str,
        *,
        purpose: str | None,
        after: str | None,
        limit: int,
        newest_first: bool,
    ) -> tuple[list[FileRow], bool]:
        """Return a customer's files, and whether more follow."""
        ...

    async def delete(self, customer_id: str, file_id: str) -> None:
        """Delete a customer's file, or raise NotFound."""
        ...


class BatchingPort(Protocol):
    """The batches of customers."""

    async def create(self, identity: Identity, new: NewBatch) -> tuple[BatchRow, Counts]:
        """Accept a batch durably, or raise InvalidRequest."""
        ...

    async def batch(self, customer_id: str, batch_id: str) -> tuple[BatchRow, Counts]:
        """Return a customer's batch, or raise NotFound."""
        ...

    async def page(
        self, customer_id: str, *, after: str | None, limit: int
    ) -> tuple[list[tuple[BatchRow, Counts]], bool]:
        """Return a customer's batches, newest first, and whether more follow."""
        ...

    async def cancel(self, customer_id: str, batch_id: str) -> tuple[BatchRow, Counts]:
        """Let nothing more of a batch begin, or raise NotFound or InvalidRequest."""
        ...
