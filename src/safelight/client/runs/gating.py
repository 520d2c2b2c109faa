"""Gates of a plan: made of their text, one memory for the whole run.

Owns how a gate's text is split, and how names of sizes become pixels. What gates there are, and
what their values mean, is `gates`' business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from safelight.client.answers import ChannelSizes
from safelight.client.gates import Gate, gate
from safelight.client.orders import Order


class GateMaker:
    """Makes the gates of one run.

    Args:
        pixels: by a size's name, such as `16:9@2K`, what it is in pixels: `2048x1152`.
    """

    def __init__(self, pixels: Mapping[str, str] | None = None) -> None:
        self._pixels = dict(pixels or {})
        self._shared: dict[str, Gate] = {}

    def __call__(self, spec: str, order: Order) -> Gate:
        """Return the gate of `name` or `name=value` for an order.

        Raises:
            BadGate: it cannot be made; the message says how to write it.
            ReaderMissing: it needs packages that are not installed.
        """
        name, _, value = spec.partition("=")
        wanted = None if order.size == "auto" else order.size
        if wanted is not None:
            wanted = self._pixels.get(wanted.lower(), wanted)
        return gate(name.strip(), value.strip() or None, wanted=wanted, shared=self._shared)


def pixels_of(channels: Iterable[ChannelSizes]) -> dict[str, str]:
    """Return the pixels of sizes that are named by ratio and tier, such as `16:9@2k`."""
    return {
        f"{size.ratio}@{size.tier}".lower(): f"{size.width}x{size.height}"
        for channel in channels
        for size in channel.sizes
    }
