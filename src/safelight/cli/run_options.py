"""The options of `safelight run`, for files and recipes alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from safelight.cli import options

_RUN, _ORDERS = "Run", "Orders"

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        "--out",
        "-o",
        file_okay=False,
        help="Where the pictures go. Run again with the same folder to go on.",
        show_default="named after the plan",
        rich_help_panel=_RUN,
    ),
]
FolderOnly = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        file_okay=False,
        help="Where the pictures go. Run again with the same folder to go on.",
        show_default="named after the plan",
        rich_help_panel=_RUN,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Order without a question.", show_default=False, rich_help_panel=_RUN
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Show the forecast and order nothing.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
MaxCost = Annotated[
    str | None,
    typer.Option(
        "--max-cost",
        metavar="DOLLARS",
        help="Never order beyond it, all starts together.",
        show_default="no bound",
        rich_help_panel=_RUN,
    ),
]
Rerolls = Annotated[
    int | None,
    typer.Option(
        "--rerolls",
        min=0,
        max=100,
        help="How often a rejected picture is ordered again.",
        show_default="2",
        rich_help_panel=_RUN,
    ),
]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        metavar="NAME[=VALUE]",
        help="What each picture must pass (repeatable): size, not-blank, text={headline} ...",
        show_default="as the plan says",
        rich_help_panel=_RUN,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        min=1,
        max=1000,
        help="Orders under way at one time.",
        show_default="what the pool's limits need",
        rich_help_panel=_RUN,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="PLACE",
        help="Also put accepted pictures there: a folder, or s3://bucket/prefix.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Untouched = Annotated[
    bool,
    typer.Option(
        "--untouched",
        help="Send inputs as they are.",
        show_default="made right for upload",
        rich_help_panel=_RUN,
    ),
]
Price = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="DOLLARS",
        help="What one picture costs, at an address that tells no prices.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        help="The template for rows without a prompt: 'A {color} shoe'.",
        show_default=False,
        rich_help_panel=_ORDERS,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="A further field of each order (repeatable): quality=high, output_format=webp ...",
        show_default=False,
        rich_help_panel=_ORDERS,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="The channel, for rows that name none.",
        show_default="gpt-image-2-vip",
        rich_help_panel=_ORDERS,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        "--size",
        "-s",
        help="2048x1152, 16:9@2K ... for rows that name none (see `safelight sizes`).",
        show_default="the server's",
        rich_help_panel=_ORDERS,
    ),
]
Sheet = Annotated[
    bool,
    typer.Option(
        "--sheet",
        help="Also make a contact sheet (HTML and PDF) at the end.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=1,
        help="Seconds for one try of an order.",
        rich_help_panel="Gateway",
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """What all runs have in common; the fields are options of each of them."""

    folder: Folder = None
    yes: Yes = False
    dry_run: DryRun = False
    max_cost: MaxCost = None
    rerolls: Rerolls = None
    gate: Gates = None
    concurrency: Concurrency = None
    to: To = None
    untouched: Untouched = False
    price: Price = None
    url: options.Url = ""
    api_key: options.ApiKey = ""
    timeout: Timeout = 300.0
    as_json: options.Json = False
