"""docs/tutorial.md as a newcomer follows it: its commands, in order, on a copy of the project."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from safelight.cli.picture import measure

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"


def commands() -> list[str]:
    """Return what the page has one type, block by block."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def copied(home: Path) -> Path:
    """Return a copy of what is, or could be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / name)
    return home


@contextmanager
def first_terminal(command: str, home: Path, environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """Run the server, and yield the variables that it tells to export."""
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=home,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        told: dict[str, str] = {}
        for line in process.stdout:
            told |= dict(re.findall(r"^  export (\w+)=(\S+)$", line))
            if "Ctrl-C stops it" in line:
                break
        assert set(told) == {"OPENAI_BASE_URL", "OPENAI_API_KEY"}
        yield told
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
        process.stdout.close()


def test_the_page_goes_on_as_the_campaign_does() -> None:
    """The page's blocks are those that the campaign runs: serve, then five in another terminal."""
    serve, *rest = commands()
    assert serve == "make serve\n"
    assert len(rest) == 5
    assert rest[2] == rest[3], "going on is the same command"


@pytest.mark.campaign
def test_ten_minutes(tmp_path: Path) -> None:
    """Every command ends well; thirty pictures of 2048x2048 for 0.90 dollars, and ten minutes."""
    began = time.monotonic()
    home = copied(tmp_path / "safelight")
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAFELIGHT_", "OPENAI_", "VIRTUAL_ENV", "PYTHON"))
    }
    serve, *rest = commands()
    # One shell for all of the second terminal; each block's end is marked.
    script = "set -eu\n" + "echo '=== end'\n".join(rest)
    with first_terminal(serve, home, environ) as told:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=home,
            env={**environ, **told},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    _, forecast, _, again, statement = done.stdout.split("=== end\n")
    assert "cost      $0.90" in forecast
    assert "30 of 30 accepted" in again
    pictures = sorted((home / "shoes").glob("shoe-*.png"))
    assert [measure(path.read_bytes()).size for path in pictures] == ["2048x2048"] * 30
    assert (home / "shoes" / "contact-sheet.pdf").read_bytes().startswith(b"%PDF")
    rows = list(csv.DictReader(io.StringIO((home / "shoes" / "manifest.csv").read_text())))
    assert len(rows) == 30
    assert statement.count("-0.030000") == 31
    took_s = time.monotonic() - began
    print(f"the tutorial took {took_s:.0f} s, the installation included")
    assert took_s < 600
