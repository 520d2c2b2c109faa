"""`safelight serve`: the gateway, in this process or in several that this one looks after."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import ServerInfo, services_of
from safelight.config import Config
from safelight.money import micros_to_dollars

DEFAULT_FILE = Path("safelight.toml")
"""The configuration that is taken from the present folder."""


def serve(
    context: typer.Context,
    config: options.Config = None,
    data: options.Data = Path("data"),
    host: Annotated[
        str | None, typer.Option(help="Address to listen on, instead of the configured one.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port, instead of the configured one; 0: a free one."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=256,
            help="Processes that serve together, instead of the configured number; 0: one a core.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM, then finish the jobs in flight.

    With no configuration it draws labelled proofs by itself: no account is needed to try it. The
    first start makes a customer with credit and prints the key once. While nobody has an admin key
    it says how to make one.
    """
    services = services_of(context)
    path = config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    settings = _overridden(services.load_config(path, data), host, port, workers)
    tell = _announce_json if as_json else partial(_announce, data=settings.data_dir)
    code = services.serve(settings, tell)
    if code:
        raise typer.Exit(code)


def _overridden(
    settings: Config, host: str | None, port: int | None, workers: int | None
) -> Config:
    server = settings.server
    if host is not None:
        if not host:
            raise CliError("--host is empty", exit_code=ExitCode.USAGE)
        server = msgspec.structs.replace(server, host=host)
    if port is not None:
        server = msgspec.structs.replace(server, port=port)
    if workers is not None:
        server = msgspec.structs.replace(server, workers=workers)
    return msgspec.structs.replace(settings, server=server)


def _announce(info: ServerInfo, *, data: Path) -> None:
    console = output.out()
    console.print(f"[bold]safelight[/] listens on [bold]{escape(info.url)}[/]\n", soft_wrap=True)
    output.print_facts(
        [("channels", ", ".join(info.channels)), ("accounts", ", ".join(info.accounts))]
    )
    if info.recovered_jobs:
        output.err().print(f"{info.recovered_jobs} jobs of an earlier run are going on.")
    for warning in info.warnings:
        output.err().print(f"[yellow]warning:[/] {escape(warning)}")
    if info.first_key is not None:
        credit = micros_to_dollars(info.credit_micros)
        console.print(
            f"\nFirst start: customer {escape(info.customer or '')} has ${credit} and this key. "
            "It is shown only now.\n",
            soft_wrap=True,
        )
        # Plain text: these lines are there to be copied.
        typer.echo(f"  export OPENAI_BASE_URL={info.url}/v1")
        typer.echo(f"  export OPENAI_API_KEY={info.first_key}")
    if not info.operated:
        console.print("\nNobody has an admin key yet, to sign in as an operator. Make one with:\n")
        typer.echo(
            f"  safelight admin keys create NAME --role owner --data {shlex.quote(str(data))}"
        )
    console.print("\nCtrl-C stops it; jobs in flight are finished first.")


def _announce_json(info: ServerInfo) -> None:
    output.print_json(
        {
            "url": info.url,
            "channels": list(info.channels),
            "accounts": list(info.accounts),
            "customer": info.customer,
            "first_key": info.first_key,
            "credit_micros": info.credit_micros,
            "recovered_jobs": info.recovered_jobs,
            "operated": info.operated,
            "warnings": list(info.warnings),
        }
    )
