"""Pictures for tests of inputs: a photo-like one, and how alike two pictures are.

Owns no files. Likeness is computed with libvips itself, on luminance.
"""

from __future__ import annotations

import math
from typing import Any

import pyvips


def photo(width: int, height: int, *, seed: int = 7) -> Any:
    """Return an sRGB picture with the spectrum of a photograph: detail at every scale.

    Octaves of noise whose strength grows with their size (natural images fall off as 1/f), over a
    bright-to-dark sweep, with soft colours and a hard edge.
    """
    grey = pyvips.Image.xyz(width, height)[0] * (90 / max(width, height)) + 60
    for octave, scale in enumerate((1, 4, 16, 64)):
        grey = grey + _noise(width, height, scale, 3.5 * scale**0.45, seed * 100 + octave)
    grey = grey.copy_memory()
    colours = [grey + _noise(width, height, 256, 40, seed * 100 + 10 + band) for band in range(3)]
    edges = pyvips.Image.black(width, height).draw_circle(
        40, width // 2, height // 2, min(width, height) // 4, fill=True
    )
    picture = colours[0].bandjoin(colours[1:]) + edges
    return picture.cast("uchar").copy(interpretation="srgb")


def _noise(width: int, height: int, scale: int, sigma: float, seed: int) -> Any:
    """Return noise whose grains are `scale` pixels wide; mirrored from a tile, for speed."""
    tile = pyvips.Image.gaussnoise(384, 384, sigma=sigma, mean=0, seed=seed)
    across, down = min(width, 384 * scale), min(height, 384 * scale)
    large = tile.crop(0, 0, math.ceil(across / scale), math.ceil(down / scale))
    large = large.resize(scale, kernel="linear").copy_memory()
    return large.embed(0, 0, width, height, extend="mirror")


def _grey(image: Any) -> Any:
    return image.flatten().colourspace("b-w").cast("float") if image.bands > 1 else image


def psnr_db(one: Any, other: Any) -> float:
    """Return the peak signal-to-noise ratio in decibels; infinity for equal pictures."""
    error = ((_grey(one) - _grey(other)) ** 2).avg()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(one: Any, other: Any) -> float:
    """Return the mean structural similarity (Wang et al. 2004; Gaussian window, sigma 1.5)."""
    x, y = _grey(one), _grey(other)
    mean_x, mean_y = x.gaussblur(1.5), y.gaussblur(1.5)
    var_x = (x * x).gaussblur(1.5) - mean_x * mean_x
    var_y = (y * y).gaussblur(1.5) - mean_y * mean_y
    both = (x * y).gaussblur(1.5) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (mean_x * mean_y * 2 + c1) * (both * 2 + c2)
    bottom = (mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2)
    return float((top / bottom).avg())
