"""A call in the words of the images routes: address, headers, body.

Owns which fields are sent and how. Source: OpenAI images API, `images/generations` (JSON) and
`images/edits` (multipart). Where servers differ, their profile says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pybase64
from aiohttp import hdrs

from safelight import __version__
from safelight.errors import FaultClass, UpstreamError
from safelight.types import MEDIA_TYPES, Account, ImageFormat, Operation, UpstreamCall
from safelight.upstreams.http_transport import Body
from safelight.upstreams.inputs import (
    InputFile,
    Inputs,
    auto_size,
    converted_inputs,
    uninterrupted,
)
from safelight.upstreams.profiles import Profile
from safelight.upstreams.uploading import FilePayload

_SUFFIXES: Final = {"png": "png", "jpeg": "jpg", "webp": "webp"}
_GENERATIONS: Final = "images/generations"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where and how one account is asked.

    `base` is the address before `images/generations`, `query` is put behind every route (with its
    `?`), `auth` holds the header that carries the credential.
    """

    account: Account
    profile: Profile
    base: str
    query: str = ""
    auth: Mapping[str, str]
    models_url: str
    heartbeat: int = 0
    event_timeout_s: float = 60.0
    max_pixels: int = 0
    download_origins: tuple[str, ...] = ()

    def url(self, path: str) -> str:
        """Return the address of a route."""
        return f"{self.base}/{path}{self.query}"

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers of every request; aiohttp keeps these names once, and others per request."""
        return {
            hdrs.ACCEPT: "application/json",
            hdrs.ACCEPT_ENCODING: "identity",
            hdrs.USER_AGENT: f"safelight/{__version__}",
            **self.auth,
        }

    @cached_property
    def json_headers(self) -> Mapping[str, str]:
        """The headers of a request in JSON."""
        return {**self.headers, hdrs.CONTENT_TYPE: "application/json"}


class Targets:
    """The target of each account, made once for as long as the account is the same.

    Args:
        make: reads an account's options.
    """

    def __init__(self, make: Callable[[Account], Target]) -> None:
        self._make = make
        self._known: dict[str, Target] = {}

    def of(self, account: Account) -> Target:
        """Return the target of an account."""
        found = self._known.get(account.name)
        if found is None or found.account is not account:
            found = self._known[account.name] = self._make(account)
        return found


def bearer(account: Account) -> dict[str, str]:
    """Return the header that carries a key as OpenAI takes it; nothing without a key."""
    if account.api_key is None:
        return {}
    return {hdrs.AUTHORIZATION: f"Bearer {account.api_key.reveal()}"}


class Request(msgspec.Struct, frozen=True):
    """What goes on the wire."""

    url: str
    headers: Mapping[str, str]
    body: Body


def opened_request(
    target: Target, call: UpstreamCall, *, spool: Path, partials: int
) -> AbstractAsyncContextManager[Request]:
    """Return a context that gives the request for `call`.

    Input files stay open in it, and are read only as they are sent; entering it can raise the same.

    Args:
        target: whom to ask.
        call: for what.
        spool: converted inputs are put beside it, and removed in the end.
        partials: how many partial images to ask for; 0: no stream.

    Raises:
        UpstreamError: the server cannot serve this (CAPABILITY), or an input is no picture.
        OSError: an input file cannot be read.
    """
    _refuse_what_is_lacking(target, call)
    fields = _fields(target, call, partials)
    if call.operation is Operation.GENERATION:
        return nullcontext(_json_request(target, fields))
    return _opened_edit(target, call, fields, spool)


@asynccontextmanager
async def _opened_edit(
    target: Target, call: UpstreamCall, fields: Mapping[str, object], spool: Path
) -> AsyncIterator[Request]:
    async with converted_inputs(target.profile, call, spool) as inputs:
        if target.profile.inputs_in_json and inputs.mask is None:
            # In a thread: sixteen pictures in base64 would keep everybody else waiting.
            yield await uninterrupted(_json_with_inputs, target, fields, inputs)
            return
        with _form(target.profile, fields, inputs) as form:
            path = target.profile.edits_path if inputs.mask is None else target.profile.masked_path
            yield Request(target.url(path), target.headers, form)


def _refuse_what_is_lacking(target: Target, call: UpstreamCall) -> None:
    profile = target.profile
    if call.mask is not None and (
        profile.mask is None or len(call.inputs) > profile.masked_inputs_max
    ):
        raise UpstreamError(
            FaultClass.CAPABILITY,
            "edits_unavailable",
            "The upstream does not make this edit.",
            final_status=503,
            lacks="mask",
        )
    width, _, height = call.size.partition("x")
    if target.max_pixels and height and int(width) * int(height) > target.max_pixels:
        raise UpstreamError(
            FaultClass.CAPABILITY,
            "size_unavailable",
            "The upstream does not make this size.",
            final_status=503,
            lacks="size",
        )


def image_fields(target: Target, call: UpstreamCall) -> dict[str, object]:
    """Return the body of a generation that is not streamed, for a line of a batch.

    Raises:
        UpstreamError: the server cannot serve this (CAPABILITY).
    """
    _refuse_what_is_lacking(target, call)
    return _fields(target, call, 0)


def _fields(target: Target, call: UpstreamCall, partials: int) -> dict[str, object]:
    """Return the parameters; one that was not given is not sent, so that the model's default holds.

    `size` of `auto` counts as not given: it is the documented default, and some compatible servers
    refuse the word.
    """
    profile = target.profile
    edit = call.operation is Operation.EDIT
    form = _output_format(profile, call)
    size = (
        auto_size(profile, call.inputs[0] if edit else None) if call.size == "auto" else call.size
    )
    given: dict[str, object | None] = {
        "model": target.account.model,
        "prompt": _plain_prompt(profile, call.prompt),
        "n": 1,
        "size": size,
        "quality": call.quality,
        "background": call.background,
        "output_format": form if form != "png" or profile.asks_png else None,
        "output_compression": call.output_compression if form != "png" else None,
        "moderation": call.moderation,
        "input_fidelity": call.input_fidelity if edit else None,
        "user": call.user,
    }
    sent = {
        name: value for name, value in given.items() if value is not None and name in profile.fields
    }
    if profile.response_format is not None:
        sent["response_format"] = profile.response_format
    if partials:
        sent |= {"stream": True, "partial_images": partials}
    return sent


def _output_format(profile: Profile, call: UpstreamCall) -> ImageFormat:
    """Return the format to ask for: the wanted one, or png, which loses nothing when remade."""
    compressed = call.output_compression is not None
    if call.output_format not in profile.formats:
        return "png"
    return (
        "png" if compressed and "output_compression" not in profile.fields else call.output_format
    )


def _plain_prompt(profile: Profile, prompt: str) -> str:
    """Return the prompt with nothing in it that the server would take for a parameter."""
    for pattern, instead in profile.substitutions:
        prompt = pattern.sub(instead, prompt)
    return prompt


def _json_request(target: Target, fields: Mapping[str, object]) -> Request:
    return Request(target.url(_GENERATIONS), target.json_headers, msgspec.json.encode(fields))


def _json_with_inputs(target: Target, fields: Mapping[str, object], inputs: Inputs) -> Request:
    pictures = [pybase64.b64encode_as_string(file.path.read_bytes()) for file in inputs.pictures]
    return _json_request(target, {**fields, target.profile.inputs_in_json: pictures})


@contextmanager
def _form(
    profile: Profile, fields: Mapping[str, object], inputs: Inputs
) -> Iterator[aiohttp.FormData]:
    """Give the multipart body; several pictures are `image[]`, one is `image`, as in the SDK."""
    with ExitStack() as files:
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, str(value).lower() if isinstance(value, bool) else str(value))
        name = profile.one_input if len(inputs.pictures) == 1 else "image[]"
        for at, file in enumerate(inputs.pictures):
            _add_file(form, name, f"image-{at}", file, files)
        if inputs.mask is not None:
            _add_file(form, profile.mask_field, "mask", inputs.mask, files)
        yield form


def _add_file(
    form: aiohttp.FormData, name: str, stem: str, file: InputFile, files: ExitStack
) -> None:
    opened = files.enter_context(file.path.open("rb"))
    payload = FilePayload(opened, content_type=MEDIA_TYPES[file.format])
    form.add_field(name, payload, filename=f"{stem}.{_SUFFIXES[file.format]}")
