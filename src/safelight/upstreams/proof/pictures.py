"""Input pictures: decoded, fitted, graded; the mask and the free area in it.

Owns every byte of a caller that reaches libvips. Only the PNG, JPEG and WebP loaders are used, by
name, whatever the bytes look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyvips

from safelight.errors import FaultClass, UpstreamError
from safelight.types import ImageFormat, UpstreamCall
from safelight.upstreams.proof.colour import mix, parse_hex, to_hex, to_oklab, to_oklch
from safelight.upstreams.proof.palette import Palette
from safelight.upstreams.proof.raster import Raster

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""

_LOADERS = {
    "png": pyvips.Image.pngload,
    "jpeg": pyvips.Image.jpegload,
    "webp": pyvips.Image.webpload,
}


@contextmanager
def _client_fault(param: str, number: int) -> Iterator[None]:
    try:
        yield
    except pyvips.Error as error:
        message = (
            f"Input {param} {number} could not be decoded; send a whole PNG, JPEG or WebP file."
        )
        raise UpstreamError(
            FaultClass.CLIENT, "invalid_image", message, param=param, final_status=400
        ) from error


def _decode(path: Path, kind: ImageFormat) -> Raster:
    """Return the file's pixels upright, 8 bits, sRGB, with alpha if it has one."""
    image = _LOADERS[kind](str(path), fail_on="truncated", revalidate=True).autorot()
    # Only pictures that are not RGB already are converted: a masked edit keeps pixels exactly.
    if image.interpretation not in {"srgb", "rgb"}:
        image = image.colourspace("srgb")
    if image.format != "uchar":
        image = image.cast("uchar", shift=image.format == "ushort")
    return image.copy_memory()


def decode_inputs(call: UpstreamCall) -> list[Raster]:
    """Return the call's input pictures.

    Raises:
        UpstreamError: CLIENT `invalid_image`, a file cannot be decoded.
    """
    found = []
    for at, (blob, path) in enumerate(zip(call.inputs, call.input_paths, strict=True)):
        with _client_fault("image", at + 1):
            found.append(_decode(path, blob.format))
    return found


def decode_mask(call: UpstreamCall, width: int, height: int) -> Raster | None:
    """Return the mask as one band of canvas size: 255 keeps the input, 0 is to be drawn.

    Transparent pixels of the file mark what to edit (OpenAI images API, `mask`).

    Raises:
        UpstreamError: CLIENT `invalid_image`, no PNG with an alpha channel.
    """
    if call.mask is None or call.mask_path is None:
        return None
    with _client_fault("mask", 1):
        mask = _decode(call.mask_path, call.mask.format)
        if not mask.hasalpha():
            raise UpstreamError(
                FaultClass.CLIENT,
                "invalid_image",
                "The mask has no alpha channel; its transparent pixels mark what to edit.",
                param="mask",
                final_status=400,
            )
        alpha = mask[mask.bands - 1]
        return (
            alpha if (alpha.width, alpha.height) == (width, height) else cover(alpha, width, height)
        )


