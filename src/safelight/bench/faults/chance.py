"""Numbers drawn by seed: the same seed, purpose and request number give the same draw."""

from __future__ import annotations

import hashlib

_SPAN = 1 << 64


def uniform(seed: int, purpose: str, number: int) -> float:
    """Return a number between 0 and 1, neither included."""
    digest = hashlib.blake2b(f"{seed}:{purpose}:{number}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 0.5) / _SPAN
