"""The vendor's own refusals of parameters, before any script (OpenAI images API).

Owns which fields and sizes are legal. Keys, models and limits are the server's.
"""

from __future__ import annotations

from collections.abc import Iterator

from safelight.bench.faults.books import Seen
from safelight.bench.faults.errors import error
from safelight.bench.faults.pictures import CONTENT_TYPES
from safelight.bench.faults.script import Behaviour, Kind

_FIELDS = frozenset(
    (
        *("model", "prompt", "n", "size", "quality", "background", "output_format"),
        *("output_compression", "moderation", "stream", "partial_images", "user"),
        *("safety_identifier", "input_fidelity"),
    )
)
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}
_MOST_IMAGES = 10


def refuse(
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str = "invalid_value",
    param: str | None = None,
) -> Behaviour:
    """Return a refusal with status 400."""
    body = error(message, kind=kind, code=code, param=param)
    return Behaviour(kind=Kind.STATUS, status=400, body=body)


def check_file(name: str, content_type: str, data: bytes) -> Behaviour | None:
    """Return the refusal of a file that is not what its part says."""
    if content_type in {sniffed for magic, sniffed in _MAGIC.items() if data.startswith(magic)}:
        return None
    return refuse(
        f"Invalid file '{name}': unsupported mimetype ('{content_type}').",
        code="unsupported_file_mimetype",
        param=name.removesuffix("[]"),
    )


def check_fields(seen: Seen) -> Behaviour | None:
    """Return the first refusal of parameters that the vendor does not take."""
    return next(_refusals(seen), None)


def _refusals(seen: Seen) -> Iterator[Behaviour]:
    for name in seen.fields.keys() - _FIELDS:
        text = f"Unknown parameter: '{name}'."
        yield refuse(text, code="unknown_parameter", param=name)
    if not seen.prompt:
        yield refuse("Missing required parameter: 'prompt'.", param="prompt")
    if not _legal(seen.size):
        text = f"Invalid size '{seen.size}'. Width and height must both be divisible by 16."
        yield refuse(text, kind="image_generation_user_error", param="size")
    asked = seen.fields.get("n")
    if asked is not None and (str(asked) != str(seen.images) or seen.images > _MOST_IMAGES):
        yield refuse("Invalid 'n': a whole number from 1 to 10.", param="n")
    if seen.form not in CONTENT_TYPES:
        yield refuse(f"Invalid value: '{seen.form}'.", param="output_format")
    if "output_compression" in seen.fields and seen.form == "png":
        text = "Compression less than 100 is not supported for PNG output format"
        yield refuse(text, param="output_compression")
    if seen.operation == "edits" and not any("image" in file.field for file in seen.files):
        yield refuse("Missing required parameter: 'image'.", param="image")


def _legal(size: str) -> bool:
    """Return whether the vendor makes this size (OpenAI image generation guide, gpt-image-2)."""
    if size == "auto":
        return True
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        return False
    short, long = sorted((int(width), int(height)))
    pixels = short * long
    whole = short % 16 == 0 and long % 16 == 0 and short > 0
    return whole and long <= min(3840, 3 * short) and 655_360 <= pixels <= 8_294_400
