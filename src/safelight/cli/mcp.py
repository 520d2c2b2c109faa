"""`safelight mcp`: pictures for assistants, as an MCP server over standard input and output.

Owns the options and their faults; the tools are `safelight.client.mcp`, whose package is an extra.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from safelight import __version__
from safelight.cli import options
from safelight.cli.errors import CliError, ExitCode

_NO_LIMIT = "none"

Folder = Annotated[
    Path,
    typer.Option(
        "--folder",
        file_okay=False,
        help="Where pictures are written. Tools read input pictures from here, too.",
    ),
]
Inputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--inputs",
        help="A further folder to read input pictures and runs from; may be repeated.",
        show_default=False,
    ),
]
MaxCost = Annotated[
    str,
    typer.Option(
        "--max-cost",
        metavar="DOLLARS",
        help=f"What this process may spend; {_NO_LIMIT}: what the key's budget allows.",
    ),
]
Price = Annotated[
    str | None,
    typer.Option(
        "--price",
        metavar="DOLLARS",
        help="What a picture costs, where the address gives no quotes (no safelight).",
        show_default=False,
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        min=1,
        max=3600,
        help="Seconds a tool call waits for a picture before it answers with its job. Many "
        "programs give a call up after 60.",
    ),
]
Preview = Annotated[
    int,
    typer.Option(
        "--preview",
        min=0,
        max=2048,
        help="Longest side of the pictures shown to the model, in pixels; 0 shows none.",
    ),
]


def mcp(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: typer.Context,
    folder: Folder = Path("pictures"),
    inputs: Inputs = None,
    max_cost: MaxCost = "5.00",
    price: Price = None,
    model: options.Model = "gpt-image-2-vip",
    wait: Wait = 50.0,
    preview: Preview = 768,
    url: options.Url = "",
    api_key: options.ApiKey = "",
) -> None:
    """Serve tools that make and edit pictures to an assistant (MCP, stdio).

    The assistant's program starts it: generate, edit, job, cancel, quote, sizes, balance and run.
    Only the folders named here are read and written.
    """
    options.gateway(context, url, api_key, wait)  # refuses what cannot be an address or a key
    limit_micros = None if max_cost == _NO_LIMIT else _amount("--max-cost", max_cost)
    price_micros = None if price is None else _amount("--price", price)
    readable = tuple(_folder(one) for one in inputs or ())
    pictures = _writable(folder)
    server = _server()
    asyncio.run(
        server.serve(
            url,
            api_key,
            folders=server.Folders(pictures, readable),
            limit_micros=limit_micros,
            settings=server.Settings(model, wait, preview, price_micros),
            version=__version__,
        )
    )


def _folder(path: Path) -> Path:
    """Return a folder that is there. Nobody expands `~` for a program that no shell starts.

    Raises:
        CliError: it is none (exit code 2).
    """
    path = path.expanduser()
    if not path.is_dir():
        raise CliError(f"--inputs {path}: there is no such folder", exit_code=ExitCode.USAGE)
    return path


def _writable(path: Path) -> Path:
    """Return the folder for pictures, made if need be: better found out now than with a picture.

    Raises:
        CliError: it takes no files (exit code 2).
    """
    path = path.expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise CliError(f"--folder {path}: {error.strerror}", exit_code=ExitCode.USAGE) from error


def _amount(option: str, text: str) -> int:
    """Return an amount given on the command line, in micro-dollars.

    Raises:
        CliError: it is none, or negative (exit code 2).
    """
    micros = options.dollars(text)
    if micros < 0:
        raise CliError(f"{option} {text}: an amount is not negative", exit_code=ExitCode.USAGE)
    return micros


def _server() -> ModuleType:
    """Return the module of the tools, which needs the extra.

    Raises:
        CliError: the extra is not installed (exit code 2).
    """
    try:
        from safelight.client.mcp import server  # noqa: PLC0415 - an extra, and slow to load
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types", "pydantic"):
            raise
        raise CliError(
            "the package mcp is not installed",
            exit_code=ExitCode.USAGE,
            hint="Install it with: pip install 'safelight[mcp]'",
        ) from error
    return server
