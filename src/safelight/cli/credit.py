"""`safelight credit`: money for a customer, by the operator."""

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
    amount: Annotated[str, typer.Argument(help="Dollars; negative takes back.")],
    reason: Annotated[str, typer.Option(help="Stands on the statement.")] = "",
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Add to a customer's balance (a top-up), or take from it (an adjustment)."""
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
        hint = "A customer is made with its first key: safelight keys create NAME"
        raise CliError(f"no customer is named {name!r}", hint=hint) from error
    except WouldOverdraw as error:
        raise CliError(f"{name} has less than that available; nothing was booked") from error
    if as_json:
        output.print_json({"customer": name, "amount_micros": micros, "balance": balance})
        return
    output.out().print(
        f"{escape(name)}: {micros_to_dollars(micros)} booked, "
        f"{micros_to_dollars(balance.available_micros)} available (dollars)"
    )
