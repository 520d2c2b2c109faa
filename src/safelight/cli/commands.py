"""Where each command of `safelight` is.

Owns the list; within a panel its order is that of `safelight --help`. A command is loaded when it
is added to a program: one that is started by its name loads no other.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer

_RUNNING, _PICTURES, _MONEY = "Run", "Make pictures", "Keys and money"


class Place(NamedTuple):
    """Where a command is."""

    panel: str
    """Of the help."""
    module: str
    """Of `safelight.cli`."""
    attribute: str
    """A function, or a `typer.Typer` with commands of its own."""
    context: dict[str, Any] | None = None
    """Settings of its context."""


COMMANDS: dict[str, Place] = {
    "serve": Place(_RUNNING, "serve", "serve"),
    "worker": Place(_RUNNING, "worker", "worker"),
    "demo": Place(_RUNNING, "demo", "demo"),
    "accounts": Place(_RUNNING, "accounts", "accounts"),
    "vendor-batches": Place(_RUNNING, "vendor_batches", "vendor_batches"),
    "doctor": Place(_RUNNING, "doctor", "doctor"),
    "migrate": Place(_RUNNING, "migrate", "migrate"),
    "backup": Place(_RUNNING, "backup", "backup"),
    "restore": Place(_RUNNING, "backup", "restore"),
    "storage": Place(_RUNNING, "storage", "storage"),
    "images": Place(_RUNNING, "images", "images"),
    "bench": Place(_RUNNING, "bench", "benches"),
    "generate": Place(_PICTURES, "generate", "generate"),
    "edit": Place(_PICTURES, "edit", "edit"),
    "sizes": Place(_PICTURES, "sizes", "sizes"),
    "mcp": Place(_PICTURES, "mcp", "mcp"),
    "run": Place(_PICTURES, "run", "run"),
    "batch": Place(_PICTURES, "batch", "batch"),
    "webhooks": Place(_PICTURES, "webhooks", "webhooks"),
    "keys": Place(_MONEY, "keys", "keys"),
    "admin": Place(_MONEY, "admin", "admin"),
    # An amount such as -5.00 is an argument, not options named 5, . and 0.
    "credit": Place(_MONEY, "credit", "credit", {"ignore_unknown_options": True}),
    "refund": Place(_MONEY, "refund", "refund"),
    "statement": Place(_MONEY, "statement", "statement"),
    "receipt": Place(_MONEY, "receipt", "receipt"),
    "export": Place(_MONEY, "export", "export"),
    "reconcile": Place(_MONEY, "reconcile", "reconcile"),
    "verify": Place(_MONEY, "verify", "verify"),
    "freeze": Place(_MONEY, "verify", "freeze"),
    "unfreeze": Place(_MONEY, "verify", "unfreeze"),
}


def add(program: typer.Typer, name: str) -> None:
    """Load a command and add it to a program.

    Args:
        program: gets the command.
        name: a key of `COMMANDS`.
    """
    place = COMMANDS[name]
    command = getattr(import_module(f"safelight.cli.{place.module}"), place.attribute)
    if isinstance(command, typer.Typer):
        program.add_typer(command, name=name, rich_help_panel=place.panel)
    else:
        program.command(name, rich_help_panel=place.panel, context_settings=place.context)(command)
