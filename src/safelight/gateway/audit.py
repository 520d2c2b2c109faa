"""The witness for tests and one-transaction looks: all that a verification says of the database.

The whole, blobs and live installations included, is the package `verification`.
"""

from __future__ import annotations

from safelight.db import Transaction
from safelight.gateway.verification import verify_all


def audit(tx: Transaction) -> list[str]:
    """Return every contradiction found, in words; empty means sound."""
    return [str(one) for one in verify_all(tx)]
