"""The course of a bench: start, warm up and prove, take turns, look at the books.

Owns the plan and the order of things. The targets take turns round by round, so that a machine that
grows slower or faster does so for all of them; what is reported are medians of the rounds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safelight import __version__
from safelight.bench import meter, naive, result
from safelight.bench.errors import BenchError
from safelight.bench.load import Connection, Orders, Phase, connect, drive, picture
from safelight.bench.picture import SIGNATURE, Replies, Weight
from safelight.bench.processes import PRICE_MICROS, Running, Stage, staged

Progress = Callable[[str], None]

PHASE_S = 4.0
"""After so many seconds a stretch of load sends no more, unless its length was asked for."""
_LOAD_BYTES = 128 * 1024 * 1024
_LOAD_LEAST, _LOAD_MOST, _RELAY_MOST = 16, 320, 4000
_ALONE_LEAST, _ALONE_MOST = 8, 100
_QUIET_STEP_S, _QUIET_MOST_S, _QUIET_CPU_S = 0.05, 2.0, 0.001
_FREE_BYTES = 256 * 1024 * 1024
_MB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    `requests` is the orders of one target in one round; None takes a number that suits the weight
    and ends a stretch of load after PHASE_S seconds.
    """

    weights: tuple[Weight, ...]
    requests: int | None = None
    concurrency: int = 8
    rounds: int = 3

    def load(self, wanted: Weight, *, most: int = _LOAD_MOST) -> int:
        """Return the orders of one target in one round, under load."""
        if self.requests is not None:
            return self.requests
        return max(_LOAD_LEAST, min(most, _LOAD_BYTES // wanted.base64_bytes))

    def alone(self, wanted: Weight) -> int:
        """Return the orders of one target in one round, with one client."""
        if self.requests is not None:
            return self.requests
        return max(_ALONE_LEAST, min(_ALONE_MOST, self.load(wanted) // 3))

    @property
    def limit_s(self) -> float:
        """Seconds after which a stretch of load sends no more."""
        return PHASE_S if self.requests is None else float("inf")


@dataclass(slots=True)
class _Target:
    """A port to send orders to, and what came of it."""

    running: Running
    crowd: list[Connection]
    load: int
    turns: list[result.Turn] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    answered: int = 0

    async def drive(self, orders: Orders, count: int, limit_s: float, clients: int) -> Phase:
        phase = await drive(self.crowd[:clients], orders, count, limit_s)
        self.answered += phase.answered
        return phase


async def run(plan: Plan, progress: Progress) -> result.Report:
    """Measure every weight of the plan; `progress` is told what goes on, in a few words.

    Raises:
        BenchError: something did not start or answer, or the gateway's books do not fit the load.
    """
    began = time.monotonic()
    sizes = []
    for wanted in plan.weights:
        with tempfile.TemporaryDirectory(prefix="safelight-bench-") as folder:
            _require_space(plan, wanted, Path(folder))
            sizes.append(await _measure(plan, wanted, Path(folder), progress))
    return result.Report(
        version=__version__,
        machine=result.Machine(
            system=platform.system(),
            processor=platform.machine(),
            cpus=cpus(),
            python=platform.python_version(),
        ),
        concurrency=plan.concurrency,
        took_s=round(time.monotonic() - began, 1),
        sizes=tuple(sizes),
    )


async def _measure(
    plan: Plan, wanted: Weight, folder: Path, progress: Progress
) -> result.SizeResult:
    """Measure one weight; every weight has processes of its own, so that peak memory is its own."""
    progress(f"{wanted.name}: starting")
    async with staged(wanted, folder) as stage:
        idle = meter.memory(stage.gateway.pid)
        orders = Orders(wanted, stage.key)
        # A relay takes so little for a small picture that it needs more of them to be measured.
        loads = (plan.load(wanted), plan.load(wanted, most=_RELAY_MOST), plan.load(wanted))
        targets = [
            _Target(running, await connect(running.port, plan.concurrency), load)
            for running, load in zip(
                (stage.upstream, stage.relay, stage.gateway), loads, strict=True
            )
        ]
        direct, relay, gateway = targets
        progress(f"{wanted.name}: warming up")
        await _warm_up(targets, orders, wanted, plan)
        by_hand: list[result.Turn] = []
        replies = Replies(wanted)
        for number in range(1, plan.rounds + 1):
            progress(f"{wanted.name}: round {number} of {plan.rounds}")
            for target in (relay, gateway):
                target.turns.append(await _turn(target, orders, plan))
            by_hand.append(_naive_turn(replies, folder, plan.load(wanted), plan.limit_s))
            for target in targets:
                phase = await target.drive(orders, plan.alone(wanted), plan.limit_s, clients=1)
                target.latencies_ms += phase.latencies_ms
        memory_mb = _memory(idle, meter.memory(stage.gateway.pid))
        books = await _books(stage, targets, wanted)
        for target in targets:
            for connection in target.crowd:
                connection.close()
    return result.size_result(
        wanted,
        result.Rounds(relay=tuple(relay.turns), gateway=tuple(gateway.turns), naive=tuple(by_hand)),
        result.latencies(*(result.latency(one.latencies_ms) for one in (direct, relay, gateway))),
        memory_mb,
        books,
    )


async def _warm_up(targets: list[_Target], orders: Orders, wanted: Weight, plan: Plan) -> None:
    """Look once at what each target answers, then let all its connections do some work."""
    for target in targets:
        answer = await picture(target.crowd[0], orders, keep=True)
        target.answered += 1
        _check_answer(answer.body, wanted, target.running.name)
        count = max(plan.concurrency, plan.load(wanted) // 4)
        await target.drive(orders, count, plan.limit_s, clients=plan.concurrency)


def _check_answer(body: bytes, wanted: Weight, name: str) -> None:
    """Refuse to measure what does not deliver the picture."""
    try:
        data = base64.b64decode(json.loads(body)["data"][0]["b64_json"], validate=True)
    except (ValueError, LookupError, TypeError) as error:
        raise BenchError(f"the {name} answered something else than a picture") from error
    if len(data) != wanted.picture_bytes or not data.startswith(SIGNATURE):
        raise BenchError(f"the {name} answered another picture than the upstream's")


async def _turn(target: _Target, orders: Orders, plan: Plan) -> result.Turn:
    """Put one target under load and count what its processes spend on it."""
    before = await _cpu_when_quiet(target.running.pid)
    phase = await target.drive(orders, target.load, plan.limit_s, clients=plan.concurrency)
    after = await _cpu_when_quiet(target.running.pid)
    spent = None if before is None or after is None else after - before
    return result.Turn(answered=phase.answered, cpu_s=spent, seconds=phase.seconds)


async def _cpu_when_quiet(pid: int) -> float | None:
    """Return the CPU seconds once they stand still: work goes on behind the last answer."""
    spent = meter.cpu_seconds(pid)
    until = time.monotonic() + _QUIET_MOST_S
    while spent is not None and time.monotonic() < until:
        await asyncio.sleep(_QUIET_STEP_S)
        later = meter.cpu_seconds(pid)
        if later is None or later - spent < _QUIET_CPU_S:
            return later
        spent = later
    return spent


def _naive_turn(replies: Replies, folder: Path, count: int, limit_s: float) -> result.Turn:
    began = time.perf_counter()
    # Blocks the loop: nothing else is under way, and nothing else shall be measured.
    done, cpu_s = naive.measure(replies, folder / "naive", count, limit_s)
    return result.Turn(answered=done, cpu_s=cpu_s, seconds=time.perf_counter() - began)


def _memory(idle: meter.Memory | None, loaded: meter.Memory | None) -> result.MemoryMb | None:
    if idle is None or loaded is None:
        return None
    return result.MemoryMb(
        idle=idle.now / _MB, peak=loaded.peak / _MB, peak_over_idle=(loaded.peak - idle.now) / _MB
    )


async def _books(stage: Stage, targets: list[_Target], wanted: Weight) -> result.Books:
    """Return what the gateway booked, after comparing it with what was sent and sold.

    Raises:
        BenchError: a picture was not paid, not kept or not its own; the numbers would mean nothing.
    """
    lines = [line for line in await stage.statement() if line["kind"] == "settle"]
    through_gateway = targets[-1].answered
    elsewhere = sum(target.answered for target in targets[:-1])
    books = result.Books(
        ordered=through_gateway,
        sold_by_upstream=await stage.sold() - elsewhere,
        settled=len(lines),
        distinct_pictures=len({line["image_sha256"] for line in lines}),
        charged_micros=-sum(line["amount_micros"] for line in lines),
        stored_bytes=stage.stored_bytes(),
    )
    right = result.Books(
        ordered=through_gateway,
        sold_by_upstream=through_gateway,
        settled=through_gateway,
        distinct_pictures=through_gateway,
        charged_micros=through_gateway * PRICE_MICROS,
        stored_bytes=through_gateway * wanted.picture_bytes,
    )
    if books != right:
        raise BenchError(f"the gateway's books do not fit the load: {books}, expected {right}")
    return books


def _require_space(plan: Plan, wanted: Weight, folder: Path) -> None:
    orders = (plan.load(wanted) + plan.alone(wanted)) * plan.rounds + plan.load(wanted)
    needed = (orders + plan.concurrency) * wanted.picture_bytes + _FREE_BYTES
    if shutil.disk_usage(folder).free < needed:
        raise BenchError(
            f"{wanted.name} needs {needed // _MB} MB of free disk for its pictures; "
            "name a folder with more space in TMPDIR"
        )


def cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
