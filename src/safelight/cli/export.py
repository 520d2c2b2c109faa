"""`safelight export`: a month of the books for the operator, as CSV or JSON.

Reads one snapshot of the data folder, whether or not a server runs on it, writes line by line and
adds up while it writes. A file appears whole or not at all; so does what goes to standard output.
"""

from __future__ import annotations

import asyncio
import csv
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import msgspec
import typer

from safelight.cli import options, output, periods
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books
from safelight.cli.table import Column
from safelight.money import micros_to_dollars
from safelight.types import StatementLine

if TYPE_CHECKING:
    from safelight.gateway.exports import ExportLine, MonthSums

Form = Literal["csv", "json"]

_LINE = StatementLine.__struct_fields__
_COLUMNS = (
    "customer",
    *_LINE,
    "attempts_sold",
    "attempts_unknown",
    "vendor_cost_micros",
    "vendor_cost_complete",
    "margin_micros",
    "attempt_details",
)
_SUMS = (
    Column("channel"),
    Column("charged", right=True),
    Column("free", right=True),
    Column("refunded", right=True, rank=3),
    Column("attempts", right=True, rank=2),
    Column("amount", right=True),
    Column("vendor cost", right=True),
    Column("margin", right=True, rank=1),
)


def export(
    month: Annotated[str, typer.Option(help="The month (UTC), such as 2026-11.")],
    customer: Annotated[str | None, typer.Option(help="One customer.", show_default="all")] = None,
    form: Annotated[Form, typer.Option("--format", help="csv or json.")] = "csv",
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="A file.", show_default="standard output"),
    ] = None,
    data: options.Data = Path("data"),
) -> None:
    """Write every line of a month with its attempts, vendor cost and margin.

    The lines' amounts add up to the balance's change in that month; that is checked.
    """
    from_s, to_s = periods.month(month)
    require_books(data)
    try:
        with _target(out) as file:
            sums = asyncio.run(_export(data, file, month, form, customer, (from_s, to_s)))
    except LookupError as error:
        raise CliError(str(error.args[0])) from error
    _print_sums(sums, to_errors=out is None)
    if not sums.adds_up:
        names = ", ".join(one.customer for one in sums.customers if not one.adds_up)
        raise CliError(
            f"the lines do not add up to the ledger's balances: {names}",
            exit_code=ExitCode.FINDINGS,
            hint="Look closer with: safelight verify",
        )


async def _export(
    data: Path, file: TextIO, month: str, form: Form, customer: str | None, span: tuple[int, int]
) -> MonthSums:
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    def write(lines: Iterator[ExportLine], sums: MonthSums) -> None:
        file.seek(0)
        file.truncate()
        if form == "csv":
            _write_csv(file, lines)
        else:
            _write_json(file, month, lines, sums)

    async with open_office(data) as office:
        return await office.books.export(write, customer=customer, from_s=span[0], to_s=span[1])


@contextmanager
def _target(out: Path | None) -> Iterator[TextIO]:
    """Give a file to write to; it becomes `out`, or standard output, when all went well."""
    if out is None:
        with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as file:
            yield file
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout)
            sys.stdout.flush()
        return
    handle, name = tempfile.mkstemp(dir=out.absolute().parent, prefix=".export-")
    try:
        with os.fdopen(handle, "w+", encoding="utf-8", newline="") as file:
            yield file
        Path(name).replace(out)
    finally:
        Path(name).unlink(missing_ok=True)


# --- forms ---------------------------------------------------------------------------------------


def _write_csv(file: TextIO, lines: Iterator[ExportLine]) -> None:
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for made in lines:
        entry = _entry(made)
        details = entry.pop("attempt_details")
        text = msgspec.json.encode(details).decode() if details else ""
        complete = "yes" if entry.pop("vendor_cost_complete") else "no"
        writer.writerow({**entry, "vendor_cost_complete": complete, "attempt_details": text})


def _write_json(file: TextIO, month: str, lines: Iterator[ExportLine], sums: MonthSums) -> None:
    head = msgspec.json.encode({"object": "export", "month": month}).decode()
    file.write(head[:-1] + ',"data":[')
    separator = "\n"
    for made in lines:
        file.write(separator + msgspec.json.encode(_entry(made)).decode())
        separator = ",\n"
    file.write("],\n" + msgspec.json.encode(_sums_json(sums)).decode()[1:] + "\n")


def _entry(made: ExportLine) -> dict[str, Any]:
    return {
        "customer": made.customer,
        **msgspec.structs.asdict(made.line),
        "attempts_sold": made.cost.sold,
        "attempts_unknown": made.cost.unknown,
        "vendor_cost_micros": made.cost.micros,
        "vendor_cost_complete": made.cost.complete,
        "margin_micros": made.margin_micros,
        "attempt_details": [
            {
                "account": one.account,
                "group": one.group,
                "sent_at": one.sent_at // 1000,
                "seconds": one.seconds,
                "outcome": one.outcome,
                "code": one.code,
                "sold": one.sold,
                "delivered": one.settled,
                "upstream_request_id": one.upstream_request_id,
                "vendor_cost_micros": one.cost_micros,
            }
            for one in made.attempts
        ],
    }


def _sums_json(sums: MonthSums) -> dict[str, Any]:
    return {
        "channels": [
            {
                "channel": name,
                "charged": one.charged,
                "free": one.free,
                "refunded": one.refunded,
                "attempts": one.attempts,
                "amount_micros": one.amount_micros,
                "vendor_cost_micros": one.cost_micros,
                "vendor_cost_complete": one.cost_complete,
                "margin_micros": one.margin_micros,
            }
            for name, one in sorted(sums.channels.items())
        ],
        "others": dict(sorted(sums.others.items())),
        "customers": [
            {
                "customer": one.customer,
                "opening_micros": one.opening_micros,
                "lines": one.lines,
                "lines_micros": one.lines_micros,
                "closing_micros": one.closing_micros,
                "adds_up": one.adds_up,
            }
            for one in sums.customers
        ],
        "opening_micros": sums.opening_micros,
        "lines_micros": sums.lines_micros,
        "closing_micros": sums.closing_micros,
        "adds_up": sums.adds_up,
    }


# --- sums for people -----------------------------------------------------------------------------


def _print_sums(sums: MonthSums, *, to_errors: bool) -> None:
    rows = [
        (
            name,
            str(one.charged),
            str(one.free),
            str(one.refunded),
            str(one.attempts),
            micros_to_dollars(one.amount_micros),
            ("" if one.cost_complete else "≥ ") + micros_to_dollars(one.cost_micros),
            ("" if one.cost_complete else "≤ ") + micros_to_dollars(one.margin_micros),
        )
        for name, one in sorted(sums.channels.items())
    ]
    rows += [
        (f"({kind})", "", "", "", "", micros_to_dollars(amount), "", "")
        for kind, amount in sorted(sums.others.items())
    ]
    equation = (
        f"opening {micros_to_dollars(sums.opening_micros)} "
        f"+ lines {micros_to_dollars(sums.lines_micros)} "
        f"{'=' if sums.adds_up else 'is not'} closing {micros_to_dollars(sums.closing_micros)}"
    )
    if rows:
        output.print_table(_SUMS, rows, to_errors=to_errors)
    console = output.err() if to_errors else output.out()
    console.print(equation)
