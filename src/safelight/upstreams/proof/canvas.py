"""Which canvas a call gets, in pixels.

Owns the rules for `size`; nothing is drawn here.
"""

from __future__ import annotations

import math
import re

from safelight.errors import FaultClass, UpstreamError
from safelight.types import UpstreamCall
from safelight.upstreams.proof.brief import hinted_ratio

MIN_EDGE = 16
MAX_EDGE = 3840
_STANDARD = ((1024, 1024), (1536, 1024), (1024, 1536))
_AUTO_PIXELS = 1_500_000
_GRID = 16
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def _of_ratio(ratio: float) -> tuple[int, int]:
    """Return a canvas near the ratio that gpt-image-2 takes: edges on a grid of 16, at most 3:1."""
    ratio = min(3.0, max(1 / 3, ratio))
    width = round(math.sqrt(_AUTO_PIXELS * ratio) / _GRID) * _GRID
    height = round(math.sqrt(_AUTO_PIXELS / ratio) / _GRID) * _GRID
    # Rounding may step just over 3:1.
    return min(width, 3 * height), min(height, 3 * width)


def _nearest_standard(ratio: float) -> tuple[int, int]:
    return min(_STANDARD, key=lambda size: abs(math.log(size[0] / size[1] / ratio)))


def choose_canvas(call: UpstreamCall, first_input: tuple[int, int] | None) -> tuple[int, int]:
    """Return width and height for a call; `first_input` is the size of an edit's first picture.

    `auto` keeps the ratio of that picture, else follows a hint in the prompt, else is square
    (OpenAI images API: `size`).

    Raises:
        UpstreamError: CLIENT `invalid_value` on `size`.
    """
    if call.size == "auto":
        if first_input is not None:
            return _of_ratio(first_input[0] / first_input[1])
        ratio = hinted_ratio(call.prompt)
        return _STANDARD[0] if ratio is None else _nearest_standard(ratio)
    match = _SIZE.fullmatch(call.size)
    if match is not None:
        width, height = int(match.group(1)), int(match.group(2))
        if min(width, height) >= MIN_EDGE and max(width, height) <= MAX_EDGE:
            return width, height
    raise UpstreamError(
        FaultClass.CLIENT,
        "invalid_value",
        f"size is WIDTHxHEIGHT with edges from {MIN_EDGE} to {MAX_EDGE} pixels, or auto.",
        param="size",
        final_status=400,
    )
