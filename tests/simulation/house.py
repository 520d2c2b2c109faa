"""One gateway process in virtual time: the composition root itself over simulated parts.

Owns the life of the process (start, kill, freeze, drain) and the connections of its clients. The
faults come from outside.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

from engines import MemoryEngine, Queues
from safelight.app import App
from safelight.config import Config
from safelight.db import Database
from safelight.engine import Engine
from safelight.images import PixelWorker
from safelight.upstreams import Upstream
from simulation.blobs import Shelf, SimulatedStore
from simulation.database import SimulatedDatabase, Tables
from simulation.lives import Life
from simulation.market import Market, SimulatedUpstream
from simulation.pictures import CleaningInPlace
from simulation.trace import Trace
from simulation.weather import Weather

DRAIN_S = 30.0


class ConnectionLost(Exception):
    """The client's connection ended without an answer."""


class WallClock:
    """Virtual time; the wall clock may jump."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        return 1_800_000_000_000 + round(self.monotonic() * 1000) + self.offset_ms

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class World:
    """What outlives every process of a run: disks, vendors, weather, clocks."""

    def __init__(self, seed: int, folder: Path, trace: Trace) -> None:
        self.seed = seed
        self.folder = folder
        self.trace = trace
        self.weather = Weather(seed)
        self.clock = WallClock()
        self.tables = Tables()
        (folder / "files").mkdir()
        self.shelf = Shelf(folder / "files")
        self.queues = Queues()
        self.over = False
        """Whether the run has ended: what is left of it reaches no disk any more."""
        self.graves: list[Life] = []
        self.remains: list[asyncio.Task[object]] = []
        """Tasks of the dead, kept as they are: if they were collected, their ends would run."""
        self.lapses: list[tuple[float, float]] = []
        """When a process was dead or stood still and the others could not know: from, until."""
        self.answering: set[tuple[str, int]] = set()
        """Requests that a wish was answered with, and of which that is not written yet."""
        self.unnoted: set[str] = set()
        """Requests of which it could not be written that a caller left or has its answer."""

    def rng(self, name: str) -> random.Random:
        """Return the dice of one part: more throws there change nothing elsewhere."""
        return random.Random(f"{name} {self.seed}")


class SimulatedApp(App):
    """The product's own composition over the parts of a world.

    Args:
        config: accounts of the upstream `simulated`.
        world: what it stands in.
        market: where it buys.
        life: the process that it is.
        die: ends that process, and says where.
        rng: for everything that the process draws.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        market: Market,
        life: Life,
        die: Callable[[str], None],
        rng: random.Random,
    ) -> None:
        self._world = world
        self._market = market
        self._life = life
        self._die = die
        self._dice = rng
        super().__init__(config, world.clock, rng=rng)

    def make_database(self) -> Database:
        world = self._world
        return SimulatedDatabase(
            world.tables, world.clock, self._die, world.weather, self._dice, lambda: world.over
        )

    def make_store(self) -> SimulatedStore:
        return SimulatedStore(self._world.shelf, self._die, self._world.weather, self._dice)

    def make_engine(self) -> Engine:
        return MemoryEngine(self._world.queues, self.owner, self.handlers)

    def make_pixels(self) -> PixelWorker:
        return PixelWorker(cleaner=CleaningInPlace())

    def make_upstream(self, name: str) -> Upstream:  # noqa: ARG002  (there is only one kind)
        world = self._world
        return SimulatedUpstream(self._market, world.clock, self._life, self._die, world.weather)


class Connection:
    """A client's connection to a process; `answer` is what comes over it."""

    def __init__(self, house: House) -> None:
        self.answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        """Whether the process has seen that the client has hung up."""
        self._house = house

    def send(self, answer: object) -> bool:
        """Send the answer; False when the client has hung up."""
        if self.answer.done():
            return False
        self.answer.set_result(answer)
        return True

    def close(self) -> None:
        """Hang up, or let the client know that nobody is there."""
        if not self.answer.done():
            self.answer.set_exception(ConnectionLost())
            self.answer.exception()  # the client may have left too
        self._house.life.call(self.gone.set)


class House:
    """One run of one process.

    Args:
        name: for the trace.
        config: with the data folder of its host.
        world: what it stands in.
        market: where it buys.
        on_death: told when it has been killed.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        world: World,
        market: Market,
        on_death: Callable[[House], None],
    ) -> None:
        self.name = name
        self.life = Life(name)
        self.open = False
        """Whether it takes connections."""
        self._world = world
        self._market = market
        self._on_death = on_death
        self._connections: dict[Connection, None] = {}
        self._config = config
        self._app: App | None = None

    @property
    def app(self) -> App:
        assert self._app is not None
        return self._app

    async def start(self) -> None:
        """Begin as `safelight serve` does."""
        rng = self._world.rng(self.name)

        async def begin() -> None:
            self._app = SimulatedApp(
                self._config, self._world, self._market, self.life, self.die, rng
            )
            await self._app.start()
            self.open = True

        await self._until_dead(self.life.begin(begin()))

    def connect(self, serve: Callable[[App, Connection], Awaitable[None]]) -> Connection:
        """Open a connection, and serve it in the process."""
        connection = Connection(self)
        self._connections[connection] = None

        async def handle() -> None:
            try:
                await serve(self.app, connection)
            finally:
                self._connections.pop(connection, None)
                if not self._world.over:
                    connection.close()

        self.life.begin(handle())
        return connection

    def die(self, where: str = "") -> None:
        """End as a killed process does: nothing of it runs any more."""
        if self.life.dead:
            return
        self._world.trace.note("kill", self.name, where)
        self.open = False
        self.life.die()
        self._world.graves.append(self.life)
        self._world.remains += asyncio.all_tasks()
        if self._app is not None:
            self._app.processes.files.die()
            self._world.queues.bury(self._app.owner)
        self._market.bury(self.life)
        for connection in list(self._connections):
            connection.close()
        self._connections.clear()
        self._on_death(self)

    async def drain(self, seconds: float) -> None:
        """End as a process does that was told to."""
        self._world.trace.note("drain", self.name)

        async def end() -> None:
            self.app.gateway.accepting = False
            await self.app.stop(seconds)

        self.open = False
        await self._until_dead(self.life.begin(end()))
        if not self.life.dead:
            self.die("drained")

    async def _until_dead(self, task: asyncio.Task[None]) -> None:
        """Wait for work of the process, but not for the work of a dead one."""
        while not task.done() and not self.life.dead:
            await asyncio.wait([task], timeout=1.0)
        if task.done():
            task.result()
