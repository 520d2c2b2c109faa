"""What happened in a run, in order: two runs of one seed have the same digest.

Owns the events and their digest; decides nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter


class Trace:
    """Events with their virtual times.

    Args:
        show: whether to print each event as it happens.
    """

    def __init__(self, *, show: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        """How often each kind of event happened."""
        self.wrong: list[str] = []
        """What must not have happened."""
        self.closed = False
        """Whether the run is over; what its remains still do is no part of it."""
        self._show = show
        self._hash = hashlib.sha256()

    def note(self, kind: str, *facts: object) -> None:
        """Note an event."""
        if self.closed:
            return
        self.counts[kind] += 1
        line = f"{asyncio.get_running_loop().time():.6f} {kind} {' '.join(map(str, facts))}"
        self._hash.update(line.encode() + b"\n")
        if self._show:
            print(line)

    def blame(self, fault: str) -> None:
        """Note that a rule is broken."""
        if not self.closed:
            self.note("wrong", fault)
            self.wrong.append(fault)

    @property
    def digest(self) -> str:
        """The SHA-256 of all events so far."""
        return self._hash.hexdigest()
