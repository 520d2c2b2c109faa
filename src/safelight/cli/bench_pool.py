"""`safelight bench pool`: what the pool does on its accounts' bad days, beside the LiteLLM proxy.

Owns options and rendering; the playing is `safelight.bench.pool`.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.measuring import keep, measured, require_folders
from safelight.cli.table import Column

if TYPE_CHECKING:
    from safelight.bench.pool.report import Measure, Play, Report, ScenarioResult
    from safelight.bench.pool.run import Plan


def pool(
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="A scenario to play; may be repeated.", show_default="all"),
    ] = None,
    contender: Annotated[
        list[str] | None,
        typer.Option(
            help="safelight or litellm; may be repeated.",
            show_default="safelight, and litellm where --litellm is given",
        ),
    ] = None,
    litellm: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The `litellm` program of its environment."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=1, max=200, help="Scaled seconds in a real one.", show_default="what suits each"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="For demand and faults.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Also write the report there, as JSON."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short forms, which prove less.", show_default=False)
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Play faults, limits and outages against the pool, with the LiteLLM proxy beside it.

    Starts a fault upstream, each contender and stock `openai` clients on loopback, with temporary
    data and in scaled time, and ends them all. No account, key or running gateway is touched. A
    missed bar of safelight's ends it with 1.
    """
    plan = _plan(scenario, contender, litellm, speed, seed, quick=quick)
    if find_spec("openai") is None:
        raise CliError("the clients need the package openai: pip install 'safelight[demo]'")
    require_folders({"--out": out})
    report = _run(plan)
    keep(report, out)
    if as_json:
        output.print_json(report)
    else:
        _print(report)
    if report.failed or any(_unplayed(result) for result in report.scenarios):
        raise typer.Exit(ExitCode.REFUSED)


def _plan(
    scenario: list[str] | None,
    contender: list[str] | None,
    litellm: Path | None,
    speed: float | None,
    seed: int,
    *,
    quick: bool,
) -> Plan:
    from safelight.bench.pool.contenders import LITELLM, SAFELIGHT  # noqa: PLC0415 - when needed
    from safelight.bench.pool.run import Plan  # noqa: PLC0415
    from safelight.bench.pool.scenarios import NAMES  # noqa: PLC0415

    names = tuple(scenario or NAMES)
    chosen = tuple(contender or ((SAFELIGHT,) if litellm is None else (SAFELIGHT, LITELLM)))
    _check_names("--scenario", names, NAMES)
    _check_names("--contender", chosen, (SAFELIGHT, LITELLM))
    if LITELLM in chosen and litellm is None:
        raise CliError(
            "--litellm names the program of the proxy's environment",
            exit_code=ExitCode.USAGE,
            hint="`make bench-pool` installs one and names it",
        )
    return Plan(
        names=names, contenders=chosen, litellm=litellm, speed=speed, seed=seed, quick=quick
    )


def _check_names(option: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            problem = f"{option}: there is no {name!r}; known: {', '.join(known)}"
            raise CliError(problem, exit_code=ExitCode.USAGE)


def _run(plan: Plan) -> Report:
    from safelight.bench.pool.run import run  # noqa: PLC0415 - only when it is needed

    return measured(partial(run, plan))


def _unplayed(result: ScenarioResult) -> bool:
    return any(play.contender == "safelight" and bool(play.error) for play in result.plays)


def _print(report: Report) -> None:
    names = list(dict.fromkeys(one.contender for r in report.scenarios for one in r.plays))
    columns = [
        Column("scenario"),
        Column("measure", words=True),
        Column("bar", right=True),
        *(Column(name, right=True) for name in names),
    ]
    rows = [row for result in report.scenarios for row in _rows(result)]
    output.print_table(columns, rows)
    for result in report.scenarios:
        for play in result.plays:
            if play.error:
                output.out().print(
                    f"{result.name}, {play.contender}: not played. {play.error}",
                    markup=False,
                    soft_wrap=True,
                )
    beside = f", LiteLLM {report.litellm_version}" if report.litellm_version else ""
    machine = report.machine
    output.out().print(
        f"\n{machine.cpus} CPUs, {machine.processor}, Python {machine.python}, safelight "
        f"{report.version}{beside}; seed {report.seed}; {report.took_s:.0f} s.\n"
        "✓ and ✗: whether the bar was kept. (late): a process was too busy for its time scale, so "
        "the number\nsays more of this machine; play the scenario again with a lower --speed.",
        soft_wrap=True,
    )


def _rows(result: ScenarioResult) -> list[tuple[str, ...]]:
    measured = next((play.measures for play in result.plays if play.measures), ())
    return [
        (
            result.name if at == 0 else "",
            named.name,
            named.bar,
            *(_cell(play, at) for play in result.plays),
        )
        for at, named in enumerate(measured)
    ]


def _cell(play: Play, at: int) -> str:
    if at >= len(play.measures):
        return "not played"
    one = play.measures[at]
    late = "" if play.valid else " (late)"
    return f"{one.shown}{_sign(one)}{late}"


def _sign(one: Measure) -> str:
    if one.passed is None:
        return ""
    return " ✓" if one.passed else " ✗"
