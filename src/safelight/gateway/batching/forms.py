"""What a batch needs to know of the image routes: how a line is read, and what answers it.

Owns the seam alone. The forms themselves are those of the HTTP skin, which fills it in: a line
means what the same body means to the route that it names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from safelight.batches import BatchRow
from safelight.batches.lines import AnswerForm
from safelight.errors import SafelightError
from safelight.types import ImageRequest, Job, JobFailure, Metadata


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a line orders: a checked request, and in which form its pictures are wanted."""

    request: ImageRequest
    answer: AnswerForm
    webhook_url: str | None = None
    metadata: Metadata = ()


class Forms(Protocol):
    """Reads and answers lines as the route does that a batch names."""

    async def read(self, batch: BatchRow, body: bytes) -> Wanted:
        """Read the body of a line; its input pictures are kept when this returns.

        Raises:
            SafelightError: the route would refuse it, in the same words.
        """
        ...

    def answer(
        self, batch: BatchRow, jobs: Sequence[Job], form: AnswerForm, *, inline: bool
    ) -> AsyncIterator[bytes]:
        """Yield the body of the answer to a line of which at least one job has its picture.

        Args:
            batch: whose line.
            jobs: those of the line, all ended.
            form: what it asked for.
            inline: whether there is room for the pictures themselves.
        """
        ...

    def problem(self, problem: SafelightError | JobFailure) -> bytes:
        """Return the body of the answer to a line that failed."""
        ...


def failure_of(error: SafelightError) -> JobFailure:
    """Return a refusal as what is kept of a line that was never accepted."""
    return JobFailure(
        status=error.status,
        type=error.type,
        code=error.code,
        message=error.message,
        param=error.param,
        moderation_details=error.moderation_details,
    )
