"""One Idempotency-Key is one sale, one charge and one picture, however often it is posted."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import storm
from e2e.databases import environ_of


def test_ten_posts_at_once_under_each_of_twenty_keys(tmp_path: Path, database_url: str) -> None:
    """To two processes on one database in turn."""
    environ = environ_of(database_url)
    report = storm.run(tmp_path, keys=20, posts=10, processes=2, environ=environ)
    assert report.sales == report.charges == 20


@pytest.mark.campaign
@pytest.mark.parametrize("processes", [1, 2])
def test_twenty_posts_at_once_under_each_of_a_hundred_keys(
    tmp_path: Path, database_url: str, processes: int
) -> None:
    environ = environ_of(database_url)
    report = storm.run(tmp_path, keys=100, posts=20, processes=processes, environ=environ)
    print(f"{'Postgres' if database_url else 'SQLite'}: {report}")
    assert report.sales == report.charges == 100
