"""A day of the whole gateway in virtual time: one seed, a few hundred orders, every kind of fault.

Owns the run: customers and accounts, the coming and going of processes, the strokes of fate, the
healing at the end. `witness.py` judges it. A seed replays identically:

    PYTHONPATH=tests python -m simulation.gateway --seed N --trace
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from safelight import customers, ledger
from safelight.config import Config, load_config
from safelight.db import Transaction
from safelight.errors import StorageError, Unavailable
from safelight.gateway.orders import Queued
from safelight.types import Account, Operation
from simulation import witness
from simulation.buyers import Buyer, Wish
from simulation.house import House, World
from simulation.lives import LivesLoop
from simulation.market import Market
from simulation.trace import Trace

JOBS = 500
CUSTOMERS = ("cus_rich", "cus_poor", "cus_third")
CREDIT = {"cus_rich": 100_000_000, "cus_poor": 900_000, "cus_third": 6_000_000}
VIP, ALL, DIRECT = "gpt-image-2-vip", "gpt-image-2-all", "gpt-image-2"
LEASE_S, LEASE_LOOKS = 12.0, 3
"""How long a silent process elsewhere counts as alive, and how many times that until all know."""
HEALING_S = 2400.0
"""How long everything may take to end once nothing fails any more."""

Stroke = Callable[[random.Random], Awaitable[None]]


@dataclass(frozen=True)
class Report:
    """What a run was."""

    seed: int
    wrong: tuple[str, ...]
    digest: str
    counts: Counter[str]
    jobs: int
    hours: float
    weather: str


def simulate(seed: int, jobs: int = JOBS, *, show: bool = False) -> Report:
    """Play one seed."""
    trace = Trace(show=show)
    dice = random.Random(f"threads {seed}")
    slow_threads = dice.random() < 0.3
    folder = Path(tempfile.mkdtemp(prefix="safelight-sim-", dir=_fast_disk()))

    def thread_s() -> float:
        return dice.uniform(0.0005, 0.02) if slow_threads else 0.0

    loop = LivesLoop(thread_s)
    try:
        world, report = loop.run_until_complete(_day(seed, jobs, folder, trace))
        trace.closed = True
        with listening(trace, set()):
            _bury(loop, world)
            del world
            loop.close()
            gc.collect()  # or the remains say something in the midst of the next seed
        return report
    finally:
        loop.close()
        shutil.rmtree(folder, ignore_errors=True)


async def _day(seed: int, jobs: int, folder: Path, trace: Trace) -> tuple[World, Report]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: trace.blame(f"unhandled: {context}"))
    world = World(seed, folder, trace)
    town = Town(world)
    began = loop.time()
    with listening(trace, world.unnoted):
        made = await town.live(jobs)
    report = Report(
        seed=seed,
        wrong=tuple(trace.wrong),
        digest=trace.digest,
        counts=trace.counts,
        jobs=made,
        hours=(loop.time() - began) / 3600,
        weather=str(world.weather),
    )
    return world, report


def _bury(loop: LivesLoop, world: World) -> None:
    """Take the remains of the dead apart, so that the collector finds nothing unfinished."""
    world.over = True
    loop.set_exception_handler(lambda *_: None)
    for life in world.graves:
        life.rise()
    for _ in range(20):
        left = asyncio.all_tasks(loop)
        if not left:
            break
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=60))
    world.remains.clear()
    loop.run_until_complete(loop.shutdown_asyncgens())


class Town:
    """All processes and all clients of a run.

    Args:
        world: what outlives the processes.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._rng = world.rng("town")
        self.accounts, limits = _accounts(world.rng("accounts"))
        self.market = Market(world.weather, limits, world.trace, world.rng("market"))
        unlucky = self._rng.choice(self.accounts)
        self.market.unlucky = unlucky.name
        self.houses: list[House] = []
        self.wishes: list[Wish] = []
        self._shared = self._rng.random() < 0.5
        """Whether all processes share a data folder, as on one machine."""
        self._count = self._rng.choice((1, 1, 2, 2, 3))
        self._runs = 0
        self._keepers: list[asyncio.Task[None]] = []
        self._drains: list[asyncio.Task[None]] = []
        self._closing = False
        self._jumps: list[float] = []

    async def live(self, jobs: int) -> int:
        """Play the day to its end; return how many jobs were ordered."""
        world = self.world
        _open_accounts(world)
        for place in range(self._count):
            self._keepers.append(asyncio.ensure_future(self._keep(place)))
        fates = [asyncio.ensure_future(fate) for fate in self._fates()]
        self.wishes = _wishes(world.rng("wishes"), jobs)
        _queue_some(world.rng("queue"), self.wishes)
        buyer = Buyer(world, self.houses, world.rng("buyers"))
        clients = []
        arrivals = world.rng("arrivals")
        per_s = math.exp(arrivals.uniform(math.log(0.5), math.log(4)))
        for wish in self.wishes:
            await asyncio.sleep(arrivals.expovariate(per_s))
            clients.append(asyncio.ensure_future(buyer.buy(wish)))
            if arrivals.random() < 0.008:
                self._audit()
        await asyncio.sleep(arrivals.uniform(0, 120))
        world.weather.heal()
        world.trace.note("healed")
        for fate in fates:
            fate.cancel()
        for house in self.houses:
            house.life.go_on()
        await self._finish(clients)
        return sum(wish.n for wish in self.wishes)

    async def _finish(self, clients: list[asyncio.Task[None]]) -> None:
        _, hanging = await asyncio.wait(clients, timeout=HEALING_S)
        for wish in self.wishes:
            if wish.ended == 0.0:
                self.world.trace.blame(f"wish {wish.number} hangs: {wish}")
        for task in hanging:
            task.cancel()
        until = asyncio.get_running_loop().time() + HEALING_S
        loop = asyncio.get_running_loop()
        while witness.open_jobs(self.world) and loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(1.0)
        self._closing = True
        for house in [house for house in self.houses if house.open]:
            await house.drain(30.0)
        for task in self._keepers:
            task.cancel()
        for end in await asyncio.gather(*self._keepers, *self._drains, return_exceptions=True):
            if isinstance(end, Exception):
                self.world.trace.blame(f"a process could not be kept: {end!r}")
        witness.judge(self.world, self.market, self.wishes, self.accounts, tuple(self._jumps))

    def _audit(self) -> None:
        for fault in witness.audit(self.world):
            self.world.trace.blame(f"in the midst: {fault}")

    # --- processes -------------------------------------------------------------------------------

    async def _keep(self, place: int) -> None:
        """Keep one process running, as a supervisor does."""
        rng = self.world.rng(f"keeper {place}")
        while not self._closing:
            ended = asyncio.Event()
            self._runs += 1
            house = House(
                f"p{place}.{self._runs}",
                self._config(place),
                self.world,
                self.market,
                lambda _, ended=ended: ended.set(),  # type: ignore[misc]
            )
            self.world.trace.note("start", house.name)
            self.houses.append(house)
            try:
                await house.start()
            except Unavailable:
                house.die("it cannot start")
            await ended.wait()
            self._lapse(LEASE_LOOKS * LEASE_S)
            self.houses.remove(house)
            if not self.world.weather.healed:
                await asyncio.sleep(rng.uniform(0.5, 30))

    def _config(self, place: int) -> Config:
        folder = self.world.folder / ("data" if self._shared else f"data{place}")
        folder.mkdir(exist_ok=True)
        config = _shipped()
        return msgspec.structs.replace(
            config,
            data_dir=folder,
            accounts=tuple(self.accounts),
            storage=msgspec.structs.replace(config.storage, min_free_bytes=0),
            server=msgspec.structs.replace(config.server, lease_s=LEASE_S),
        )

    # --- fate ------------------------------------------------------------------------------------

    def _fates(self) -> Iterator[Coroutine[None, None, None]]:
        strokes: dict[str, Stroke] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "drain": self._drain,
            "clock-jump": self._jump,
        }
        for name, mean_s in self.world.weather.strokes.items():
            yield self._strike(strokes[name], mean_s, self.world.rng(f"stroke {name}"))

    async def _strike(self, stroke: Stroke, mean_s: float, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.expovariate(1 / mean_s))
            await stroke(rng)

    def _any(self, rng: random.Random) -> House | None:
        running = [house for house in self.houses if house.open and not house.life.frozen]
        return rng.choice(running) if running else None

    async def _kill(self, rng: random.Random) -> None:
        house = self._any(rng)
        if house is not None:
            house.die("at random")

    async def _freeze(self, rng: random.Random) -> None:
        house = self._any(rng)
        if house is None:
            return
        seconds = math.exp(rng.uniform(math.log(0.5), math.log(200)))
        self.world.trace.note("freeze", house.name, round(seconds, 3))
        house.life.freeze()
        self._lapse(seconds + LEASE_LOOKS * LEASE_S)
        await asyncio.sleep(seconds)
        self.world.trace.note("go on", house.name)
        house.life.go_on()

    def _lapse(self, seconds: float) -> None:
        if not self._shared:
            now = asyncio.get_running_loop().time()
            self.world.lapses.append((now, now + seconds))

    async def _drain(self, rng: random.Random) -> None:
        house = self._any(rng)
        if house is not None:
            # A task of its own: the healing ends the strokes, but not a drain that has begun.
            drain = asyncio.ensure_future(house.drain(rng.choice((0.0, 5.0, 60.0))))
            self._drains.append(drain)
            await asyncio.wait([drain])

    async def _jump(self, rng: random.Random) -> None:
        seconds = math.exp(rng.uniform(math.log(1), math.log(7200))) * rng.choice((-1, 1))
        self.world.clock.offset_ms += round(seconds * 1000)
        self._jumps.append(asyncio.get_running_loop().time())
        self.world.trace.note("clock-jump", round(seconds, 3))


