"""`safelight worker`: queued work in this process, and no API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.serve import DEFAULT_FILE
from safelight.cli.services import ServerInfo, services_of


def worker(
    context: typer.Context,
    config: options.Config = None,
    data: options.Data = Path("data"),
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port for /healthz and /readyz; 0: a free one. Default: none."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Run queued jobs until Ctrl-C or SIGTERM, then finish those in flight.

    Beside any number of servers and workers on the same database. Servers that shall leave queued
    work to workers have [queue] run = false.
    """
    services = services_of(context)
    path = config or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    settings = services.load_config(path, data)
    code = services.work(settings, port, _announce_json if as_json else _announce)
    if code:
        raise typer.Exit(code)


def _announce(info: ServerInfo) -> None:
    where = f", health at [bold]{escape(info.url)}/readyz[/]" if info.url else ""
    output.out().print(f"[bold]safelight[/] works on the queue{where}", soft_wrap=True)
    if info.recovered_jobs:
        output.err().print(f"{info.recovered_jobs} jobs of an earlier run are going on.")
    for warning in info.warnings:
        output.err().print(f"[yellow]warning:[/] {escape(warning)}")
    output.out().print("Ctrl-C stops it; jobs in flight are finished first.")


def _announce_json(info: ServerInfo) -> None:
    output.print_json(
        {
            "url": info.url or None,
            "accounts": list(info.accounts),
            "recovered_jobs": info.recovered_jobs,
            "warnings": list(info.warnings),
        }
    )
