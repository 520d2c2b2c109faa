"""The gate `white-background`: the picture's border is white.

Owns what the border is and what counts as white.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.client.gates.pixels import coloured, flat, judged, opened
from safelight.client.gates.verdict import Verdict

SHARE_MIN = 0.98
"""Share of the border that must be white."""

WHITE_MIN = 245
"""The lowest level of a white pixel's darkest channel: JPEG moves pure white by a few levels, and
the eye takes 245 beside 255 for white."""

BORDER = 0.02
"""The border's thickness, as a share of the shorter edge."""


@dataclass(frozen=True)
class WhiteBackground:
    """Pass pictures whose border is white for at least `share` of its pixels.

    The border is a frame of 2 % of the shorter edge (at least 4 pixels): what touches it is cut off
    or stands on no white ground. Transparent pixels count as white.

    Args:
        share: of the border that must be white, from 0 to 1.
        white: the lowest level, of 255, of a white pixel's darkest channel.
    """

    share: float = SHARE_MIN
    white: int = WHITE_MIN
    name: str = "white-background"

    def check(self, picture: Path) -> Verdict:
        """Measure the four strips of the border and decide."""
        return judged(self.name, lambda: self._measured(picture))

    def _measured(self, picture: Path) -> Verdict:
        image = flat(coloured(opened(picture))).copy_memory()
        strips = _strips(image)
        shares = {side: _white_share(strip, self.white) for side, strip in strips.items()}
        pixels = {side: strip.width * strip.height for side, strip in strips.items()}
        whole = sum(shares[side] * pixels[side] for side in strips) / sum(pixels.values())
        worst = min(shares, key=lambda side: shares[side])
        passed = whole >= self.share
        where = "" if passed else f", least at the {worst} ({shares[worst]:.1%})"
        return Verdict(
            self.name,
            passed,
            f"{whole:.1%} of the border is white{where}, at least {self.share:.1%} wanted",
            {"white_share": round(whole, 4), **{s: round(v, 4) for s, v in shares.items()}},
        )


def _strips(image: Any) -> dict[str, Any]:
    """Return the frame as four strips that do not overlap; a tiny picture is its own border."""
    wide, high = image.width, image.height
    thick = max(4, round(min(wide, high) * BORDER))
    if min(wide, high) <= 2 * thick:
        return {"middle": image}
    inner = high - 2 * thick
    return {
        "top": image.crop(0, 0, wide, thick),
        "bottom": image.crop(0, high - thick, wide, thick),
        "left": image.crop(0, thick, thick, inner),
        "right": image.crop(wide - thick, thick, thick, inner),
    }


def _white_share(strip: Any, white: int) -> float:
    mask = (strip >= white).bandand()
    return float(mask.avg()) / 255
