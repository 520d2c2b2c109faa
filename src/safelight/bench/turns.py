"""One contender's turn at a workload: its load, and what its processes spend on it.

Owns the measuring around a stretch of load; `run` says who has a turn and when.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from safelight.bench import meter, naive, result
from safelight.bench.contenders import Stage
from safelight.bench.load import ANSWER_S, Phase, connect, crowd, drive
from safelight.bench.orders import Orders
from safelight.bench.picture import Replies
from safelight.bench.processes import Running
from safelight.bench.workloads import Workload

_QUIET_STEP_S, _QUIET_MOST_S, _QUIET_CPU_S = 0.05, 2.0, 0.001
_BEFORE_FIRST_REPLY_S = 0.3
_LEFT_QUIET, _LEFT_MOST = 2, 120
"""Looks, one a second, at a quiet upstream until the next may begin, and all looks together."""
_MB = 2**20


@dataclass(slots=True)
class Player:
    """A contender in one workload; `running` is None for what is measured in this process."""

    counted: result.Counted
    running: Running | None
    orders: Orders | None
    answered: int = 0
    failed: int = 0
    warm_bytes: int | None = None

    @property
    def target(self) -> tuple[Running, Orders]:
        """Its process and its orders."""
        assert self.running is not None
        assert self.orders is not None
        return self.running, self.orders

    def take(self, phase: Phase) -> None:
        """Count what a stretch came to."""
        self.answered += phase.answered
        self.failed += phase.failures.total()

    def note_peak(self, workload: Workload) -> None:
        """Note the highest memory of a whole load, and whether the contender still lives."""
        if self.running is None:
            return
        peak, idle = meter.memory(self.running.pid), self.counted.idle_mb
        if peak is None:
            self.counted.error = self.counted.error or "it has ended"
        elif idle is not None and workload.kind == "load":
            self.counted.over_idle_mb = peak.peak / _MB - idle


async def load(player: Player, count: int, limit_s: float, clients: int) -> None:
    """Put a contender under load from many clients."""
    running, orders = player.target
    crew = await connect(running.port, clients)
    before = await _cpu_when_quiet(running.pid)
    phase = await drive(crew, orders, count, limit_s)
    after = await _cpu_when_quiet(running.pid)
    for connection in crew:
        connection.close()
    player.take(phase)
    player.counted.turns.append(_turn(phase, before, after))


async def warm_up(player: Player, count: int, limit_s: float, clients: int) -> None:
    """Put a contender under load and measure nothing."""
    running, orders = player.target
    crew = await connect(running.port, clients)
    player.take(await drive(crew, orders, count, limit_s))
    for connection in crew:
        connection.close()


async def alone(player: Player, count: int, limit_s: float) -> None:
    """Send orders one after the other and note how long each takes."""
    running, orders = player.target
    crew = await connect(running.port, 1)
    phase = await drive(crew, orders, count, limit_s)
    crew[0].close()
    player.take(phase)
    player.counted.latencies_ms += phase.latencies_ms


async def burst(player: Player, stage: Stage, clients: int) -> None:
    """Have all of many clients answered at one instant."""
    running, orders = player.target
    await _nobody_left(stage)
    await stage.play(together=clients)
    crew = await connect(running.port, clients)
    before = await _cpu_when_quiet(running.pid)
    meter.forget_peak(running.pid)
    phase = await drive(crew, orders, clients, 0.0)
    after = await _cpu_when_quiet(running.pid)
    peak = meter.memory(running.pid)
    at_once = int((await stage.state())["most"])
    await stage.play()
    for connection in crew:
        connection.close()
    player.take(phase)
    idle = player.counted.idle_mb
    over = None if peak is None or idle is None else peak.peak / _MB - idle
    player.counted.turns.append(_turn(phase, before, after, at_once=at_once, over_idle_mb=over))


async def waiting(player: Player, stage: Stage, workload: Workload) -> None:
    """Have a crowd wait for slow replies; memory is read just before the first of them."""
    running, orders = player.target
    await _nobody_left(stage)
    await stage.play(delay_s=workload.delay_s)
    before = await _cpu_when_quiet(running.pid)
    meter.forget_peak(running.pid)
    patience_s = workload.delay_s + ANSWER_S
    going = asyncio.create_task(
        crowd(running.port, orders, workload.at_once, workload.ramp_s, patience_s)
    )
    await asyncio.sleep(workload.delay_s - _BEFORE_FIRST_REPLY_S)
    held = meter.memory(running.pid)
    at_once = int((await stage.state())["waiting"])
    phase = await going
    after = await _cpu_when_quiet(running.pid)
    peak = meter.memory(running.pid)
    await stage.play()
    player.take(phase)
    player.counted.latencies_ms += phase.latencies_ms
    idle, warm = player.counted.idle_mb, player.warm_bytes
    over = None if peak is None or idle is None else peak.peak / _MB - idle
    each = None if held is None or warm is None else (held.now - warm) / 1024 / workload.at_once
    player.counted.turns.append(
        _turn(phase, before, after, at_once=at_once, over_idle_mb=over, waiting_kb=each)
    )


def naive_turn(replies: Replies, folder: Path, count: int, limit_s: float) -> result.Turn:
    """Pass replies on by hand, in this process.

    Blocks the loop: nothing else is under way, and nothing else shall be measured.
    """
    began = time.perf_counter()
    done, cpu_s = naive.measure(replies, folder / "naive", count, limit_s)
    seconds = time.perf_counter() - began
    return result.Turn(asked=done, answered=done, cpu_s=cpu_s, seconds=seconds)


def _turn(
    phase: Phase,
    before: float | None,
    after: float | None,
    *,
    at_once: int | None = None,
    over_idle_mb: float | None = None,
    waiting_kb: float | None = None,
) -> result.Turn:
    return result.Turn(
        asked=phase.asked,
        answered=phase.answered,
        failures=dict(phase.failures),
        cpu_s=None if before is None or after is None else after - before,
        seconds=phase.seconds,
        at_once=at_once,
        over_idle_mb=over_idle_mb,
        waiting_kb=waiting_kb,
    )


async def _nobody_left(stage: Stage) -> None:
    """Wait until nothing arrives at the upstream any more of what the one before has left behind.

    A gateway goes on with orders whose callers have hung up; after _LEFT_MOST looks it may disturb.
    """
    quiet = 0
    for _ in range(_LEFT_MOST):
        quiet = 0 if (await stage.state())["waiting"] else quiet + 1
        if quiet == _LEFT_QUIET:
            return
        await asyncio.sleep(1.0)


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
