"""`safelight credit`: money and a credit line for a customer, by the operator."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books, services_of
from safelight.ledger import WouldOverdraw
from safelight.money import micros_to_dollars
from safelight.types import Balance


def credit(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The customer.")],
    amount: Annotated[str | None, typer.Argument(help="Dollars; negative takes back.")] = None,
    line: Annotated[
        str | None,
        typer.Option(metavar="DOLLARS", help="How much the customer may owe; 0: prepaid."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Stands on the statement.")] = "",
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Add to a customer's balance (a top-up), or take from it (an adjustment).

    With --line instead of an amount: set how much the customer may owe.
    """
    if (amount is None) == (line is None):
        raise CliError("give either an amount or --line", exit_code=ExitCode.USAGE)
    if line is not None:
        _set_line(context, name, options.dollars(line), data, as_json=as_json)
        return
    assert amount is not None
    micros = options.dollars(amount)
    if micros == 0:
        raise CliError("an amount of nothing changes nothing", exit_code=ExitCode.USAGE)
    services = services_of(context)
    require_books(data)
    why = reason or ("top-up by the operator" if micros > 0 else "adjustment by the operator")

    async def work() -> Balance:
        async with services.open_office(data) as office:
            return await office.credit(name, micros, why)

    try:
        balance = asyncio.run(work())
    except LookupError as error:
        raise _unknown(name) from error
    except WouldOverdraw as error:
        raise CliError(f"{name} has less than that available; nothing was booked") from error
    if as_json:
        output.print_json({"customer": name, "amount_micros": micros, "balance": balance})
        return
    output.out().print(
        f"{escape(name)}: {micros_to_dollars(micros)} booked, "
        f"{micros_to_dollars(balance.available_micros)} available (dollars)"
    )


def _set_line(context: typer.Context, name: str, micros: int, data: Path, *, as_json: bool) -> None:
    if micros < 0:
        raise CliError("a credit line is not negative", exit_code=ExitCode.USAGE)
    services = services_of(context)
    require_books(data)

    async def work() -> Balance:
        async with services.open_office(data) as office:
            return await office.set_credit_line(name, micros)

    try:
        balance = asyncio.run(work())
    except LookupError as error:
        raise _unknown(name) from error
    except WouldOverdraw as error:
        raise CliError(f"{name} owes or holds more than that; nothing was changed") from error
    if as_json:
        output.print_json({"customer": name, "balance": balance})
        return
    output.out().print(
        f"{escape(name)}: may owe {micros_to_dollars(micros)}, "
        f"{micros_to_dollars(balance.available_micros)} available before that (dollars)"
    )


def _unknown(name: str) -> CliError:
    hint = "A customer is made with its first key: safelight keys create NAME"
    return CliError(f"no customer is named {name!r}", hint=hint)
