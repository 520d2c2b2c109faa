"""A call in the words of the OpenAI Images API: address, headers, body.

Owns which fields are sent and how. Source: OpenAI images API, `images/generations` (JSON) and
`images/edits` (multipart). `response_format` is never sent: GPT image models refuse it and always
answer base64.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import aiohttp
import msgspec

from safelight import __version__
from safelight.types import MEDIA_TYPES, Account, BlobRef, Operation, UpstreamCall

_SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp"}


class Request(msgspec.Struct, frozen=True):
    """What goes on the wire."""

    url: str
    headers: dict[str, str]
    body: bytes | aiohttp.FormData


@contextmanager
def opened_request(account: Account, call: UpstreamCall, *, stream: bool) -> Iterator[Request]:
    """Give the request for `call`; input files stay open, and are read only as they are sent.

    Raises:
        OSError: an input file cannot be read.
    """
    fields = _fields(account, call, stream=stream)
    base = account.base_url.rstrip("/")
    headers = _headers(account)
    if call.operation is Operation.GENERATION:
        headers["Content-Type"] = "application/json"
        yield Request(f"{base}/images/generations", headers, msgspec.json.encode(fields))
        return
    with ExitStack() as files:
        yield Request(f"{base}/images/edits", headers, _form(fields, call, files))


def _headers(account: Account) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"safelight/{__version__}",
    }
    if account.api_key is not None:
        headers["Authorization"] = f"Bearer {account.api_key.reveal()}"
    return headers


def _fields(account: Account, call: UpstreamCall, *, stream: bool) -> dict[str, object]:
    """Return the parameters; one that was not given is not sent, so that the model's default holds.

    `size` of `auto` counts as not given: it is the documented default, and some compatible servers
    refuse the word.
    """
    lossy = call.output_format != "png"
    given: dict[str, object | None] = {
        "model": account.model,
        "prompt": call.prompt,
        "n": 1,
        "size": None if call.size == "auto" else call.size,
        "quality": call.quality,
        "background": call.background,
        "output_format": call.output_format,
        "output_compression": call.output_compression if lossy else None,
        "moderation": call.moderation,
        "input_fidelity": call.input_fidelity if call.operation is Operation.EDIT else None,
        "user": call.user,
    }
    if stream:
        given |= {"stream": True, "partial_images": call.partial_images}
    return {name: value for name, value in given.items() if value is not None}


def _form(fields: dict[str, object], call: UpstreamCall, files: ExitStack) -> aiohttp.FormData:
    """Return the multipart body; several pictures are `image[]`, one is `image`, as in the SDK."""
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, str(value).lower() if isinstance(value, bool) else str(value))
    name = "image" if len(call.inputs) == 1 else "image[]"
    for at, (blob, path) in enumerate(zip(call.inputs, call.input_paths, strict=True)):
        _add_file(form, name, f"image-{at}", blob, files.enter_context(path.open("rb")))
    if call.mask is not None and call.mask_path is not None:
        _add_file(form, "mask", "mask", call.mask, files.enter_context(call.mask_path.open("rb")))
    return form


def _add_file(form: aiohttp.FormData, name: str, stem: str, blob: BlobRef, file: object) -> None:
    form.add_field(
        name,
        file,
        filename=f"{stem}.{_SUFFIXES[blob.format]}",
        content_type=MEDIA_TYPES[blob.format],
    )