@cache
def _shipped() -> Config:
    return load_config(None, Path(), environ={})


# --- who buys what -------------------------------------------------------------------------------


def _open_accounts(world: World) -> None:
    def work(tx: Transaction) -> None:
        for customer_id in CUSTOMERS:
            customers.create_customer(tx, customer_id=customer_id, name=customer_id)
            ledger.open_balance(tx, customer_id)
            ledger.topup(
                tx,
                transfer_id=f"tr_{customer_id}",
                customer_id=customer_id,
                amount_micros=CREDIT[customer_id],
                actor="test",
                reason="credit",
            )
            for number in (1, 2):
                customers.add_key(
                    tx,
                    key=f"sk {customer_id} {number}",
                    key_id=f"key_{customer_id}_{number}",
                    customer_id=customer_id,
                    name=f"{number}",
                    pepper=b"pepper",
                )

    world.tables.change(work, world.clock.now_ms())


def _accounts(rng: random.Random) -> tuple[list[Account], dict[str, float]]:
    """Return the accounts, and the true limits of their groups."""
    groups = [f"g{number}" for number in range(rng.randint(2, 4))]
    true = {group: float(rng.randint(30, 200)) for group in groups if rng.random() < 0.6}
    told = {group: rng.choice((0.7, 1.0, 1.0, 1.5)) * limit for group, limit in true.items()}
    accounts = []
    for number in range(rng.randint(len(groups), 7)):
        group = groups[number % len(groups)]
        accounts.append(
            Account(
                name=f"a{number}",
                upstream="simulated",
                group=group,
                channels=(VIP, ALL, DIRECT),
                base_url=f"https://{'ab'[number % 2]}.test",
                images_per_minute=told.get(group) if number % 3 else true.get(group),
                first_byte_timeout_s=90.0,
                image_cost_micros=rng.choice((None, 11_000)),
            )
        )
    per_group = {one.group: one.images_per_minute for one in accounts}
    return [
        msgspec.structs.replace(one, images_per_minute=per_group[one.group]) for one in accounts
    ], true


