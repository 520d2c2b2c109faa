"""`safelight keys`: make, limit, list and revoke keys of a data folder, server running or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from safelight.cli import key_limits, options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import KeyInfo, require_books, services_of
from safelight.cli.table import Column
from safelight.money import micros_to_dollars
from safelight.types import LimitChange

keys = typer.Typer(
    help="Make, limit, list and revoke customers' keys.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


_COLUMNS = (
    Column("id"),
    Column("customer", words=True),
    Column("name", words=True, rank=2),
    Column("key"),
    Column("made (UTC)", rank=1),
    Column("revoked (UTC)"),
    Column("available", right=True),
    Column("frozen (UTC)", rank=4),
    Column("credit line", right=True, rank=3),
    *key_limits.COLUMNS,
)


@keys.command()
def create(  # noqa: PLR0913, PLR0917  (the options of the command)
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The customer; made if new.")],
    credit: Annotated[str, typer.Option(help="Dollars to add to the balance.")] = "0",
    budget_day: key_limits.BudgetDay = None,
    budget_month: key_limits.BudgetMonth = None,
    budget_total: key_limits.BudgetTotal = None,
    rpm: key_limits.Rpm = None,
    max_in_flight: key_limits.MaxInFlight = None,
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
    limits = key_limits.change_of(
        day=budget_day,
        month=budget_month,
        total=budget_total,
        rpm=rpm,
        max_in_flight=max_in_flight,
    )
    services = services_of(context)

    async def work() -> str:
        async with services.open_office(data) as office:
            return await office.create_customer_key(name, micros, limits)

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
    """List keys with their customers, balances and limits."""
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
                output.moment(_seconds(key.frozen_at)),
                micros_to_dollars(key.credit_line_micros) if key.credit_line_micros else "",
                *key_limits.cells(key),
            )
            for key in found
        ],
    )


@keys.command()
def limit(  # noqa: PLR0913, PLR0917  (the options of the command)
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From `safelight keys list`.")],
    budget_day: key_limits.BudgetDay = None,
    budget_month: key_limits.BudgetMonth = None,
    budget_total: key_limits.BudgetTotal = None,
    rpm: key_limits.Rpm = None,
    max_in_flight: key_limits.MaxInFlight = None,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Change what a key may spend and how fast it may ask; what is not named stays."""
    change = key_limits.change_of(
        day=budget_day,
        month=budget_month,
        total=budget_total,
        rpm=rpm,
        max_in_flight=max_in_flight,
    )
    if change == LimitChange():
        raise CliError("nothing to change; name a limit", exit_code=ExitCode.USAGE)
    services = services_of(context)
    require_books(data)

    async def work() -> KeyInfo:
        async with services.open_office(data) as office:
            return await office.limit_key(key_id, change)

    try:
        key = asyncio.run(work())
    except LookupError as error:
        raise _unknown(key_id) from error
    if as_json:
        output.print_json({"id": key.id, **key_limits.as_json(key)})
        return
    names = [column.name for column in key_limits.COLUMNS]
    facts = zip(names, key_limits.cells(key), strict=True)
    output.print_facts([(name, value or "-") for name, value in facts])


@keys.command("set")
def set_options(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From `safelight keys list`.")],
    *,
    keep_alive: Annotated[
        bool | None,
        typer.Option(
            "--keep-alive/--no-keep-alive",
            help="Begin plain answers with white space while the picture is made, so that no "
            "proxy cuts them; an error then comes under status 200.",
            show_default=False,
        ),
    ] = None,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Change how a key is answered; what is not named stays."""
    if keep_alive is None:
        raise CliError("nothing to change; name an option", exit_code=ExitCode.USAGE)
    services = services_of(context)
    require_books(data)

    async def work() -> bool:
        async with services.open_office(data) as office:
            return await office.set_keep_alive(key_id, on=keep_alive)

    if not asyncio.run(work()):
        raise _unknown(key_id)
    if as_json:
        output.print_json({"id": key_id, "keep_alive": keep_alive})
    else:
        typer.echo(f"{key_id} is answered {'with' if keep_alive else 'without'} white space.")


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
        raise _unknown(key_id)
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


def _unknown(key_id: str) -> CliError:
    hint = "See them with: safelight keys list"
    return CliError(f"no key in use has the id {key_id!r}", hint=hint)


def _as_json(key: KeyInfo) -> dict[str, Any]:
    return {
        "id": key.id,
        "customer": key.customer,
        "name": key.name,
        "last4": key.last4,
        "created_at": key.created_at // 1000,
        "revoked_at": None if key.revoked_at is None else key.revoked_at // 1000,
        "available_micros": key.balance_micros,
        "frozen_at": None if key.frozen_at is None else key.frozen_at // 1000,
        "credit_line_micros": key.credit_line_micros,
        "keep_alive": key.keep_alive,
        **key_limits.as_json(key),
    }


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
