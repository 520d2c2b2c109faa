"""Options that several recipes share, so that they read and behave the same in each."""

from __future__ import annotations

from typing import Annotated

import typer

Size = Annotated[
    str, typer.Option("--size", "-s", help="2048x1152, 16:9@2K ... (see `safelight sizes`).")
]
Model = Annotated[str, typer.Option("--model", "-m", help="The channel to order from.")]
CheckText = Annotated[
    bool,
    typer.Option("--check-text/--no-check-text", help="Read the texts in each picture by OCR."),
]