def cover(image: Raster, width: int, height: int) -> Raster:
    """Return the picture scaled to cover the box and cut to it around its centre."""
    if (image.width, image.height) == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    across = max(width, round(image.width * scale))
    high = max(height, round(image.height * scale))
    alpha = image.hasalpha()
    body = image.premultiply() if alpha else image
    body = body.resize(across / image.width, vscale=high / image.height)
    body = body.unpremultiply() if alpha else body
    body = body.cast("uchar")
    # resize rounds on its own; embed covers a missing last row or column with its neighbour.
    body = body.embed(0, 0, max(width, body.width), max(height, body.height), extend="copy")
    return body.crop((body.width - width) // 2, (body.height - height) // 2, width, height)


def contain(image: Raster, width: int, height: int) -> Raster:
    """Return the picture scaled to fit inside the box, at least one pixel each way."""
    scale = min(width / image.width, height / image.height)
    return cover(image, max(1, round(image.width * scale)), max(1, round(image.height * scale)))


def is_cutout(image: Raster) -> bool:
    """Return whether a good part of the picture is transparent."""
    return bool(image.hasalpha() and image[image.bands - 1].avg() < 240)


def key_colour(image: Raster) -> str:
    """Return the hex colour that stands out most in a picture."""
    small = image.thumbnail_image(12, height=12, size="force")
    if small.hasalpha():
        small = small.flatten(background=255)
    data = bytes(small.colourspace("srgb")[0:3].cast("uchar").write_to_memory())
    spots = [to_hex((data[at], data[at + 1], data[at + 2])) for at in range(0, len(data), 3)]

    def weight(colour: str) -> float:
        lightness, chroma, _ = to_oklch(colour)
        return chroma * (1 - abs(lightness - 0.6))

    return max(spots, key=weight)


def _tone_curve(palette: Palette) -> Raster:
    """Return a lookup table from grey to the palette: deep, main, light, each at its lightness."""
    stops = sorted(
        (to_oklab(colour)[0], colour) for colour in (palette.deep, palette.main, palette.light)
    )
    table = bytearray()
    for value in range(256):
        lightness = to_oklab(to_hex((value, value, value)))[0]
        (low, one), (high, two) = (
            (stops[0], stops[1]) if lightness < stops[1][0] else (stops[1], stops[2])
        )
        share = min(1.0, max(0.0, (lightness - low) / max(1e-6, high - low)))
        table += bytes(round(part) for part in parse_hex(mix(one, two, share)))
    return pyvips.Image.new_from_memory(bytes(table), 256, 1, 3, "uchar")


def graded(image: Raster, palette: Palette, strength: float) -> Raster:
    """Return a picture (RGB) pulled towards the palette by `strength`, 0..1."""
    grey = image.colourspace("b-w")[0].cast("uchar")
    toned = grey.maplut(_tone_curve(palette)).copy(interpretation="srgb")
    return (image * (1 - strength) + toned * strength).cast("uchar").copy(interpretation="srgb")


def cells(count: int, area: Box, gap: int) -> list[Box]:
    """Return boxes for `count` pictures: a hero and a grid, or equals."""
    x, y, width, height = area
    wide = width >= height
    if count == 1:
        return [area]
    if count == 2:
        share = 0.5
    elif count == 4:
        return _grid(4, area, gap, 2)
    else:
        share = 0.62 if count == 3 else 0.54
    hero = int(((width if wide else height) - gap) * share)
    if wide:
        first = (x, y, hero, height)
        rest = (x + hero + gap, y, width - hero - gap, height)
    else:
        first = (x, y, width, hero)
        rest = (x, y + hero + gap, width, height - hero - gap)
    columns = min(
        range(1, count),
        key=lambda number: (
            abs((rest[2] / number) / (rest[3] / -(-(count - 1) // number)) - 1)
            + 0.3 * (-(count - 1) % number)
        ),
    )
    return [first, *_grid(count - 1, rest, gap, columns)]


def _grid(count: int, area: Box, gap: int, columns: int) -> list[Box]:
    x, y, width, height = area
    rows = -(-count // columns)
    found = []
    for row in range(rows):
        here = min(columns, count - row * columns)
        top = y + row * (height + gap) // rows
        bottom = y + (row + 1) * (height + gap) // rows - gap
        for column in range(here):
            left = x + column * (width + gap) // here
            right = x + (column + 1) * (width + gap) // here - gap
            found.append((left, top, max(1, right - left), max(1, bottom - top)))
    return found


def free_box(mask: Raster) -> Box | None:
    """Return the box around what a mask gives free (left, top, width, height), or None."""
    left, top, width, height = mask.find_trim(threshold=8, background=[255])
    return (left, top, width, height) if width and height else None


def inner_box(mask: Raster, steps: int = 48) -> Box:
    """Return the largest wholly free box of a mask (to a grid of `steps`): words go there."""
    columns, rows = min(steps, mask.width), min(steps, mask.height)
    small = mask.resize(columns / mask.width, vscale=rows / mask.height, kernel="linear")
    columns, rows = small.width, small.height
    data = bytes(small.cast("uchar").write_to_memory())
    best = (0.0, 0, 0, 0, 0)
    heights = [0] * columns
    for row in range(rows):
        heights = [heights[at] + 1 if data[row * columns + at] < 16 else 0 for at in range(columns)]
        for left in range(columns):
            low = heights[left]
            for right in range(left, columns):
                low = min(low, heights[right])
                if low == 0:
                    break
                area = float(low * (right - left + 1))
                if area > best[0]:
                    best = (area, left, row - low + 1, right - left + 1, low)
    _, left, top, across, high = best
    wide, tall = mask.width / columns, mask.height / rows
    return (round(left * wide), round(top * tall), int(across * wide), int(high * tall))
