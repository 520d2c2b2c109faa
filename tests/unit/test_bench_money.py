"""`safelight bench money` on a small scale: what it counts, and that it looks before it reports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safelight.bench.errors import BenchError
from safelight.bench.money import Plan, run
from safelight.cli import main


async def test_with_shared_commits_every_waiter_is_in_every_commit() -> None:
    report = await run(Plan(waiters=16, pairs=160, rounds=2), lambda _: None)
    shared, single = report.ways
    assert shared.pairs == single.pairs == 320
    assert shared.pairs_per_commit == pytest.approx(8, rel=0.2)
    assert single.pairs_per_commit == 0.5
    assert report.ratio_lowest <= report.ratio <= report.ratio_highest


async def test_a_database_with_customers_is_not_measured(postgres_url: str) -> None:
    plan = Plan(waiters=2, pairs=4, rounds=1, postgres=postgres_url)
    with pytest.raises(BenchError, match="fsync is off"):
        await run(plan, lambda _: None)
    with pytest.raises(BenchError, match="has customers"):
        await run(plan, lambda _: None)


def test_the_command_writes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    command = ["bench", "money", "--waiters", "4", "--pairs", "8", "--rounds", "1"]
    assert main([*command, "--out", str(out)]) == 0
    assert "one commit for all who wait" in capsys.readouterr().out
    assert [way["pairs"] for way in json.loads(out.read_text())["ways"]] == [8, 8]


@pytest.mark.campaign
async def test_shared_commits_move_five_times_as_much() -> None:
    report = await run(Plan(), lambda _: None)
    assert report.ratio >= 5
