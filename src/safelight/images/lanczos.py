"""Lanczos3 resampling, up and down, made of libvips operations.

Why not `vips_resize`: it reduces with the kernel it is asked for, but enlarges bicubically and
(libvips 8.18) moves the content by half a pixel of the result, which shows when a resampled
picture is laid over its original or a mask.

An axis that grows is first doubled with the Lanczos3 kernel at its two exact phases, then reduced
with the same kernel to the length wanted. The doubled picture holds all that the original holds, so
the second step only chooses where to sample. Source of the kernel: Duchon, "Lanczos Filtering in
One and Two Dimensions", Journal of Applied Meteorology 18 (1979). Pixel centres are at half
coordinates.
"""

from __future__ import annotations

import math

import pyvips

_LOBES = 3
_TILE = 64
"""Side of the mask that is repeated over the picture; a multiple of 2."""


def resample(image: pyvips.Image, width: int, height: int) -> pyvips.Image:
    """Return `image` with exactly `width` x `height` pixels, in its own sample format.

    Transparent pixels lend their neighbours no colour (alpha is premultiplied meanwhile). Nothing
    is computed until the result is read, and then in strips: memory stays bounded.
    """
    samples = image.format
    has_alpha = image.hasalpha()
    if has_alpha:
        image = image.premultiply()
    # Rows first: what the second step asks for again is then short columns, not whole rows.
    image = _resample_axis(image, height, vertical=True)
    image = _resample_axis(image, width, vertical=False)
    if has_alpha:
        image = image.unpremultiply()
    return image.rint().cast(samples)


def _resample_axis(image: pyvips.Image, length: int, *, vertical: bool) -> pyvips.Image:
    if (image.height if vertical else image.width) == length:
        return image
    while (image.height if vertical else image.width) < length:
        image = _double(image, vertical=vertical)
    if vertical:
        return image.reducev(image.height / length, kernel="lanczos3")
    return image.reduceh(image.width / length, kernel="lanczos3")


def _double(image: pyvips.Image, *, vertical: bool) -> pyvips.Image:
    """Return `image` with twice the pixels along one axis.

    The pixel pair made of pixel i lies a quarter before and a quarter after it; each half is one
    convolution, and the two are interleaved.
    """
    across, down = (1, 2) if vertical else (2, 1)
    before = image.conv(_kernel(0.25, vertical=vertical), precision="float").zoom(across, down)
    after = image.conv(_kernel(-0.25, vertical=vertical), precision="float").zoom(across, down)
    second = _stripes(before.width, before.height, vertical=vertical)
    return second.ifthenelse(after, before)


def _kernel(shift: float, *, vertical: bool) -> pyvips.Image:
    """Return Lanczos3 weights around a pixel, `shift` pixels off its centre; their sum is 1."""
    weights = [_lanczos(tap + shift) for tap in range(-_LOBES, _LOBES + 1)]
    total = math.fsum(weights)
    row = [weight / total for weight in weights]
    return pyvips.Image.new_from_array([[weight] for weight in row] if vertical else [row])


def _lanczos(x: float) -> float:
    if x == 0:
        return 1.0
    if abs(x) >= _LOBES:
        return 0.0
    angle = math.pi * x
    return _LOBES * math.sin(angle) * math.sin(angle / _LOBES) / angle**2


def _stripes(width: int, height: int, *, vertical: bool) -> pyvips.Image:
    """Return a mask that is set on every second row (vertical) or column, from index 1."""
    first = pyvips.Image.black(1, 1)
    pair = first.join(first.invert(), "vertical" if vertical else "horizontal")
    tile = pair.replicate(_TILE // pair.width, _TILE // pair.height).copy_memory()
    # A tile of some size keeps libvips from walking the picture pair by pair: 30 times faster.
    return tile.replicate(-(-width // _TILE), -(-height // _TILE)).crop(0, 0, width, height)
