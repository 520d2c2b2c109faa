"""Placing one order and bringing its pictures home: what `generate` and `edit` have in common.

Owns the order's fields, the safe repetition under one Idempotency-Key, reading the answer (a stream
for one picture, one JSON body for several) and the files that are written.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pybase64

from safelight.cli import output
from safelight.cli.errors import (
    RETRYABLE_CODES,
    AnswerError,
    CliError,
    ExitCode,
    OutOfTimeError,
    UnreachableError,
)
from safelight.cli.forms import Body
from safelight.cli.http import Gateway, Reply
from safelight.cli.picture import SUFFIXES, Measured, measure, write_atomically
from safelight.cli.progress import Waiting
from safelight.cli.sse import data_frames
from safelight.money import micros_to_dollars
from safelight.types import IMAGE_FORMATS, ImageFormat

_ENDINGS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@dataclass(frozen=True)
class Draft:
    """An order as the options describe it."""

    prompt: str
    model: str
    idempotency_key: str
    size: str | None = None
    quality: str | None = None
    n: int = 1
    output: Path | None = None
    format: str | None = None
    compression: int | None = None
    partials: int = 2

    def fields(self) -> dict[str, Any]:
        """Return the request's fields in OpenAI's words; None for what is not set.

        One picture is ordered as a stream, which tells how far it is; a stream of several is not
        defined by OpenAI.
        """
        streamed = self.n == 1
        return {
            "prompt": self.prompt,
            "model": self.model,
            "size": self.size,
            "quality": self.quality,
            "n": self.n if self.n > 1 else None,
            "output_format": self.format,
            "output_compression": self.compression,
            "stream": True if streamed else None,
            "partial_images": self.partials if streamed and self.partials else None,
        }


@dataclass(frozen=True)
class Delivery:
    """What came: the pictures and what the gateway's headers say of the order."""

    pictures: tuple[bytes, ...]
    headers: Mapping[str, str]

    @property
    def job_id(self) -> str | None:
        """The job, or the jobs separated by commas."""
        return self.headers.get("x-safelight-job-id")

    @property
    def price_micros(self) -> int | None:
        """The price, if the gateway says one."""
        raw = self.headers.get("x-safelight-price-micros", "")
        return int(raw) if raw.isdecimal() else None


def drafted(
    prompt: str,
    *,
    target: Path | None,
    image_format: str | None,
    idempotency_key: str | None,
    **rest: Any,
) -> Draft:
    """Return the order, checked before anything is spent.

    Args:
        prompt: the text, or `-` for standard input.
        target: the file to write, or None.
        image_format: png, jpeg, webp, or None to follow the file's ending.
        idempotency_key: an earlier order's key, or None for a fresh one.
        rest: the other fields of `Draft`.

    Raises:
        CliError: a wrong format or ending, no such folder, no prompt (exit code 2).
    """
    text = sys.stdin.read().strip() if prompt == "-" else prompt
    if not text:
        raise CliError("the prompt is empty", exit_code=ExitCode.USAGE)
    if image_format is not None and image_format not in IMAGE_FORMATS:
        known = ", ".join(IMAGE_FORMATS)
        raise CliError(f"--format {image_format!r} is none of {known}", exit_code=ExitCode.USAGE)
    if target is not None:
        promised = _promised_format(target)
        if image_format and promised and promised != image_format:
            raise CliError(
                f"{target.name} says {promised}, --format says {image_format}",
                exit_code=ExitCode.USAGE,
            )
        image_format = image_format or promised
    _check_folder(target.parent if target else Path())
    key = idempotency_key or f"cli-{secrets.token_hex(16)}"
    return Draft(prompt=text, output=target, format=image_format, idempotency_key=key, **rest)


def _promised_format(target: Path) -> ImageFormat | None:
    """Return the format that the file's ending stands for, or None without an ending.

    Raises:
        CliError: nothing is made that belongs into such a file (exit code 2).
    """
    if not target.suffix:
        return None
    promised = SUFFIXES.get(target.suffix.lower())
    if promised is None:
        raise CliError(
            f"no picture is made for a name such as {target.name}",
            exit_code=ExitCode.USAGE,
            hint=f"Let it end with one of {', '.join(SUFFIXES)}.",
        )
    return promised


