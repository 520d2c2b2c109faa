"""`safelight bench growth`: how the gateway's costs grow with what is in its books.

Owns options and rendering; the measuring is `safelight.bench.growth`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli import options, output
from safelight.cli.errors import ExitCode
from safelight.cli.measuring import keep, measured, require_folders
from safelight.cli.picture import write_atomically
from safelight.cli.table import Column

if TYPE_CHECKING:
    from safelight.bench.growth.report import Curve, GrowthReport
    from safelight.bench.growth.run import Plan


def growth(
    jobs: Annotated[
        int, typer.Option(min=10_000, max=10_000_000, help="Jobs in the largest books.")
    ] = 1_000_000,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="How often the sizes take turns.")
    ] = 7,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the report there, as JSON."),
    ] = None,
    plots: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Also draw it: growth.png in this folder."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure how costs grow with customers, accounts, jobs in the books and queued jobs.

    Fills temporary books (in TMPDIR: 3 GB for a million jobs) and uses the gateway's own code with
    an upstream that answers from memory. Ends with 1 where the largest size costs over three times
    what the smallest costs.
    """
    from safelight.bench.growth.run import Plan  # noqa: PLC0415 - only when it is needed

    require_folders({"--out": out, "--plots": plots})
    sizes = tuple(one for one in (1000, 10_000, 100_000, 1_000_000) if one < jobs)
    report = _run(Plan(jobs=(*sizes, jobs), rounds=rounds))
    keep(report, out)
    if plots is not None:
        from safelight.bench.growth.plot import draw  # noqa: PLC0415 - needs libvips

        plots.mkdir(exist_ok=True)
        write_atomically(plots / "growth.png", draw(report))
    if as_json:
        output.print_json(report)
    else:
        _print(report)
    if report.failed:
        raise typer.Exit(ExitCode.REFUSED)


def _run(plan: Plan) -> GrowthReport:
    from safelight.bench.growth.run import run  # noqa: PLC0415 - only when it is needed
    from safelight.bench.loop import new_event_loop  # noqa: PLC0415

    return measured(partial(run, plan), new_event_loop)


def _print(report: GrowthReport) -> None:
    columns = [
        Column("grows", words=True),
        Column("verb", words=True),
        Column("from", right=True),
        Column("to", right=True),
        Column("CPU ms", right=True),
        Column("at the end", right=True),
        Column("times", right=True),
        Column("steps, times", right=True),
    ]
    output.print_table(columns, [_row(curve) for curve in report.curves])
    for start in report.starts:
        output.out().print(
            f"start with {start.jobs:,} jobs ({start.file_mb:g} MB): ready after "
            f"{start.ready_s:.2f} s, {start.cpu_s:.2f} s of CPU",
            soft_wrap=True,
        )
    machine = report.machine
    output.out().print(
        f"\n{report.rounds} rounds; {machine.cpus} CPUs, {machine.processor}, Python "
        f"{machine.python}, safelight {report.version}; {report.took_s:.0f} s.\n"
        "All sizes of an axis took turns in each round; times are medians of the ratios in a "
        "round.\nSteps are those of SQLite's machine, which no load changes.",
        soft_wrap=True,
    )


def _row(curve: Curve) -> tuple[str, ...]:
    first, last = curve.points[0], curve.points[-1]
    steps = curve.steps_growth
    return (
        curve.axis,
        curve.verb,
        f"{first.size:,}",
        f"{last.size:,}",
        f"{first.cpu_ms:.3g}",
        f"{last.cpu_ms:.3g}",
        f"{curve.growth:.2f}",
        "" if steps is None else f"{steps:.2f}",
    )
