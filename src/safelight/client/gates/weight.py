"""The gate `weight`: the file is no heavier than allowed.

Owns the comparison and how weights are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safelight.client.gates.verdict import Verdict


def weight(size_bytes: int) -> str:
    """Return a number of bytes as people read it: `2.41 MB` (decimal)."""
    if size_bytes >= 1_000_000:
        return f"{size_bytes / 1_000_000:.2f} MB"
    return f"{size_bytes / 1000:.1f} kB" if size_bytes >= 1000 else f"{size_bytes} bytes"


@dataclass(frozen=True)
class Weight:
    """Pass files of at most `max_bytes`."""

    max_bytes: int
    name: str = "weight"

    def check(self, picture: Path) -> Verdict:
        """Look up the file's length."""
        try:
            size_bytes = picture.stat().st_size
        except OSError as error:
            return Verdict(self.name, passed=False, reason=f"cannot be read: {error.strerror}")
        return Verdict(
            self.name,
            size_bytes <= self.max_bytes,
            f"{weight(size_bytes)}, at most {weight(self.max_bytes)} wanted",
            {"bytes": size_bytes},
        )
