"""`safelight edit`: a picture from words and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli import options, order
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.forms import FilePart, form_body
from safelight.cli.picture import measure
from safelight.types import MEDIA_TYPES

ROUTE = "/v1/images/edits"
_IMAGES_MAX = 16
"""OpenAI images API: inputs of one edit."""


def edit(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to change; - reads it from standard input.")],
    image: Annotated[
        list[Path],
        typer.Option(
            "--image", "-i", exists=True, dir_okay=False, help="An input picture; up to 16 times."
        ),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A PNG as large as the first picture, transparent where to redraw.",
        ),
    ] = None,
    model: options.Model = "gpt-image-2-vip",
    size: options.Size = None,
    quality: options.Quality = None,
    n: options.Count = 1,
    output: options.Output = None,
    image_format: options.Format = None,
    compression: options.Compression = None,
    partials: options.Partials = 2,
    idempotency_key: options.IdempotencyKey = None,
    url: options.Url = "",
    api_key: options.ApiKey = "",
    timeout: options.Timeout = 300.0,
    as_json: options.Json = False,
) -> None:
    """Redraw or combine pictures as a prompt says and write the result to a file.

    Faults that another try can absorb are retried under one Idempotency-Key: the picture is paid
    once.
    """
    gateway = options.gateway(context, url, api_key, timeout)
    draft = order.drafted(
        prompt,
        target=output,
        image_format=image_format,
        idempotency_key=idempotency_key,
        model=model,
        size=size,
        quality=quality,
        n=n,
        compression=compression,
        partials=partials,
    )
    if len(image) > _IMAGES_MAX:
        raise CliError(f"an edit takes at most {_IMAGES_MAX} pictures", exit_code=ExitCode.USAGE)
    field = "image" if len(image) == 1 else "image[]"
    files = [_part(field, path) for path in image]
    if mask is not None:
        files.append(_part("mask", mask))
    order.carry_out(draft, gateway, ROUTE, form_body(draft.fields(), files), as_json=as_json)


def _part(field: str, path: Path) -> FilePart:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}", exit_code=ExitCode.USAGE) from error
    try:
        media_type = MEDIA_TYPES[measure(data).format]
    except ValueError as error:
        raise CliError(f"{path}: {error}", exit_code=ExitCode.USAGE) from error
    return FilePart(field, path.name, media_type, data)
