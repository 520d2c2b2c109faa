"""`safelight bench workers`: what a second process of one server adds, with a core for each.

Owns options and rendering; the measuring is `safelight.bench.workers`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.measuring import keep, measured, require_folders
from safelight.cli.table import Column

if TYPE_CHECKING:
    from safelight.bench.workers import Plan, WorkersReport


def workers(
    workload: Annotated[
        str, typer.Option(help="What is ordered: 1kb, 2mb, 12mb, url or jobs.")
    ] = "2mb",
    count: Annotated[
        int, typer.Option("--workers", min=2, max=64, help="Processes of the larger server.")
    ] = 2,
    share: Annotated[
        float,
        typer.Option(min=0.1, max=1.0, help="Of one CPU, for each process of either server."),
    ] = 0.25,
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Connections.")] = 32,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="How often the servers take turns.")
    ] = 5,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Of load in each turn.")] = 10.0,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the report there, as JSON."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure what `serve --workers N` answers a second, beside one process, with a core for each.

    The kernel gives each process the same small share of a CPU (control groups: Linux, as root),
    so that processes, clients and the mock upstream need no more cores than there are. Pictures are
    written below TMPDIR: some gigabytes, removed at the end.
    """
    from safelight.bench.errors import BenchError  # noqa: PLC0415 - only when it is needed
    from safelight.bench.workers import Plan  # noqa: PLC0415
    from safelight.bench.workloads import workload as find  # noqa: PLC0415

    require_folders({"--out": out})
    try:
        kind = find(workload).kind
    except ValueError as error:
        raise CliError(f"--workload: {error}", exit_code=ExitCode.USAGE) from error
    if kind != "load":
        raise CliError(f"--workload: {workload} is no stream of orders", exit_code=ExitCode.USAGE)
    plan = Plan(
        workload=workload,
        workers=count,
        share=share,
        clients=clients,
        rounds=rounds,
        turn_s=seconds,
    )
    try:
        report = _run(plan)
    except BenchError as error:
        raise CliError(f"nothing was measured: {error}") from error
    keep(report, out)
    if as_json:
        output.print_json(report)
    else:
        _print(report)


def _run(plan: Plan) -> WorkersReport:
    from safelight.bench.loop import new_event_loop  # noqa: PLC0415 - only when it is needed
    from safelight.bench.workers import run  # noqa: PLC0415

    return measured(partial(run, plan), new_event_loop)


def _print(report: WorkersReport) -> None:
    columns = [
        Column("processes", right=True),
        Column("orders a second", right=True),
        Column("lowest", right=True),
        Column("highest", right=True),
        Column("CPU ms an order", right=True),
        Column("of its CPU used", right=True),
    ]
    rows = [
        (
            str(one.workers),
            f"{one.per_s:.1f}",
            f"{one.lowest_per_s:.1f}",
            f"{one.highest_per_s:.1f}",
            f"{one.cpu_ms:.3g}",
            f"{one.used:.0%}",
        )
        for one in report.servers
    ]
    output.print_table(columns, rows)
    machine, several = report.machine, report.servers[-1].workers
    told = (
        ""
        if report.limited
        else "\nThe processes were not the limit: clients, mock, disk or other work was."
    )
    output.out().print(
        f"\n{several} processes answer {report.ratio:.2f} times as much as one "
        f"({report.ratio_lowest:.2f} to {report.ratio_highest:.2f} in single rounds).{told}\n"
        f"{report.workload}, {report.clients} clients, {report.share:g} of a CPU each, "
        f"{report.rounds} rounds; {machine.cpus} CPUs, {machine.processor}, "
        f"Python {machine.python}, safelight {report.version}; {report.took_s:.0f} s.\n"
        "Every order was verified, stored and charged once.",
        soft_wrap=True,
    )
