"""What the environment of a process says about its database."""

from __future__ import annotations

from safelight.db.address import VARIABLE


def environ_of(url: str) -> dict[str, str]:
    """Return the environment for a database; an empty address is the file in the data folder."""
    return {VARIABLE: url} if url else {}
