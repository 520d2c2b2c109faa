"""Long runs: a thousand pictures through faults and `kill -9`, and a forecast held against a clock.

Only by `make campaign`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from e2e.process import GatewayProcess, accounts
from runs.house import House, Site, manifest, manifest_lines, pause
from safelight.bench.faults.server import FaultUpstream
from safelight.client.runs.folder import JOURNAL

pytestmark = pytest.mark.campaign

ITEMS = 1000
KILLS = 10
FAULTS = {
    "mix": {
        "500": 0.04,
        "reset": 0.02,
        "html": 0.01,
        "corrupt": 0.01,
        "wrong_size": 0.01,
        "error_200": 0.01,
    },
    "seed": 7,
}
"""One request in ten fails. None is a 429: from these the pool would learn to go slower."""


@contextmanager
def house_of(
    folder: Path, upstream: FaultUpstream, *, count: int = 1, rate: int | None = None
) -> Iterator[House]:
    """Yield a gateway over that upstream, and its one customer."""
    limit = {} if rate is None else {"images_per_minute": rate}
    config = '[billing]\nfirst_credit = "1000.00"\n' + accounts(upstream.base_url, count, **limit)
    with GatewayProcess(folder / "gateway", config) as gateway:
        site = Site(gateway, upstream)
        yield House(site, folder, site.first_key)


def ended(house: House, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `safelight run` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "safelight", "run", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **house.own_environ},
        cwd=house.folder,
        check=False,
    )


def test_a_thousand_pictures_through_faults_and_kills(tmp_path: Path) -> None:
    """Killed ten times at random and resumed: 1,000 pictures, 1,000 charges, one for one."""
    rows = "".join(f"lamp number {n},lamps/{n:04d}\n" for n in range(ITEMS))
    (tmp_path / "lamps.csv").write_text("prompt,out\n" + rows)
    words = ["lamps.csv", "--size", "1024x1024", "--yes", "--concurrency", "16", "--gate", "size"]
    chance = random.Random(20261123)
    marks = sorted(chance.sample(range(20, ITEMS - 50), KILLS))
    with (
        FaultUpstream.in_thread(FAULTS, latency_s=0.1) as upstream,
        house_of(tmp_path, upstream, count=3) as house,
    ):
        out = tmp_path / "lamps"
        for number, mark in enumerate(marks, 1):
            with house.started(*words) as started:
                wait_until(partial(far_enough, house, out, number, mark), started)
                time_of_death(chance)
                started.kill()
            assert started.returncode == -9
        done = ended(house, *words, "--json")
        assert done.returncode == 0, done.stderr[-3000:]
        assert house.agree(out) == ITEMS
        told, lines = manifest(out), manifest_lines(out)
        assert told["counts"]["accepted"] == ITEMS
        assert told["starts"] == KILLS + 1
        assert told["cost_micros"] == ITEMS * 30_000
        assert len(list((out / "lamps").glob("*.png"))) == ITEMS
        assert {row["state"] for row in lines} == {"accepted"}
        print(json.dumps({**told["figures"], "sold": house.sold, "asked": len(house.asked)}))
        house.site.gateway.command("verify", "--blobs", "none")


def wait_until(holds: Callable[[], bool], started: subprocess.Popen[str]) -> None:
    """Wait until something holds; fail if the run ends before."""
    while not holds():
        assert started.poll() is None, started.communicate()[1][-3000:]
        pause(0.005)


def far_enough(house: House, out: Path, starts: int, sold: int) -> bool:
    """Whether so many starts have begun by the journal, and so many pictures were sold."""
    journal = out / JOURNAL
    return (
        house.sold >= sold
        and journal.exists()
        and journal.read_text().count('"what":"start"') == starts
    )


def time_of_death(chance: random.Random) -> None:
    """Let a random part of a tenth of a second pass."""
    pause(chance.uniform(0, 0.1))


@pytest.mark.parametrize(
    ("rate", "latency_s", "count"), [(240, 3.0, 400), (120, 6.0, 90), (None, 2.0, 120)]
)
def test_a_forecast_is_exact_in_cost_and_within_a_fifth_in_time(
    tmp_path: Path, rate: int | None, latency_s: float, count: int
) -> None:
    """On a steady pool whose pictures have been measured: limited by its rate, or by the width."""
    with (
        FaultUpstream.in_thread("ok", latency_s=latency_s) as upstream,
        house_of(tmp_path, upstream, rate=rate) as house,
    ):
        (tmp_path / "warm.csv").write_text("prompt\n" + "a lamp\n" * 6)
        (tmp_path / "rows.csv").write_text("prompt\n" + "a chair\n" * count)
        size = ("--size", "1024x1024", "--yes", "--json")
        assert ended(house, "warm.csv", *size).returncode == 0
        dry = json.loads(ended(house, "rows.csv", *size, "--dry-run").stdout)
        began = time.monotonic()
        done = ended(house, "rows.csv", *size)
        took_s = time.monotonic() - began
        assert done.returncode == 0, done.stderr[-2000:]
        told = json.loads(done.stdout)["forecast"]
        spent = sum(amount for amount, _ in house.charges().values())
        assert told["cost_micros"] == dry["cost_micros"] == count * 30_000
        assert spent == (count + 6) * 30_000
        print(json.dumps({"limit": told["limit"], "told_s": told["seconds"], "took_s": took_s}))
        assert took_s == pytest.approx(told["seconds"], rel=0.2)


def test_a_gateway_that_dies_is_waited_for(tmp_path: Path) -> None:
    """Killed and started again three times under a run, which ends as if nothing had been."""
    count = 300
    (tmp_path / "lamps.csv").write_text(
        "prompt\n" + "".join(f"lamp number {n}\n" for n in range(count))
    )
    words = ["lamps.csv", "--size", "1024x1024", "--yes", "--concurrency", "8", "--json"]
    with (
        FaultUpstream.in_thread("ok", latency_s=0.2) as upstream,
        house_of(tmp_path, upstream) as house,
    ):
        with house.started(*words) as started:
            for mark in (40, 120, 200):
                wait_until(partial(sold, house, mark), started)
                house.site.gateway.kill()
                house.site.gateway.start()
            out, err = started.communicate()
        assert started.returncode == 0, err[-3000:]
        assert json.loads(out)["accepted"] == count
        assert house.agree(tmp_path / "lamps") == count


def sold(house: House, count: int) -> bool:
    """Whether the upstream has sold so many."""
    return house.sold >= count
