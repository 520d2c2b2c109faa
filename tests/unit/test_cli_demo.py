"""The demonstration as a newcomer runs it: a real gateway, the real SDK, one poster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec

from safelight.cli.picture import Measured, measure


def run_demo(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # A key and a configuration that would be used if the demonstration looked for them.
    environ = {**os.environ, "OPENAI_API_KEY": "sk-real", "SAFELIGHT_CONFIG": "/nowhere.toml"}
    return subprocess.run(
        [sys.executable, "-m", "safelight", "demo", *options],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_demo_leaves_a_poster_and_shows_the_bill(tmp_path: Path) -> None:
    """It ends with 0, the poster has its exact size, and job, plan, price and line are shown."""
    ended = run_demo(tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    poster = (tmp_path / "demo" / "poster.png").read_bytes()
    assert measure(poster) == Measured("png", 2048, 1152)
    for fact in ("job_", "native", "price      0.030000", "-0.030000", "9.970000"):
        assert fact in ended.stdout
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["poster.png"]


def test_demo_goes_on_with_kept_data(tmp_path: Path) -> None:
    """With --keep a second run finds the first one's data and makes a key of its own."""
    first = msgspec.json.decode(run_demo(tmp_path, "--keep", "--json").stdout)
    second = msgspec.json.decode(run_demo(tmp_path, "--keep", "--json").stdout)
    assert first["job_id"] != second["job_id"]
    assert second["statement"]["amount_micros"] == -30_000
