"""`safelight bench money`: what it costs that every change of money is durable.

Owns options and rendering; the measuring is `safelight.bench.money`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli import options, output
from safelight.cli.errors import CliError
from safelight.cli.measuring import keep, measured, require_folders
from safelight.cli.table import Column

if TYPE_CHECKING:
    from safelight.bench.money import MoneyReport, Plan


def money(
    waiters: Annotated[int, typer.Option(min=1, max=10_000, help="Callers at once.")] = 64,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of each way in a round.")] = 1000,
    rounds: Annotated[
        int, typer.Option(min=1, max=1000, help="How often the ways take turns.")
    ] = 7,
    postgres: Annotated[
        str | None,
        typer.Option(
            help="postgresql://… of an empty database made for this: its rows stay.",
            show_default="without Postgres",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the report there, as JSON."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Measure how fast the ledger holds and settles prices, durably: shared commits or one each.

    Uses the gateway's own code on temporary databases (in TMPDIR: put it on the disk that will be
    used). Each pair is a reserve and a settle, each in a transaction of its own.
    """
    from safelight.bench.errors import BenchError  # noqa: PLC0415 - only when it is needed
    from safelight.bench.money import Plan  # noqa: PLC0415

    require_folders({"--out": out})
    try:
        report = _run(Plan(waiters=waiters, pairs=pairs, rounds=rounds, postgres=postgres))
    except BenchError as error:
        raise CliError(f"nothing was measured: {error}") from error
    keep(report, out)
    if as_json:
        output.print_json(report)
    else:
        _print(report)


def _run(plan: Plan) -> MoneyReport:
    from safelight.bench.loop import new_event_loop  # noqa: PLC0415 - only when it is needed
    from safelight.bench.money import run  # noqa: PLC0415

    return measured(partial(run, plan), new_event_loop)


def _print(report: MoneyReport) -> None:
    columns = [
        Column("reserve + settle"),
        Column("pairs a second", right=True),
        Column("lowest", right=True),
        Column("highest", right=True),
        Column("pairs a commit", right=True),
    ]
    rows = [
        (
            way.name,
            f"{way.pairs_per_s:.0f}",
            f"{way.lowest_per_s:.0f}",
            f"{way.highest_per_s:.0f}",
            "" if way.pairs_per_commit is None else f"{way.pairs_per_commit:.3g}",
        )
        for way in report.ways
    ]
    output.print_table(columns, rows)
    machine = report.machine
    output.out().print(
        f"\nShared commits move {report.ratio:.1f} times as much as one commit each "
        f"({report.ratio_lowest:.1f} to {report.ratio_highest:.1f} in single rounds).\n"
        f"{report.waiters} waiters, {report.rounds} rounds; {machine.cpus} CPUs, "
        f"{machine.processor}, Python {machine.python}, safelight {report.version}; "
        f"{report.took_s:.0f} s.\n"
        "All commits were durable (WAL, synchronous=FULL); every pair was there after reopening,\n"
        "with a whole hash chain. Compare ratios, not times.",
        soft_wrap=True,
    )
