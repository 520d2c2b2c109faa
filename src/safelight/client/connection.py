"""One address as one customer sees it: opened, closed, and asked once what stands there.

Owns the life of a client and the knowledge whether it talks to a safelight. The verbs are
`client`'s.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import msgspec

from safelight import __version__
from safelight.client.address import Address
from safelight.client.answers import Capabilities
from safelight.client.errors import NotSupported, Refused
from safelight.client.figures import Figures
from safelight.client.transport import Patience, Transport


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


class Connection:
    """What every client has; for the arguments see `AsyncClient`."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 300.0,
        retries: int = 3,
        patience: Patience | None = None,
    ) -> None:
        patience = patience or Patience(timeout_s=timeout_s, retries=retries)
        address = Address.of(base_url, api_key)
        self._transport = Transport(address, patience, __version__)
        self._known: Capabilities | None = None
        self._asking: asyncio.Lock | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. It may be called twice."""
        self._asking = None  # it belongs to one event loop
        await self._transport.close()

    @property
    def base_url(self) -> str:
        """Where requests go, with the API's version."""
        return self._transport.address.url

    @property
    def figures(self) -> Figures:
        """What this client has seen so far: generation times, 5xx, downloads."""
        return self._transport.tally.figures

    async def capabilities(self) -> Capabilities:
        """Return what stands at the address; asked once.

        Raises:
            Refused: the key is not known there.
            ClientError: it does not answer.
        """
        self._asking = self._asking or asyncio.Lock()
        async with self._asking:
            if self._known is None:
                self._known = await self._look()
        return self._known

    async def _look(self) -> Capabilities:
        try:
            models = await self._transport.get("/models", _Models)
        except Refused as refused:
            if refused.status in (401, 403):
                raise
            # Small servers of images alone have no list of models.
            return Capabilities(safelight=False, channels=())
        return Capabilities(
            safelight=any(model.owned_by == "safelight" for model in models.data),
            channels=tuple(model.id for model in models.data),
        )

    async def _must_be_safelight(self, what: str) -> None:
        if not (await self.capabilities()).safelight:
            raise NotSupported(what, self.base_url)