def _wishes(rng: random.Random, jobs: int) -> list[Wish]:
    """Return what will be ordered, in order; `jobs` pictures in all."""
    wishes: list[Wish] = []
    left = jobs
    keyed, twins = rng.random(), rng.random() * 0.3
    impatient, edits = rng.random() * 0.5, rng.random() * 0.2
    while left > 0:
        number = len(wishes) + 1
        customer = rng.choices(CUSTOMERS, (6, 1, 2))[0]
        wish = Wish(
            number,
            number,
            customer,
            f"key_{customer}_{rng.randint(1, 2)}",
            f"a lamp, number {number}",
            patience_s=rng.choice((20.0, 60.0, 120.0, 600.0)),
            stream=rng.random() < 0.2,
        )
        drawn = rng.random()
        if drawn < 0.15:
            wish.channel, wish.n = ALL, rng.randint(1, 3)
        elif drawn < 0.2:
            wish.channel = DIRECT
        elif drawn < 0.21:
            wish.size = "1820x1024"
        if rng.random() < edits and wish.size == "1024x1024":
            wish.operation = Operation.EDIT
        if rng.random() < keyed:
            wish.idempotency_key = f"order {number}"
        wish.stubborn = rng.random() < 0.5
        if rng.random() < impatient:
            wish.hang_up_s = math.exp(rng.uniform(math.log(0.01), math.log(60)))
            wish.gives_up = rng.random() < 0.3
        if rng.random() < 0.1:
            wish.deadline_s = rng.uniform(5, 400)
        if wishes and rng.random() < twins:
            _make_twin(wish, rng.choice(wishes[-20:]))
        left -= wish.n
        wishes.append(wish)
    return wishes


