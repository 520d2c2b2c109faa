"""POST /v1/images/generations and /v1/images/edits: parse, call, render (OpenAI images API).

Owns the control flow of both routes and the plain answer's shape. Streams are written by
`stream`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from safelight.api import later
from safelight.api.answers import (
    ended_jobs,
    first_problem,
    image_payload,
    images_of,
    order_headers,
    price_of,
    tell_failure,
    write_json,
)
from safelight.api.body import json_body, media_type, read_chunks
from safelight.api.callers import authenticate, caller_of
from safelight.api.exchange import Exchange
from safelight.api.inputs import Staging
from safelight.api.multipart import FilePart, FormReader, SpoolFolder, boundary_of
from safelight.api.origin import origin_of, signed_url
from safelight.api.pictures import Weaver
from safelight.api.stream import ImageStream
from safelight.api.timing import Timing
from safelight.api.wire import (
    MAX_INPUTS,
    EditBody,
    GenerationBody,
    ImageRef,
    check_names,
    coerce_form,
    image_request,
    metadata_of,
    parse_fields,
    present,
)
from safelight.errors import (
    InvalidRequest,
    InvalidValue,
    MissingParameter,
    NotFound,
    UnsupportedMediaType,
    storage_code,
    storage_refusal,
)
from safelight.gateway.orders import Order, Queued
from safelight.types import BlobRef, Identity, ImageRequest, Job, Metadata, Operation

_PICTURE_FIELD = re.compile(r"(?:images?(?:\[[0-9]{0,3}\])?|mask)")
_EDIT_FIELDS = frozenset(EditBody.__struct_encode_fields__)
STAND_IN = BlobRef(digest="0" * 64, bytes=0, format="png", width=0, height=0, has_alpha=True)
"""Takes the place of an input whose bytes do not matter yet, for checks and quotes."""


class Form(msgspec.Struct, frozen=True, gc=False):
    """In which form a caller of an image route wants the answer."""

    stream: bool
    as_url: bool
    safety_identifier: str | None


Read = Callable[[Exchange, Identity, Timing], Awaitable["Wish"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a caller of an image route wants, and in which form."""

    request: ImageRequest
    given: frozenset[str]
    form: Form
    queued: Queued | None
    webhook_url: str | None
    persist: bool
    metadata: Metadata


def generations(exchange: Exchange) -> Awaitable[None]:
    """Answer POST /v1/images/generations."""
    return _answer(exchange, _read_generation)


def edits(exchange: Exchange) -> Awaitable[None]:
    """Answer POST /v1/images/edits, sent as a form or as JSON."""
    return _answer(exchange, _read_edit)


async def _read_generation(exchange: Exchange, _identity: Identity, timing: Timing) -> Wish:
    limit = exchange.services.config.server.max_json_bytes
    async with json_body(exchange, limit) as sent:
        timing.body_read()
        fields = present(sent.fields)
    body = parse_fields(fields, GenerationBody)
    size = exchange.services.channels.resolve_size(body.model, body.size or "auto")
    when = later.queued(exchange, body)
    request = image_request(body, Operation.GENERATION, size=size, watched=when is not None)
    return _wish(body, request, frozenset(fields), when)


async def _read_edit(exchange: Exchange, identity: Identity, timing: Timing) -> Wish:
    """Read an edit and store its pictures; the body is gone when this returns."""
    content_type = exchange.header("content-type") or ""
    kind = media_type(content_type)
    if kind not in (None, "application/json", "multipart/form-data"):
        raise UnsupportedMediaType(
            "Send the body as multipart/form-data with the pictures as files, or as "
            "application/json with the pictures as data: URLs."
        )
    with SpoolFolder(exchange.services.spool_dir) as spool:
        staging = Staging(exchange.services, identity, spool, origin_of(exchange))
        if kind == "multipart/form-data":
            form = await _read_form(exchange, content_type, spool)
            timing.body_read()
            return await _edit_wish(exchange, staging, form)
        limit = exchange.services.config.server.max_request_bytes
        async with json_body(exchange, limit) as sent:
            timing.body_read()
            return await _edit_wish(exchange, staging, _SentEdit(present(sent.fields), []))


async def variations(_exchange: Exchange) -> None:
    """Answer /v1/images/variations, which OpenAI offered for a model that is no more."""
    raise NotFound(
        "Variations are not served here: they belonged to dall-e-2. Send the picture to "
        "/v1/images/edits with a prompt."
    )


Source = FilePart | ImageRef | str


@dataclass(slots=True)
class _SentEdit:
    """An edit's fields, and its files when it came as a form."""

    fields: dict[str, Any]
    files: list[FilePart]

    def file_names(self) -> frozenset[str]:
        return frozenset(part.name.partition("[")[0] for part in self.files)

    def pictures(self, body: EditBody) -> tuple[list[tuple[Source, str]], Source | None]:
        """Return the inputs with their parameter names, and the mask."""
        images: list[tuple[Source, str]] = []
        parts = [part for part in self.files if part.name != "mask"]
        for index, part in enumerate(parts):
            alone = len(parts) == 1 and part.name == "image"
            images.append((part, "image" if alone else f"image[{index}]"))
        for name, value in (("image", body.image), ("images", body.images)):
            if isinstance(value, list):
                images += [(item, f"{name}[{index}]") for index, item in enumerate(value)]
            elif value is not None:
                images.append((value, name))
        masks: list[Source] = [part for part in self.files if part.name == "mask"]
        if body.mask is not None:
            masks.append(body.mask)
        if len(masks) > 1:
            raise InvalidValue("There is more than one mask.", param="mask")
        return images, masks[0] if masks else None


