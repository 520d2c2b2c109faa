"""Pictures: what a file is, whether it is whole, and new pixels where a size plan needs them.

Owns the structure checks of PNG, JPEG and WebP (no pixel is decoded for them) and the bounded pool
in which libvips crops, resamples and re-encodes. Knows nothing of jobs, upstreams or storage.

A picture that is delivered as it came is verified by structure, dimensions and checksums only; its
bytes are never changed. `render` is for the rest: see `needs_pixels`.
"""

from __future__ import annotations

from safelight.images.pixels import BadPicture, PixelWorker, Proof, needs_pixels
from safelight.images.reading import Probe
from safelight.images.signing import signed
from safelight.images.structure import (
    MAX_PIXELS,
    MAX_SIDE,
    InputProof,
    describe,
    describe_input,
    probe,
    verify,
)

__all__ = [
    "MAX_PIXELS",
    "MAX_SIDE",
    "BadPicture",
    "InputProof",
    "PixelWorker",
    "Probe",
    "Proof",
    "describe",
    "describe_input",
    "needs_pixels",
    "probe",
    "signed",
    "verify",
]
