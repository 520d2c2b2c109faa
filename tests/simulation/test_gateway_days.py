"""Days of the whole gateway in virtual time: whatever fails, money, pictures and clients agree.

What must hold is written down in `witness.py`, what may fail in `weather.py`. A seed that breaks a
rule is replayed by the command that the failure names.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from simulation.gateway import JOBS, Report, simulate

TESTS = Path(__file__).resolve().parents[1]
DEFAULT = range(1, 51)
SHARE = 10
"""Seeds of one test: the tests of one run are shared out over the cores."""
CAMPAIGN = range(51, 1051)
REPLAY = "PYTHONPATH=tests python -m simulation.gateway --seed {seed} --trace"
FAULTS = ("kill", "freeze", "drain", "clock-jump")
"""Events that the summary counts as faults beside those of the vendor's answers."""


@pytest.mark.parametrize("first", DEFAULT[::SHARE])
def test_no_fault_costs_anybody_money_or_a_picture(first: int) -> None:
    """50 seeds of 500 jobs."""
    summarise([simulate(seed) for seed in range(first, first + SHARE)])


@pytest.mark.campaign
def test_a_thousand_days_cost_nobody_money_or_a_picture() -> None:
    """1,000 more seeds."""
    began = time.monotonic()
    reports = play(CAMPAIGN)
    print(f"\n{summarise(reports)} in {time.monotonic() - began:.0f} s")


def test_a_seed_replays_identically_in_another_process_with_other_hashes() -> None:
    """Every event at the same virtual microsecond, whatever order sets have."""
    ends = [replay(seed=2, hash_seed=hash_seed) for hash_seed in ("1", "2")]
    assert ends[0] == ends[1]
    assert "kill" in ends[0]


def replay(*, seed: int, hash_seed: str) -> str:
    """Return what another process says of a seed, the digest of its trace among it."""
    done = subprocess.run(
        [sys.executable, "-m", "simulation.gateway", "--seed", str(seed), "--jobs", "150"],
        env={**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def play(seeds: Iterable[int]) -> list[Report]:
    """Play many seeds, on all cores."""
    # Workers are replaced now and then: what libraries keep of a run is then given back.
    # Not ProcessPoolExecutor: with max_tasks_per_child it stops for ever (CPython issue 115634).
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(os.cpu_count(), maxtasksperchild=50) as pool:
        reports = []
        for report in pool.imap(simulate, seeds):
            reports.append(report)
            if report.wrong:
                break  # hours of it need not be waited for
            if len(reports) % 100 == 0:
                print(f"\n{len(reports)} days", end="", flush=True)
        return reports


def summarise(reports: list[Report]) -> str:
    """Return how much was played; fail, with the way to replay, where a rule was broken."""
    counts: Counter[str] = Counter()
    for report in reports:
        counts.update(report.counts)
    broken = [
        "\n".join([f"{REPLAY.format(seed=report.seed)}   # {report.weather}", *report.wrong[:5]])
        for report in reports
        if report.wrong
    ]
    assert not broken, "\n\n".join(broken)
    assert all(report.jobs >= JOBS for report in reports)
    assert counts["kill"] > len(reports)
    assert counts["sale"] > 0.5 * JOBS * len(reports)
    struck = sum(counts[fault] for fault in FAULTS)
    return (
        f"{len(reports)} seeds, {sum(report.jobs for report in reports)} jobs, "
        f"{counts['call']} calls, {counts['sale']} sales, {counts['kill']} ends of processes, "
        f"{struck} strokes, {sum(report.hours for report in reports):.0f} virtual hours"
    )
