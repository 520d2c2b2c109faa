"""The course of a growth bench: books of all sizes, a gateway on each, every verb on all in turns.

Owns the axes, the temporary folders and the order. All sizes of an axis are open at one time and
take turns within a round, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from safelight import __version__
from safelight.bench.growth import verbs
from safelight.bench.growth.books import Books
from safelight.bench.growth.counting import cpu_ms, steps
from safelight.bench.growth.house import House, configured, fill, house
from safelight.bench.growth.pools import DECISIONS
from safelight.bench.growth.report import Curve, GrowthReport, Start, curve
from safelight.bench.growth.verbs import Verb
from safelight.bench.run import this_machine
from safelight.clock import SystemClock

Progress = Callable[[str], None]

FEW_CUSTOMERS, FEW_ACCOUNTS, SOME_JOBS = 10, 10, 10_000
DECISIONS_A_ROUND = 200
JOBS, CUSTOMERS, ACCOUNTS, QUEUED = "jobs", "customers", "accounts", "queued jobs"
ALL = "jobs, and accounts with them"
"""10 accounts at the smallest size, and at the largest a thousand: the corner of the promise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sizes of each axis, ascending, and how often they take turns."""

    jobs: tuple[int, ...] = (1000, 10_000, 100_000, 1_000_000)
    customers: tuple[int, ...] = (10, 100, 1000, 10_000)
    accounts: tuple[int, ...] = (1, 10, 100, 1000)
    queued: tuple[int, ...] = (10, 1000, 10_000, 100_000)
    rounds: int = 7


@dataclass(frozen=True)
class _Size:
    """One size of an axis: what its books hold."""

    size: int
    jobs: int = SOME_JOBS
    customers: int = FEW_CUSTOMERS
    accounts: int = FEW_ACCOUNTS
    queued: int = 0


async def run(plan: Plan, progress: Progress) -> GrowthReport:
    """Measure all axes.

    Raises:
        OSError: the temporary folder has no room: a million jobs are 2.5 GB.
    """
    began = time.monotonic()
    curves: list[Curve] = []
    curves += _decisions(plan, progress)
    with tempfile.TemporaryDirectory(prefix="safelight-growth-") as folder:
        course = _Course(Path(folder), plan.rounds, progress)
        curves += await course.jobs(plan)
        curves += await course.axis(
            CUSTOMERS, [_Size(one, customers=one) for one in plan.customers], verbs.ANYBODY
        )
        curves += await course.axis(
            QUEUED,
            [_Size(one, queued=one) for one in plan.queued],
            (*verbs.QUEUE, *verbs.ROUNDS),
        )
    return GrowthReport(
        version=__version__,
        machine=this_machine(),
        rounds=plan.rounds,
        took_s=round(time.monotonic() - began, 1),
        curves=tuple(curves),
        starts=tuple(course.starts),
    )


class _Course:
    """Books in a temporary folder, and what is measured on them."""

    def __init__(self, folder: Path, rounds: int, progress: Progress) -> None:
        self._folder = folder
        self._rounds = rounds
        self._progress = progress
        self._clock = SystemClock()
        self.starts: list[Start] = []

    async def jobs(self, plan: Plan) -> list[Curve]:
        """Measure the axis of jobs, then the same books with a thousand accounts at the end."""
        sizes = [_Size(one, jobs=one) for one in plan.jobs]
        known = {one: await self._fill(JOBS, one) for one in sizes}
        try:
            for one in sizes:
                self.starts.append(await self._start(known[one], one))
            found = await self._measure(JOBS, known, (*verbs.CUSTOMERS, *verbs.ROUNDS))
            corner = {
                _Size(one.size, jobs=one.jobs, accounts=accounts): known[one]
                for one, accounts in zip(
                    (sizes[0], sizes[-1]), (FEW_ACCOUNTS, plan.accounts[-1]), strict=True
                )
            }
            return found + await self._measure(ALL, corner, verbs.CUSTOMERS)
        finally:
            self._remove(known.values())

    async def axis(self, axis: str, sizes: Sequence[_Size], wanted: Sequence[Verb]) -> list[Curve]:
        """Fill the books of an axis, measure on them, and remove them."""
        known = {one: await self._fill(axis, one) for one in sizes}
        try:
            return await self._measure(axis, known, wanted)
        finally:
            self._remove(known.values())

    async def _fill(self, axis: str, one: _Size) -> tuple[Path, Books]:
        self._progress(f"{axis}: books of {one.size}")
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        books = await fill(
            folder,
            jobs=one.jobs,
            customers=one.customers,
            accounts=max(one.accounts, FEW_ACCOUNTS),
            queued=one.queued,
            clock=self._clock,
        )
        return folder, books

    async def _start(self, filled: tuple[Path, Books], one: _Size) -> Start:
        """Start a whole gateway, as `safelight serve` does, until it accepts orders."""
        folder, books = filled
        self._progress(f"start with {one.size} jobs")
        began, cpu = time.monotonic(), time.process_time()
        made = House(configured(folder, one.accounts), books, self._clock, check=True)
        await made.start()
        ready_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
        await made.close()
        return Start(
            jobs=one.jobs,
            file_mb=round((folder / "safelight.db").stat().st_size / 1e6, 1),
            ready_s=round(ready_s, 3),
            cpu_s=round(cpu_s, 3),
        )

    async def _measure(
        self, axis: str, known: dict[_Size, tuple[Path, Books]], wanted: Sequence[Verb]
    ) -> list[Curve]:
        async with AsyncExitStack() as stack:
            houses = []
            for one, (folder, books) in known.items():
                made = house(folder, books, accounts=one.accounts, clock=self._clock)
                stack.push_async_callback(made.close)
                houses.append(await made.open())
            return [
                await self._verb(axis, verb, [one.size for one in known], houses) for verb in wanted
            ]

    async def _verb(
        self, axis: str, verb: Verb, sizes: Sequence[int], houses: Sequence[House]
    ) -> Curve:
        self._progress(f"{axis}: {verb.name}")
        calls = [verb.make(one) for one in houses]
        for call in calls:
            await call()
        rounds = [
            [await cpu_ms(call, verb.times) / verb.lines for call in calls]
            for _ in range(self._rounds)
        ]
        counted = [
            await steps(one.counter, call) / verb.lines
            for one, call in zip(houses, calls, strict=True)
        ]
        return curve(axis, verb.name, sizes, rounds, counted)

    def _remove(self, filled: Iterable[tuple[Path, Books]]) -> None:
        for folder, _ in filled:
            shutil.rmtree(folder, ignore_errors=True)


def _decisions(plan: Plan, progress: Progress) -> list[Curve]:
    """Measure the pool over the number of accounts, from the second size on: one is no choice."""
    sizes = [one for one in plan.accounts if one > 1] or list(plan.accounts)
    found = []
    for name, make in DECISIONS.items():
        progress(name)
        calls = [make(accounts) for accounts in sizes]
        rounds = [[_call_ms(call) for call in calls] for _ in range(plan.rounds + 1)]
        found.append(curve(ACCOUNTS, name, sizes, rounds[1:], [None] * len(sizes)))
    return found


def _call_ms(call: Callable[[], object]) -> float:
    began = time.process_time()
    for _ in range(DECISIONS_A_ROUND):
        call()
    return (time.process_time() - began) * 1000 / DECISIONS_A_ROUND
