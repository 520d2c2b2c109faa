"""Run any Python program with its time running faster.

`python scaled.py --speed 20 [--lag FILE] -- PROGRAM arguments...`, where PROGRAM is `-m MODULE` or
the path of a script. To the program twenty seconds pass in each real one: its clocks run faster,
and its sleeps, timers and waits end sooner. Needs the standard library alone, so that it can start
programs of environments where safelight is not installed.

Scaled: the clocks of `time`, `datetime.now` and its kin, `time.sleep`, every selector's timeout
(and with it every timer of asyncio), the timeouts of conditions, events and joined threads.
Not scaled: CPU clocks, files' times, C code that reads the clock itself (SQLite's busy timeout),
programs that the program starts. uvloop keeps its own time, so a stand-in that is asyncio's own
loop takes its place.

The program ends with its parent. With `--lag` the longest turn of the event loop in each real
second is written to a file: what a timer may have been late by because the program was busy.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import queue
import runpy
import selectors
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import IO, Any

PARENT_EVERY_S = 1.0
"""Real seconds between two looks whether the parent still lives."""
LAG_EVERY_S = 1.0
"""Real seconds between two lines of the lag file."""

_real_time_ns = time.time_ns
_real_monotonic = time.monotonic
_real_monotonic_ns = time.monotonic_ns
_real_perf_counter = time.perf_counter
_real_perf_counter_ns = time.perf_counter_ns
_real_sleep = time.sleep
_RealDatetime = dt.datetime


def scale(speed: float, anchor_ns: int) -> None:
    """Let time run `speed` times as fast in this process, from now on.

    The clocks are multiples of the machine's own, so that they agree between processes.

    Args:
        speed: seconds of the program in one real second.
        anchor_ns: unix nanoseconds at which the scaled wall clock shows the real time.
    """

    def now_ns() -> int:
        return anchor_ns + round((_real_time_ns() - anchor_ns) * speed)

    _scale_clocks(speed, now_ns)
    _scale_datetime(now_ns)
    _scale_waits(speed)
    sys.modules["uvloop"] = _plain_loops()


def _scale_clocks(speed: float, now_ns: Callable[[], int]) -> None:
    def now() -> float:
        return now_ns() / 1e9

    def monotonic() -> float:
        return _real_monotonic() * speed

    def breaking_down(real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda seconds=None: real(now() if seconds is None else seconds)

    time.time = now
    time.time_ns = now_ns
    time.monotonic = monotonic
    time.monotonic_ns = lambda: round(_real_monotonic_ns() * speed)
    time.perf_counter = lambda: _real_perf_counter() * speed
    time.perf_counter_ns = lambda: round(_real_perf_counter_ns() * speed)
    time.gmtime = breaking_down(time.gmtime)
    time.localtime = breaking_down(time.localtime)
    time.ctime = breaking_down(time.ctime)
    real_strftime, localtime = time.strftime, time.localtime
    time.strftime = lambda form, *when: real_strftime(form, *(when or (localtime(),)))
    time.sleep = lambda seconds: _real_sleep(float(seconds) / speed)
    # They have taken their clock by name when they were imported.
    for module, name in ((queue, "time"), (threading, "_time")):
        setattr(module, name, monotonic)


class _AnyDatetime(type):
    """Takes every datetime for one of the scaled class: C code makes plain ones."""

    def __instancecheck__(cls, one: object) -> bool:
        return isinstance(one, _RealDatetime)

    def __subclasscheck__(cls, one: type) -> bool:
        return issubclass(one, _RealDatetime)


def _scale_datetime(now_ns: Callable[[], int]) -> None:
    class ScaledDatetime(_RealDatetime, metaclass=_AnyDatetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> ScaledDatetime:
            return cls.fromtimestamp(now_ns() / 1e9, tz)

        @classmethod
        def today(cls) -> ScaledDatetime:
            return cls.now()

        @classmethod
        def utcnow(cls) -> ScaledDatetime:
            return cls.now(dt.UTC).replace(tzinfo=None)

    ScaledDatetime.__name__ = ScaledDatetime.__qualname__ = "datetime"
    ScaledDatetime.__module__ = "datetime"
    setattr(dt, "datetime", ScaledDatetime)  # noqa: B010 - a type may not be assigned to


def _scale_waits(speed: float) -> None:
    def shorter(owner: Any, name: str, position: int, *, keyword: str = "timeout") -> None:
        real = getattr(owner, name)

        def wait(*given: Any, **named: Any) -> Any:
            arguments = list(given)
            if len(arguments) > position and arguments[position] is not None:
                arguments[position] = arguments[position] / speed
            elif named.get(keyword) is not None:
                named[keyword] = named[keyword] / speed
            return real(*arguments, **named)

        setattr(owner, name, wait)

    shorter(threading.Condition, "wait", 1)
    shorter(threading.Thread, "join", 1)
    for name in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector"):
        if hasattr(selectors, name):
            shorter(getattr(selectors, name), "select", 1)


def _plain_loops() -> types.ModuleType:
    """Return a module that is called for uvloop's loops and gives asyncio's."""
    module = types.ModuleType("uvloop", "asyncio's own loops, whose time is scaled.")
    facts: dict[str, Any] = {
        "__version__": "0.0.0",
        "new_event_loop": asyncio.new_event_loop,
        "Loop": asyncio.SelectorEventLoop,
        "EventLoopPolicy": asyncio.DefaultEventLoopPolicy,
        "install": lambda: None,
        "run": asyncio.run,
    }
    for name, value in facts.items():
        setattr(module, name, value)
    return module


def watch_lag(file: IO[str]) -> None:
    """Write the longest turn of the main thread's selectors in each real second to `file`.

    One JSON line for each: `at_s`, the machine's monotonic seconds; `longest_s`, the longest time
    between two waits; `busy_s`, the time between all of them. Real seconds throughout.
    """
    kind = selectors.DefaultSelector
    real = kind.select
    main = threading.main_thread().ident
    left = written = _real_monotonic()
    longest = busy = 0.0

    def select(self: Any, timeout: float | None = None) -> Any:
        nonlocal left, written, longest, busy
        if threading.get_ident() != main:
            return real(self, timeout)
        now = _real_monotonic()
        longest = max(longest, now - left)
        busy += now - left
        if now - written >= LAG_EVERY_S:
            said = {"at_s": now, "longest_s": round(longest, 4), "busy_s": round(busy, 4)}
            file.write(json.dumps(said) + "\n")
            file.flush()
            written, longest, busy = now, 0.0, 0.0
        ready = real(self, timeout)
        left = _real_monotonic()
        return ready

    setattr(kind, "select", select)  # noqa: B010 - a method may not be assigned to


def _end_with_parent() -> None:
    """End this process once whoever started it is gone, even if it was killed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            _real_sleep(PARENT_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> None:
    """Scale time, then be the program."""
    parser = argparse.ArgumentParser(prog="scaled", description="Run a program with faster time.")
    parser.add_argument("--speed", type=float, required=True)
    parser.add_argument("--anchor-ns", type=int, default=_real_time_ns())
    parser.add_argument("--lag", help="a file for the longest turns of the event loop")
    parser.add_argument("program", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    program = given.program[1:] if given.program[:1] == ["--"] else given.program
    if given.speed <= 0 or not program or program == ["-m"]:
        parser.error("expected --speed above 0 -- [-m MODULE | SCRIPT] arguments")
    if not __package__ and sys.path:
        sys.path.pop(0)  # the folder of this file: nothing in it is for the program to import
    _end_with_parent()
    scale(given.speed, given.anchor_ns)
    if given.lag:
        watch_lag(open(given.lag, "a", encoding="utf-8"))  # noqa: SIM115, PTH123 - until the end
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
