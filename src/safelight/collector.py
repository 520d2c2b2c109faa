"""Python's collector of reference cycles, told how this program lives.

Owns its settings and nothing else. What a server has made by the time it listens (modules, routes,
configuration) it keeps until it ends, and nearly all that a request makes is freed by counting.
Left to itself the collector looks through the young objects at each 700 more, and through all at
each quarter more: a twentieth of an order's CPU, in pauses of tens of milliseconds.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_MAX: Final = 10_000
"""How many more objects are made than freed before the young ones are looked through. An order in
flight is some 150; a cycle that holds memory waits no longer than some hundred orders."""


def settle() -> None:
    """Leave out what is there now, from every later look, and look less often (gc.freeze)."""
    gc.collect()  # else garbage would stay too
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])
