# ruff: noqa: ARG002  (a double takes what the real one takes, and needs less of it)
"""A gateway in memory for the HTTP skin's tests: same verbs, no upstream, no database.

Jobs end at once with a picture, unless the test set `failure`, holds them with `hold`, or gives
`partials`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from api.pictures import png, png_size
from safelight.channels import Channels
from safelight.clock import Clock
from safelight.errors import (
    AuthenticationFailed,
    DeadlineExceeded,
    InvalidImage,
    InvalidValue,
    NotFound,
    SafelightError,
    StorageError,
)
from safelight.gateway.orders import (
    Caller,
    Event,
    JobEnded,
    JobPage,
    Order,
    Outlook,
    PartialImage,
    Queued,
    Standing,
    StatementPage,
)
from safelight.gateway.progress import Told, Update, history
from safelight.gateway.receipts import Receipt
from safelight.job_lists import JobFilter
from safelight.notices import LimitNotice
from safelight.storage import CHUNK_BYTES, Proof, StoredBlob
from safelight.types import (
    BlobRef,
    BudgetState,
    Identity,
    ImageRecord,
    ImageRequest,
    Job,
    JobFailure,
    JobState,
    KeyBalance,
    Quote,
    StatementLine,
    Usage,
)
from safelight.waiting import Alarms, Until, until_done

KEY = "sl_live_test"
OTHER_KEY = "sl_live_other"
IDENTITIES = {KEY: Identity("cus_1", "key_1"), OTHER_KEY: Identity("cus_2", "key_2")}
USAGE = Usage(
    input_tokens=9,
    output_tokens=200,
    total_tokens=209,
    input_text_tokens=9,
    output_image_tokens=200,
)


class MemoryStore:
    """Blobs in a dictionary, read in chunks so small that every picture has several."""

    def __init__(self, chunk: int = 30) -> None:
        self.blobs: dict[str, bytes] = {}
        self.elsewhere: str | None = None
        """Where callers are sent for the bytes."""
        self._chunk = chunk

    async def put(
        self,
        source: Path,
        digest: str,
        *,
        given: bool = False,
        proof: Proof | None = None,
    ) -> None:
        self.blobs[digest] = source.read_bytes()

    def keep(self, data: bytes) -> BlobRef:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        width, height = png_size(data)
        return BlobRef(digest=digest, bytes=len(data), format="png", width=width, height=height)

    async def read(
        self,
        digest: str,
        *,
        start: int = 0,
        length: int | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> AsyncIterator[bytes]:
        if digest not in self.blobs:
            raise StorageError(f"no blob {digest}")
        data = self.blobs[digest][start:]
        data = data if length is None else data[:length]
        step = min(self._chunk, chunk_bytes)
        for at in range(0, len(data), step):
            yield data[at : at + step]

    async def local_path(self, digest: str) -> Path:
        raise StorageError("this store has no files")

    async def exists(self, digest: str) -> bool:
        return digest in self.blobs

    async def delete(self, digest: str) -> None:
        self.blobs.pop(digest, None)

    async def stored(self) -> AsyncIterator[StoredBlob]:
        for digest, data in list(self.blobs.items()):
            yield StoredBlob(digest, len(data), 0)

    async def presigned(self, digest: str, *, seconds: int) -> str | None:
        return None if self.elsewhere is None else f"{self.elsewhere}/{digest}?s={seconds}"

    async def claim(self, owner: str) -> str:
        return owner

    async def free_bytes(self) -> int:
        return 2**40

    def close(self) -> None:
        return None


@dataclass
class FakeAttachment:
    """Remembers whether the answer was delivered."""

    done: bool = False

    def delivered(self, *, final: bool = False) -> None:
        self.done = True


@dataclass
class FakeGateway:
    """Plays the gateway; what it was asked is kept for the test to look at."""

    channels: Channels
    storage: MemoryStore
    clock: Clock
    picture: bytes = field(default_factory=lambda: png(8, 6))
    failure: JobFailure | None = None
    failed_jobs: int = 0
    """With `failure`: how many of the first jobs fail; 0 means all."""
    refusal: Exception | None = None
    partials: list[Path] = field(default_factory=list)
    hold: asyncio.Event | None = None
    come_again_s: float = 1.0
    replayed: bool = False
    accepting: bool = True
    leaving: bool = False
    lines: list[StatementLine] = field(default_factory=list)
    budgets: tuple[BudgetState, ...] = ()
    limits: tuple[LimitNotice, ...] = ()
    requests: list[ImageRequest] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    given: list[frozenset[str]] = field(default_factory=list)
    attachments: list[FakeAttachment] = field(default_factory=list)
    detached: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    jobs: dict[str, Job] = field(default_factory=dict)
    images: dict[str, ImageRecord] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    queued: list[Queued | None] = field(default_factory=list)
    asked_for: list[JobFilter] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    unwatched: asyncio.Event = field(default_factory=asyncio.Event)
    patient_keys: set[str] = field(default_factory=set)
    """Keys whose plain answers may begin with white space."""

    async def authenticate(self, raw_key: str) -> Identity:
        if raw_key not in IDENTITIES:
            raise AuthenticationFailed("The API key is not valid.")
        identity = IDENTITIES[raw_key]
        return msgspec.structs.replace(identity, keep_alive=raw_key in self.patient_keys)

    async def stage_input(self, path: Path, *, param: str) -> BlobRef:
        data = path.read_bytes()
        if not data.startswith(b"\x89PNG"):
            raise InvalidImage("This is no picture.", param=param)
        return msgspec.structs.replace(self.storage.keep(data), has_alpha=True)

    def check(
        self, request: ImageRequest, *, given: frozenset[str], stream: bool = False
    ) -> ImageRequest:
        return self.channels.check(request, given=given, stream=stream)

    def quote(self, request: ImageRequest) -> Quote:
        return self.channels.quote(request)

    async def outlook(self, request: ImageRequest) -> Outlook:
        return Outlook(serves=True, images_per_minute=60.0, burst=12, window_s=61.0, waiting=3)

    async def submit(
        self,
        request: ImageRequest,
        caller: Caller,
        *,
        given: frozenset[str],
        stream: bool = False,
        queued: Queued | None = None,
    ) -> Order:
        self.check(request, given=given, stream=stream)
        if self.refusal is not None:
            raise self.refusal
        self.requests.append(request)
        self.callers.append(caller)
        self.given.append(given)
        self.queued.append(queued)
        jobs = tuple(self._job(request, caller, n) for n in range(request.n))
        if queued is not None:
            jobs = tuple(self._wait_in_line(job, queued) for job in jobs)
        return Order(
            request_id=jobs[0].request_id, jobs=jobs, replayed=self.replayed, limits=self.limits
        )

    def _job(self, request: ImageRequest, caller: Caller, n: int) -> Job:
        quote = self.quote(request)
        number = len(self.jobs) + 1
        job = Job(
            id=f"job_{number}",
            request_id=f"req_{len(self.requests)}",
            customer_id=caller.customer_id,
            key_id=caller.key_id,
            n=n,
            state=JobState.IN_PROGRESS,
            stage=None,
            request=request,
            size_plan=quote.size_plan,
            price_micros=quote.price_micros,
            reserve_id=f"tr_{number}",
            epoch=1,
            deadline_at=self.clock.now_ms() + 300_000,
            created_at=self.clock.now_ms(),
            metadata=caller.metadata,
        )
        self.jobs[job.id] = job
        return job

    def _wait_in_line(self, job: Job, queued: Queued) -> Job:
        return self.put(
            job,
            state=JobState.QUEUED,
            job_class=queued.job_class,
            priority=queued.priority,
            not_before=queued.not_before,
        )

    def put(self, job: Job, **changes: object) -> Job:
        """Change a job."""
        self.jobs[job.id] = msgspec.structs.replace(job, **changes)
        return self.jobs[job.id]

    def _ended(self, job: Job) -> Job:
        fails = self.failure is not None and (not self.failed_jobs or job.n < self.failed_jobs)
        now = self.clock.now_ms()
        if fails:
            ended = msgspec.structs.replace(
                job, state=JobState.FAILED, failure=self.failure, completed_at=now
            )
        else:
            image = self.add_image(job.customer_id, self.picture, job_id=job.id)
            ended = msgspec.structs.replace(
                job,
                state=JobState.COMPLETED,
                image=image,
                completed_at=now,
                attempts=1,
                usage=USAGE,
            )
        self.jobs[job.id] = ended
        return ended

    def add_image(self, customer_id: str, data: bytes, *, job_id: str = "job_0") -> ImageRecord:
        """Keep a finished picture of a customer."""
        record = ImageRecord(
            id=f"{len(self.images) + 1:032x}",
            job_id=job_id,
            customer_id=customer_id,
            blob=self.storage.keep(data),
            created_at=self.clock.now_ms(),
            link_ttl_s=3600,
            link_epoch=0,
        )
        self.images[record.id] = record
        return record

    @asynccontextmanager
    async def attached(self, order: Order) -> AsyncIterator[FakeAttachment]:
        attachment = FakeAttachment()
        self.attachments.append(attachment)
        try:
            yield attachment
        finally:
            self.detached.set()

    async def wait(
        self, order: Order, *, timeout_s: float | None = None, until: Until | None = None
    ) -> tuple[Job, ...]:
        self.waiting.set()
        if self.hold is not None:
            until = until or partial(until_done, Alarms())
            held = asyncio.ensure_future(self.hold.wait())
            try:
                await until(held, timeout_s=timeout_s)
                if not held.done():
                    raise DeadlineExceeded("Not finished yet.", retry_after_s=self.come_again_s)
            finally:
                held.cancel()
        return tuple(self._ended(job) for job in order.jobs)

    async def events(self, order: Order) -> AsyncIterator[Event]:
        for index, path in enumerate(self.partials):
            yield PartialImage(order.jobs[0].id, index, path)
        self.waiting.set()
        if self.hold is not None:
            await self.hold.wait()
        if isinstance(self.refusal, SafelightError):
            raise self.refusal
        for job in order.jobs:
            yield JobEnded(self._ended(job))

    async def job(self, customer_id: str, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None or job.customer_id != customer_id:
            raise NotFound("No such job.")
        return job

    async def job_page(
        self,
        customer_id: str,
        chosen: JobFilter,
        *,
        after: str | None,
        newest_first: bool,
        limit: int,
    ) -> JobPage:
        self.asked_for.append(chosen)
        mine = [job for job in self.jobs.values() if job.customer_id == customer_id]
        if newest_first:
            mine.reverse()
        if after is not None:
            ids = [job.id for job in mine]
            if after not in ids:
                raise InvalidValue("No such job.", param="after")
            mine = mine[ids.index(after) + 1 :]
        return JobPage(tuple(mine[:limit]), len(mine) > limit)

    async def cancel(self, customer_id: str, job_id: str) -> Job:
        job = await self.job(customer_id, job_id)
        if job.state.terminal:
            return job
        now = self.clock.now_ms()
        if job.state is JobState.IN_PROGRESS:
            return self.put(job, cancel_requested_at=now)
        return self.put(job, state=JobState.CANCELLED, cancel_requested_at=now, completed_at=now)

    async def ended_within(self, job: Job, seconds: float) -> Job:
        self.waited_s.append(seconds)
        if self.hold is None:
            return self._ended(job)
        self.waiting.set()
        await self.hold.wait()
        return self.jobs[job.id]

    async def standings(self, found: Sequence[Job]) -> dict[str, Standing]:
        finish_at = self.clock.now_ms() + 25_000
        return {
            job.id: Standing()
            if job.state.terminal
            else Standing(3 if job.state is JobState.QUEUED else None, finish_at)
            for job in found
        }

    async def progress(self, job: Job, *, after: str | None = None) -> AsyncGenerator[Update, None]:
        try:
            async for update in self._told(job, after):
                yield update
        finally:
            self.unwatched.set()

    async def _told(self, job: Job, told: str | None) -> AsyncIterator[Update]:
        while True:
            job = self.jobs[job.id]
            steps = history(job, (), now_ms=self.clock.now_ms())
            names = [step.name for step in steps]
            standing = (await self.standings([job]))[job.id]
            for step in steps[names.index(told) + 1 if told in names else 0 :]:
                yield Told(step, job, standing)
                told = step.name
            if job.state.terminal:
                return
            for index, path in enumerate(self.partials):
                yield PartialImage(job.id, index, path)
            self.waiting.set()
            if self.hold is not None:
                await self.hold.wait()
            if isinstance(self.refusal, SafelightError):
                raise self.refusal
            self._ended(job)

    async def receipt(self, customer_id: str, job_id: str) -> Receipt:
        found = self.receipts.get(job_id)
        if found is None or found.job.customer_id != customer_id:
            raise NotFound(f"No job has the id {job_id!r}.", param="id")
        return found

    async def image(self, image_id: str) -> ImageRecord:
        if image_id not in self.images:
            raise NotFound("No such image.")
        return self.images[image_id]

    async def key_balance(self, identity: Identity) -> KeyBalance:
        return KeyBalance(
            posted_micros=1_000_000,
            held_micros=30_000,
            available_micros=970_000,
            credit_line_micros=500_000,
            budgets=self.budgets,
        )

    async def statement(
        self,
        customer_id: str,
        *,
        after: str | None,
        limit: int,
        from_s: int | None,
        to_s: int | None,
    ) -> StatementPage:
        ids = [line.id for line in self.lines]
        if after is not None and after not in ids:
            raise InvalidValue("No such line.", param="after")
        start = 0 if after is None else ids.index(after) + 1
        rest = [
            line
            for line in self.lines[start:]
            if (from_s is None or line.created_at >= from_s)
            and (to_s is None or line.created_at < to_s)
        ]
        return StatementPage(lines=tuple(rest[:limit]), has_more=len(rest) > limit)
