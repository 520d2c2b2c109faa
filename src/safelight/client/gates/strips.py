"""Strips of text made ready for a reader that wants dark letters on white.

Owns the separation of ink and ground, and the strip's height and border. Searches nothing, reads
nothing.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_WIDTH_MAX = 4000
"""Pixels; a line of sixty letters has half of it."""


def strip(crop: NDArray[np.uint8], height: int) -> bytes:
    """Return a line that was cut out of a picture as a binary greymap (PGM, `P5`).

    Args:
        crop: the line in colour, of any colours.
        height: pixels between the borders, which are a quarter of it.
    """
    grey = _ink(crop)
    width = round(grey.shape[1] * height / grey.shape[0])
    smaller = height < grey.shape[0]
    grey = np.asarray(
        cv2.resize(
            grey,
            (max(1, min(width, _WIDTH_MAX)), height),
            interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC,
        ),
        dtype=np.uint8,
    )
    grey = np.pad(grey, height // 4, constant_values=255)
    return b"P5 %d %d 255\n" % (grey.shape[1], grey.shape[0]) + grey.tobytes()


def _ink(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the crop as grey: 255 where it has the ground's colour, 0 where it has the ink's.

    The ground is what the upper and lower edges have most; the ink, what is farther from it than
    Otsu's threshold. Between the two means a pixel counts by its projection, so that red letters
    on green of the same lightness are as black as others.
    """
    pixels = crop.reshape(-1, 3).astype(np.float32)
    ground = np.median(np.concatenate([crop[0], crop[-1]]), axis=0)
    far = np.clip(np.linalg.norm(pixels - ground, axis=1), 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(far.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    inked = far > threshold
    if not inked.any() or inked.all():
        return np.full(crop.shape[:2], 255, dtype=np.uint8)
    paper = pixels[~inked].mean(axis=0)
    across = pixels[inked].mean(axis=0) - paper
    share = (pixels - paper) @ across / max(float(across @ across), 1e-6)
    grey: NDArray[np.uint8] = (255 - 255 * np.clip(share, 0, 1)).astype(np.uint8)
    return grey.reshape(crop.shape[:2])
