"""`safelight bench workers`: processes are bounded alone, and the books are looked at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safelight.bench.errors import BenchError
from safelight.bench.fences import Fences
from safelight.bench.workers import Plan, run
from safelight.cli import main


def test_each_process_gets_a_group_of_its_own(tmp_path: Path) -> None:
    """As version 2 of control groups has it; a plain folder keeps what is written."""
    fences = Fences(0.25, tmp_path)
    fences.fence(11)
    fences.fence(12)
    groups = sorted(tmp_path.iterdir())
    assert [(one / "cgroup.procs").read_text() for one in groups] == ["11", "12"]
    assert [(one / "cpu.max").read_text() for one in groups] == ["2500 10000"] * 2


def test_groups_are_removed_at_the_end(tmp_path: Path) -> None:
    """The kernel's folders are empty for rmdir; here the files are taken out by hand."""
    fences = Fences(0.5, tmp_path)
    with fences.standing():
        fences.fence(os.getpid())
        (group,) = tmp_path.iterdir()
        for file in group.iterdir():
            file.unlink()
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_bounded_nothing_is_measured(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="run it as root"):
        Fences(0.5, tmp_path / "none").fence(os.getpid())


def test_a_workload_that_is_no_stream_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "workers", "--workload", "waiting"]) == 2
    assert "no stream of orders" in capsys.readouterr().err


@pytest.mark.campaign
async def test_two_processes_share_orders_and_books(tmp_path: Path) -> None:
    """Without the kernel's bound, which is not ours to test; every order is charged once."""
    plan = Plan(workload="1kb", rounds=1, turn_s=1.0, clients=8, fences=Fences(0.5, tmp_path))
    report = await run(plan, lambda _: None)
    assert [one.workers for one in report.servers] == [1, 2]
    assert all(one.orders > 8 for one in report.servers)
    assert len(list(tmp_path.iterdir())) == 3
