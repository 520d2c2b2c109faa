"""What a skin is given to work with: the gateway and the nouns it may read.

Owns the shape of the gateway as the HTTP skin sees it, so that the skin can be tested over a
double. Makes nothing: the composition root fills `Services` in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safelight.channels import Channels
from safelight.clock import Clock
from safelight.config import Config
from safelight.gateway.orders import Caller, Event, Order, StatementPage
from safelight.gateway.receipts import Receipt
from safelight.links import Links
from safelight.storage import BlobStore
from safelight.types import BlobRef, Identity, ImageRecord, ImageRequest, Job, KeyBalance, Quote


class Attachment(Protocol):
    """A connected caller's hold on an order."""

    def delivered(self) -> None:
        """Say that the whole answer was written to a caller who was still there."""
        ...


class GatewayPort(Protocol):
    """The verbs the skin calls; `safelight.gateway.Gateway` is the implementation."""

    @property
    def accepting(self) -> bool:
        """False while draining."""
        ...

    async def authenticate(self, raw_key: str) -> Identity:
        """Return who the key speaks for, or raise AuthenticationFailed."""
        ...

    async def stage_input(self, path: Path, *, param: str) -> BlobRef:
        """Verify and keep a caller's picture, or raise InvalidImage; the file stays."""
        ...

    def check(
        self, request: ImageRequest, *, given: frozenset[str], stream: bool = False
    ) -> ImageRequest:
        """Return the request in canonical form, or raise InvalidRequest."""
        ...

    def quote(self, request: ImageRequest) -> Quote:
        """Return price and size plan."""
        ...

    async def submit(
        self,
        request: ImageRequest,
        caller: Caller,
        *,
        given: frozenset[str],
        stream: bool = False,
    ) -> Order:
        """Accept the request, or raise a SafelightError."""
        ...

    def attached(self, order: Order) -> AbstractAsyncContextManager[Attachment]:
        """Hold the order for a connected caller."""
        ...

    async def wait(self, order: Order, *, timeout_s: float | None = None) -> tuple[Job, ...]:
        """Return the order's jobs, all ended, or raise DeadlineExceeded."""
        ...

    def events(self, order: Order) -> AsyncIterator[Event]:
        """Yield partial images and ends of jobs; stops after the last job ended."""
        ...

    async def job(self, customer_id: str, job_id: str) -> Job:
        """Return a customer's job, or raise NotFound."""
        ...

    async def receipt(self, customer_id: str, job_id: str) -> Receipt:
        """Return all that is known of a customer's job, or raise NotFound."""
        ...

    async def image(self, image_id: str) -> ImageRecord:
        """Return any customer's image (for signed links), or raise NotFound."""
        ...

    async def key_balance(self, identity: Identity) -> KeyBalance:
        """Return the money of a key's customer, with the budgets of the key."""
        ...

    async def statement(
        self,
        customer_id: str,
        *,
        after: str | None,
        limit: int,
        from_s: int | None,
        to_s: int | None,
    ) -> StatementPage:
        """Return statement lines after the line `after`, oldest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything the HTTP skin may use.

    Args:
        spool_dir: folder for uploads in flight; the skin names its files and removes them.
        keep_alive_s: silence after which a stream sends an SSE comment (proxies cut idle streams).
        stream_patience_s: how long an image stream waits for its first event before it starts, so
            that an early failure can still be a plain HTTP error.
        buffer_patience_s: how long a large JSON body waits for room in memory, seconds.
    """

    gateway: GatewayPort
    channels: Channels
    links: Links
    storage: BlobStore
    clock: Clock
    config: Config
    spool_dir: Path
    keep_alive_s: float = 10.0
    stream_patience_s: float = 10.0
    buffer_patience_s: float = 5.0
