"""The course of a pool bench: for each scenario and contender start, play, end, and do the sums.

Contenders play one after another, each with a fresh upstream and fresh data, in the same scenario
with the same seed. The upstream's clock starts last, when contender and clients are ready.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from safelight import __version__
from safelight.bench import meter
from safelight.bench.errors import BenchError
from safelight.bench.pool import contenders, measures, report, world
from safelight.bench.pool.calls import Orders, Seen
from safelight.bench.pool.contenders import CHANNEL, LITELLM, SAFELIGHT, Contender
from safelight.bench.pool.processes import Child, Time, ask, child, free_ports
from safelight.bench.pool.scenarios import NAMES, Scenario, scenario

Progress = Callable[[str], None]

LATE_S = 2.0
"""Seconds of the scenario by which a process may be late before its play counts as invalid."""
_WARM_CALLS = 2
"""First calls for each account, so that most have been used."""
_SLACK_S = 60.0
"""Real seconds that the clients may take to end, beyond the scenario's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to play.

    Args:
        names: the scenarios, in order.
        contenders: SAFELIGHT, LITELLM or both, in order.
        litellm: the `litellm` program of an environment of its own; needed for LITELLM.
        speed: scaled seconds in a real one, for all scenarios; None: what suits each.
        seed: for demand and faults.
        quick: short forms, which prove less.
    """

    names: Sequence[str] = NAMES
    contenders: Sequence[str] = (SAFELIGHT,)
    litellm: Path | None = None
    speed: float | None = None
    seed: int = 1
    quick: bool = False


async def run(plan: Plan, progress: Progress) -> report.Report:
    """Play everything in the plan; `progress` is told what goes on, in a few words."""
    began = time.monotonic()
    results = []
    for at, name in enumerate(plan.names, 1):
        plays = []
        for contender in plan.contenders:
            progress(f"{name} ({at} of {len(plan.names)}): {contender}")
            chosen = scenario(name, quick=plan.quick, learns=contender == SAFELIGHT)
            plays.append(await play(plan, chosen, contender))
        shows = scenario(name, quick=plan.quick).shows
        results.append(report.ScenarioResult(name=name, shows=shows, plays=tuple(plays)))
    return report.Report(
        version=__version__,
        litellm_version=await _version(plan.litellm) if LITELLM in plan.contenders else "",
        machine=report.Machine(
            system=platform.system(),
            processor=platform.machine(),
            cpus=len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 0,
            python=platform.python_version(),
        ),
        seed=plan.seed,
        quick=plan.quick,
        took_s=round(time.monotonic() - began, 1),
        scenarios=tuple(results),
    )


async def play(plan: Plan, chosen: Scenario, contender: str) -> report.Play:
    """Play one scenario with one contender. What could not be played is said in `error`."""
    speed = plan.speed or (chosen.speed if contender == SAFELIGHT else chosen.heavy_speed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="safelight-bench-pool-") as folder:
        try:
            seen, books, charged, load = await _played(
                plan, chosen, contender, Time(speed, time.time_ns()), Path(folder)
            )
        except BenchError as error:
            took_s = round(time.monotonic() - began, 1)
            return report.Play(
                contender=contender, speed=speed, took_s=took_s, valid=False, error=str(error)
            )
    evidence = measures.Evidence(chosen, seen, books, charged)
    clients = report.Load(
        process="clients",
        cpu_share=seen.cpu_share,
        longest_s=seen.lag_max_s,
        late_s=seen.lag_p95_s,
    )
    load = (clients, *load)
    return report.Play(
        contender=contender,
        speed=speed,
        took_s=round(time.monotonic() - began, 1),
        calls=len(seen.calls),
        served=sum(call.ok for call in seen.calls),
        outcomes=measures.outcomes(seen.calls),
        attempts=dict(Counter(one.kind for one in books.attempts).most_common()),
        held_back=seen.held_back,
        measures=measures.measure(evidence),
        load=load,
        valid=all(one.late_s is None or one.late_s <= LATE_S for one in load),
    )


async def _played(
    plan: Plan, chosen: Scenario, contender: str, clock: Time, folder: Path
) -> tuple[Seen, world.Books, int | None, tuple[report.Load, ...]]:
    """Start everything, let the clients call, and read both witnesses."""
    (port,) = free_ports(1)
    async with AsyncExitStack() as ends:
        running = await ends.enter_async_context(
            _contender(plan, chosen, contender, port, clock, folder)
        )
        await _warm_up(running, port, folder, calls=_WARM_CALLS * len(chosen.keys))
        charged_before = await running.charged()
        orders = Orders(
            bases=running.bases,
            keys=dict(running.keys),
            model=CHANNEL,
            streams=chosen.streams,
            seed=plan.seed,
            until_s=chosen.duration_s + chosen.drain_s,
        )
        given, seen = folder / "orders.json", folder / "seen.json"
        given.write_bytes(msgspec.json.encode(orders))
        command = clock.command()
        clients = await ends.enter_async_context(
            child(
                "clients",
                (*command, "-m", "safelight.bench.pool.caller", str(given), str(seen)),
                folder,
            )
        )
        await clients.line()
        upstream = await ends.enter_async_context(_upstream(plan, chosen, port, clock, folder))
        await upstream.line()
        meters = [_Meter(one) for one in (upstream, *running.children)]
        await _begin(clients, port)
        await _ended(clients, orders.until_s / clock.speed + _SLACK_S)
        load = tuple(one.read(clock.speed) for one in meters)
        charged = await running.charged()
        return (
            msgspec.json.decode(seen.read_bytes(), type=Seen),
            world.read(folder / "upstream.jsonl"),
            None if charged is None or charged_before is None else charged - charged_before,
            load,
        )


def _contender(
    plan: Plan, chosen: Scenario, name: str, upstream: int, clock: Time, folder: Path
) -> AbstractAsyncContextManager[Contender]:
    if name == SAFELIGHT:
        return contenders.safelight(chosen, upstream, clock, folder)
    assert plan.litellm is not None
    return contenders.litellm(chosen, upstream, clock, folder, program=plan.litellm)


def _upstream(
    plan: Plan, chosen: Scenario, port: int, clock: Time, folder: Path
) -> AbstractAsyncContextManager[Child]:
    said = folder / "upstream.json"
    said.write_text(json.dumps(world.document(chosen, seed=plan.seed, speed=clock.speed)))
    log = str(folder / "upstream.jsonl")
    command = (sys.executable, "-m", "safelight.bench.faults", "--scenario", str(said))
    return child("upstream", (*command, "--log", log, "--port", str(port)), folder)


async def _warm_up(contender: Contender, port: int, folder: Path, *, calls: int) -> None:
    """Have a few pictures made by an upstream that is soon gone, with one failure among them.

    A program's first call and its first failure import what they need, which takes seconds.
    """
    script = ("--script", json.dumps(["ok", "500"]))
    command = (sys.executable, "-m", "safelight.bench.faults", "--port", str(port), *script)
    async with child("warm-upstream", command, folder) as upstream:
        await upstream.line()
        for number, place in zip(range(calls), itertools.cycle(contender.ports), strict=False):
            order = {"model": CHANNEL, "prompt": f"warm-up {number}", "size": "1024x1024"}
            status, body = await asyncio.to_thread(
                ask,
                place,
                "/v1/images/generations",
                key=next(iter(contender.keys.values())),
                order=order,
            )
            if status != 200:
                raise BenchError(f"{contender.name} answered a first call with {status}: {body!r}")


async def _begin(clients: Child, upstream: int) -> None:
    """Let the clients call, and mark the moment in the upstream's books."""
    assert clients.process.stdin is not None
    clients.process.stdin.write(b"begin\n")
    await clients.process.stdin.drain()
    await clients.line()
    path = f"/mark?name={world.START}"
    status, _ = await asyncio.to_thread(ask, upstream, path, order={})
    if status != 200:
        raise BenchError(f"the upstream answered a mark with {status}")


