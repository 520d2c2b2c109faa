"""The lines of a batch, read and answered as the image routes do it.

Owns what a body means inside a batch: the same as on the route that its line names, but that
pictures come as links unless base64 is asked for by name, and that nothing can be streamed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from safelight.api import later
from safelight.api.answers import image_payload, images_of
from safelight.api.context import Services
from safelight.api.images import STAND_IN
from safelight.api.inputs import Staging
from safelight.api.multipart import SpoolFolder
from safelight.api.origin import link_at
from safelight.api.pictures import Weaver, pieces_of
from safelight.api.problems import error_body
from safelight.api.strict_json import parse_object
from safelight.api.wire import (
    MAX_INPUTS,
    EditBody,
    GenerationBody,
    ImageRef,
    image_request,
    metadata_of,
    parse_fields,
    present,
)
from safelight.batches import BatchRow
from safelight.batches.lines import AnswerForm
from safelight.errors import (
    InvalidValue,
    MissingParameter,
    SafelightError,
    UnsupportedParameter,
)
from safelight.gateway.batching.forms import Wanted
from safelight.types import Identity, ImageRequest, Job, JobFailure, Operation

EDITS = "/v1/images/edits"
_INLINE_JSON = 256 * 1024
"""A longer body is parsed in a thread, so that the loop serves others meanwhile."""
_NOT_IN_BATCHES = ("stream", "partial_images", "async", "priority", "not_before", "delay_s")


class BatchForms:
    """Reads and answers lines; `safelight.gateway.batching.forms.Forms`.

    Args:
        services: gives what the skin has; asked when a line comes, for batches are part of it.
    """

    def __init__(self, services: Callable[[], Services]) -> None:
        self._give_services = services

    @property
    def _services(self) -> Services:
        return self._give_services()

    async def read(self, batch: BatchRow, body: bytes) -> Wanted:
        """Read the body of a line; its input pictures are kept when this returns.

        Raises:
            SafelightError: the route would refuse it, in the same words.
        """
        long = len(body) > _INLINE_JSON
        parsed = await asyncio.to_thread(parse_object, body) if long else parse_object(body)
        fields = present(parsed)
        for name in _NOT_IN_BATCHES:
            if fields.get(name):
                raise UnsupportedParameter(
                    f"{name!r} has no meaning inside a batch; leave it out.", param=name
                )
        if batch.endpoint == EDITS:
            edit = parse_fields(fields, EditBody)
            return _wanted(edit, await self._edit(batch, edit, frozenset(fields)))
        generation = parse_fields(fields, GenerationBody)
        channels = self._services.channels
        size = channels.resolve_size(generation.model, generation.size or "auto")
        request = image_request(generation, Operation.GENERATION, size=size)
        gateway = self._services.gateway
        return _wanted(generation, gateway.check(request, given=frozenset(fields)))

    async def _edit(self, batch: BatchRow, body: EditBody, given: frozenset[str]) -> ImageRequest:
        images = _references(body)
        size = self._services.channels.resolve_size(body.model, body.size or "auto")
        gateway = self._services.gateway
        stand_ins = image_request(
            body,
            Operation.EDIT,
            size=size,
            inputs=(STAND_IN,) * len(images),
            mask=None if body.mask is None else STAND_IN,
        )
        # Refused before any picture is verified or stored.
        gateway.check(stand_ins, given=given)
        with SpoolFolder(self._services.spool_dir) as spool:
            identity = Identity(batch.customer_id, batch.key_id)
            staging = Staging(self._services, identity, spool, batch.origin)
            inputs = [await staging.reference(image, param) for image, param in images]
            mask = None if body.mask is None else await staging.reference(body.mask, "mask")
        request = image_request(body, Operation.EDIT, size=size, inputs=tuple(inputs), mask=mask)
        return gateway.check(request, given=given)

    async def answer(
        self, batch: BatchRow, jobs: Sequence[Job], form: AnswerForm, *, inline: bool
    ) -> AsyncIterator[bytes]:
        """Yield the body of the answer to a line of which at least one job has its picture."""
        weaver = Weaver()
        payload = image_payload(jobs, safety_identifier=form.safety_identifier)
        payload["data"] = [
            {"b64_json": weaver.place(image.blob)}
            if inline
            else {"url": link_at(batch.origin, self._services.links, image)}
            for image in images_of(jobs)
        ]
        async for piece in pieces_of(self._services.storage, weaver.weave(payload)):
            yield piece

    def problem(self, problem: SafelightError | JobFailure) -> bytes:
        """Return the body of the answer to a line that failed."""
        return error_body(problem)


def _wanted(body: GenerationBody | EditBody, request: ImageRequest) -> Wanted:
    form = AnswerForm(
        as_url=body.response_format != "b64_json",
        safety_identifier=body.safety_identifier or None,
    )
    return Wanted(
        request=request,
        answer=form,
        webhook_url=later.webhook_url(body),
        metadata=metadata_of(body),
    )


def _references(body: EditBody) -> list[tuple[str | ImageRef, str]]:
    """Return the input pictures of an edit with the names of their parameters."""
    images: list[tuple[str | ImageRef, str]] = []
    for name, value in (("image", body.image), ("images", body.images)):
        if isinstance(value, list):
            images += [(item, f"{name}[{index}]") for index, item in enumerate(value)]
        elif value is not None:
            images.append((value, name))
    if not images:
        raise MissingParameter("Missing required parameter: 'image'.", param="image")
    if len(images) > MAX_INPUTS:
        raise InvalidValue(f"An edit takes at most {MAX_INPUTS} pictures.", param="image")
    return images
