"""The files that a batch leaves: output for lines with pictures, errors for all others.

Owns the form of a line of either (OpenAI Batch API, "the request output object") and the writing.
Pictures come from the store and go into the file piece by piece; no file is ever in memory. Written
again from the beginning after a crash: only the transaction that ends the batch makes it count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

from safelight import jobs
from safelight.batches import BatchRow
from safelight.batches import lines as rows
from safelight.batches.lines import LineRow, LineState
from safelight.db import Transaction
from safelight.gateway.batching.forms import Forms
from safelight.gateway.parts import Parts
from safelight.types import Job

PAGE = 50
"""Lines that are read with their jobs at one time."""
_INLINE_WRITE = 64 * 1024
"""Longer pieces are written in a thread."""
_UNFINISHED = {
    LineState.EXPIRED: (
        "batch_expired",
        "The batch's completion window ended before this request was executed.",
    ),
    LineState.CANCELLED: (
        "batch_cancelled",
        "The batch was cancelled before this request was executed.",
    ),
}
"""OpenAI's codes for requests that were not executed."""


class LocalFile:
    """A file that is being written; `lines` of it are whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self._file: BinaryIO = path.open("xb")

    async def write(self, data: bytes) -> None:
        """Write bytes; the disk is not waited for by others."""
        if len(data) > _INLINE_WRITE:
            await asyncio.to_thread(self._file.write, data)
        else:
            self._file.write(data)

    def __enter__(self) -> LocalFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


class Results:
    """Writes both files of one batch.

    Args:
        parts: rooms below.
        forms: the routes' answers.
        batch: whose lines have all ended.
        inline_bytes: most bytes of pictures in the output file.
    """

    def __init__(self, parts: Parts, forms: Forms, batch: BatchRow, *, inline_bytes: int) -> None:
        self._parts = parts
        self._forms = forms
        self._batch = batch
        self._inline_left = inline_bytes
        self.usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}

    async def write(
        self, output: LocalFile, errors: LocalFile, *, still_ours: Callable[[Transaction], None]
    ) -> None:
        """Write all lines, in their order.

        Args:
            output: takes the lines with pictures.
            errors: takes the others.
            still_ours: asked between pages; raises where another visit has begun.

        Raises:
            StorageError: a picture cannot be read.
        """
        after = 0
        while True:
            page = await self._page(after)
            for line, members in page:
                if line.state is LineState.COMPLETED:
                    await self._write_answer(output, line, members)
                else:
                    await self._write_problem(errors, line, members)
            if len(page) < PAGE:
                return
            after = page[-1][0].line
            await self._parts.db.write(still_ours)

    async def _page(self, after: int) -> list[tuple[LineRow, Sequence[Job]]]:
        def look(tx: Transaction) -> list[tuple[LineRow, Sequence[Job]]]:
            lines = rows.lines_in(tx, self._batch.id, LineState, after=after, limit=PAGE)
            return [
                (line, () if line.request_id is None else jobs.jobs_of(tx, line.request_id))
                for line in lines
            ]

        return await self._parts.db.read(look)

    async def _write_answer(self, file: LocalFile, line: LineRow, members: Sequence[Job]) -> None:
        inline = not line.answer.as_url and await self._room_for(members)
        for name in self.usage:
            self.usage[name] += sum(getattr(job.usage, name, 0) for job in members)
        await file.write(_head(line))
        await file.write(_response(200, line.request_id or line.id))
        async for piece in self._forms.answer(self._batch, members, line.answer, inline=inline):
            await file.write(piece)
        await file.write(b'},"error":null}\n')
        file.lines += 1

    async def _room_for(self, members: Sequence[Job]) -> bool:
        """Take room for the base64 of the pictures; False where there is none, or one is gone."""
        blobs = [job.image.blob for job in members if job.image is not None]
        needed = sum((blob.bytes + 2) // 3 * 4 for blob in blobs)
        if needed > self._inline_left:
            return False
        for blob in blobs:
            if not await self._parts.storage.exists(blob.digest):
                return False
        self._inline_left -= needed
        return True

    async def _write_problem(self, file: LocalFile, line: LineRow, members: Sequence[Job]) -> None:
        await file.write(_head(line))
        failures = [job.failure for job in members if job.failure is not None]
        failure = line.failure or (failures[0] if failures else None)
        if line.state in _UNFINISHED or failure is None:
            code, message = _UNFINISHED.get(line.state, _UNFINISHED[LineState.CANCELLED])
            error = msgspec.json.encode({"code": code, "message": message})
            await file.write(b'"response":null,"error":' + error + b"}\n")
        else:
            await file.write(_response(failure.status, line.request_id or line.id))
            await file.write(self._forms.problem(failure) + b'},"error":null}\n')
        file.lines += 1

    def usage_object(self) -> dict[str, Any]:
        """Return the tokens of all pictures as OpenAI's batch object has them."""
        return {
            **self.usage,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }


def _head(line: LineRow) -> bytes:
    head = msgspec.json.encode({"id": line.id, "custom_id": line.custom_id})
    return head[:-1] + b","


def _response(status: int, request_id: str) -> bytes:
    head = msgspec.json.encode({"status_code": status, "request_id": request_id})
    return b'"response":' + head[:-1] + b',"body":'
