"""`safelight admin`: who operates the gateway over HTTP; server running or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from safelight.admin_keys import AdminKey, Role
from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books, services_of
from safelight.cli.table import Column

NAME_MAX = 100

admin = typer.Typer(
    help="Say who operates the gateway over HTTP.", no_args_is_help=True, rich_markup_mode="rich"
)
keys = typer.Typer(
    help="Make, list and revoke operators' keys.", no_args_is_help=True, rich_markup_mode="rich"
)
admin.add_typer(keys, name="keys")

_COLUMNS = (
    Column("id"),
    Column("name", words=True),
    Column("role"),
    Column("key"),
    Column("made (UTC)", rank=1),
    Column("revoked (UTC)"),
)


@keys.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose it is, for lists and the audit.")],
    role: Annotated[
        Role,
        typer.Option(
            help="viewer sees everything, operator runs the house, owner also says who operates."
        ),
    ] = Role.OPERATOR,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Make an admin key and print it, and nothing but it, on standard output.

    It is stored as a hash: this is the only time it can be seen. It signs in to the console and
    works on /admin/v1.
    """
    if not name or name != name.strip() or not name.isprintable() or len(name) > NAME_MAX:
        raise CliError(
            f"the name {name[:NAME_MAX]!r} is empty, has blanks around it or unprintable "
            f"characters, or is longer than {NAME_MAX} characters",
            exit_code=ExitCode.USAGE,
        )
    services = services_of(context)

    async def work() -> tuple[str, AdminKey]:
        async with services.open_office(data) as office:
            return await office.create_admin_key(name, role)

    key, made = asyncio.run(work())
    if as_json:
        output.print_json({**_as_json(made), "key": key})
        return
    output.err().print(f"Admin key of {escape(name)}, {role}; it is shown only now.")
    typer.echo(key)


@keys.command("list")
def list_keys(
    context: typer.Context, data: options.Data = Path("data"), as_json: options.Json = False
) -> None:
    """List admin keys, oldest first."""
    services = services_of(context)
    require_books(data)

    async def work() -> list[AdminKey]:
        async with services.open_office(data) as office:
            return await office.list_admin_keys()

    found = asyncio.run(work())
    if as_json:
        output.print_json({"object": "list", "data": [_as_json(key) for key in found]})
        return
    output.print_table(
        _COLUMNS,
        [
            (
                key.id,
                key.name,
                str(key.role),
                f"…{key.last4}",
                output.moment(key.created_at / 1000),
                output.moment(_seconds(key.revoked_at)),
            )
            for key in found
        ],
    )


@keys.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="From `safelight admin keys list`.")],
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """End an admin key and its sessions at once, the last owner's too."""
    services = services_of(context)
    require_books(data)

    async def work() -> AdminKey | None:
        async with services.open_office(data) as office:
            return await office.revoke_admin_key(key_id)

    found = asyncio.run(work())
    if found is None:
        hint = "See them with: safelight admin keys list"
        raise CliError(f"no admin key in use has the id {key_id!r}", hint=hint)
    if as_json:
        output.print_json({"id": key_id, "revoked": True})
    else:
        typer.echo(f"{key_id} ({found.name}) is revoked.")


def _as_json(key: AdminKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "role": str(key.role),
        "last4": key.last4,
        "created_at": key.created_at // 1000,
        "revoked_at": None if key.revoked_at is None else key.revoked_at // 1000,
    }


def _seconds(time_ms: int | None) -> float | None:
    return None if time_ms is None else time_ms / 1000