def _check_inputs(images: list[tuple[Source, str]]) -> None:
    if not images:
        raise MissingParameter("Missing required parameter: 'image'.", param="image")
    if len(images) > MAX_INPUTS:
        raise InvalidValue(f"An edit takes at most {MAX_INPUTS} pictures.", param="image")


async def _stage(staging: Staging, source: Source, param: str) -> BlobRef:
    if isinstance(source, FilePart):
        return await staging.file(source, param)
    return await staging.reference(source, param)


async def _edit_wish(exchange: Exchange, staging: Staging, sent: _SentEdit) -> Wish:
    """Check an edit with stand-ins for its pictures, then store them and return what is wanted."""
    services = staging.services
    body = parse_fields(sent.fields, EditBody)
    given = frozenset(sent.fields) | sent.file_names()
    when = later.queued(exchange, body)
    watched = when is not None
    images, mask = sent.pictures(body)
    _check_inputs(images)
    size = services.channels.resolve_size(body.model, body.size or "auto")
    stand_ins = image_request(
        body,
        Operation.EDIT,
        size=size,
        inputs=(STAND_IN,) * len(images),
        mask=None if mask is None else STAND_IN,
        watched=watched,
    )
    # Refused before any picture is verified or stored; submit checks again with the real ones.
    services.gateway.check(stand_ins, given=given, stream=bool(body.stream))
    inputs = [await _stage(staging, source, param) for source, param in images]
    mask_blob = None if mask is None else await _stage(staging, mask, "mask")
    request = image_request(
        body, Operation.EDIT, size=size, inputs=tuple(inputs), mask=mask_blob, watched=watched
    )
    return _wish(body, request, given, when)


async def _read_form(exchange: Exchange, content_type: str, spool: SpoolFolder) -> _SentEdit:
    server = exchange.services.config.server
    reader = FormReader(
        boundary_of(content_type),
        spool=spool,
        picture_fields=lambda name: _PICTURE_FIELD.fullmatch(name) is not None,
        max_file_bytes=server.max_file_bytes,
    )
    with reader:
        try:
            async for chunk in read_chunks(exchange, server.max_request_bytes):
                reader.feed(chunk)
        except OSError as error:
            raise storage_refusal(storage_code(error)) from error
        form = reader.finish()
    for part in form.files:
        if part.name in _EDIT_FIELDS and not _PICTURE_FIELD.fullmatch(part.name):
            raise InvalidRequest(
                f"Invalid type for {part.name!r}: it was sent as a file. Send it as a text field, "
                "without a file name and a Content-Type.",
                code="invalid_type",
                param=part.name,
            )
    check_names([part.name for part in form.files if not _PICTURE_FIELD.fullmatch(part.name)], ())
    return _SentEdit(coerce_form(form.texts, EditBody), form.files)


def _wish(
    body: GenerationBody | EditBody,
    request: ImageRequest,
    given: frozenset[str],
    when: Queued | None,
) -> Wish:
    return Wish(
        request=request,
        given=given,
        form=Form(bool(body.stream), body.response_format == "url", body.safety_identifier or None),
        queued=when,
        webhook_url=later.webhook_url(body),
        persist=bool(body.persist),
        metadata=metadata_of(body),
    )


async def _answer(exchange: Exchange, read: Read) -> None:
    identity = await authenticate(exchange)
    timing = Timing(exchange)
    # What is held from here on is held for as long as the picture takes: no body, no wish.
    order, form = await _ordered(exchange, identity, timing, read)
    if form is None:
        await later.answer(exchange, order)
        return
    # Whatever ends this block before `delivered` leaves the order to be joined by the SDK's retry.
    async with exchange.services.gateway.attached(order) as attachment, exchange.watched():
        if form.stream:
            conclusive = await ImageStream(exchange, order, timing, form.safety_identifier).run()
        else:
            jobs = await ended_jobs(exchange, order, timing, keep_alive=identity.keep_alive)
            conclusive = jobs is not None
            if jobs is not None:
                await _render(exchange, order, jobs, form, timing)
        if conclusive:
            attachment.delivered()


async def _ordered(
    exchange: Exchange, identity: Identity, timing: Timing, read: Read
) -> tuple[Order, Form | None]:
    """Return the order of a request, and in which form it is answered; None: it is for later."""
    wish = await read(exchange, identity, timing)
    caller = caller_of(
        exchange,
        identity,
        timing,
        webhook_url=wish.webhook_url,
        persist=wish.persist,
        metadata=wish.metadata,
    )
    later.check_times(caller, wish.queued)
    order = await exchange.services.gateway.submit(
        wish.request, caller, given=wish.given, stream=wish.form.stream, queued=wish.queued
    )
    return order, wish.form if wish.queued is None else None


async def _render(
    exchange: Exchange, order: Order, jobs: tuple[Job, ...], form: Form, timing: Timing
) -> None:
    images = images_of(jobs)
    if not images:
        await tell_failure(exchange, order, jobs, first_problem(jobs, timing))
        return
    weaver = Weaver()
    payload = image_payload(jobs, safety_identifier=form.safety_identifier)
    payload["data"] = [
        {"url": signed_url(exchange, image)}
        if form.as_url
        else {"b64_json": weaver.place(image.blob)}
        for image in images
    ]
    headers = order_headers(order, jobs, price_micros=price_of(jobs))
    await write_json(exchange, weaver.weave(payload), headers)
