"""Options that several commands share, so that they read and behave the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.errors import CliError, ExitCode
from safelight.cli.http import Gateway
from safelight.cli.services import services_of
from safelight.money import dollars_to_micros

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object instead of text.", show_default=False)
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="SAFELIGHT_CONFIG",
        help="The configuration.",
        show_default="./safelight.toml if there is one",
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data", envvar="SAFELIGHT_DATA", help="The gateway's data folder.", file_okay=False
    ),
]
Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar=["SAFELIGHT_URL", "OPENAI_BASE_URL"],
        help="The gateway's address, with or without /v1.",
        show_default=False,
        rich_help_panel="Gateway",
    ),
]
ApiKey = Annotated[
    str,
    typer.Option(
        "--api-key",
        envvar=["SAFELIGHT_API_KEY", "OPENAI_API_KEY"],
        help="The customer's key.",
        show_default=False,
        rich_help_panel="Gateway",
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        min=1,
        help="Seconds for everything, retries included.",
        rich_help_panel="Gateway",
    ),
]

Model = Annotated[str, typer.Option("--model", "-m", help="The channel to order from.")]
Size = Annotated[
    str | None,
    typer.Option("--size", "-s", help="2048x1152, 16:9@2K, auto ... (see `safelight sizes`)."),
]
Quality = Annotated[
    str | None, typer.Option("--quality", help="low, medium or high, where the channel takes it.")
]
Count = Annotated[
    int,
    typer.Option(
        "--n", "-n", min=1, max=10, help="How many pictures. More than one: no live partials."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        dir_okay=False,
        help="Where to write the picture. Its ending (.png, .jpg, .webp) chooses the format. "
        "Several pictures get -1, -2 ... before it.",
        show_default="the job's id",
    ),
]
Format = Annotated[
    str | None, typer.Option("--format", "-f", help="png, jpeg or webp.", show_default="png")
]
Compression = Annotated[
    int | None,
    typer.Option("--compression", min=0, max=100, help="Compression of jpeg and webp."),
]
Partials = Annotated[
    int,
    typer.Option("--partials", min=0, max=3, help="Partial pictures to ask for, to show progress."),
]
IdempotencyKey = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        help="Collect the order that was placed with this key, or place it.",
        show_default="a random one",
    ),
]


def gateway(context: typer.Context, url: str, api_key: str, timeout_s: float) -> Gateway:
    """Return the gateway the options name.

    Raises:
        CliError: address or key is missing or malformed (exit code 2).
    """
    check_gateway(url, api_key)
    return Gateway(url, api_key, services_of(context).patience(timeout_s))


def check_gateway(url: str, api_key: str) -> None:
    """Say what is missing, if the options name no gateway or no key.

    Raises:
        CliError: one of them is empty (exit code 2).
    """
    if not url:
        raise CliError(
            "no gateway address",
            exit_code=ExitCode.USAGE,
            hint="Set SAFELIGHT_URL (or OPENAI_BASE_URL), or give --url: http://127.0.0.1:8080/v1",
        )
    if not api_key:
        raise CliError(
            "no API key",
            exit_code=ExitCode.USAGE,
            hint="Set SAFELIGHT_API_KEY (or OPENAI_API_KEY), or give --api-key. "
            "The operator makes keys with: safelight keys create NAME",
        )


def dollars(text: str) -> int:
    """Return an amount given on the command line, in micro-dollars.

    Raises:
        CliError: it is not an amount (exit code 2).
    """
    try:
        return dollars_to_micros(text)
    except ValueError as error:
        raise CliError(f"{text!r}: {error}", exit_code=ExitCode.USAGE) from error
