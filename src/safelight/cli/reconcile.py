"""`safelight reconcile`: the vendor's usage export beside our attempts, difference by difference.

Reads files and the data folder, whether or not a server runs on it, and writes nothing. The
comparison is that of `safelight.gateway.reconciling`; this file only shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import options, output, periods
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books
from safelight.cli.table import Column
from safelight.money import micros_to_dollars

if TYPE_CHECKING:
    from safelight.gateway.reconciling import Difference, Reconciliation, Span
    from safelight.vendor_usage import VendorUsage

_SHOWN = 50
"""Differences of one kind that a person is shown."""
_DIFFERENCES = (
    Column("when (UTC)", rank=1),
    Column("vendor's request id"),
    Column("pictures", right=True, rank=4),
    Column("vendor's cost", right=True, rank=2),
    Column("our cost", right=True, rank=2),
    Column("job"),
    Column("outcome", rank=3),
    Column("account", rank=5),
)
_SPANS = (
    Column("from (UTC)"),
    Column("to (UTC)"),
    Column("of"),
    Column("vendor", right=True),
    Column("ours at least", right=True),
    Column("at most", right=True),
    Column(""),
)


def reconcile(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", exists=True, dir_okay=False, help="The export's files."),
    ],
    account: Annotated[str | None, typer.Option(help="The account it is of.")] = None,
    group: Annotated[
        str | None, typer.Option(help="Or the limiter group: all accounts of one organisation.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First moment; without a zone it is UTC.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="The moment before which it ends.")
    ] = None,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Compare what the vendor says it sold with what was sold by our books.

    Ends with 0 when settled + waste <= sold <= settled + waste + unknown and no call contradicts
    it, else with 7.
    """
    if (account is None) == (group is None):
        raise CliError("give one of --account and --group", exit_code=ExitCode.USAGE)
    span = periods.seconds(since), periods.seconds(until)
    require_books(data)
    usage = _read_files(files)
    try:
        found = asyncio.run(_compare(data, usage, account, group, span))
    except LookupError as error:
        raise CliError(str(error.args[0]), exit_code=ExitCode.USAGE) from error
    if as_json:
        output.print_json(_as_json(found, usage.remarks))
    else:
        _print(found, usage.remarks)
    if not found.adds_up:
        raise typer.Exit(ExitCode.FINDINGS)


def _read_files(files: list[Path]) -> VendorUsage:
    from safelight.vendor_usage import UnreadableExport, read_usage  # noqa: PLC0415 - see _compare

    try:
        return read_usage(path.read_text(encoding="utf-8") for path in files)
    except (UnreadableExport, UnicodeDecodeError) as error:
        names = ", ".join(str(path) for path in files)
        raise CliError(f"{names}: {error}", exit_code=ExitCode.USAGE) from error


async def _compare(
    data: Path,
    usage: VendorUsage,
    account: str | None,
    group: str | None,
    span: tuple[int | None, int | None],
) -> Reconciliation:
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    async with open_office(data) as office:
        return await office.books.reconcile(
            usage, account=account, group=group, from_s=span[0], to_s=span[1]
        )


# --- JSON ----------------------------------------------------------------------------------------


def _as_json(found: Reconciliation, remarks: tuple[str, ...]) -> dict[str, Any]:
    return {
        "object": "reconciliation",
        "adds_up": found.adds_up,
        "settled": found.settled,
        "waste": found.waste,
        "unknown": found.unknown,
        "border": found.border,
        "outside": found.outside,
        "vendor": found.vendor,
        "difference": found.difference,
        "matched_by_id": found.matched_by_id,
        "matched_by_time": found.matched_by_time,
        "our_cost_micros": found.our_cost_micros,
        "uncosted": found.uncosted,
        "vendor_cost_micros": found.vendor_cost_micros,
        "difference_micros": found.difference_micros,
        "differences": [_difference_json(one) for one in found.differences],
        "spans": [
            {
                "from": one.start // 1000,
                "to": one.end // 1000,
                "of": "cost_micros" if one.money else "images",
                "vendor": one.vendor,
                "at_least": one.at_least,
                "at_most": one.at_most,
                "fits": one.fits,
            }
            for one in found.spans
        ],
        "remarks": list(remarks),
    }


