"""What a run of a job needs of the rooms below; put together once by the composition root."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from safelight import images
from safelight.channels import Channels
from safelight.clock import Clock
from safelight.config import RetentionConfig, WebhooksConfig
from safelight.costs import MarginWatch
from safelight.db import Database, Transaction
from safelight.entropy import ENTROPY
from safelight.errors import ShuttingDown, Unavailable
from safelight.gateway.input_marks import InputMarks
from safelight.gateway.notes import Notes
from safelight.gateway.refusals import Refusals
from safelight.gateway.spooling import SpoolFolder
from safelight.pool import Pool
from safelight.storage import BlobStore
from safelight.strangers import Rules
from safelight.upstreams import Upstream
from safelight.waiting import Alarms

log = logging.getLogger("safelight.gateway")

WRITE_TRIES = 20
UNTIL_CANCELLED = math.inf
"""The end of a job is written however long the database refuses: a hold depends on it."""
COMPANY_S = 0.02
"""How long the note that an answer was delivered waits for another commit to go along with. Nobody
waits for it; a process that dies meanwhile leaves the order as if its caller had hung up."""
DATABASE_DAMAGED = "database_damaged"
"""What a database says that takes nothing until it is restored."""
PAUSE_FIRST_S, PAUSE_MAX_S = 0.5, 8.0

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """What a run needs; made once by the composition root."""

    db: Database
    pool: Pool
    storage: BlobStore
    pixels: images.PixelWorker
    channels: Channels
    upstreams: dict[str, Upstream]
    spool: SpoolFolder
    clock: Clock
    margins: MarginWatch
    refusals: Refusals
    rng: random.Random = ENTROPY
    """Where ids and pauses come from; a simulation gives one with a seed."""
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    """How long pictures are kept."""
    marks: InputMarks = field(default_factory=InputMarks)
    """Of inputs that this process has kept and that an order is about to name."""
    guard: Rules = field(default_factory=lambda: Rules(WebhooksConfig()))
    """Which addresses of customers may be called."""
    notes: Notes = field(default_factory=Notes)
    """Counts, log lines and traces of ended jobs."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after a commit that may have left messages for webhooks; who sends them waits for it."""

    alarms: Alarms = field(default_factory=Alarms)
    """The ends of waits."""

    def new_id(self, prefix: str) -> str:
        """Return a new id, with 96 random bits."""
        return f"{prefix}_{self.rng.getrandbits(96):024x}"

    async def read(self, work: Callable[[Transaction], T], *, job_id: str) -> T:
        """Read even if the database is away for a while; lasts until it answers.

        Raises:
            Unavailable: it is damaged, or is closed.
        """
        made = 0
        while True:
            try:
                return await self.db.read(work)
            except ShuttingDown:
                raise
            except Unavailable as error:
                if error.code == DATABASE_DAMAGED:
                    raise
                made += 1
                log.exception("read refused", extra={"job_id": job_id})
                await asyncio.sleep(min(PAUSE_FIRST_S * 2 ** min(made - 1, 5), PAUSE_MAX_S))

    async def write(
        self,
        work: Callable[[Transaction], T],
        *,
        job_id: str,
        tries: float = WRITE_TRIES,
        company_s: float = 0.0,
    ) -> T:
        """Write even if the database is busy or its disk full for a while; see `Database.write`.

        Raises:
            Unavailable: it refused `tries` times, is damaged, or is closed.
        """
        made = 0
        while True:
            try:
                return await self.db.write(work, company_s=company_s)
            except ShuttingDown:
                raise
            except Unavailable as error:
                made += 1
                if made >= tries or error.code == DATABASE_DAMAGED:
                    raise
                log.exception("write refused", extra={"job_id": job_id})
                await asyncio.sleep(min(PAUSE_FIRST_S * 2 ** min(made - 1, 5), PAUSE_MAX_S))
