"""What people and scripts see: results on standard output, everything else on standard error.

With `--json` a command prints one JSON object on standard output and nothing more; its errors
become one JSON object on standard error. Owns rendering only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from safelight.cli.errors import CliError

_PIPE_WIDTH = 200
"""Columns when the output is no terminal: wide enough that no id is cut."""


def out() -> Console:
    """Return the console of results."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, highlight=False)


def err() -> Console:
    """Return the console of remarks, progress and errors."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print `value` as one line of JSON on standard output."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print aligned `name  value` lines."""
    rows = list(facts)
    width = max(len(name) for name, _ in rows)
    console = out()
    for name, value in rows:
        console.print(f"  [dim]{name:<{width}}[/]  {escape(value)}", soft_wrap=True)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print a table; the columns named in `right` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    out().print(table)


def print_error(error: CliError, *, as_json: bool) -> None:
    """Print an error where errors go."""
    if as_json:
        facts = {"message": error.message, "hint": error.hint or None, **error.details}
        body = {"error": facts, "exit_code": int(error.exit_code)}
        sys.stderr.write(msgspec.json.encode(body).decode() + "\n")
        return
    console = err()
    console.print(f"[bold red]error:[/] {escape(error.message)}")
    facts = {name: error.details.get(name) for name in ("code", "param", "request_id")}
    known = "  ".join(f"{name} {value}" for name, value in facts.items() if value)
    if known:
        console.print(f"       [dim]{escape(known)}[/]")
    if error.hint:
        console.print(f"       {escape(error.hint)}")


def moment(seconds: float | None) -> str:
    """Return unix seconds as `2026-11-22 17:30:05` (UTC), or nothing."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
