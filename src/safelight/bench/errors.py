"""How a bench ends without a result."""

from __future__ import annotations


class BenchError(Exception):
    """The bench cannot measure, or what it measured would not be true; the message says why."""
