"""`safelight doctor`: what is wrong with this installation, and with the proxies before it.

Owns the options, the exit code and how checks are shown; what is checked is `safelight.doctor`'s.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.clock import SystemClock
from safelight.types import Secret

if TYPE_CHECKING:  # imported at run time only when it is asked for
    from safelight.doctor import Check
    from safelight.doctor.chain.measuring import Wanted
    from safelight.doctor.chain.wire import Origin
    from safelight.doctor.examining import Patient

_DEFAULT_FILE = Path("safelight.toml")
_STYLES = {"ok": "green", "warning": "yellow", "unchecked": "dim", "failed": "bold red"}
_CHAIN = "The way from outside"


def doctor(
    config: options.Config = None,
    data: options.Data = Path("data"),
    url: Annotated[
        str,
        typer.Option(
            "--url",
            help="The address that clients use; with a key, the proxies before it are measured.",
            show_default="\\[server] public_url",
            rich_help_panel=_CHAIN,
        ),
    ] = "",
    key: Annotated[
        str,
        typer.Option(
            "--key",
            "--api-key",
            envvar=["SAFELIGHT_API_KEY"],
            help="A customer's key; nothing is ordered with it.",
            show_default=False,
            rich_help_panel=_CHAIN,
        ),
    ] = "",
    direct: Annotated[
        str,
        typer.Option(
            "--direct",
            help="The gateway itself, past all proxies, to tell it from them.",
            show_default=False,
            rich_help_panel=_CHAIN,
        ),
    ] = "",
    silence: Annotated[
        float | None,
        typer.Option(
            "--silence",
            min=1,
            max=900,
            help="The longest silence to ask for, seconds.",
            show_default="the longest deadline_s of a channel",
            rich_help_panel=_CHAIN,
        ),
    ] = None,
    through: Annotated[
        bool,
        typer.Option(
            "--through",
            help="Look at that way alone: this machine is not the gateway's.",
            show_default=False,
            rich_help_panel=_CHAIN,
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Check configuration, data folder, database, storage, machine, accounts and proxies.

    Works with and without a running server; nothing costs money. Ends with 0 when all is well,
    1 when something failed, 2 when something could not be looked at.
    """
    from safelight.doctor.examining import Patient  # noqa: PLC0415 - the others start without it

    if through and not url:
        raise _usage("--through looks at an address", "Name it: --url https://images.example.com")
    if direct and not (url and key):
        raise _usage("--direct is compared with --url, and needs a key", "Give --url and --key.")
    path = config or (_DEFAULT_FILE if _DEFAULT_FILE.is_file() else None)
    chain = _wanted(url, key, direct, silence) if url else None
    patient = Patient(path, data, os.environ, chain=chain, chain_only=through)
    found = asyncio.run(_examine(patient, shown=not as_json))
    _finish(found, as_json=as_json)


def _usage(message: str, hint: str) -> CliError:
    return CliError(message, exit_code=ExitCode.USAGE, hint=hint)


def _wanted(url: str, key: str, direct: str, silence: float | None) -> Wanted:
    from safelight.doctor.chain.measuring import Wanted  # noqa: PLC0415 - as above

    secret = Secret(key) if key else None
    beside = _origin(direct, secret) if direct else None
    return Wanted(_origin(url, secret), direct=beside, longest_s=silence)


def _origin(url: str, key: Secret | None) -> Origin:
    from safelight.doctor.chain.wire import BadAddress, Origin  # noqa: PLC0415 - as above

    try:
        return Origin.parse(url, key)
    except BadAddress as error:
        raise _usage(str(error), "Write it as https://images.example.com") from error


async def _examine(patient: Patient, *, shown: bool) -> list[Check]:
    from safelight.doctor.examining import examine  # noqa: PLC0415 - as above

    found: list[Check] = []
    measuring = shown and patient.chain is not None and patient.chain.public.key is not None
    async for check in examine(patient, SystemClock()):
        if shown:
            _show(check, first=not found or found[-1].group != check.group)
        if measuring and check.name == "buffering":
            output.err().print("[dim]measuring silences: up to the time the first hop cuts ...[/]")
        found.append(check)
    return found


def _show(check: Check, *, first: bool) -> None:
    console = output.out()
    if first:
        console.print(f"[bold]{escape(check.group)}[/]")
    style = _STYLES[check.state]
    said = f"  [{style}]{check.state:<9}[/] {escape(check.name)}: {escape(check.found)}"
    console.print(said, soft_wrap=True)
    if check.advice:
        console.print(f"            [dim]do:[/] {escape(check.advice)}", soft_wrap=True)


def _finish(found: list[Check], *, as_json: bool) -> None:
    from safelight.doctor import State, worst  # noqa: PLC0415 - as above

    counts = {state: sum(check.state is state for check in found) for state in State}
    state = worst(found)
    if as_json:
        checks: list[Any] = [msgspec.to_builtins(check) for check in found]
        output.print_json({"state": state, "counts": counts, "checks": checks})
    else:
        words = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        output.out().print(words)
    if counts[State.FAILED]:
        raise typer.Exit(ExitCode.REFUSED)
    if counts[State.UNCHECKED]:
        raise typer.Exit(ExitCode.USAGE)
