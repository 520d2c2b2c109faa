"""`safelight receipt`: all that the books know of one job, for the operator.

Reads the data folder, whether or not a server runs on it. The customer's own receipt, with less in
it, is GET /v1/jobs/{id}/receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from safelight.cli import options, output
from safelight.cli.errors import CliError
from safelight.cli.services import require_books
from safelight.cli.table import Column
from safelight.money import micros_to_dollars

if TYPE_CHECKING:
    from safelight.attempts import Attempt
    from safelight.gateway.receipts import Receipt

_TRANSFERS = (
    Column("when (UTC)"),
    Column("transfer"),
    Column("id", rank=1),
    Column("balance by", right=True),
    Column("held by", right=True, rank=2),
    Column("balance", right=True),
    Column("reason", words=True),
)
_ATTEMPTS = (
    Column("#", right=True),
    Column("sent (UTC)", rank=4),
    Column("seconds", right=True, rank=3),
    Column("outcome"),
    Column("code", rank=5),
    Column("sold"),
    Column("account"),
    Column("customer sees", rank=6),
    Column("group", rank=7),
    Column("vendor's request id", rank=1),
    Column("cost", right=True, rank=2),
)


def receipt(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="The job.")],
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Show a job's order, picture, money and attempts, with accounts, costs and margin."""
    require_books(data)
    try:
        found = asyncio.run(_read(data, job_id))
    except LookupError as error:
        raise CliError(str(error.args[0])) from error
    if as_json:
        output.print_json(_as_json(found))
    else:
        _print(found)


async def _read(data: Path, job_id: str) -> Receipt:
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    async with open_office(data) as office:
        return await office.books.receipt(job_id)


def _as_json(found: Receipt) -> dict[str, Any]:
    """Return what the customer sees, and what the operator knows beyond it."""
    from safelight.api.receipts import receipt_view  # noqa: PLC0415 - see above

    seen = msgspec.to_builtins(receipt_view(found))
    cost = found.cost
    for shown, attempt in zip(seen["attempts"], found.attempts, strict=True):
        shown |= {
            "alias": shown["account"],
            "account": attempt.account,
            "group": attempt.group,
            "code": attempt.code,
            "sold": attempt.sold,
            "vendor_cost_micros": attempt.cost_micros,
        }
    return {
        **seen,
        "customer": found.customer,
        "vendor_cost_micros": cost.micros,
        "vendor_cost_complete": cost.complete,
        "margin_micros": found.margin_micros,
    }


def _print(found: Receipt) -> None:
    output.print_facts(_facts(found))
    console = output.out()
    console.print()
    output.print_table(
        _TRANSFERS,
        [
            (
                output.moment(one.created_at / 1000),
                one.kind,
                one.id,
                micros_to_dollars(one.amount_micros),
                micros_to_dollars(one.held_micros),
                micros_to_dollars(one.balance_micros),
                one.reason,
            )
            for one in found.movements
        ],
    )
    if found.attempts:
        console.print()
        rows = enumerate(found.attempts, 1)
        output.print_table(_ATTEMPTS, [_attempt_row(number, one, found) for number, one in rows])


def _facts(found: Receipt) -> Iterator[tuple[str, str]]:
    job, cost = found.job, found.cost
    yield "job", f"{job.id} ({job.state})"
    yield "request", job.request_id
    yield "customer", found.customer
    yield "channel", job.request.channel
    yield "size", f"{job.request.size} asked, plan: {job.size_plan.describe()}"
    if job.image is not None:
        blob = job.image.blob
        yield "picture", f"{blob.width}x{blob.height} {blob.format}, {blob.bytes} bytes"
        yield "sha256", blob.digest
    for name, at in (
        ("created", job.created_at),
        ("started", job.started_at),
        ("completed", job.completed_at),
        ("delivered", job.delivered_at),
    ):
        if at is not None:
            yield name, f"{output.moment(at / 1000)} UTC"
    yield "price", micros_to_dollars(job.price_micros)
    free = f", free: {found.free_reason}" if found.free_reason else ""
    yield "charged", micros_to_dollars(found.charged_micros) + free
    bound = ("", "") if cost.complete else ("≥ ", "≤ ")
    yield "vendor cost", bound[0] + micros_to_dollars(cost.micros)
    yield "margin", bound[1] + micros_to_dollars(found.margin_micros)


def _attempt_row(number: int, attempt: Attempt, found: Receipt) -> tuple[str, ...]:
    sold = {None: "unknown", True: "waste", False: "no"}[attempt.sold]
    cost = attempt.cost_micros
    return (
        str(number),
        output.moment(attempt.sent_at / 1000),
        "" if attempt.seconds is None else f"{attempt.seconds:.1f}",
        attempt.outcome or "running",
        attempt.code or "",
        "delivered" if attempt.settled else sold,
        attempt.account,
        found.aliases[attempt.account],
        attempt.group,
        attempt.upstream_request_id or "",
        "" if cost is None else micros_to_dollars(cost),
    )
