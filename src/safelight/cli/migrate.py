"""`safelight migrate`: the schema brought up to date, or the books moved to another database."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books

if TYPE_CHECKING:  # imported at run time only by what opens the books
    from safelight.moving import Move


def migrate(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="Where the books are.", show_default=False),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="An empty database.", show_default=False),
    ] = None,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Bring the database's schema up to date; with --from and --to, move all books.

    `sqlite:` is the file in the data folder, `postgresql://user:password@host/name` a Postgres.
    Stop the gateway before a move. Ends with 7 if what arrived does not add up; then the data
    folder stays with its old books.
    """
    require_books(data)
    if source is None and target is None:
        _bring_up_to_date(data, as_json=as_json)
        return
    if source is None or target is None:
        raise CliError(
            "a move needs both --from and --to",
            exit_code=ExitCode.USAGE,
            hint="For example: --from sqlite: --to postgresql://user:password@host/name",
        )
    _move(data, source, target, as_json=as_json)


def _bring_up_to_date(data: Path, *, as_json: bool) -> None:
    from safelight.db import address  # noqa: PLC0415 - the other commands start without it
    from safelight.moving import schema_version  # noqa: PLC0415

    version = asyncio.run(schema_version(data, address.chosen(os.environ)))
    if as_json:
        output.print_json({"schema_version": version})
    else:
        typer.echo(f"The books of {data} have schema version {version}, the newest.")


def _move(data: Path, source: str, target: str, *, as_json: bool) -> None:
    from safelight.db.copying import NotEmpty  # noqa: PLC0415
    from safelight.moving import move_books  # noqa: PLC0415

    try:
        move = asyncio.run(move_books(data, source, target))
    except NotEmpty as error:
        raise CliError(
            f"the target has books of its own (table {error}); nothing was moved",
            hint="Give --to an empty database.",
        ) from error
    findings = [str(one) for one in move.report.findings]
    if as_json:
        facts = {"from": move.source, "to": move.target, "rows": move.rows, "findings": findings}
        output.print_json(facts)
    else:
        _print(move, findings)
    if findings:
        raise typer.Exit(ExitCode.FINDINGS)


def _print(move: Move, findings: list[str]) -> None:
    console = output.out()
    console.print(f"{escape(move.source)} -> [bold]{escape(move.target)}[/]", soft_wrap=True)
    output.print_facts([(name, f"{count:,}") for name, count in move.rows.items() if count])
    if findings:
        for words in findings:
            console.print(f"[red]found:[/] {escape(words)}", soft_wrap=True)
        console.print("\nWhat arrived does not add up; the data folder stays with its old books.")
        return
    console.print("\nAll books add up there. From now on start every process and command with")
    typer.echo(f"  SAFELIGHT_DATABASE_URL={move.target}")
    console.print("(with user and password).", soft_wrap=True)
