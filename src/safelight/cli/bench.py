"""`safelight bench`: what the gateway costs on this machine, beside a bare relay and a naive one.

Owns options and rendering; the measuring is `safelight.bench`.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from safelight.cli import bench_money, bench_pool, options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.picture import write_atomically
from safelight.cli.table import Column

if TYPE_CHECKING:
    from safelight.bench.result import Report, SizeResult
    from safelight.bench.run import Plan


benches = typer.Typer(name="bench", rich_markup_mode="rich")


@benches.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    sizes: Annotated[
        str, typer.Option(help="Base64 of the pictures, from 1kb to 48mb, separated by commas.")
    ] = "1kb,2mb,12mb",
    requests: Annotated[
        int | None,
        typer.Option(
            min=1, help="Orders a target and round.", show_default="what suits size and time"
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Connections under load.")] = 8,
    rounds: Annotated[
        int, typer.Option(min=1, max=100, help="How often the targets take turns.")
    ] = 3,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the report there, as JSON."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure CPU, throughput, latency and memory of the gateway, as ratios within one run.

    Starts a gateway, a mock upstream and a bare relay on loopback, with temporary data, and ends
    them all. No account, key or running gateway is touched. `bench pool` is about faults and limits
    instead.
    """
    if context.invoked_subcommand is not None:
        return
    from safelight.bench.errors import BenchError  # noqa: PLC0415 - only when it is needed
    from safelight.bench.picture import weight  # noqa: PLC0415
    from safelight.bench.run import Plan  # noqa: PLC0415

    try:
        weights = tuple(weight(name) for name in sizes.split(","))
    except ValueError as error:
        raise CliError(f"--sizes: {error}", exit_code=ExitCode.USAGE) from None
    if out is not None and not out.absolute().parent.is_dir():
        raise CliError(f"--out: there is no folder {out.parent}", exit_code=ExitCode.USAGE)
    plan = Plan(weights=weights, requests=requests, concurrency=concurrency, rounds=rounds)
    try:
        report = _run(plan)
    except BenchError as error:
        raise CliError(f"nothing was measured: {error}") from error
    if out is not None:
        write_atomically(out, msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if as_json:
        output.print_json(report)
    else:
        _print(report)


benches.command(name="pool")(bench_pool.pool)
benches.command(name="money")(bench_money.money)


def _run(plan: Plan) -> Report:
    """Measure with progress on standard error; SIGTERM ends it as Ctrl-C does."""
    from safelight.bench.loop import new_event_loop  # noqa: PLC0415 - only when it is needed
    from safelight.bench.run import run  # noqa: PLC0415

    async def main() -> Report:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with output.err().status("starting") as status:
            return await run(plan, status.update)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            return runner.run(main())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


def _print(report: Report) -> None:
    columns = [
        Column(f"{size.name} ({size.picture_size})", right=True, words=True)
        for size in report.sizes
    ]
    rows = [(name, *(row(size) for size in report.sizes)) for name, row in _ROWS]
    output.print_table([Column("a picture of"), *columns], rows)
    machine = report.machine
    orders = sum(size.included.ordered for size in report.sizes)
    output.out().print(
        f"\n{report.concurrency} connections, latency with 1; {machine.cpus} CPUs, "
        f"{machine.processor}, Python {machine.python}, safelight {report.version}; "
        f"{report.took_s:.0f} s.\n"
        f"Each of the {orders} pictures from the gateway was verified, stored, fsynced, read back "
        "and settled\nby its own books; relay and naive way do less. Compare ratios, not times.",
        soft_wrap=True,
    )


def _number(value: float | None) -> str:
    """Return three digits that count, or a word."""
    if value is None:
        return "not measured"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(size: SizeResult) -> str:
    ratios = size.ratios
    return f"{_number(ratios.relay_lowest)} to {_number(ratios.relay_highest)}"


def _memory(size: SizeResult) -> str:
    memory = size.memory_mb
    if memory is None:
        return "not measured"
    return f"{memory.idle:.0f} + {memory.peak_over_idle:.0f}"


_ROWS = (
    ("CPU ms: bare relay", lambda size: _number(size.cpu_ms.relay)),
    ("CPU ms: gateway", lambda size: _number(size.cpu_ms.gateway)),
    ("CPU ms: naive way", lambda size: _number(size.cpu_ms.naive)),
    ("gateway / relay", lambda size: _number(size.ratios.gateway_to_relay)),
    ("  in single rounds", _spread),
    ("gateway / naive", lambda size: _number(size.ratios.gateway_to_naive)),
    ("pictures a second: relay", lambda size: _number(size.per_s.relay)),
    ("pictures a second: gateway", lambda size: _number(size.per_s.gateway)),
    ("ms, direct: p50", lambda size: _number(size.latency_ms.direct.p50)),
    ("ms added by relay: p50", lambda size: _number(size.latency_ms.relay_added.p50)),
    ("ms added by gateway: p50", lambda size: _number(size.latency_ms.gateway_added.p50)),
    ("ms added by gateway: p99", lambda size: _number(size.latency_ms.gateway_added.p99)),
    ("gateway's memory: idle + peak MB", _memory),
)
