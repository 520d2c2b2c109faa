"""The gate `size`: the file has exactly the pixels that were asked for.

Owns the comparison; reads the header only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safelight.client.gates.pixels import judged, opened
from safelight.client.gates.verdict import Verdict


@dataclass(frozen=True)
class Size:
    """Pass pictures of exactly `width` x `height` pixels, as they are stored."""

    width: int
    height: int
    name: str = "size"

    def check(self, picture: Path) -> Verdict:
        """Read the header and compare."""
        return judged(self.name, lambda: self._measured(picture))

    def _measured(self, picture: Path) -> Verdict:
        image = opened(picture)
        passed = (image.width, image.height) == (self.width, self.height)
        wanted = "as wanted" if passed else f"{self.width}x{self.height} wanted"
        return Verdict(
            self.name,
            passed,
            f"{image.width}x{image.height} pixels, {wanted}",
            {"width": image.width, "height": image.height},
        )
