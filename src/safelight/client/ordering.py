"""Placing one order and reading what comes: a picture, or a job that makes it.

Owns the routes of orders, their headers, and how an answer becomes a `Picture`. A safelight is
asked for a link, so that no picture is base64 in memory; other servers answer as they do (OpenAI's
own gpt-image models take no `response_format`).
"""

from __future__ import annotations

import binascii
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

import msgspec
import pybase64

from safelight.client.answers import Job, Picture, charge_of
from safelight.client.bodies import body_of
from safelight.client.errors import BrokenPicture, ServiceFailed, TimedOut
from safelight.client.orders import Order
from safelight.client.pictures import measure, mime_of
from safelight.client.transport import Answer, Deadline, Transport

_GENERATIONS, _EDITS = "/images/generations", "/images/edits"
_DATA_URL = "data:"
_GRACE_S = 1.0
"""How long the word on an order is waited for after its deadline, seconds."""


class _Item(msgspec.Struct):
    url: str | None = None
    b64_json: str | None = None


class _Images(msgspec.Struct):
    data: list[_Item] = []
    size: str | None = None
    output_format: str | None = None


async def place(
    transport: Transport, order: Order, *, extra: dict[str, Any], deadline_s: float | None
) -> Answer:
    """Send an order until it is answered well or there is no sense in more.

    Args:
        transport: to whom.
        order: with its key.
        extra: further fields of the body.
        deadline_s: until when its picture is of use, seconds from now; told to the server
            (`x-request-deadline`) with what is left of it at each try.

    Raises:
        ClientError: the last try's.
    """
    deadline = Deadline(transport.patience, deadline_s)
    key, tries = order.idempotency_key or "", 0

    async def attempt(limit_s: float) -> Answer:
        nonlocal tries
        tries += 1
        # The gateway answers before this time is over, so that the next try can join the job.
        patience_s = transport.patience.timeout_s
        headers = {"Idempotency-Key": key, "x-stainless-read-timeout": f"{patience_s:g}"}
        left_s = deadline.left_s()
        if left_s is not None:
            headers["x-request-deadline"] = f"{max(left_s, 0.001) * 1000:.0f}ms"
            limit_s = min(limit_s + _GRACE_S, patience_s)
        with body_of(order, extra) as (data, more):
            return await transport.ask(
                "POST",
                _EDITS if order.is_edit else _GENERATIONS,
                timeout_s=limit_s,
                headers={**headers, **more},
                data=data,
                order=True,
            )

    try:
        return replace(await transport.again(attempt, deadline), tries=tries)
    except TimedOut as late:
        raise TimedOut(
            f"{late.message}; the order may go on: send it again with the idempotency key {key} "
            "to collect it without paying twice",
            idempotency_key=key,
            job_id=late.job_id,
        ) from late
    except ServiceFailed as failure:
        if failure.code == "deadline_exceeded" and deadline_s is not None:
            raise TimedOut(failure.message, idempotency_key=key, job_id=failure.job_id) from failure
        raise


def picture_of(transport: Transport, order: Order, answer: Answer) -> Picture:
    """Return the picture of an order's answer; `replayed`: its time is not that of the answer.

    Raises:
        BrokenPicture: there is none in it.
    """
    images = answer.as_(_Images)
    if not images.data:
        raise BrokenPicture("the answer holds no picture; look at the server's log")
    item = images.data[0]
    link, encoded = item.url or None, item.b64_json
    if link is not None and link.startswith(_DATA_URL):
        encoded = link
    data = _decoded(encoded) if encoded else None
    # Some small servers answer with a path of their own.
    link = urljoin(f"{transport.address.url}/", link) if link and data is None else None
    if link is None and data is None:
        raise BrokenPicture("the answer holds neither a link nor a picture")
    headers = answer.headers
    return Picture(
        job_id=headers.get("x-safelight-job-id"),
        request_id=headers.get("x-safelight-request-id") or headers.get("x-request-id"),
        link=link,
        data=data,
        mime=_mime(data, images.output_format),
        size=images.size or _measured(data),
        size_plan=headers.get("x-safelight-size-plan"),
        sha256=headers.get("x-safelight-image-sha256", "").partition(",")[0] or None,
        charge_micros=charge_of(headers),
        generation_s=answer.took_s,
        idempotency_key=order.idempotency_key,
        replayed=answer.tries > 1 or headers.get("idempotent-replayed") == "true",
    )


def job_of(answer: Answer) -> Job:
    """Return the job of a 202.

    Raises:
        ServiceFailed: it is none.
    """
    return answer.as_(Job)


def _decoded(encoded: str) -> bytes:
    if encoded.startswith(_DATA_URL):
        encoded = encoded.partition(",")[2]
    try:
        return pybase64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BrokenPicture("the picture in the answer is damaged: order it again") from error


def _mime(data: bytes | None, output_format: str | None) -> str | None:
    if data is not None:
        return mime_of(data)
    return None if output_format is None else f"image/{output_format}"


def _measured(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        found = measure(data)
    except ValueError:
        return None
    return f"{found.width}x{found.height}"
