"""Room for the answers that are being written: how much of them may be in memory at one time.

Owns the decision in what pieces an answer is written, and who waits. A piece is read, becomes text
and lies in the connection until the caller has read most of it, so it is the callers who say how
long its memory is used. Large pieces are cheap (each is a visit to a thread) and are taken while
there is room for them; a caller who reads slowly cannot hold the others up, who go on in small
pieces. There is a bound on those, too: beyond it answers wait in line, and those that have not
begun are refused after a while. Their pictures are kept and paid for once; a retry collects them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from safelight.api.budget import ByteBudget
from safelight.errors import Unavailable
from safelight.storage import CHUNK_BYTES

MEMORY_BYTES = 48 * 1024 * 1024
SMALL_BYTES = 48 * 1024
"""What is read at a time where memory is short; a multiple of 3, as base64 needs it."""
LARGE_PATIENCE_S = 2.0
"""How long an answer waits for large pieces before it is written in small ones."""
PATIENCE_S = 10.0
"""How long an answer that has not begun waits for any room."""

# A piece and its text, a third longer; in small pieces, also the 64 KB that a connection may have
# waiting when the next piece is written (uvicorn's high-water mark).
_LARGE = CHUNK_BYTES * 7 // 3
_SMALL = SMALL_BYTES * 7 // 3 + 64 * 1024


class SendingRoom:
    """The memory for answers of one process, in one event loop.

    Args:
        limit: bytes of all answers together; a third of it is for large pieces.
        patience_s: how long an answer that has not begun waits for room, seconds.
    """

    def __init__(self, limit: int = MEMORY_BYTES, *, patience_s: float = PATIENCE_S) -> None:
        self._large = ByteBudget(max(_LARGE, limit // 3), patience_s=LARGE_PATIENCE_S)
        self._small = ByteBudget(max(_SMALL, limit - limit // 3), patience_s=patience_s)
        self._patience_s = patience_s

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._large.held + self._small.held

    @asynccontextmanager
    async def place(self, length: int, *, begun: bool = False) -> AsyncIterator[int]:
        """Hold room for an answer of `length` bytes; give how many bytes to read at a time.

        Args:
            length: of the answer, bytes.
            begun: its head has been sent, so that it can only wait.

        Raises:
            Unavailable: `too_many_bytes_in_flight`: there was no room in time, and it can be asked
                for again.
        """
        small = min(length, _SMALL)
        if not await self._small.taken(small, within_s=None if begun else self._patience_s):
            raise Unavailable(
                "The gateway is sending as many answers as it has memory for. Send the request "
                "again: what it ordered is kept.",
                code="too_many_bytes_in_flight",
                retry_after_s=2,
                should_retry=True,
            )
        large = 0
        try:
            # In a moment there is more than this left of it: worth a large piece.
            if length > _SMALL and await self._large.taken(_LARGE, within_s=LARGE_PATIENCE_S):
                large = _LARGE
            yield CHUNK_BYTES if large else SMALL_BYTES
        finally:
            self._large.give(large)
            self._small.give(small)