def _check_folder(folder: Path) -> None:
    """Refuse now what would fail after the picture has been paid for."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise CliError(
            f"the folder {folder} does not exist or is read-only", exit_code=ExitCode.USAGE
        )


def carry_out(draft: Draft, gateway: Gateway, route: str, body: Body, *, as_json: bool) -> None:
    """Place the order, wait, write the pictures, and say what was delivered.

    Raises:
        CliError: with a hint how to collect the order later where that is possible.
    """
    started = time.monotonic()
    try:
        delivery = _place(draft, gateway, route, body, quiet=as_json)
    except KeyboardInterrupt:
        hint = _collect_hint(draft)
        raise CliError("interrupted", exit_code=ExitCode.INTERRUPTED, hint=hint) from None
    except (OutOfTimeError, UnreachableError) as problem:
        problem.hint = f"{problem.hint} {_collect_hint(draft)}".strip()
        raise
    measured = tuple(_measured(picture) for picture in delivery.pictures)
    paths = tuple(_paths(draft, delivery, measured))
    for path, picture in zip(paths, delivery.pictures, strict=True):
        try:
            write_atomically(path, picture)
        except OSError as error:
            raise CliError(f"{path}: {error.strerror}", hint=_collect_hint(draft)) from error
    report = _report(draft, delivery, measured, paths, time.monotonic() - started)
    if as_json:
        output.print_json(report)
    else:
        _print_report(report)


def _collect_hint(draft: Draft) -> str:
    return (
        "If the gateway has taken the order, the same command with --idempotency-key "
        f"{draft.idempotency_key} collects it without paying twice."
    )


def _place(draft: Draft, gateway: Gateway, route: str, body: Body, *, quiet: bool) -> Delivery:
    with Waiting(f"{draft.model}: sending the order", quiet=quiet) as waiting:

        def attempt() -> Delivery:
            headers = {"Idempotency-Key": draft.idempotency_key}
            with gateway.send("POST", route, body, headers) as reply:
                waiting.stage(f"{draft.model}: drawing")
                streamed = reply.headers.get_content_type() == "text/event-stream"
                pictures = _from_stream(reply, draft, waiting) if streamed else _from_json(reply)
                known = {name.lower(): value for name, value in reply.headers.items()}
                return Delivery(tuple(pictures), known)

        return gateway.persist(attempt, waiting.trying_again)


def _from_stream(reply: Reply, draft: Draft, waiting: Waiting) -> Iterator[bytes]:
    """Yield the one picture of an image stream (OpenAI images API, streaming events)."""
    for frame in data_frames(reply.chunks()):
        if frame == b"[DONE]":
            break
        event = _decoded(frame)
        error = event.get("error")
        if isinstance(error, dict):
            raise AnswerError(
                error,
                status=None,
                retryable=str(error.get("code")) in RETRYABLE_CODES,
                request_id=reply.headers.get("x-request-id"),
            )
        kind = str(event.get("type", ""))
        if kind.endswith(".partial_image"):
            drawn = int(event.get("partial_image_index", 0)) + 1
            waiting.stage(f"{draft.model}: drawing, partial {drawn} of {draft.partials}")
        elif kind.endswith(".completed"):
            yield _picture(event)
            return
    raise UnreachableError("the stream ended before the picture was complete")


def _from_json(reply: Reply) -> Iterator[bytes]:
    body = reply.json()
    items = body.get("data") if isinstance(body, dict) else None
    if not isinstance(items, list) or not items:
        raise AnswerError({"message": "the gateway's answer holds no picture"}, status=reply.status)
    for item in items:
        yield _picture(item)


def _decoded(frame: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(frame, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise UnreachableError("the stream holds a broken event") from error


def _picture(item: Any) -> bytes:
    encoded = item.get("b64_json") if isinstance(item, dict) else None
    if not isinstance(encoded, str):
        raise AnswerError({"message": "the gateway's answer holds no picture"}, status=None)
    try:
        return pybase64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise UnreachableError("the picture arrived damaged") from error


def _measured(picture: bytes) -> Measured:
    try:
        return measure(picture)
    except ValueError as error:
        raise CliError(f"the gateway delivered no picture: {error}") from error


def _paths(draft: Draft, delivery: Delivery, measured: tuple[Measured, ...]) -> Iterator[Path]:
    """Yield one path per picture: as ordered, or named after the job."""
    for number, picture in enumerate(measured, 1):
        if draft.output is None:
            jobs = (delivery.job_id or "image").split(",")
            stem = re.sub(r"[^A-Za-z0-9_-]", "", jobs[0]) or "image"
            base = Path(stem + _ENDINGS[picture.format])
        else:
            base = draft.output
        yield base if len(measured) == 1 else base.with_stem(f"{base.stem}-{number}")


def _report(
    draft: Draft,
    delivery: Delivery,
    measured: tuple[Measured, ...],
    paths: tuple[Path, ...],
    took_s: float,
) -> dict[str, Any]:
    price = delivery.price_micros
    return {
        "images": [
            {
                "path": str(path),
                "size": shape.size,
                "format": shape.format,
                "bytes": len(picture),
                "sha256": hashlib.sha256(picture).hexdigest(),
            }
            for path, shape, picture in zip(paths, measured, delivery.pictures, strict=True)
        ],
        "job_id": delivery.job_id,
        "failed_jobs": delivery.headers.get("x-safelight-failed-jobs"),
        "request_id": delivery.headers.get("x-request-id"),
        "model": draft.model,
        "size_plan": delivery.headers.get("x-safelight-size-plan"),
        "price_micros": price,
        "price": None if price is None else micros_to_dollars(price),
        "idempotency_key": draft.idempotency_key,
        "took_s": round(took_s, 3),
    }


def _print_report(report: dict[str, Any]) -> None:
    price = report["price"]
    facts = [
        ("job", report["job_id"] or "-"),
        ("size", ", ".join(dict.fromkeys(image["size"] for image in report["images"]))),
        ("size plan", report["size_plan"] or "-"),
        ("price", f"${price}" if price is not None else "-"),
        ("took", f"{report['took_s']:.1f} s"),
    ]
    if report["failed_jobs"]:
        facts.insert(1, ("failed, free", report["failed_jobs"]))
    for image in report["images"]:
        output.out().print(image["path"], markup=False, soft_wrap=True)
    output.print_facts(facts)
