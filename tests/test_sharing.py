"""The order of a run gives every worker the long tests first, and loses none."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sharing import LONG, in_order

TESTS = [
    *(f"tests/api/test_wire.py::test_{number}" for number in range(30)),
    *(f"tests/e2e/test_{name}.py::test_{number}" for name in "abcdef" for number in (1, 2)),
    *(f"tests/simulation/test_days.py::test[{number}]" for number in range(4)),
    *(f"tests/unit/test_pool.py::test_{number}" for number in range(55)),
]


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 64])
def test_every_test_is_run_once(workers: int) -> None:
    assert sorted(in_order(TESTS, str, workers)) == sorted(TESTS)


@pytest.mark.parametrize("workers", [2, 3])
def test_each_workers_part_begins_with_long_tests_and_ends_with_short_ones(workers: int) -> None:
    ordered, begins = in_order(TESTS, str, workers), 0
    for left in range(workers, 0, -1):
        part = ordered[begins : begins + (len(ordered) - begins) // left]
        begins += len(part)
        long = [test.startswith(LONG) for test in part]
        assert long == sorted(long, reverse=True)
        assert abs(sum(long) - 16 / workers) < 2
        assert not long[-1]


def test_a_modules_tests_stay_together() -> None:
    modules = [test.partition("::")[0] for test in in_order(TESTS, str, 3) if "/e2e/" in test]
    assert len([1 for one, other in pairwise(modules) if one != other]) == 5
