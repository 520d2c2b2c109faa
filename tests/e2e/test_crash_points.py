"""Dying at each named point ends as the table in docs/ledger.md says, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.crash_points import EXPECTED, Bench, bench
from e2e.crashing import POINTS
from e2e.databases import environ_of

TIMES = 20
ALSO_ON_POSTGRES = ("K0", "K6", "K9", "release")
"""Those inside a transaction; the campaign plays all."""


def test_every_point_has_its_expected_end() -> None:
    assert POINTS.keys() == EXPECTED.keys()


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One gateway for all points: what one death leaves behind, the next one meets."""
    with bench(tmp_path_factory.mktemp("points")) as made:
        yield made


@pytest.mark.parametrize("point", POINTS)
def test_dying_once(crashing: Bench, point: str) -> None:
    """Half of the points are repeated by Idempotency-Key, the others by retry count."""
    crashing.crash(point, with_key=list(POINTS).index(point) % 2 == 0)


def test_dying_once_on_postgres(tmp_path: Path, postgres_url: str) -> None:
    with bench(tmp_path, environ_of(postgres_url)) as made:
        for number, point in enumerate(ALSO_ON_POSTGRES):
            made.crash(point, with_key=number % 2 == 1)


@pytest.mark.campaign
@pytest.mark.parametrize("point", POINTS)
def test_dying_twenty_times(tmp_path: Path, database_url: str, point: str) -> None:
    with bench(tmp_path, environ_of(database_url)) as made:
        seconds = [made.crash(point, with_key=number % 2 == 0) for number in range(TIMES)]
    print(f"{point}: {TIMES} times as expected, {sum(seconds):.0f} s; {POINTS[point]}")
