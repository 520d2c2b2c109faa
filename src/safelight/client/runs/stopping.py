"""The end of a run before its end: asked for once, obeyed by everybody."""

from __future__ import annotations

import asyncio

from safelight.client.errors import ClientError


class Left(Exception):
    """An item is left as it stands: the run stops."""


class Stop:
    """Says that nothing more is to be ordered, and why."""

    def __init__(self) -> None:
        self.reason: ClientError | None = None
        self._event = asyncio.Event()

    @property
    def asked(self) -> bool:
        """Whether the run stops."""
        return self._event.is_set()

    def ask(self, reason: ClientError) -> None:
        """Stop the run; the first reason counts."""
        if self.reason is None:
            self.reason = reason
        self._event.set()

    async def wait(self) -> None:
        """Return when the run stops."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait so long.

        Raises:
            Left: the run stops meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        raise Left
