"""What an answer tells about limits, good answers and refusals alike: data only.

An upstream's answers tell of its limits, ours of those of the caller's key.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class LimitNotice(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer's headers said about one limit of its group.

    `limit` is per minute, `reset_s` seconds until the whole limit is free again; None where the
    answer was silent.
    """

    unit: Literal["images", "input-images", "requests"]
    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None
