"""Killing the real process loses nothing and charges nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import crash


def test_a_few_kills_under_load(tmp_path: Path) -> None:
    report = crash.run(tmp_path, kills=4, orders=40, seed=1)
    assert report.kills == 4


@pytest.mark.campaign
def test_thirty_kills_during_three_hundred_orders(tmp_path: Path) -> None:
    report = crash.run(tmp_path, kills=30, orders=300, seed=2)
    print(report)
    assert report.kills == 30
