"""`safelight keys`: make, list and revoke the keys of a data folder, server running or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import KeyInfo, require_books, services_of
from safelight.cli.table import Column
from safelight.money import micros_to_dollars

keys = typer.Typer(
    help="Make, list and revoke customers' keys.", no_args_is_help=True, rich_markup_mode="rich"
)


_COLUMNS = (
    Column("id"),
    Column("customer", words=True),
    Column("name", words=True, rank=2),
    Column("key"),
    Column("made (UTC)", rank=1),
    Column("revoked (UTC)"),
    Column("available", right=True),
)


@keys.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The customer; made if new.")],
    credit: Annotated[str, typer.Option(help="Dollars to add to the balance.")] = "0",
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Make a key and print it, and nothing but it, on standard output.

    It is stored as a hash: this is the only time it can be seen.
    """
    _check_name(name)
    micros = options.dollars(credit)
    if micros < 0:
        raise CliError("--credit cannot be negative", exit_code=ExitCode.USAGE)
    services = services_of(context)

    async def work() -> str:
        async with services.open_office(data) as office:
            return await office.create_customer_key(name, micros)

    key = asyncio.run(work())
    if as_json:
        output.print_json({"customer": name, "key": key, "credit_micros": micros})
        return
    added = f" ${micros_to_dollars(micros)} added." if micros else ""
    output.err().print(f"Key of customer {escape(name)}; it is shown only now.{added}")
    typer.echo(key)


@keys.command("list")
def list_keys(
    context: typer.Context, data: options.Data = Path("data"), as_json: options.Json = False
) -> None:
    """List keys with their customers and balances."""
    services = services_of(context)
    require_books(data)

    async def work() -> list[KeyInfo]:
        async with services.open_office(data) as office:
            return list(await office.list_keys())

    found = asyncio.run(work())
    if as_json:
        output.print_json({"object": "list", "data": [_as_json(key) for key in found]})
        return
    output.print_table(
        _COLUMNS,
        [
            (
                key.id,
                key.customer,
                key.name,
                f"…{key.last4}",
                output.moment(key.created_at / 1000),
                output.moment(_seconds(key.revoked_at)),
                micros_to_dollars(key.balance_micros),
            )
            for key in found
        ],
    )


@keys.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From `safelight keys list`.")],
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """End a key at once. Its jobs in flight are finished."""
    services = services_of(context)
    require_books(data)

    async def work() -> bool:
        async with services.open_office(data) as office:
            return await office.revoke_key(key_id)

    if not asyncio.run(work()):
        raise CliError(
            f"no key in use has the id {key_id!r}", hint="See them with: safelight keys list"
        )
    if as_json:
        output.print_json({"id": key_id, "revoked": True})
    else:
        typer.echo(f"{key_id} is revoked.")


def _check_name(name: str) -> None:
    """Refuse a name that nobody could read on a list or type again.

    Raises:
        CliError: it is empty, has blanks around it or holds what cannot be printed (exit code 2).
    """
    if not name.strip():
        raise CliError("the customer's name is empty", exit_code=ExitCode.USAGE)
    if name != name.strip() or not name.isprintable():
        raise CliError(
            f"the customer's name {name!r} has blanks around it or unprintable characters",
            exit_code=ExitCode.USAGE,
        )


def _as_json(key: KeyInfo) -> dict[str, Any]:
    return {
        "id": key.id,
        "customer": key.customer,
        "name": key.name,
        "last4": key.last4,
        "created_at": key.created_at // 1000,
        "revoked_at": None if key.revoked_at is None else key.revoked_at // 1000,
        "available_micros": key.balance_micros,
    }


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
