"""`safelight statement`: one line per job and per movement of money, as a table, CSV or JSON.

Reads every page of GET /v1/billing/statement; adds nothing up: the lines carry the balance. CSV and
JSON are written while the pages come, however long the statement is.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from itertools import chain, islice
from typing import Annotated, Any

import msgspec
import typer

from safelight.cli import options, output, periods
from safelight.cli.errors import AnswerError, CliError, ExitCode
from safelight.cli.http import Gateway
from safelight.cli.table import Column
from safelight.money import micros_to_dollars
from safelight.types import StatementLine

ROUTE = "/v1/billing/statement"
_PAGE = 100
_COLUMNS = (
    Column("when (UTC)"),
    Column("kind", rank=2),
    Column("job"),
    Column("channel", rank=4),
    Column("size", rank=3),
    Column("plan", rank=5),
    Column("amount", right=True),
    Column("balance", right=True, rank=1),
    Column("reason", words=True),
)

Line = dict[str, Any]


def statement(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: typer.Context,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.", show_default=False)] = False,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", help="First moment: 2026-11-22, 2026-11-22T08:00 (UTC), unix seconds."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="The moment before which it ends.")
    ] = None,
    month: Annotated[
        str | None, typer.Option(help="A whole month (UTC) instead, such as 2026-11.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many lines, oldest first.")
    ] = None,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 60.0,
    as_json: options.Json = False,
) -> None:
    """Show what was paid and why: failures stand at 0 with their reason.

    Adding up the amounts gives the balance to the micro-dollar.
    """
    if as_csv and as_json:
        raise CliError("--csv and --json exclude each other", exit_code=ExitCode.USAGE)
    if month is not None and (since is not None or until is not None):
        raise CliError("--month stands alone, without --from and --to", exit_code=ExitCode.USAGE)
    if month is None:
        span = periods.seconds(since), periods.seconds(until)
    else:
        span = periods.month(month)
    gateway = options.gateway(context, url, api_key, timeout)
    chosen = islice(lines(gateway, since=span[0], until=span[1]), limit)
    if as_json:
        _print_json(chosen)
    elif as_csv:
        _print_csv(chosen)
    else:
        print_lines(list(chosen))


def lines(
    gateway: Gateway, *, since: int | None = None, until: int | None = None
) -> Iterator[Line]:
    """Yield the customer's statement lines, oldest first, page by page.

    Raises:
        GatewayError: a page could not be read.
    """
    after: str | None = None
    while True:
        query = {"limit": _PAGE, "after": after, "from": since, "to": until}
        page = gateway.get(ROUTE, query)
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise AnswerError({"message": "the gateway's answer is no statement"}, status=None)
        yield from page["data"]
        if not page.get("has_more") or not page["data"]:
            return
        after = page["data"][-1]["id"]


def print_lines(found: list[Line]) -> None:
    """Print statement lines as a table."""
    output.print_table(
        _COLUMNS,
        [
            (
                output.moment(line["created_at"]),
                str(line["kind"]),
                str(line.get("job_id") or ""),
                str(line.get("channel") or ""),
                str(line.get("size") or ""),
                str(line.get("size_plan") or ""),
                micros_to_dollars(line["amount_micros"]),
                micros_to_dollars(line["balance_micros"]),
                str(line.get("reason") or ""),
            )
            for line in found
        ],
    )


def _print_csv(found: Iterator[Line]) -> None:
    columns = [field.name for field in msgspec.structs.fields(StatementLine)]
    first = list(islice(found, 1))  # read before the heading: a refusal prints nothing
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(chain(first, found))


def _print_json(found: Iterator[Line]) -> None:
    separator = '{"object":"list","data":['
    for line in found:
        sys.stdout.write(separator + msgspec.json.encode(line).decode())
        separator = ","
    sys.stdout.write(("" if separator == "," else separator) + "]}\n")
    sys.stdout.flush()
