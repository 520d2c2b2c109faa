"""A whole gateway on filled books, with an upstream that answers at once from memory.

Owns the composition: the program's own root (`app.App`), with the two parts exchanged that would
wait or work by themselves: the upstream and the engine of the queues. Its background work is not
started; whoever measures calls each round by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from safelight.app import App
from safelight.bench.growth.books import CHANNEL, GROUPS_MAX, OTHER_CHANNEL, ROUTE, Books, write
from safelight.bench.growth.counting import Counted, Counter
from safelight.bench.picture import make_picture, weight
from safelight.clock import Clock, SystemClock
from safelight.config import Config, load_config
from safelight.db import Database
from safelight.engine import Engine, Work
from safelight.gateway.orders import Caller, Order, Queued
from safelight.opening import open_database
from safelight.types import (
    Account,
    ImageRequest,
    Job,
    Operation,
    Received,
    UpstreamCall,
)
from safelight.upstreams import PartialSink, Upstream
from safelight.upstreams.spool import Spool

UPSTREAM = "memory"
PER_MINUTE = 1000.0
"""Of each limiter group: so that attempts are counted in the journal, and never held back."""


class _Memory:
    """An upstream that has its pictures already; each is another file."""

    def __init__(self) -> None:
        self._made = 0
        self._weight = weight("1kb")

    async def generate(
        self,
        account: Account,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Received:
        """Write a small picture, whatever was asked by whom."""
        del account, call, deadline, on_partial
        self._made += 1
        with Spool(spool) as file:
            file.write(make_picture(self._weight, self._made))
            return file.commit(upstream_request_id=f"req_{self._made}")

    def check(self, account: Account) -> Account:
        """Take any account."""
        return account

    async def probe(self, account: Account, *, deadline: float) -> None:
        """Accept every credential."""

    async def close(self) -> None:
        """Have nothing to close."""


class _Silent:
    """An engine that reminds nobody: whoever measures runs the queued jobs itself."""

    async def enqueue(self, works: Iterable[Work]) -> None:
        """Forget them."""

    async def withdraw(self, keys: Iterable[str]) -> None:
        """Forget them."""

    async def start(self) -> None:
        """Call nobody."""

    async def look(self) -> None:
        """Look for nothing."""

    async def pause(self) -> None:
        """Be quiet already."""

    async def stop(self) -> None:
        """Be over already."""


class House(App):
    """One gateway; `open` lets it accept, `close` ends it.

    With `check` its file is looked through for damage, as any start does; in a measurement the look
    beside the service would be counted as part of what is measured.
    """

    def __init__(self, config: Config, books: Books, clock: Clock, *, check: bool = False) -> None:
        self.books = books
        self._check = check
        self.counter = Counter()
        super().__init__(config, clock)

    def make_database(self) -> Database:
        """Open the books so that what they do can be counted."""
        database = open_database(self.config.data_dir, self.clock, check=self._check)
        return Counted(database, self.counter)

    def make_upstream(self, name: str) -> Upstream:
        """Make the upstream of this bench."""
        del name
        return _Memory()

    def make_engine(self) -> Engine:
        """Make no queues: the rows decide."""
        return _Silent()

    async def open(self) -> House:
        """Let it accept orders, without any background work."""
        await self.processes.beat(self.db)
        await self.upkeep.share()
        await self._recovery.take_page()
        self.gateway.accepting = True
        return self

    async def close(self) -> None:
        """End it."""
        await self.stop(drain_s=5)

    # --- what its customers do -------------------------------------------------------------

    async def submit(self, customer: int, *, queued: bool = False) -> Order:
        """Order a picture for one of the customers."""
        request = ImageRequest(
            operation=Operation.GENERATION, channel=CHANNEL, prompt="a lamp", size="1024x1024"
        )
        caller = Caller(
            customer_id=self.books.customers[customer],
            key_id=self.books.keys[customer],
            route=ROUTE,
        )
        return await self.gateway.submit(
            request,
            caller,
            given=frozenset({"prompt", "size"}),
            queued=Queued() if queued else None,
        )

    async def buy(self, customer: int) -> Job:
        """Order a picture and take delivery."""
        order = await self.submit(customer)
        async with self.gateway.attached(order) as attachment:
            (job,) = await self.gateway.wait(order)
            attachment.delivered()
        return job

    # --- rounds of the background work -----------------------------------------------------

    async def look_for_the_dead(self) -> None:
        """Look for jobs of dead processes."""
        await self._recovery.look()

    async def reap(self) -> None:
        """Look at the open jobs."""
        await self._reaper.look()

    async def beat(self) -> None:
        """Give a sign of life."""
        await self.processes.beat(self.db)


async def fill(
    folder: Path, *, jobs: int, customers: int, accounts: int, queued: int, clock: Clock
) -> Books:
    """Make a data folder with books of that size."""
    folder.mkdir(parents=True, exist_ok=True)
    database = open_database(folder, clock, environ={})
    await database.close()
    return write(
        folder / "safelight.db",
        jobs=jobs,
        customers=customers,
        accounts=accounts,
        queued=queued,
        now_ms=clock.now_ms(),
    )


def configured(folder: Path, accounts: int) -> Config:
    """Return the configuration of a gateway with that many accounts."""
    config = load_config(None, folder, environ={})
    made = tuple(account(at) for at in range(accounts))
    return msgspec.structs.replace(config, accounts=made)


def account(
    at: int, *, per_minute: float | None = PER_MINUTE, max_in_flight: int | None = None
) -> Account:
    """Return one of many accounts, with its group's limit."""
    return Account(
        name=f"account-{at}",
        upstream=UPSTREAM,
        group=f"group-{at % GROUPS_MAX}",
        channels=(CHANNEL, OTHER_CHANNEL),
        images_per_minute=per_minute,
        max_in_flight=max_in_flight,
    )


def house(folder: Path, books: Books, *, accounts: int, clock: Clock | None = None) -> House:
    """Return a gateway on filled books."""
    return House(configured(folder, accounts), books, clock or SystemClock())
