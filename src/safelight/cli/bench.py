"""`safelight bench`: what the gateway costs on this machine, beside its peers and a bare relay.

Owns options and rendering; the measuring is `safelight.bench`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli import bench_growth, bench_money, bench_pool, bench_workers, options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.measuring import keep, measured, require_folders
from safelight.cli.picture import write_atomically
from safelight.cli.table import Column

if TYPE_CHECKING:
    from safelight.bench.result import Report
    from safelight.bench.run import Plan
    from safelight.bench.workloads import Workload


benches = typer.Typer(name="bench", rich_markup_mode="rich")


@benches.callback(invoke_without_command=True)
def bench(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: typer.Context,
    workload: Annotated[
        list[str] | None,
        typer.Option(help="May be repeated; or a weight such as 6mb.", show_default="all"),
    ] = None,
    contender: Annotated[
        list[str] | None,
        typer.Option(
            help="gateway, nginx, relay, naive, portkey, litellm; may be repeated.",
            show_default="all that are installed",
        ),
    ] = None,
    litellm: Annotated[
        Path | None, typer.Option(exists=True, help="The `litellm` program of its environment.")
    ] = None,
    portkey: Annotated[
        Path | None, typer.Option(exists=True, help="Where npm installed @portkey-ai/gateway.")
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            min=1, help="Orders a contender and stretch.", show_default="what suits size and time"
        ),
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=1000, help="Clients of a load.")] = 32,
    rounds: Annotated[
        int, typer.Option(min=1, max=100, help="How often the contenders take turns.")
    ] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="One short round: proves less.", show_default=False)
    ] = False,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write the report there, as JSON.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(file_okay=False, help="Also draw it there, as PNG files.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure CPU, throughput, latency and memory of the gateway and its peers, as ratios.

    Starts a mock upstream and the contenders on loopback, each on one CPU, with temporary data, and
    ends them all. No account, key or running gateway is touched. A missed bar ends it with 1.
    `bench pool` is about faults and limits instead.
    """
    if context.invoked_subcommand is not None:
        return
    from safelight.bench.contenders import Places  # noqa: PLC0415 - only when it is needed
    from safelight.bench.run import Plan  # noqa: PLC0415

    require_folders({"--out": out, "--plots": plots})
    chosen = _workloads(workload)
    plan = Plan(
        workloads=tuple(one.shortened() for one in chosen) if quick else chosen,
        contenders=_contenders(contender),
        places=Places(litellm, portkey),
        requests=requests,
        clients=clients,
        rounds=1 if quick else rounds,
        quick=quick,
    )
    report = _run(plan)
    _keep(report, out, plots)
    if as_json:
        output.print_json(report)
    else:
        _print(report)
    if report.missed:
        raise typer.Exit(ExitCode.REFUSED)


benches.command(name="pool")(bench_pool.pool)
benches.command(name="money")(bench_money.money)
benches.command(name="growth")(bench_growth.growth)
benches.command(name="workers")(bench_workers.workers)


def _workloads(names: list[str] | None) -> tuple[Workload, ...]:
    from safelight.bench.workloads import WORKLOADS, workload  # noqa: PLC0415 - when it is needed

    if not names:
        return WORKLOADS
    try:
        return tuple(workload(name) for name in names)
    except ValueError as error:
        raise CliError(f"--workload: {error}", exit_code=ExitCode.USAGE) from None


def _contenders(names: list[str] | None) -> tuple[str, ...]:
    from safelight.bench.contenders import CONTENDERS  # noqa: PLC0415 - only when it is needed

    for name in names or ():
        if name not in CONTENDERS:
            problem = f"--contender: there is no {name!r}; known: {', '.join(CONTENDERS)}"
            raise CliError(problem, exit_code=ExitCode.USAGE)
    return tuple(one for one in CONTENDERS if not names or one in names)


def _run(plan: Plan) -> Report:
    from safelight.bench.errors import BenchError  # noqa: PLC0415 - only when it is needed
    from safelight.bench.loop import new_event_loop  # noqa: PLC0415
    from safelight.bench.run import run  # noqa: PLC0415

    try:
        return measured(partial(run, plan), new_event_loop)
    except BenchError as error:
        raise CliError(f"nothing was measured: {error}") from error


def _keep(report: Report, out: Path | None, plots: Path | None) -> None:
    keep(report, out)
    if plots is not None:
        from safelight.bench.plots import draw  # noqa: PLC0415 - needs libvips

        plots.mkdir(exist_ok=True)
        for name, picture in draw(report).items():
            write_atomically(plots / name, picture)


def _print(report: Report) -> None:
    from safelight.bench import tables  # noqa: PLC0415 - only when it is needed

    console = output.out()
    for played in report.workloads:
        console.print(f"\n[bold]{played.name}[/]: {played.shows}", soft_wrap=True)
        shown = tables.workload_table(played)
        output.print_table([Column(name, right=bool(name)) for name in shown.headings], shown.rows)
        for remark in tables.remarks(played):
            console.print(f"  {remark}", markup=False, soft_wrap=True)
    if report.verdicts:
        console.print()
        shown = tables.verdict_table(report.verdicts)
        columns = [Column(name, right=at > 1) for at, name in enumerate(shown.headings)]
        output.print_table(columns, shown.rows)
    for remark in report.skipped.values():
        console.print(f"\nLeft out: {remark}.", markup=False, soft_wrap=True)
    _print_ground(report)


def _print_ground(report: Report) -> None:
    machine = report.machine
    beside = "".join(f", {name} {version}" for name, version in report.versions.items())
    booked = sum(one.included.settled for one in report.workloads if one.included is not None)
    each = "each contender on one CPU" if report.pinned else "all on the same CPU"
    rounds = f"Medians of {report.rounds} rounds" if report.rounds > 1 else "One round"
    output.out().print(
        f"\n{rounds}, {each}; {machine.cpus} CPUs, {machine.processor}, "
        f"Python {machine.python}, safelight {report.version}{beside}; {report.took_s:.0f} s.\n"
        f"Each of the {booked} pictures from the gateway was verified, stored, fsynced, read back "
        "and settled\nby its own books; the others do none of that. Compare ratios, not times.\n"
        "≥: somebody else was the limit; the contender had CPU to spare.",
        soft_wrap=True,
    )