async def _ended(clients: Child, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            code = await clients.process.wait()
    except TimeoutError:
        raise BenchError(f"the clients did not end. {clients.last_words()}") from None
    if code:
        raise BenchError(f"the clients failed. {clients.last_words()}")


class _Meter:
    """Reads what a child used between now and later."""

    def __init__(self, process: Child) -> None:
        self._child = process
        self._began = time.monotonic()
        self._cpu = meter.cpu_seconds(process.pid)

    def read(self, speed: float) -> report.Load:
        """Return what the child used since the start."""
        cpu = meter.cpu_seconds(self._child.pid)
        passed = time.monotonic() - self._began
        share = None if cpu is None or self._cpu is None else (cpu - self._cpu) / passed
        turns = self._turns()
        return report.Load(
            process=self._child.name,
            cpu_share=None if share is None else round(share, 3),
            longest_s=round(max(turns) * speed, 2) if turns else None,
            late_s=round((measures.percentile(turns, 0.95) or 0.0) * speed, 2) if turns else None,
        )

    def _turns(self) -> list[float]:
        if self._child.lag is None or not self._child.lag.exists():
            return []
        lines = [json.loads(line) for line in self._child.lag.read_text().splitlines()]
        return [one["longest_s"] for one in lines if one["at_s"] > self._began]


async def _version(litellm: Path | None) -> str:
    """Return LiteLLM's version as its environment has it."""
    assert litellm is not None
    words = "from importlib.metadata import version; print(version('litellm'))"
    with tempfile.TemporaryDirectory() as folder:
        command = (str(litellm.absolute().with_name("python")), "-c", words)
        async with child("litellm-version", command, Path(folder)) as asked:
            return (await asked.line()).decode().strip()
