"""`safelight bench growth`: its arithmetic, its picture, and the whole course on a small scale."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safelight.bench.growth.plot import svg
from safelight.bench.growth.report import GrowthReport, curve
from safelight.bench.growth.run import Plan, run
from safelight.bench.result import Machine
from safelight.cli import main

SIZES = (10, 100, 1000)


def report(*rounds: tuple[float, ...]) -> GrowthReport:
    machine = Machine(system="Linux", processor="x", cpus=2, python="3")
    made = curve("jobs", "a verb", SIZES, rounds, [20, 30, 40])
    return GrowthReport(
        version="1", machine=machine, rounds=len(rounds), took_s=1.0, curves=(made,), starts=()
    )


def test_growth_is_the_median_of_the_ratios_within_each_round() -> None:
    """A machine that is busy in one round makes that round dear, and not the growth."""
    (made,) = report((1.0, 1.5, 2.0), (10.0, 15.0, 20.0), (1.0, 1.0, 9.0)).curves
    assert [point.ratio for point in made.points] == [1.0, 1.5, 2.0]
    assert made.growth == 2.0
    assert made.exponent == pytest.approx(0.1505, abs=1e-4)
    assert made.steps_growth == 2.0


def test_what_costs_over_three_times_as_much_breaks_the_bar() -> None:
    assert report((1.0, 2.0, 3.0)).failed == ()
    assert [one.verb for one in report((1.0, 2.0, 3.1)).failed] == ["a verb"]


def test_the_picture_has_a_line_for_each_verb_and_names_every_size() -> None:
    drawn = svg(report((1.0, 1.5, 2.0)))
    assert drawn.count("<polyline") == 1
    assert all(f">{size:,}<" in drawn for size in SIZES)
    assert "a verb (2.00)" in drawn


@pytest.mark.campaign
async def test_every_axis_is_measured_on_every_size() -> None:
    plan = Plan(
        jobs=(600, 3000), customers=(10, 50), accounts=(1, 10, 500), queued=(10, 500), rounds=2
    )
    made = await run(plan, lambda _: None)
    assert {one.axis for one in made.curves} == {
        "accounts",
        "customers",
        "jobs",
        "jobs, and accounts with them",
        "queued jobs",
    }
    assert [start.jobs for start in made.starts] == [600, 3000]
    assert [one.verb for one in made.curves if (one.steps_growth or 1) > 60] == []


@pytest.mark.campaign
def test_the_command_writes_its_report_and_its_picture(tmp_path: Path) -> None:
    command = ["bench", "growth", "--jobs", "10000", "--rounds", "1"]
    code = main([*command, "--out", str(tmp_path / "r.json"), "--plots", str(tmp_path / "p")])
    assert code in (0, 1)
    assert (tmp_path / "p" / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "r.json").read_text())["curves"]) > 40
