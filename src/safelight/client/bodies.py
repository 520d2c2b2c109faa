"""Orders on the wire: JSON for generations, a form with the pictures as files for edits.

Owns both forms (RFC 7578 for the second) as OpenAI's SDKs send them. Files are read while they are
sent, and opened anew for each try.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from safelight.client.errors import UnreadableInput
from safelight.client.orders import Order, Source
from safelight.client.pictures import mime_of

if TYPE_CHECKING:
    import aiohttp

_HEAD_BYTES = 64


@contextlib.contextmanager
def body_of(
    order: Order, extra: Mapping[str, Any]
) -> Iterator[tuple[bytes | aiohttp.FormData, dict[str, str]]]:
    """Yield an order's body with its headers, for one try.

    Args:
        order: what is ordered.
        extra: further fields, such as `response_format`.

    Raises:
        UnreadableInput: a picture cannot be read.
    """
    fields = {**order.fields(), **extra}
    if not order.is_edit:
        yield msgspec.json.encode(fields), {"Content-Type": "application/json"}
        return
    import aiohttp  # noqa: PLC0415 - loaded with the first request

    with contextlib.ExitStack() as files:
        form = aiohttp.FormData(default_to_multipart=True, quote_fields=False)
        for name, text in _form_fields(fields):
            form.add_field(name, text)
        field = "image" if len(order.inputs) == 1 else "image[]"
        sources = [(field, source) for source in order.inputs]
        if order.mask is not None:
            sources.append(("mask", order.mask))
        for number, (name, source) in enumerate(sources, 1):
            _add_picture(form, files, name, source, number)
        yield form, {}


def _form_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield fields as the official SDK writes them: `2`, `true`, `metadata[name]`."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}[{key}]", _word(inner)) for key, inner in value.items())
        elif isinstance(value, list | tuple):
            yield from ((f"{name}[]", _word(inner)) for inner in value)
        else:
            yield name, _word(value)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _add_picture(
    form: aiohttp.FormData,
    files: contextlib.ExitStack,
    name: str,
    source: Source,
    number: int,
) -> None:
    shown = source.name if isinstance(source, Path) else f"picture {number}"
    try:
        file: io.BufferedIOBase = (
            files.enter_context(source.open("rb"))
            if isinstance(source, Path)
            else io.BytesIO(source)
        )
        head = file.read(_HEAD_BYTES)
        file.seek(0)
    except OSError as error:
        raise UnreadableInput(shown, error.strerror or "it cannot be read") from error
    mime = mime_of(head)
    if mime is None:
        raise UnreadableInput(shown, "it is no PNG, JPEG or WebP picture")
    ending = mime.removeprefix("image/")
    form.add_field(name, file, filename=f"input-{number}.{ending}", content_type=mime)
