"""`safelight verify`, `freeze`, `unfreeze`: do the books add up, and who may order."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books

if TYPE_CHECKING:  # imported at run time only by what opens the office
    from safelight.gateway.verification import Finding, Report
    from safelight.office import Office

_WHAT_TO_DO = (
    "Nothing was changed. Look into each finding; where money is owed, book it with `safelight "
    "credit NAME AMOUNT --reason TEXT`. Then `safelight unfreeze NAME --reason TEXT` accepts what "
    "was found and lets the customer order again."
)

Reason = Annotated[str, typer.Option(help="Why; kept with the customer.", show_default=False)]
Name = Annotated[str, typer.Argument(help="The customer.")]


def verify(
    customer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only this customer.", show_default="everybody"),
    ] = None,
    blobs: Annotated[
        str,
        typer.Option(
            metavar="all|none|SHARE",
            help="How many pictures to read and hash; whether they are there is asked of all.",
        ),
    ] = "0.01",
    freeze_found: Annotated[
        bool,
        typer.Option(
            "--freeze", help="Stop new orders of the customers concerned.", show_default=False
        ),
    ] = False,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Check that money, jobs and pictures agree, beside a running server or without one.

    Changes nothing (but for --freeze). Ends with 7 if something is found.
    """
    share = _share(blobs)
    require_books(data)

    async def work() -> Report:
        async with _office(data) as office:
            return await office.verify(customer, blobs=share, freeze=freeze_found)

    try:
        report = asyncio.run(work())
    except LookupError as error:
        raise CliError(f"no customer is named {customer!r}") from error
    if as_json:
        output.print_json(_as_json(report))
    else:
        _print(report, looked_at_blobs=share is not None)
    if report.findings:
        raise typer.Exit(ExitCode.FINDINGS)


def freeze(
    name: Name,
    reason: Reason,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Stop new orders of a customer (403 customer_frozen). Jobs in flight are finished."""
    require_books(data)

    async def work() -> bool:
        async with _office(data) as office:
            return await office.freeze(name, reason)

    try:
        done = asyncio.run(work())
    except LookupError as error:
        raise CliError(f"no customer is named {name!r}") from error
    if as_json:
        output.print_json({"customer": name, "frozen": True, "was_frozen": not done})
    else:
        typer.echo(f"{name} cannot order any more." if done else f"{name} was frozen already.")


def unfreeze(
    name: Name,
    reason: Reason,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Let a customer order again and accept what `verify` finds of him until now.

    What was accepted is still shown by `verify`, but stops nobody again; anything new does.
    """
    require_books(data)

    async def work() -> tuple[bool, tuple[str, ...]]:
        async with _office(data) as office:
            return await office.unfreeze(name, reason)

    try:
        was_frozen, accepted = asyncio.run(work())
    except LookupError as error:
        raise CliError(f"no customer is named {name!r}") from error
    if as_json:
        facts = {"customer": name, "frozen": False, "was_frozen": was_frozen, "accepted": accepted}
        output.print_json(facts)
        return
    for words in accepted:
        output.out().print(f"accepted: {escape(words)}", soft_wrap=True)
    typer.echo(f"{name} can order again." if was_frozen else f"{name} was not frozen.")


def _office(data: Path) -> AbstractAsyncContextManager[Office]:
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    return open_office(data)


def _share(text: str) -> float | None:
    """Return the share of blobs to hash, None for not looking at blobs.

    Raises:
        CliError: it is none (exit code 2).
    """
    if text in ("all", "none"):
        return 1.0 if text == "all" else None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        problem = f"--blobs {text!r}: expected all, none or a share between 0 and 1"
        raise CliError(problem, exit_code=ExitCode.USAGE)
    return share


def _print(report: Report, *, looked_at_blobs: bool) -> None:
    facts = [
        ("customers", f"{report.customers:,}"),
        ("transfers", f"{report.transfers:,}"),
        ("jobs", f"{report.jobs:,}"),
        ("images", f"{report.images:,}"),
    ]
    if looked_at_blobs:
        facts.append(("blobs", _blobs(report)))
    if report.attempts_sent:
        facts.append(("attempts", _attempts(report)))
    facts.append(("took", f"{report.took_s:.1f} s"))
    output.print_facts(facts)
    for one in report.accepted:
        output.out().print(f"accepted: {escape(str(one))}", style="dim", soft_wrap=True)
    for one in report.findings:
        label = f"[bold red]invariant {one.invariant}[/]"
        output.out().print(f"{label} {escape(str(one))}", soft_wrap=True)
    if report.left_out:
        output.out().print(f"and {report.left_out:,} more")
    if report.findings:
        output.print_paragraph(_WHAT_TO_DO)
    else:
        output.out().print("Everything agrees.")


def _blobs(report: Report) -> str:
    text = (
        f"{report.blobs:,} looked for, {report.blobs_hashed:,} hashed "
        f"({report.bytes_hashed:,} bytes)"
    )
    return f"{text}, {report.blobs_unread:,} could not be read" if report.blobs_unread else text


def _attempts(report: Report) -> str:
    return (
        f"{report.attempts_sent:,} ended, {report.attempts_delivered:,} delivered, "
        f"{report.attempts_sold_in_vain:,} sold in vain, {report.attempts_unknown:,} unknown"
    )


def _as_json(report: Report) -> dict[str, Any]:
    facts = msgspec.structs.asdict(report)
    return {
        "ok": not report.findings,
        **facts,
        "findings": [_finding(one) for one in report.findings],
        "accepted": [_finding(one) for one in report.accepted],
    }


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "invariant": one.invariant,
        "check": one.check,
        "customer": one.customer,
        "customer_id": one.customer_id,
        "subject": one.subject,
        "stored": one.stored,
        "expected": one.expected,
        "words": one.words,
    }
