"""What people and scripts see: results on standard output, everything else on standard error.

With `--json` a command prints one JSON object on standard output and nothing more; its errors
become one JSON object on standard error. Owns rendering only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape

from safelight.cli.errors import CliError
from safelight.cli.table import Column, lay_out

_PIPE_WIDTH = 200
"""Columns when the output is no terminal, for what is not a table."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `main`, which knows the exit code, instead of ending the process."""
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


def out() -> Console:
    """Return the console of results."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return _Console(width=width, highlight=False)


def err() -> Console:
    """Return the console of remarks, progress and errors."""
    return _Console(stderr=True, highlight=False, soft_wrap=True)


def let_go() -> None:
    """Write out what is left; what nobody reads any more is dropped without a word.

    Otherwise the interpreter would try at its end, and complain with an exit code of its own.
    """
    # A stream that was closed before the start is None.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


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


def print_paragraph(text: str) -> None:
    """Print a remark; a terminal gets it broken between words, everything else in one line."""
    console = out()
    console.print(f"[dim]{escape(text)}[/]", soft_wrap=not console.is_terminal)


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, to_errors: bool = False
) -> None:
    """Print a table: what a terminal has no room for is left out and named, a pipe gets all.

    `to_errors`: it is a remark beside a result that goes to standard output.
    """
    console = err() if to_errors else out()
    layout = lay_out(columns, rows, console.width if console.is_terminal else None)
    _Console(stderr=to_errors, width=layout.width, highlight=False).print(layout.table)
    if layout.left_out and not to_errors:
        print_paragraph(f"no room for: {', '.join(layout.left_out)} (--json shows all)")


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
