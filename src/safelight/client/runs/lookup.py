"""Old orders found again by what their jobs carry: for keys that a gateway may have forgotten.

Owns the one look through the list of jobs that serves all such orders of a start.
"""

from __future__ import annotations

import asyncio

from safelight.client.answers import Job
from safelight.client.client import AsyncClient
from safelight.client.errors import NotSupported

SLACK_S = 3600
"""By how much the clocks here and there may differ, seconds."""


class LookUp:
    """Finds the jobs of orders by an entry of their metadata.

    Args:
        client: whom to ask.
        entry: the name of the entry that has the order's key.
    """

    def __init__(self, client: AsyncClient, entry: str) -> None:
        self._client = client
        self._entry = entry
        self._found: dict[str, Job] = {}
        self._since: float | None = None
        self._looking = asyncio.Lock()

    async def find(self, key: str, ordered_at: float) -> Job | None:
        """Return the job of an order, the newest of several; None where there is none.

        Raises:
            ClientError: the gateway cannot be asked.
        """
        since = ordered_at - SLACK_S
        async with self._looking:
            if self._since is None or since < self._since:
                await self._look(since)
                self._since = since
        return self._found.get(key)

    async def _look(self, since: float) -> None:
        try:
            async for job in self._client.jobs(created_after=int(since), newest_first=False):
                key = (job.metadata or {}).get(self._entry)
                if key is not None:
                    self._found[key] = job
        except NotSupported:
            # Another server keeps no jobs: what it made and nobody fetched is gone.
            return
