"""Run the fault upstream as a process.

`python -m faults --port P --latency 5 --log FILE --script JSON`, with `tests` on the path. Prints
its base URL on standard output when it serves; SIGTERM and Ctrl-C end it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

from faults.script import load
from faults.server import FaultUpstream


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
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds a picture takes")
    parser.add_argument("--time-scale", type=float, default=1.0)
    parser.add_argument("--log", type=Path, help="JSONL file for requests and sales")
    parser.add_argument("--script", default='"ok"', help="JSON, or @FILE")
    parser.add_argument("--keys", help='JSON: {"key": images a minute or null}')
    parser.add_argument("--lenient", action="store_true", help="take any size and parameter")
    given = parser.parse_args()
    upstream = FaultUpstream(
        load(given.script),
        latency_s=given.latency,
        time_scale=given.time_scale,
        keys=json.loads(given.keys) if given.keys else None,
        strict=not given.lenient,
        log=given.log,
        port=given.port,
    )
    asyncio.run(_serve(upstream))


if __name__ == "__main__":
    main()
