"""`safelight generate`: a picture from words."""

from __future__ import annotations

from typing import Annotated

import typer

from safelight.cli import options, order
from safelight.cli.forms import json_body

ROUTE = "/v1/images/generations"


def generate(  # noqa: PLR0913, PLR0917 - one parameter per option
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="What to draw; - reads it from standard input.")],
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
    """Draw a picture from a prompt and write it to a file.

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
    order.carry_out(draft, gateway, ROUTE, json_body(draft.fields()), as_json=as_json)
