"""Which marks the inputs of orders had when this process kept them.

Owns that memory, between the moment in which a caller's picture is kept and the transaction that
names it (`removals` says what a mark is).
"""

from __future__ import annotations

from collections import OrderedDict

MARKS_MAX = 10_000


class InputMarks:
    """Which marks the inputs had when this process kept them, for the newest ones."""

    def __init__(self) -> None:
        self._marks: OrderedDict[str, str] = OrderedDict()

    def note(self, digest: str, mark: str) -> None:
        """Remember a mark that was read before the bytes were kept."""
        self._marks[digest] = mark
        self._marks.move_to_end(digest)
        if len(self._marks) > MARKS_MAX:
            self._marks.popitem(last=False)

    def of(self, digest: str) -> str | None:
        """Return it, or None."""
        return self._marks.get(digest)
