"""`safelight sizes`: what a channel can be asked for, and at what price."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from safelight.cli import options, output
from safelight.cli.errors import AnswerError
from safelight.cli.table import Column
from safelight.money import micros_to_dollars

_COLUMNS = (
    Column("size"),
    Column("ratio", rank=2),
    Column("tier", rank=1),
    Column("size plan", words=True),
)


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
    output.out().print(f"\n[bold]{escape(channel['model'])}[/]")
    found = channel["sizes"]
    if found:
        qualities = list(dict.fromkeys(name for size in found for name in _prices(size)))
        prices = [Column(name, right=True) for name in qualities]
        output.print_table([*_COLUMNS, *prices], [_row(size, qualities) for size in found])
    output.print_paragraph(f"takes: {channel['allowed']}")


def _prices(size: dict[str, Any]) -> dict[str, int]:
    """Return prices in micro-dollars by quality, or the one price there is."""
    return size.get("prices_micros") or {"price": size["price_micros"]}


def _row(size: dict[str, Any], qualities: list[str]) -> tuple[str, ...]:
    by_quality = _prices(size)
    prices = (
        f"${micros_to_dollars(by_quality[name])}" if name in by_quality else ""
        for name in qualities
    )
    return (size["name"], size["ratio"], size["tier"], size["plan"], *prices)
