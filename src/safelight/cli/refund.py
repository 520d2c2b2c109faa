"""`safelight refund`: a charge given back, by the operator."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books
from safelight.money import micros_to_dollars
from safelight.types import Balance


def refund(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="The job.")],
    reason: Annotated[str, typer.Option(help="Stands on the statement.")],
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Give the charge of a job back in full, once. The picture stays."""
    require_books(data)
    if not reason.strip():
        raise CliError("a refund has a reason", exit_code=ExitCode.USAGE)
    micros, balance = _refund(data, job_id, reason.strip())
    if as_json:
        output.print_json({"job_id": job_id, "amount_micros": micros, "balance": balance})
        return
    output.out().print(
        f"{job_id}: {micros_to_dollars(micros)} given back, "
        f"{micros_to_dollars(balance.available_micros)} available (dollars)"
    )


def _refund(data: Path, job_id: str, reason: str) -> tuple[int, Balance]:
    from safelight.ledger import AlreadyResolved  # noqa: PLC0415 - only here the books are opened
    from safelight.office import NotCharged, open_office  # noqa: PLC0415

    async def work() -> tuple[int, Balance]:
        async with open_office(data) as office:
            return await office.refund(job_id, reason)

    try:
        return asyncio.run(work())
    except LookupError as error:
        raise CliError(str(error)) from error
    except NotCharged as error:
        raise CliError(f"{error}; nothing was booked") from error
    except AlreadyResolved as error:
        raise CliError(f"the charge of {job_id} was given back before") from error
