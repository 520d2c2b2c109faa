"""What `safelight run` does: reads the plan, asks, carries it out, and says what came of it.

Owns the question before anything is spent, the signals, and which exit code a run ends with. How
it looks is `run_report`'s and `run_progress`', what happens is `safelight.client.runs`'.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from safelight.cli import options as shared
from safelight.cli import output, run_report
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.run_errors import as_cli_error
from safelight.cli.run_options import RunOptions
from safelight.cli.run_progress import Display
from safelight.client import AsyncClient
from safelight.client.errors import ClientError, NotSupported
from safelight.client.runs import (
    Control,
    Defaults,
    GateMaker,
    Interrupted,
    Plan,
    Preview,
    Result,
    Settings,
    Stop,
    Wishes,
    pixels_of,
    preview,
    read_plan,
    run,
)

ARGUMENTS = "safelight.run.arguments"
_KEY_OPTION = "--api-key"
Places = Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class FileWish:
    """What is wanted of a plan file, beside the options of every run."""

    file: Path
    prompt: str | None = None
    parameter: list[str] | None = None
    model: str | None = None
    size: str | None = None
    sheet: bool = False


@dataclass(frozen=True)
class _Work:
    """A plan, where it stands, and how it wants to be carried out."""

    plan: Plan
    wishes: Wishes = field(default_factory=Wishes)
    places: Places = field(default_factory=dict)


_Read = Callable[[AsyncClient], Awaitable[_Work]]


def work_file(context: typer.Context, wish: FileWish, options: RunOptions) -> None:
    """Carry out a plan file.

    Raises:
        CliError: with the exit code that says how it ended.
    """

    async def read(client: AsyncClient) -> _Work:
        defaults = Defaults(
            model=wish.model,
            size=wish.size,
            prompt=wish.prompt,
            gates=tuple(options.gate or ()),
            parameters=_parameters(wish.parameter or ()),
        )
        found = read_plan(wish.file, await _gate_maker(client), defaults)
        plan = replace(found.plan, finish=_sheet()) if wish.sheet else found.plan
        return _Work(plan, found.wishes, found.places)

    _carry_out(context, read, options)


def work_recipe(context: typer.Context, make: Callable[[], Plan], options: RunOptions) -> None:
    """Carry out the plan that a recipe makes.

    Raises:
        CliError: with the exit code that says how it ended.
    """

    async def read(client: AsyncClient) -> _Work:
        plan = make()
        if not options.gate:
            return _Work(plan)
        gates = await _gate_maker(client)
        items = tuple(
            replace(one, gates=(*one.gates, *(gates(text, one.order) for text in options.gate)))
            for one in plan.items
        )
        return _Work(replace(plan, items=items))

    _carry_out(context, read, options)


def _sheet() -> Any:
    from safelight.client.recipes.sheet import contact_sheet  # noqa: PLC0415 - a heavy extra

    return contact_sheet


def _parameters(given: Iterable[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise CliError(f"--parameter {text!r} is no NAME=VALUE", exit_code=ExitCode.USAGE)
        found[f"parameters.{name.strip()}"] = value
    return found


async def _gate_maker(client: AsyncClient) -> GateMaker:
    try:
        return GateMaker(pixels_of(await client.sizes()))
    except NotSupported:
        return GateMaker()


# --- carrying out ----------------------------------------------------------------------------


def _carry_out(context: typer.Context, read: _Read, options: RunOptions) -> None:
    again = _again(context)
    places: dict[str, tuple[str, int]] = {}  # filled as soon as the plan is read
    try:
        result = asyncio.run(_run(read, options, places))
    except (ClientError, OSError) as error:
        raise as_cli_error(error, places) from error
    except asyncio.CancelledError:
        raise CliError(
            "interrupted; what is under way is collected by the next start",
            exit_code=ExitCode.INTERRUPTED,
            hint=f"Go on with: {again}",
        ) from None
    if result is not None:
        _tell_end(result, options, again)


async def _run(
    read: _Read, options: RunOptions, places: dict[str, tuple[str, int]]
) -> Result | None:
    # Says in the words of all client commands what is missing.
    shared.check_gateway(options.url, options.api_key)
    async with AsyncClient(options.url, options.api_key, timeout_s=options.timeout) as client:
        work = await read(client)
        places.update(work.places)
        settings = _settings(options, work.wishes)
        folder = options.folder or Path(work.wishes.out or work.plan.name)
        if options.dry_run:
            told = await preview(work.plan, folder, client, settings)
            run_report.print_preview(told, work.plan, folder, settings, as_json=options.as_json)
            return None
        stop = Stop()
        with Display(quiet=options.as_json) as display, _signals(stop, display):
            return await run(
                work.plan,
                folder,
                client,
                settings,
                agree=lambda told: _agreed(told, work.plan, folder, settings, options, display),
                control=Control(display, stop),
            )


def _settings(options: RunOptions, wishes: Wishes) -> Settings:
    cost = options.max_cost if options.max_cost is not None else wishes.max_cost
    rerolls = options.rerolls if options.rerolls is not None else wishes.rerolls
    base = Settings()
    return replace(
        base,
        rerolls=base.rerolls if rerolls is None else rerolls,
        max_cost_micros=None if cost is None else _dollars("--max-cost", cost),
        concurrency=options.concurrency or wishes.concurrency,
        to=options.to or wishes.to,
        price_micros=None if options.price is None else _dollars("--price", options.price),
        untouched=options.untouched,
    )


def _dollars(option: str, text: str) -> int:
    micros = shared.dollars(text)
    if micros < 0:
        raise CliError(f"{option} {text}: it cannot be negative", exit_code=ExitCode.USAGE)
    return micros


async def _agreed(
    told: Preview,
    plan: Plan,
    folder: Path,
    settings: Settings,
    options: RunOptions,
    display: Display,
) -> bool:
    """Show the forecast and ask; nothing has been spent yet.

    Raises:
        CliError: the balance is too small, or nobody can be asked.
    """
    if not options.as_json:
        run_report.print_preview(told, plan, folder, settings, to_errors=True)
    forecast = told.forecast
    _check_balance(told, settings)
    wanted = forecast.pictures + forecast.open
    if not options.yes and wanted:
        if not sys.stdin.isatty() or options.as_json:
            raise CliError(
                "nobody can be asked whether to order, as this is no terminal",
                exit_code=ExitCode.USAGE,
                hint="Add --yes to order, or --dry-run to see the forecast alone.",
            )
        question = run_report.question(told)
        with _plain_interrupts():
            said_yes = typer.confirm(question, err=True)
        if not said_yes:
            output.err().print("nothing was ordered")
            return False
    display.begin(len(plan.items), forecast.done)
    return True


def _check_balance(told: Preview, settings: Settings) -> None:
    forecast = told.forecast
    if forecast.cost_micros is None or forecast.available_micros is None:
        return
    needed = forecast.cost_micros
    if settings.max_cost_micros is not None:
        bound = settings.max_cost_micros - forecast.spent_micros - forecast.open_micros
        needed = min(needed, max(bound, 0))
    if needed <= forecast.available_micros:
        return
    available = run_report.dollars(forecast.available_micros)
    raise CliError(
        f"the balance covers {forecast.affordable} of {forecast.pictures} pictures: {available} of "
        f"{run_report.dollars(needed)}; nothing was ordered",
        exit_code=ExitCode.NO_BALANCE,
        hint="The operator tops up with: safelight credit CUSTOMER AMOUNT. For a part of the "
        f"pictures now, add --max-cost {available.removeprefix('$')}",
    )


@contextlib.contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Let Ctrl-C end a question at once: the event loop's own handlers wait until it goes on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _signals(stop: Stop, display: Display) -> Iterator[None]:
    """Let the first Ctrl-C order nothing more, and the second leave at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def interrupted() -> None:
        if stop.asked or not display.begun:
            if task is not None:
                task.cancel()
            return
        stop.ask(Interrupted("interrupted"))
        display.said(
            "nothing more is ordered; waiting for what is under way (Ctrl-C again leaves it to "
            "the next start)"
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _again(context: typer.Context) -> str:
    """Return the command that goes on, without the key that may stand in it."""
    words: list[str] = []
    given = iter(context.meta.get(ARGUMENTS, ()))
    for word in given:
        if word == _KEY_OPTION:
            next(given, None)
        elif not word.startswith(f"{_KEY_OPTION}="):
            words.append(word)
    return shlex.join(["safelight", "run", *words])


# --- the end ---------------------------------------------------------------------------------


def _tell_end(result: Result, options: RunOptions, again: str) -> None:
    """Print what came of the run, and end with its exit code.

    Raises:
        CliError: it stopped before its end.
        typer.Exit: with the code of a run that is not wholly accepted.
    """
    if options.as_json:
        output.print_json(run_report.as_json(result, again))
    else:
        run_report.print_result(result, again)
    ended = result.ended
    if ended.stopped is not None:
        error = as_cli_error(ended.stopped, {})
        error.hint = f"{error.hint} Go on with: {again}".strip()
        raise error
    code = ExitCode.OK
    if ended.at_bound:
        code = ExitCode.COST_BOUND
    elif ended.failed or ended.left or ended.not_put or result.product_fault:
        code = ExitCode.REFUSED
    elif ended.review:
        code = ExitCode.REVIEW
    if code is not ExitCode.OK:
        raise typer.Exit(int(code))
