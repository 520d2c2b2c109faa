"""In which order the workers of one run take the tests, so that they end together.

Owns the order alone. Each worker begins with an equal part of the tests in a row and takes from the
others' ends when it is done (`--dist worksteal`): what takes long must not stand at an end. A
module's tests stay together, with the fixtures that they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TypeVar

T = TypeVar("T")

LONG = (
    "tests/simulation/",
    "tests/browser/",
    "tests/e2e/",
    "tests/hostile/test_openapi.py",
    "tests/hostile/test_slow.py",
    "tests/integrations/",
)
"""What takes long, by the beginnings of names, the longest first."""
APART = "tests/simulation/"
"""Tests that share nothing: each is dealt for itself."""


def in_order(tests: Sequence[T], name_of: Callable[[T], str], workers: int) -> list[T]:
    """Return the tests in the order in which they are given to workers.

    Args:
        tests: in any order.
        name_of: gives a test's name, `path::test`.
        workers: how many there are, at least one.
    """
    long: list[list[T]] = []
    for beginning in LONG:
        found = [test for test in tests if name_of(test).startswith(beginning)]
        whole = name_of if beginning == APART else lambda test: name_of(test).partition("::")[0]
        long += [list(group) for _, group in groupby(found, key=whole)]
    dealt = [_flat(long[first::workers]) for first in range(workers)]
    rest = [test for test in tests if not name_of(test).startswith(LONG)]
    ordered: list[T] = []
    for left, share in zip(range(workers, 0, -1), dealt, strict=True):
        # As pytest-xdist cuts them: what is left, by the workers that have none yet.
        size = (len(tests) - len(ordered)) // left
        short = max(0, size - len(share))
        ordered += share + rest[:short]
        del rest[:short]
    return ordered + rest


def _flat(groups: Iterable[list[T]]) -> list[T]:
    return [test for group in groups for test in group]
