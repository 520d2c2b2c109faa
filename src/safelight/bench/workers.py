"""How many more orders several processes of one server answer than one, each on a core of its own.

Owns the course and the arithmetic. A core for each, and cores for mock and clients beside them, is
more than most machines have. So each process gets the same small share of a CPU (`fences`): what
is left moves mock, clients and disk, and the processes alone are the limit.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from safelight import __version__
from safelight.bench import meter
from safelight.bench.contenders import GATEWAY, Places, Stage, staged
from safelight.bench.errors import BenchError
from safelight.bench.fences import Fences
from safelight.bench.load import connect, drive
from safelight.bench.orders import Orders
from safelight.bench.processes import Cores
from safelight.bench.result import Machine
from safelight.bench.run import this_machine
from safelight.bench.workloads import Workload, workload

Progress = Callable[[str], None]

LIMITED = 0.85
"""A server that used less of what its processes were given was not the limit of its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure: `workers` processes against one.

    Attributes:
        share: of one CPU, for each process.
        clients: connections, the same for both.
        turn_s: seconds of load in each turn.
        fences: makes the bound; None: of the kernel.
    """

    workload: str = "2mb"
    workers: int = 2
    share: float = 0.25
    clients: int = 32
    rounds: int = 5
    turn_s: float = 10.0
    fences: Fences | None = None


class ServerResult(msgspec.Struct, frozen=True, kw_only=True):
    """One server: medians of its turns. `used` is the part of the given CPU time that it took."""

    workers: int
    per_s: float
    lowest_per_s: float
    highest_per_s: float
    cpu_ms: float
    used: float
    orders: int


class WorkersReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run; `ratio` is the median over the rounds of the servers' orders a second."""

    version: str
    machine: Machine
    workload: str
    share: float
    clients: int
    rounds: int
    took_s: float
    ratio: float
    ratio_lowest: float
    ratio_highest: float
    limited: bool
    """Whether the processes were the limit in the middle turn of both; else the ratio says less."""
    servers: tuple[ServerResult, ...]


@dataclass(slots=True)
class _Server:
    """A running server and what its turns came to."""

    workers: int
    stage: Stage
    orders: Orders
    given: float
    """CPUs' worth of time that its processes may take together."""
    per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    answered: int = 0

    async def turn(self, plan: Plan) -> float:
        """Load it once; return its orders a second.

        Raises:
            BenchError: an order failed.
        """
        running = self.stage.contenders[GATEWAY].running
        crew = await connect(running.port, plan.clients)
        before = meter.cpu_seconds(running.pid)
        phase = await drive(crew, self.orders, 10**9, plan.turn_s)
        after = meter.cpu_seconds(running.pid)
        for connection in crew:
            connection.close()
        if phase.failures or not phase.answered:
            raise BenchError(f"orders failed: {dict(phase.failures)}")
        if before is None or after is None:
            raise BenchError("the CPU time of a process cannot be read here")
        self.answered += phase.answered
        self.per_s.append(phase.answered / phase.seconds)
        self.cpu_ms.append((after - before) * 1000 / phase.answered)
        self.used.append((after - before) / (phase.seconds * self.given))
        return self.per_s[-1]

    def result(self) -> ServerResult:
        return ServerResult(
            workers=self.workers,
            per_s=statistics.median(self.per_s),
            lowest_per_s=min(self.per_s),
            highest_per_s=max(self.per_s),
            cpu_ms=statistics.median(self.cpu_ms),
            used=statistics.median(self.used),
            orders=self.answered,
        )


async def run(plan: Plan, progress: Progress) -> WorkersReport:
    """Measure a server of one process and one of several in turns.

    Raises:
        BenchError: a server did not start, its processes could not be fenced, orders failed, or
            a statement does not show every order once.
    """
    began = time.monotonic()
    load = workload(plan.workload)
    async with AsyncExitStack() as ends:
        fences = ends.enter_context((plan.fences or Fences(plan.share)).standing())
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="safelight-bench-")))
        servers = [
            await _start(plan, load, count, folder / str(count), fences, ends)
            for count in (1, plan.workers)
        ]
        ratios = await _measure(plan, servers, progress)
        for server in servers:
            await _check_books(server)
    return WorkersReport(
        version=__version__,
        machine=this_machine(),
        workload=plan.workload,
        share=plan.share,
        clients=plan.clients,
        rounds=plan.rounds,
        took_s=round(time.monotonic() - began, 1),
        ratio=statistics.median(ratios),
        ratio_lowest=min(ratios),
        ratio_highest=max(ratios),
        limited=all(statistics.median(server.used) >= LIMITED for server in servers),
        servers=tuple(server.result() for server in servers),
    )


async def _start(
    plan: Plan, load: Workload, count: int, folder: Path, fences: Fences, ends: AsyncExitStack
) -> _Server:
    folder.mkdir()
    stage = await ends.enter_async_context(
        staged(load, (GATEWAY,), folder, Places(), Cores(), workers=count)
    )
    if GATEWAY not in stage.contenders:
        raise BenchError(stage.absent[GATEWAY])
    contender = stage.contenders[GATEWAY]
    pid = contender.running.pid
    processes = [pid] if count == 1 else meter.children(pid)
    if len(processes) != count:
        raise BenchError(f"a server of {count} processes has {len(processes)}")
    for process in processes:
        fences.fence(process)
    orders = Orders(load, contender.headers)
    return _Server(count, stage, orders, given=count * plan.share)


async def _measure(plan: Plan, servers: Sequence[_Server], progress: Progress) -> list[float]:
    """Let the servers take turns, the first one for warming up; return each round's ratio."""
    ratios = []
    for number in range(plan.rounds + 1):
        progress(f"round {number} of {plan.rounds}")
        first, second = [await server.turn(plan) for server in servers]
        ratios.append(second / first)
    for server in servers:
        del server.per_s[0], server.cpu_ms[0], server.used[0]
    return ratios[1:]


async def _check_books(server: _Server) -> None:
    lines = await server.stage.statement()
    delivered = sum(line["kind"] == "settle" for line in lines)
    if delivered != server.answered:
        raise BenchError(f"{server.answered} orders were answered, {delivered} charged")
