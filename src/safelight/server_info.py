"""What a started server says of itself: to its operator, or to the process that started it.

Owns the shape alone. Knows nothing of how a server starts.
"""

from __future__ import annotations

import msgspec

from safelight.types import Micros


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a started server is; `first_key` only on the first start of a data folder."""

    url: str
    first_key: str | None
    customer: str | None
    credit_micros: Micros
    channels: tuple[str, ...]
    accounts: tuple[str, ...]
    recovered_jobs: int
    operated: bool = True
    """Whether anybody has an admin key."""
    warnings: tuple[str, ...] = ()
