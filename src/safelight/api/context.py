"""What a skin is given to work with: the gateway and the nouns it may read.

Owns the shape of the gateway as the HTTP skin sees it, so that the skin can be tested over a
double. Makes nothing: the composition root fills `Services` in.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from safelight.administration import Administration
from safelight.api.batch_ports import BatchingPort, FilingPort
from safelight.api.places import KeyPlaces
from safelight.api.scrapes import Scrapes
from safelight.api.sending import SendingRoom
from safelight.api.webhook_port import WebhookPort
from safelight.channels import Channels
from safelight.clock import Clock
from safelight.config import Config
from safelight.gateway.orders import (
    Caller,
    Event,
    JobPage,
    Order,
    Outlook,
    Queued,
    Standing,
    StatementPage,
)
from safelight.gateway.progress import Update
from safelight.gateway.receipts import Receipt
from safelight.gateway.retention import Original
from safelight.image_lists import Page, Wanted
from safelight.job_lists import JobFilter
from safelight.links import Links
from safelight.metrics import Metrics
from safelight.storage import BlobStore
from safelight.types import BlobRef, Identity, ImageRecord, ImageRequest, Job, KeyBalance, Quote
from safelight.waiting import Alarms, Until


class Attachment(Protocol):
    """A connected caller's hold on an order."""

    def delivered(self, *, final: bool = False) -> None:
        """Say that the whole answer was written to a caller who was still there.

        With `final` it was no end but where to find one: whatever comes of it, no call repeats it.
        """
        ...


class GatewayPort(Protocol):
    """The verbs the skin calls; `safelight.gateway.Gateway` is the implementation."""

    @property
    def accepting(self) -> bool:
        """False while draining."""
        ...

    @property
    def leaving(self) -> bool:
        """True from the signal to end on: callers had better come back elsewhere."""
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

    async def outlook(self, request: ImageRequest) -> Outlook:
        """Return how fast many requests like this one would be answered now."""
        ...

    async def submit(
        self,
        request: ImageRequest,
        caller: Caller,
        *,
        given: frozenset[str],
        stream: bool = False,
        queued: Queued | None = None,
    ) -> Order:
        """Accept the request, or raise a SafelightError; `queued`: nobody waits for it."""
        ...

    def attached(self, order: Order) -> AbstractAsyncContextManager[Attachment]:
        """Hold the order for a connected caller."""
        ...

    async def wait(
        self, order: Order, *, timeout_s: float | None = None, until: Until | None = None
    ) -> tuple[Job, ...]:
        """Return the order's jobs, all ended, or raise DeadlineExceeded."""
        ...

    def events(self, order: Order) -> AsyncIterator[Event]:
        """Yield partial images and ends of jobs; stops after the last job ended."""
        ...

    async def job(self, customer_id: str, job_id: str) -> Job:
        """Return a customer's job, or raise NotFound."""
        ...

    async def job_page(
        self,
        customer_id: str,
        chosen: JobFilter,
        *,
        after: str | None,
        newest_first: bool,
        limit: int,
    ) -> JobPage:
        """Return a customer's jobs behind the job `after`, or raise InvalidValue."""
        ...

    async def cancel(self, customer_id: str, job_id: str) -> Job:
        """Cancel a customer's open job and return it as it stands then, or raise NotFound."""
        ...

    async def ended_within(self, job: Job, seconds: float) -> Job:
        """Return a job when it has ended, or as it stands then."""
        ...

    async def standings(self, found: Sequence[Job]) -> dict[str, Standing]:
        """Return where jobs stand, by id."""
        ...

    def progress(self, job: Job, *, after: str | None = None) -> AsyncGenerator[Update, None]:
        """Yield what happens to a job until it has ended, or raise Unavailable."""
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


class RetentionPort(Protocol):
    """Pictures as their owners keep them; `safelight.gateway.retention.Retention` does it.

    Each verb raises NotFound for what is not the customer's, and Gone for what was.
    """

    async def image(self, customer_id: str, image_id: str) -> ImageRecord:
        """Return a picture."""
        ...

    async def page(self, wanted: Wanted, *, after: str | None, limit: int) -> Page:
        """Return a customer's pictures, newest first, or raise InvalidValue."""
        ...

    async def pin(self, customer_id: str, image_id: str) -> ImageRecord:
        """Keep a picture until it is unpinned."""
        ...

    async def unpin(self, customer_id: str, image_id: str) -> ImageRecord:
        """Let a picture expire again."""
        ...

    async def delete(self, customer_id: str, image_id: str) -> None:
        """Delete a picture; to one that is gone nothing happens."""
        ...

    async def original(self, customer_id: str, image_id: str) -> Original:
        """Return the vendor's own file that a picture was made of, where it is kept."""
        ...

    async def end_links(self, customer_id: str) -> None:
        """End every link to the customer's pictures that was signed until now."""
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
        sending: the memory that answers share.
        metrics: what is counted of answers.
        scrapes: who may read the counts, and how; None: nobody.
        diagnosing: what each key has open of the tests of connections.
        administration: the operators' side, where browsers sign in too; None: there is none.
        alarms: the ends of waits.
    """

    gateway: GatewayPort
    channels: Channels
    links: Links
    storage: BlobStore
    webhooks: WebhookPort
    filing: FilingPort
    batching: BatchingPort
    retention: RetentionPort
    clock: Clock
    config: Config
    spool_dir: Path
    keep_alive_s: float = 10.0
    stream_patience_s: float = 10.0
    buffer_patience_s: float = 5.0
    sending: SendingRoom = field(default_factory=SendingRoom)
    metrics: Metrics = field(default_factory=Metrics)
    scrapes: Scrapes | None = None
    diagnosing: KeyPlaces = field(default_factory=KeyPlaces)
    administration: Administration | None = None
    alarms: Alarms = field(default_factory=Alarms)
