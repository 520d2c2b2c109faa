"""`safelight sizes`: what a channel can be asked for, and at what price."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import AnswerError
from safelight.money import micros_to_dollars


def sizes(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="One channel.", show_default=False)
    ] = None,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 30.0,
    as_json: options.Json = False,
) -> None:
    """List sizes: their names, how their pixels are made, their price."""
    answer = options.gateway(context, url, api_key, timeout).get("/v1/sizes", {"model": model})
    if as_json:
        output.print_json(answer)
        return
    found = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise AnswerError({"message": "the gateway's answer is no list of sizes"}, status=None)
    for channel in found:
        _print_channel(channel)


def _print_channel(channel: dict[str, Any]) -> None:
    console = output.out()
    console.print(f"\n[bold]{escape(channel['model'])}[/]")
    if channel["sizes"]:
        output.print_table(
            ["size", "ratio", "tier", "size plan", "price"],
            [_row(size) for size in channel["sizes"]],
        )
    console.print(f"[dim]takes: {escape(channel['allowed'])}[/]", soft_wrap=True)


def _row(size: dict[str, Any]) -> tuple[str, ...]:
    by_quality = size.get("prices_micros") or {}
    prices = [f"{quality} ${micros_to_dollars(price)}" for quality, price in by_quality.items()]
    return (
        size["name"],
        size["ratio"],
        size["tier"],
        size["plan"],
        " · ".join(prices) or f"${micros_to_dollars(size['price_micros'])}",
    )