def _queue_some(rng: random.Random, wishes: list[Wish]) -> None:
    """Let some wishes be collected later, and some of those be given up meanwhile."""
    share, fickle = rng.random() * 0.4, rng.random() * 0.5
    for wish in wishes:
        if rng.random() >= share:
            continue
        wish.queued = Queued(priority=rng.choice((1, 100, 100, 200)))
        # Whoever orders for later names the order: the picture is collected by its job.
        wish.idempotency_key = f"order {wish.number}"
        wish.stream = wish.stubborn = False
        if rng.random() < fickle:
            wish.cancel_s = math.exp(rng.uniform(math.log(0.01), math.log(120)))


def _make_twin(wish: Wish, other: Wish) -> None:
    """Let a wish have the body of another one; it is an order of its own all the same."""
    wish.customer_id, wish.key_id, wish.prompt = other.customer_id, other.key_id, other.prompt
    wish.n, wish.channel, wish.size = other.n, other.channel, other.size
    wish.operation, wish.stream, wish.body = other.operation, other.stream, other.body


# --- listening to the log -------------------------------------------------------------------------


class _Listener(logging.Handler):
    """Takes faults of our own that are only logged for broken rules."""

    def __init__(self, trace: Trace, unnoted: set[str]) -> None:
        super().__init__(logging.WARNING)
        self._trace = trace
        self._unnoted = unnoted

    def emit(self, record: logging.LogRecord) -> None:
        self._trace.note("log", record.msg)
        if record.msg == "delivery not noted":
            self._unnoted.add(record.__dict__["request_id"])
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, Unavailable | StorageError):
            self._trace.blame(f"{record.msg}: {error!r}")


@contextmanager
def listening(trace: Trace, unnoted: set[str]) -> Iterator[None]:
    """Listen to the product's log."""
    logger, handler = logging.getLogger("safelight"), _Listener(trace, unnoted)
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before[0]


def _fast_disk() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def main() -> int:
    """Play one seed and say what became of it."""
    parser = argparse.ArgumentParser(description="Play one seed of the simulated gateway.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--trace", action="store_true", help="print every event")
    options = parser.parse_args()
    report = simulate(options.seed, options.jobs, show=options.trace)
    for fault in report.wrong:
        print("WRONG", fault)
    print(f"seed {report.seed}: {report.jobs} jobs, {report.hours:.2f} h, {report.digest}")
    print(f"weather: {report.weather}")
    print(", ".join(f"{name} {count}" for name, count in sorted(report.counts.items())))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
