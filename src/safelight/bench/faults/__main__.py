"""Run the fault upstream as a process.

`python -m safelight.bench.faults --port P --log FILE --scenario FILE-OR-JSON`, or with a few words
in place of a scenario: `--latency 5 --script JSON`. Prints its base URL on standard output when it
serves; SIGTERM and Ctrl-C end it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import msgspec

from safelight.bench.faults.scenario import read
from safelight.bench.faults.script import load
from safelight.bench.faults.server import FaultUpstream
from safelight.bench.loop import new_event_loop


async def _serve(upstream: FaultUpstream) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with upstream:
        print(upstream.base_url, flush=True)
        await stop.wait()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="safelight.bench.faults", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, help="JSONL file for requests and sales")
    parser.add_argument("--scenario", help="a JSON document, or a file; all else but port and log")
    parser.add_argument("--speed", type=float, default=1.0, help="vendor seconds in a second")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds a picture takes")
    parser.add_argument("--script", default='"ok"', help="JSON, or @FILE")
    parser.add_argument("--keys", help='JSON: {"key": images a minute or null}')
    parser.add_argument("--lenient", action="store_true", help="take any size and parameter")
    given = parser.parse_args()
    where: dict[str, Any] = {"log": given.log, "port": given.port}
    if given.scenario is not None:
        try:
            upstream = FaultUpstream.from_scenario(read(given.scenario), **where)
        except (msgspec.MsgspecError, OSError) as problem:
            parser.error(f"--scenario: {problem}")
    else:
        upstream = FaultUpstream(
            load(given.script),
            latency_s=given.latency,
            speed=given.speed,
            keys=json.loads(given.keys) if given.keys else None,
            strict=not given.lenient,
            **where,
        )
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(upstream))


if __name__ == "__main__":
    main()
