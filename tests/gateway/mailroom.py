"""Receivers of webhooks on loopback, and one gateway's way to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import standardwebhooks
from aiohttp import web

from gateway.house import House
from safelight.api.webhooks import JobMessages
from safelight.clock import ManualClock
from safelight.config import WebhooksConfig
from safelight.db import Transaction
from safelight.engine import Work
from safelight.gateway.notifying import Notifying
from safelight.gateway.registering import Registering
from safelight.guarded import GuardedClient
from safelight.keyring import Keyring
from safelight.links import Links
from safelight.strangers import Rules
from safelight.types import Identity, Job
from safelight.webhooks import Webhook

LOOPBACK = WebhooksConfig(allow_http=True, allow_networks=("127.0.0.1/32",))
ME = Identity("cus_1", "key_1")


@dataclass(frozen=True)
class Letter:
    """A message as it arrived, and when by the sender's clock."""

    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def data(self) -> Any:
        return msgspec.json.decode(self.body)["data"]


@dataclass
class Receiver:
    """A web server that takes messages.

    Args:
        house: whose clock tells the time.
        statuses: of the next answers; then 200.
        answer_headers: of all answers.
        gate: answers wait for it.
    """

    house: House
    statuses: list[int] = field(default_factory=list)
    answer_headers: dict[str, str] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    letters: list[Letter] = field(default_factory=list)
    taken: list[Letter] = field(default_factory=list)
    """Those that were answered with 200."""
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    busy: int = 0
    busiest: int = 0
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        letter = Letter(
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
            self.house.clock.monotonic(),
        )
        self.letters.append(letter)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        async with self.arrived:
            self.arrived.notify_all()
        await self.gate.wait()
        self.busy -= 1
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.taken.append(letter)
        return web.Response(status=status, headers=self.answer_headers)

    async def wait_for(self, letters: int) -> None:
        """Wait until so many letters have come."""
        async with asyncio.timeout(20), self.arrived:
            await self.arrived.wait_for(lambda: len(self.letters) >= letters)


@asynccontextmanager
async def receiver(house: House, *statuses: int, **values: Any) -> AsyncIterator[Receiver]:
    """Serve a receiver on loopback."""
    made = Receiver(house, list(statuses), **values)
    made.gate.set()
    app = web.Application()
    app.router.add_post("/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"{site.name}/hook"
    yield made
    made.gate.set()
    await runner.cleanup()


async def batch_view(customer_id: str, batch_id: str) -> dict[str, str]:
    """Return what a message says of a batch, here."""
    return {"id": batch_id, "of": customer_id}


class HandEngine:
    """An engine that works when it is told to, all at one time."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.works: list[Work] = []
        self.lose = False
        """Whether what is queued is lost."""

    async def enqueue(self, works: Iterable[Work]) -> None:
        for work in works:
            if work.key not in self.keys:
                self.keys.add(work.key)
                self.works += [] if self.lose else [work]

    async def withdraw(self, keys: Iterable[str]) -> None:
        raise AssertionError(f"messages are not withdrawn: {keys}")

    async def start(self) -> None:
        return

    async def look(self) -> None:
        return

    async def pause(self) -> None:
        return

    async def stop(self) -> None:
        return


class Mailroom:
    """The webhooks of one gateway process."""

    def __init__(self, house: House, config: WebhooksConfig = LOOPBACK) -> None:
        self.house = house
        self.engine = HandEngine()
        keyring = Keyring.load_or_create(house.config.data_dir)
        client = GuardedClient(Rules(config))
        links = Links(keyring, house.clock)
        server = house.config.server
        self.notifying = Notifying(
            house.parts,
            processes=house.processes,
            engine=self.engine,
            client=client,
            derive=keyring.webhook_key,
            views={"job": JobMessages(house.gateway, links, server), "batch": batch_view},
            config=config,
        )
        self.registering = Registering(house.parts, self.notifying)

    async def register(
        self, url: str, *events: str, key_id: str | None = None
    ) -> tuple[Webhook, str]:
        """Register an address; return the webhook and its secret."""
        made, signing = await self.registering.create(
            ME, url=url, events=events or ("*",), description="", key_id=key_id
        )
        return made, signing.secret.reveal()

    async def run(self) -> int:
        """Deliver what is due now, until nothing is; return how many attempts were made."""
        made = 0
        while True:
            await self.notifying.sweep()
            works, self.engine.works = self.engine.works, []
            if not works:
                return made
            made += len(works)
            await asyncio.gather(*(self.notifying.deliver(work.item) for work in works))

    async def rows(self) -> list[dict[str, Any]]:
        """Return the outbox, oldest first."""

        def read(tx: Transaction) -> list[dict[str, Any]]:
            found = tx.all("SELECT * FROM webhook_delivery ORDER BY created_at, id")
            return [dict(row) for row in found]

        return await self.house.db.read(read)


def pass_time(house: House, seconds: float) -> None:
    assert isinstance(house.clock, ManualClock)
    house.clock.advance(seconds)


def check(letter: Letter, secret: str) -> None:
    """Compare with what the official package signs; its `verify` knows no clock but its own."""
    moment = datetime.fromtimestamp(int(letter.headers["webhook-timestamp"]), UTC)
    signed = standardwebhooks.Webhook(secret).sign(letter.id, moment, letter.body.decode())
    assert signed in letter.headers["webhook-signature"].split(" ")


async def sell(house: House, prompt: str = "a lamp", **more: Any) -> Job:
    (job,) = await house.buy(prompt, **more)
    return job