def _difference_json(one: Difference) -> dict[str, Any]:
    call, attempt = one.call, one.attempt
    return {
        "what": one.what,
        "call": None
        if call is None
        else {
            "row": call.row,
            "id": call.id,
            "at": None if call.at is None else call.at / 1000,
            "model": call.model,
            "images": call.images,
            "cost_micros": call.cost_micros,
        },
        "attempt": None
        if attempt is None
        else {
            "job_id": attempt.job_id,
            "account": attempt.account,
            "sent_at": attempt.sent_at / 1000,
            "seconds": attempt.seconds,
            "outcome": attempt.outcome,
            "sold": attempt.sold,
            "delivered": attempt.settled,
            "upstream_request_id": attempt.upstream_request_id,
            "cost_micros": attempt.cost_micros,
        },
    }


# --- for people ----------------------------------------------------------------------------------


def _print(found: Reconciliation, remarks: tuple[str, ...]) -> None:
    from safelight.gateway.reconciling import KINDS  # noqa: PLC0415 - see _compare

    output.print_facts(_facts(found, remarks))
    for what, meaning in KINDS.items():
        ones = found.of(what)
        if ones:
            output.out().print(f"\n[bold]{meaning}[/]: {len(ones)}")
            output.print_table(_DIFFERENCES, [_difference_row(one) for one in ones[:_SHOWN]])
            if len(ones) > _SHOWN:
                output.print_paragraph(f"and {len(ones) - _SHOWN} more (--json shows all)")
    spans = [one for one in found.spans if not one.fits]
    if spans:
        output.out().print(f"\n[bold]sums that our books do not allow[/]: {len(spans)}")
        output.print_table(_SPANS, [_span_row(one) for one in spans[:_SHOWN]])


def _facts(found: Reconciliation, remarks: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    yield "settled", str(found.settled)
    yield "waste", str(found.waste)
    yield "unknown", str(found.unknown)
    if found.border:
        yield "at the borders", f"{found.border}, left out: they may be the neighbouring period's"
    if found.outside:
        yield "outside", f"{found.outside} sold in a time that no sum of the export covers"
    if found.vendor is not None:
        yield "vendor's count", str(found.vendor)
        yield "difference", f"{found.difference} (0 to {found.unknown} add up)"
    if not found.spans:
        by = f"{found.matched_by_id} by id, {found.matched_by_time} by time"
        yield "matched", by
    uncosted = f" (and {found.uncosted} of unknown cost)" if found.uncosted else ""
    yield "our cost", micros_to_dollars(found.our_cost_micros) + uncosted
    if found.vendor_cost_micros is not None and found.difference_micros is not None:
        yield "vendor's cost", micros_to_dollars(found.vendor_cost_micros)
        yield "difference", micros_to_dollars(found.difference_micros)
    for remark in remarks:
        yield "remark", remark
    yield "adds up", "yes" if found.adds_up else "NO"


def _difference_row(one: Difference) -> tuple[str, ...]:
    call, attempt = one.call, one.attempt
    at = call.at if call is not None and call.at is not None else None
    if at is None and attempt is not None:
        at = attempt.sent_at
    call_id = (call.id if call else None) or (attempt.upstream_request_id if attempt else None)
    return (
        "" if at is None else output.moment(at / 1000),
        call_id or "",
        "" if call is None else str(call.images),
        _money(None if call is None else call.cost_micros),
        _money(None if attempt is None else attempt.cost_micros),
        "" if attempt is None else attempt.job_id,
        "" if attempt is None else attempt.outcome or "running",
        "" if attempt is None else attempt.account,
    )


def _money(micros: int | None) -> str:
    return "" if micros is None else micros_to_dollars(micros)


def _span_row(one: Span) -> tuple[str, ...]:
    show = micros_to_dollars if one.money else str
    return (
        output.moment(one.start / 1000),
        output.moment(one.end / 1000),
        "cost" if one.money else "pictures",
        show(one.vendor),
        show(one.at_least),
        show(one.at_most),
        "too few" if one.vendor < one.at_least else "too many",
    )
