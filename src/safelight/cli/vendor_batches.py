"""`safelight vendor-batches`: what is with the vendors' own Batch APIs, and what came of it.

Reads the data folder, whether or not a server runs on it. Asks no vendor.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import options, output
from safelight.cli.services import require_books
from safelight.cli.table import Column

if TYPE_CHECKING:  # imported at run time only by what opens the books
    from safelight.vendor_batches import VendorBatch

    Listed = list[tuple[VendorBatch, dict[str, int]]]

_COLUMNS = (
    Column("id"),
    Column("batch", rank=4),
    Column("account", rank=2),
    Column("status"),
    Column("at the vendor", rank=3),
    Column("lines", right=True),
    Column("taken", right=True),
    Column("refused", right=True, rank=5),
    Column("back live", right=True),
    Column("wasted", right=True, rank=1),
    Column("back by", rank=2),
    Column("trouble", words=True, rank=6),
)


def vendor_batches(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that have ended.", show_default=False)
    ] = False,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """List the lines that are with vendors' own Batch APIs, and when they must be back."""
    require_books(data)
    found = asyncio.run(_read(data, everything=everything))
    if as_json:
        output.print_json({"object": "list", "data": [_view(*one) for one in found]})
    elif not found:
        typer.echo("No line is with a vendor's Batch API.")
    else:
        output.print_table(list(_COLUMNS), [_row(*one) for one in found])


async def _read(data: Path, *, everything: bool) -> Listed:
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    async with open_office(data) as office:
        return await office.books.vendor_batches(everything=everything)


def _view(batch: VendorBatch, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "id": batch.id,
        "batch_id": batch.batch_id,
        "account": batch.account,
        "status": batch.status.value,
        "remote_id": batch.remote_id,
        "remote_status": batch.remote_status,
        "created_at": batch.created_at // 1000,
        "cancel_at": batch.cancel_at // 1000,
        "return_at": batch.return_at // 1000,
        "ended_at": None if batch.ended_at is None else batch.ended_at // 1000,
        "lines": {"total": batch.lines, **dict(sorted(counts.items()))},
        "reason": batch.reason,
    }


def _row(batch: VendorBatch, counts: dict[str, int]) -> tuple[str, ...]:
    back = counts.get("returned", 0) + counts.get("late", 0)
    by = datetime.fromtimestamp(batch.return_at / 1000, UTC)
    return (
        batch.id,
        batch.batch_id,
        batch.account,
        batch.status.value,
        batch.remote_status or "",
        f"{batch.lines:,}",
        f"{counts.get('taken', 0):,}",
        f"{counts.get('refused', 0):,}",
        f"{back:,}",
        f"{counts.get('wasted', 0):,}",
        f"{by:%Y-%m-%d %H:%M} UTC",
        batch.reason or "",
    )
