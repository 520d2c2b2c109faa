"""`safelight backup` and `safelight restore`: a data folder kept elsewhere, and made again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import ExitCode
from safelight.cli.services import require_books
from safelight.cli.table import Column

SHOWN_STRAYS = 20


def backup(
    folder: Annotated[
        Path, typer.Argument(file_okay=False, help="Where the backup is kept, one a folder.")
    ],
    copy: Annotated[
        bool,
        typer.Option(
            "--copy",
            help="Copy pictures on the same disk, too, instead of linking them.",
            show_default=False,
        ),
    ] = False,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Keep books, keys and pictures of a data folder, beside a running server or without one.

    The next backup to the same folder brings only new pictures. Whoever reads the folder can forge
    links: keep it private. Ends with 7 if pictures are missing in the data folder.
    """
    from safelight.archive import back_up  # noqa: PLC0415 - the other commands start without it
    from safelight.backups import in_words  # noqa: PLC0415

    require_books(data)
    with output.err().status("starting") as status:
        kept = asyncio.run(back_up(data, folder, link=not copy, progress=status.update))
    if as_json:
        output.print_json(kept)
    else:
        output.out().print(
            f"{escape(str(data))} of {in_words(kept.taken_at)} is kept in "
            f"[bold]{escape(kept.folder)}[/]",
            soft_wrap=True,
        )
        output.print_facts(
            [
                ("database", f"{kept.database_bytes:,} bytes"),
                ("pictures", f"{kept.pictures:,}, {kept.picture_bytes:,} bytes"),
                ("new here", f"{kept.copied:,} files"),
                *([("pictures stay in", kept.store)] if kept.store else []),
                *((name, f"{count:,}") for name, count in kept.rows.items() if count),
            ]
        )
        for digest in kept.missing:
            output.err().print(f"[red]missing:[/] picture {digest}", soft_wrap=True)
    if kept.missing:
        raise typer.Exit(ExitCode.FINDINGS)


def restore(
    folder: Annotated[Path, typer.Argument(file_okay=False, help="A folder with a backup.")],
    old: Annotated[
        Path | None,
        typer.Option(
            "--old",
            file_okay=False,
            help="The data folder as it is: its pictures that the backup does not know are listed.",
            show_default=False,
        ),
    ] = None,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Make a new data folder from a backup; every byte of it is checked.

    --data must be empty or not there. Jobs that were open in the backup end free at the first
    start; nothing else is booked.
    """
    from safelight.archive import restore as make_again  # noqa: PLC0415
    from safelight.backups import in_words  # noqa: PLC0415

    with output.err().status("starting") as status:
        done = asyncio.run(make_again(folder, data, old_data=old, progress=status.update))
    if as_json:
        output.print_json(done)
        return
    console = output.out()
    console.print(
        f"[bold]{escape(done.data)}[/] is what it was at {in_words(done.taken_at)}, "
        f"with {done.pictures:,} pictures.",
        soft_wrap=True,
    )
    if done.open_jobs:
        console.print(f"{done.open_jobs} jobs were open; they end free at the first start.")
    for digest in done.missing:
        output.err().print(f"[red]missing:[/] picture {digest} was lost before", soft_wrap=True)
    if done.newer:
        rows = [
            (one.digest, f"{one.bytes:,}", in_words(one.stored_at))
            for one in done.newer[:SHOWN_STRAYS]
        ]
        output.print_table(
            [Column("picture of no line"), Column("bytes", right=True), Column("stored")], rows
        )
        console.print(
            f"\n{len(done.newer)} pictures in {escape(str(old))} are newer than the books. "
            "Nothing was booked for them.",
            soft_wrap=True,
        )
