"""`safelight images`: what the operator does with customers' pictures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books

if TYPE_CHECKING:  # imported at run time only by what opens the books
    from safelight.office_pictures import Purged

images = typer.Typer(no_args_is_help=True, help="Customers' pictures.")


@images.callback()
def _group() -> None:
    """Customers' pictures."""


@images.command()
def purge(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="Whose.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it: it cannot be taken back.", show_default=False)
    ] = False,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Delete all pictures of a customer, pinned ones too, and the inputs of its ended orders.

    Statement and receipts keep their lines and digests. Files of batches are the customer's own to
    delete.
    """
    require_books(data)
    if not yes:
        raise CliError(
            f"this deletes all pictures of {customer}; nothing was done",
            exit_code=ExitCode.USAGE,
            hint="Say --yes if that is meant.",
        )
    try:
        done = asyncio.run(_purge(data, customer))
    except LookupError as error:
        raise CliError(str(error)) from error
    if as_json:
        output.print_json(done)
        return
    output.out().print(
        f"{escape(customer)}: {done.pictures:,} pictures and {done.inputs:,} inputs deleted, "
        f"{done.removed:,} files removed",
        soft_wrap=True,
    )
    if done.left:
        typer.echo(f"{done.left:,} files are removed by the next server that runs.")


@images.command("end-links")
def end_links(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="Whose.")],
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """End every link to a customer's pictures that was given out until now, at once.

    For links that went where they should not. The pictures stay, and every new link works.
    """
    require_books(data)
    try:
        asyncio.run(_end_links(data, customer))
    except LookupError as error:
        raise CliError(str(error)) from error
    if as_json:
        output.print_json({"customer": customer, "ended": True})
        return
    output.out().print(f"{escape(customer)}: no link from before works any more", soft_wrap=True)


async def _end_links(data: Path, customer: str) -> None:
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    async with open_office(data) as office:
        assert office.pictures is not None
        await office.pictures.end_links(customer)


async def _purge(data: Path, customer: str) -> Purged:
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    async with open_office(data) as office:
        assert office.pictures is not None
        return await office.pictures.purge(customer)
