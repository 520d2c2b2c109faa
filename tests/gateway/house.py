"""A whole gateway over a scripted upstream: real database, files and pixels."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pyvips

from engines import MemoryEngine, Queues
from fresh_books import sqlite_books
from safelight import attempts, customers, ledger
from safelight.channels import Channels
from safelight.clock import Clock, SystemClock
from safelight.config import Config, LimitsConfig, QueueConfig, load_config
from safelight.config_watch import LogsConfig
from safelight.costs import MarginWatch
from safelight.db import Database, Transaction
from safelight.db.postgres import PostgresDatabase
from safelight.engine import Handler, Queue
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway import Gateway
from safelight.gateway.notes import Notes
from safelight.gateway.orders import Caller, Order, Queued
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes
from safelight.gateway.queueing import Queueing
from safelight.gateway.reaping import Reaper
from safelight.gateway.recovery import Recovery
from safelight.gateway.refusals import Refusals
from safelight.gateway.spooling import SpoolFolder
from safelight.gateway.verification import Verification
from safelight.images import PixelWorker
from safelight.pool import Pool
from safelight.storage import BlobStore
from safelight.storage.disk import DiskStore
from safelight.types import (
    Account,
    Balance,
    ImageRequest,
    Job,
    Metadata,
    Operation,
    Received,
    StatementLine,
    UpstreamCall,
)
from safelight.upstreams import PartialSink
from safelight.upstreams.spool import Spool

VIP = "gpt-image-2-vip"
PEPPER = b"pepper"
Step = Exception | str | None
"""What the upstream does next: a fault, a size or format to answer instead, or a good answer."""


class ScriptedUpstream:
    """An upstream that follows a list of steps, then answers well; it counts what it sold."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.steps: list[Step] = []
        self.calls: list[tuple[str, UpstreamCall]] = []
        self.deadlines: list[float] = []
        self.sold = 0
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.probes: list[str] = []
        self.refuses: set[str] = set()

    async def generate(
        self,
        account: Account,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Received:
        self.calls.append((account.name, call))
        self.called.set()
        assert deadline > self.clock.monotonic()
        self.deadlines.append(deadline)
        number = len(self.calls)
        step = self.steps.pop(0) if self.steps else None
        await self.gate.wait()
        if isinstance(step, UpstreamError):
            self.sold += bool(step.sold)
        if isinstance(step, Exception):
            raise step
        self.sold += 1
        size = "1024x1024" if call.size == "auto" else call.size
        kind: str = call.output_format
        if step is not None:
            size, kind = (step, kind) if "x" in step else (size, step)
        for index in range(call.partial_images if on_partial else 0):
            path = spool.with_name(f"{spool.name}.partial{index}")
            path.write_bytes(picture("16x16", "png", number))
            assert on_partial is not None
            on_partial(index, path)
        with Spool(spool) as file:
            file.write(picture(size, kind, number))
            return file.commit(upstream_request_id=f"req_{number}")

    def check(self, account: Account) -> Account:
        return account

    async def probe(self, account: Account, *, deadline: float) -> None:
        assert deadline > self.clock.monotonic()
        self.probes.append(account.name)
        if account.name in self.refuses:
            raise UpstreamError(FaultClass.AUTH, "upstream_auth_failed", "No.")

    async def close(self) -> None:
        return None


def picture(size: str, kind: str, seed: int) -> bytes:
    """Return a small encoded picture that differs for each seed."""
    width, height = map(int, size.split("x"))
    colour = [seed % 251, seed // 251 % 251, 90]
    image = pyvips.Image.black(width, height, bands=3).linear(1, colour)
    data: bytes = image.cast("uchar").write_to_buffer(f".{kind}")
    return data


def books_file(folder: Path) -> Path:
    """Return the file beside a folder that says in which Postgres its books are."""
    return folder.with_name(f"{folder.name}.books")


def open_books(folder: Path, clock: Clock) -> Database:
    """Open the database of a folder: the Postgres that is named beside it, or a file of its own."""
    named = books_file(folder)
    if named.exists():
        return PostgresDatabase(named.read_text(), clock, connections=4, readers=2)
    return sqlite_books(folder / "t.db", clock)


class House:
    """One gateway process on a data folder; make another on the same folder to restart it.

    With `db` its database is that one, and not in the folder: so processes on several folders share
    it as replicas on several machines do.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        accounts: tuple[Account, ...] | None = None,
        owner: str = "test",
        db: Database | None = None,
        limits: LimitsConfig | None = None,
        queue: QueueConfig | None = None,
        queues: Queues | None = None,
        store: BlobStore | None = None,
        config: Config | None = None,
        logs: LogsConfig | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.config = config or load_config(None, folder, environ={})
        self.upstream = ScriptedUpstream(self.clock)
        self.db = db or open_books(folder, self.clock)
        self.store: BlobStore = store or DiskStore(folder / "blobs")
        self.accounts = accounts or (account("a"), account("b"))
        self.processes = Processes(folder / "processes", owner, clock=self.clock)
        self.parts = Parts(
            db=self.db,
            pool=Pool(self.accounts, self.clock, random.Random(3)),
            storage=self.store,
            pixels=PixelWorker(),
            channels=Channels(self.config.channels),
            upstreams={"scripted": self.upstream},
            spool=SpoolFolder(folder / "spool", self.processes.files),
            clock=self.clock,
            margins=MarginWatch(0.0, self.clock),
            refusals=Refusals(20),
            notes=Notes(clock=self.clock, logs=logs),
        )
        self.gateway = Gateway(
            self.parts,
            processes=self.processes,
            pepper=PEPPER,
            max_file_bytes=10_000_000,
            min_free_bytes=0,
            max_in_flight=1000,
            limits=limits or self.config.limits,
            queue=queue or self.config.queue,
        )
        self.handlers: dict[Queue, Handler] = {}
        self.engine = MemoryEngine(queues or Queues(), owner, self.handlers)
        self.queueing = Queueing(
            self.gateway,
            self.parts,
            self.processes,
            self.engine,
            width=(queue or self.config.queue).width(1000),
        )
        self.gateway.remind = self.queueing.remind
        self.handlers["jobs"] = self.queueing.run
        self.recovery = Recovery(self.gateway, self.parts, self.processes)
        self.reaper = Reaper(self.gateway, self.parts, self.processes, self.recovery)

    async def open(self, credit: int = 1_000_000) -> House:
        def begin(tx: Transaction) -> None:
            if customers.any_customer(tx):
                return
            customers.create_customer(tx, customer_id="cus_1", name="one")
            ledger.open_balance(tx, "cus_1")
            key, key_id = customers.new_key()
            customers.add_key(
                tx, key=key, key_id="key_1", customer_id="cus_1", name="one", pepper=PEPPER
            )
            assert key_id
            if credit:
                ledger.topup(
                    tx,
                    transfer_id="tr_first",
                    customer_id="cus_1",
                    amount_micros=credit,
                    actor="test",
                    reason="credit",
                )

        await self.db.write(begin)
        await self.processes.beat(self.db)
        await self.recovery.take_page()
        self.gateway.accepting = True
        return self

    async def look(self) -> int:
        """Take over what dead processes left."""
        return await self.recovery.look()

    async def close(self, drain_s: float = 5) -> None:
        await self.engine.pause()
        await self.gateway.drain(drain_s)
        await self.processes.retire(self.db)
        await self._end(0)
        self.parts.spool.leave()
        self.processes.leave()

    async def kill(self) -> None:
        """End as a killed process does: jobs, files and rows stay as they are."""
        self.gateway.accepting = False
        await self._end(0)
        self.processes.files.die()

    async def _end(self, drain_s: float) -> None:
        await self.gateway.drain(drain_s)
        await self.engine.stop()
        self.parts.pixels.close()
        self.store.close()
        await self.db.close()

    async def submit(
        self,
        prompt: str = "a lamp",
        *,
        retry_count: int = 0,
        key: str | None = None,
        patience_s: float = 600.0,
        stream: bool = False,
        queued: Queued | None = None,
        deadline_at: int | None = None,
        metadata: Metadata = (),
        **more: object,
    ) -> Order:
        values: dict[str, object] = {"channel": VIP, "size": "1024x1024", **more}
        values.setdefault("operation", Operation.GENERATION)
        request = ImageRequest(prompt=prompt, **values)  # type: ignore[arg-type]
        caller = Caller(
            customer_id="cus_1",
            key_id="key_1",
            route="/v1/images/generations",
            retry_count=retry_count,
            idempotency_key=key,
            patience_s=patience_s,
            deadline_at=deadline_at,
            metadata=metadata,
        )
        return await self.gateway.submit(
            request, caller, given=frozenset({"prompt", *more}), stream=stream, queued=queued
        )

    async def job(self, order: Order, n: int = 0) -> Job:
        return await self.gateway.job("cus_1", order.jobs[n].id)

    async def collect(self, order: Order) -> tuple[Job, ...]:
        """Wait for a queued order, in whichever process its jobs run."""
        return await self.gateway.wait(order)

    async def buy(self, prompt: str = "a lamp", **more: object) -> tuple[Job, ...]:
        """Order, wait and take delivery."""
        order = await self.submit(prompt, **more)  # type: ignore[arg-type]
        async with self.gateway.attached(order) as attachment:
            done = await self.gateway.wait(order)
            attachment.delivered()
        return done

    async def balance(self) -> Balance:
        return await self.gateway.balance("cus_1")

    async def statement(self) -> tuple[StatementLine, ...]:
        page = await self.gateway.statement(
            "cus_1", after=None, limit=10_000, from_s=None, to_s=None
        )
        return page.lines

    async def audit(self) -> list[str]:
        """Verify everything, every blob included."""
        report = await Verification(self.db, self.store, self.clock).run(blobs=1.0)
        return [str(one) for one in report.findings]

    async def topup(self, amount_micros: int) -> None:
        """Give the customer money."""
        name = self.parts.new_id("tr")
        await self.db.write(
            lambda tx: ledger.topup(
                tx,
                transfer_id=name,
                customer_id="cus_1",
                amount_micros=amount_micros,
                actor="test",
                reason="credit",
            )
        )

    async def waste(self) -> int:
        return sum(waste.sold for waste in (await self.db.read(attempts.waste)).values())

    async def unknown_waste(self) -> int:
        return sum(waste.unknown for waste in (await self.db.read(attempts.waste)).values())


async def until(ready: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    while not ready():  # noqa: ASYNC110  (nobody tells)
        await asyncio.sleep(0)


def account(name: str, group: str | None = None, **more: object) -> Account:
    return Account(
        name=name,
        upstream="scripted",
        group=group or name,
        channels=("gpt-image-2", "gpt-image-2-all", VIP),
        **more,  # type: ignore[arg-type]
    )


Make = Callable[..., House]
