"""`safelight storage`: the pictures moved to another store, and customers' own buckets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books
from safelight.cli.table import Column

if TYPE_CHECKING:  # imported at run time only by what opens the books
    from safelight.office_pictures import DestinationState, OfficePictures
    from safelight.rehousing import Rehousing

T = TypeVar("T")

TEMPLATE = "{date}/{job_id}.{ext}"
_SHOWN_MISSING = 20
_COLUMNS = (
    Column("customer"),
    Column("bucket"),
    Column("pictures"),
    Column("waiting", right=True),
    Column("failed", right=True),
    Column("key", rank=2),
    Column("credentials in", rank=1),
)

storage = typer.Typer(no_args_is_help=True, help="Where pictures are, and where else.")
destination = typer.Typer(no_args_is_help=True, help="Customers' own buckets.")
storage.add_typer(destination, name="destination")

Customer = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer.")]


@storage.command()
def move(
    source: Annotated[str, typer.Option("--from", metavar="URL", help="Where the pictures are.")],
    target: Annotated[str, typer.Option("--to", metavar="URL", help="Where they shall be.")],
    despite_missing: Annotated[
        bool,
        typer.Option(
            "--despite-missing",
            help="Move although the source has lost pictures.",
            show_default=False,
        ),
    ] = False,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Copy all pictures to another store, check them there, and let the data folder belong to it.

    `file:` is the data folder, `s3://bucket/prefix?endpoint=https://host&region=name` a bucket.
    Copying goes on beside a running gateway; only the switch needs it stopped: run it once beside
    it, and once without. Nothing is removed from the source. Ends with 7 if it did not switch.
    """
    from safelight.rehousing import move_pictures  # noqa: PLC0415 - see the other commands

    require_books(data)
    with output.err().status("starting") as status:
        done = asyncio.run(
            move_pictures(
                data, source, target, despite_missing=despite_missing, progress=status.update
            )
        )
    if as_json:
        output.print_json(done)
    else:
        _print(done)
    if not done.switched:
        raise typer.Exit(ExitCode.FINDINGS)


def _print(done: Rehousing) -> None:
    console = output.out()
    console.print(f"{escape(done.source)} -> [bold]{escape(done.target)}[/]", soft_wrap=True)
    output.print_facts([("pictures", f"{done.blobs:,}"), ("bytes", f"{done.bytes:,}")])
    for digest in done.missing[:_SHOWN_MISSING]:
        output.err().print(f"[red]missing:[/] {digest}", soft_wrap=True)
    if not done.switched:
        console.print(f"\nNot switched: {escape(done.why_not)}.", soft_wrap=True)
        return
    console.print(
        "\nAll pictures are there, each hashed on both sides. The data folder belongs to the new "
        "store; SAFELIGHT_STORAGE_URL and [storage] url, where they are set, must name it too.",
        soft_wrap=True,
    )


@destination.command("set")
def set_destination(
    customer: Customer,
    url: Annotated[str, typer.Argument(metavar="URL", help="s3://bucket/prefix?...")],
    credentials: Annotated[
        str,
        typer.Option(
            metavar="VARIABLE",
            help="The environment variable of the gateway that holds id:secret.",
        ),
    ],
    key: Annotated[str, typer.Option(metavar="TEMPLATE", help="Names of the objects.")] = TEMPLATE,
    on_request: Annotated[
        bool,
        typer.Option(
            "--on-request",
            help='Only pictures that are pinned or ordered with "persist": true.',
            show_default=False,
        ),
    ] = False,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Have a customer's pictures carried to a bucket of its own, from now on.

    Fields of the template: {date}, {year}, {month}, {day}, {job_id}, {image_id}, {sha256}, {ext}.
    """

    async def work(pictures: OfficePictures) -> DestinationState:
        return await pictures.set_destination(
            customer, url, credentials_env=credentials, key_template=key, every=not on_request
        )

    _show([_run(data, work)], as_json=as_json)


@destination.command("list")
def list_destinations(data: options.Data = Path("data"), as_json: options.Json = False) -> None:
    """List the customers' buckets, with what waits for them and what could not be carried."""

    async def work(pictures: OfficePictures) -> list[DestinationState]:
        return await pictures.destinations()

    found = _run(data, work)
    if not found and not as_json:
        typer.echo("No customer has a bucket of its own.")
        return
    _show(found, as_json=as_json)


@destination.command("remove")
def remove_destination(
    customer: Customer, data: options.Data = Path("data"), as_json: options.Json = False
) -> None:
    """Carry a customer's pictures nowhere any more; what waits is given up."""

    async def work(pictures: OfficePictures) -> bool:
        return await pictures.remove_destination(customer)

    had = _run(data, work)
    if as_json:
        output.print_json({"customer": customer, "removed": had})
    else:
        typer.echo(f"{customer}: removed." if had else f"{customer} had no bucket of its own.")


def _show(found: list[DestinationState], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"destinations": [msgspec.structs.asdict(one) for one in found]})
        return
    rows = [
        (
            one.customer,
            one.url,
            "all" if one.every_picture else "on request",
            f"{one.waiting:,}",
            f"{one.failed:,}",
            one.key_template,
            one.credentials_env,
        )
        for one in found
    ]
    output.print_table(list(_COLUMNS), rows)


def _run(data: Path, work: Callable[[OfficePictures], Awaitable[T]]) -> T:
    """Do something with the pictures of a data folder.

    Raises:
        CliError: no customer has that name.
    """
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    require_books(data)

    async def opened() -> T:
        async with open_office(data) as office:
            assert office.pictures is not None
            return await work(office.pictures)

    try:
        return asyncio.run(opened())
    except LookupError as error:
        hint = "A customer is made with its first key: safelight keys create NAME"
        raise CliError(str(error), hint=hint) from error
