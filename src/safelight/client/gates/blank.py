"""The gate `not-blank`: something is to be seen.

Owns the measure: how much the levels of the picture vary once fine noise is averaged away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.client.gates.pixels import BLACK, WHITE, flat, judged, small
from safelight.client.gates.verdict import Verdict

SPREAD_MIN = 2.0
"""Standard deviation, of 255. One flat colour has 0, with JPEG noise up to 0.5 once shrunk; a line
of text that covers a thousandth of a white page has 8."""

_LOOK = 256


@dataclass(frozen=True)
class NotBlank:
    """Pass pictures whose levels spread by at least `spread` of 255, in their liveliest channel.

    Measured at 256x256 pixels, so that grain does not count. Alpha is laid on white and on black,
    and the livelier counts: a white drawing on nothing is a picture, nothing at all is none.
    """

    spread: float = SPREAD_MIN
    name: str = "not-blank"

    def check(self, picture: Path) -> Verdict:
        """Shrink, measure and decide."""
        return judged(self.name, lambda: self._measured(picture))

    def _measured(self, picture: Path) -> Verdict:
        look = small(picture, _LOOK, _LOOK)
        grounds = (WHITE, BLACK) if look.hasalpha() else (WHITE,)
        spread = round(max(_spread(flat(look, ground)) for ground in grounds), 2)
        colour = _mean_colour(flat(look))
        passed = spread >= self.spread
        what = "" if passed else f"nothing but {colour}: "
        return Verdict(
            self.name,
            passed,
            f"{what}levels spread by {spread:.1f} of 255, at least {self.spread:g} wanted",
            {"spread": spread, "mean_colour": colour},
        )


def _spread(image: Any) -> float:
    return float(max(image[band].deviate() for band in range(image.bands)))


def _mean_colour(image: Any) -> str:
    return "#" + "".join(f"{round(image[band].avg()):02x}" for band in range(image.bands))
