"""Each program of examples/ runs as it is written, against a real gateway.

What it leaves is measured. The official openai SDK for Python and curl are here; what npm and other
environments must bring is run by the campaign, and here only its syntax is checked.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from e2e.books import check_sums
from e2e.process import GatewayProcess
from safelight.cli.picture import measure

EXAMPLES = Path(__file__).parents[2] / "examples"
HOME = Path(os.environ.get("SAFELIGHT_CAMPAIGN", "campaign")).absolute()
JAVASCRIPT = sorted((EXAMPLES / "javascript").glob("*.mjs"))


def run(gateway: GatewayProcess, folder: Path, *command: str | Path) -> str:
    """Run a program as its first lines say, with the two variables, and return what it prints."""
    key = gateway.first_key
    assert key is not None
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SAFELIGHT_")},
        "OPENAI_BASE_URL": gateway.base_url,
        "OPENAI_API_KEY": key,
    }
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert check_sums(gateway.url, key)["held_micros"] == 0
    return done.stdout


def sizes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): measure(path.read_bytes()).size
        for path in sorted(folder.rglob("*.png"))
    }


def test_openai_generate(gateway: GatewayProcess, tmp_path: Path) -> None:
    """One picture from words, one from that picture, and the price of the first is told."""
    said = run(gateway, tmp_path, sys.executable, EXAMPLES / "python" / "openai_generate.py")
    assert sizes(tmp_path) == {"poster.png": "2048x1152", "night.png": "1024x1024"}
    assert "native, 30000 micro-dollars, job job_" in said


@pytest.mark.parametrize("count", [3, pytest.param(30, marks=pytest.mark.campaign)])
def test_openai_thirty(gateway: GatewayProcess, tmp_path: Path, count: int) -> None:
    """So many pictures of the size that was asked for, each in a file of its own."""
    program = EXAMPLES / "python" / "openai_thirty.py"
    said = run(gateway, tmp_path, sys.executable, program, str(count))
    assert said.startswith(f"{count} of {count} pictures")
    expected = {f"thirty/style-{number:02}.png": "1024x1024" for number in range(1, count + 1)}
    assert sizes(tmp_path) == expected


def test_openai_stream(gateway: GatewayProcess, tmp_path: Path) -> None:
    """Two partial pictures come before the whole one."""
    said = run(gateway, tmp_path, sys.executable, EXAMPLES / "python" / "openai_stream.py")
    assert said.split() == ["partial-1.png", "partial-2.png", "lamp.png"]
    assert sizes(tmp_path)["lamp.png"] == "1024x1024"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(gateway: GatewayProcess, tmp_path: Path) -> None:
    """The four scripts draw, edit, wait for a job and bring the statement with all three lines."""
    scripts = EXAMPLES / "curl"
    run(gateway, tmp_path, "sh", scripts / "generate.sh")
    run(gateway, tmp_path, "sh", scripts / "edit.sh", "lamp.png", "lamp.png")
    said = run(gateway, tmp_path, "sh", scripts / "job.sh")
    assert said.splitlines()[-1] == "completed"
    assert sizes(tmp_path) == {
        "lamp.png": "2048x1152",
        "edited.png": "1024x1024",
        "job.png": "1820x1024",
    }
    run(gateway, tmp_path, "sh", scripts / "statement.sh")
    with (tmp_path / "statement.csv").open(newline="") as lines:
        newest = sorted(csv.DictReader(lines), key=lambda line: line["created_at"])[-3:]
    assert {line["size"] for line in newest} == set(sizes(tmp_path).values())
    assert {line["amount_micros"] for line in newest} == {"-30000"}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("script", JAVASCRIPT, ids=lambda path: path.stem)
def test_javascript_is_well_formed(script: Path) -> None:
    """Node can read each JavaScript example."""
    subprocess.run(["node", "--check", script], check=True, capture_output=True)


def test_every_example_is_listed() -> None:
    """The list of examples names each program, and no other."""
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    programs = {
        str(path.relative_to(EXAMPLES))
        for suffix in ("py", "mjs", "sh")
        for path in EXAMPLES.rglob(f"*.{suffix}")
        if "node_modules" not in path.parts
    }
    assert programs == {word for word in programs if f"]({word})" in text}


# --- what other environments must bring ---


@pytest.mark.campaign
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_javascript(gateway: GatewayProcess, tmp_path: Path) -> None:
    """Each JavaScript example runs with the newest packages that its package.json names."""
    home = HOME / "examples"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / "javascript" / "package.json", home)
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=home, check=True)
    expected = {
        "openai_generate": {"poster.png": "2048x1152", "night.png": "1024x1024"},
        "openai_stream": {"lamp.png": "1024x1024"},
        "vercel_ai": {"lamp.png": "2048x1152"},
    }
    for script in JAVASCRIPT:
        shutil.copy(script, home)
        folder = tmp_path / script.stem
        folder.mkdir()
        run(gateway, folder, "node", home / script.name)
        found = sizes(folder)
        assert found.items() >= expected[script.stem].items()
    versions = json.loads((home / "package-lock.json").read_text())["packages"]
    print({name: about.get("version") for name, about in versions.items() if "openai" in name})


@pytest.mark.campaign
def test_langchain(gateway: GatewayProcess, tmp_path: Path) -> None:
    """The LangChain example runs with the newest langchain-openai, in an environment of its own."""
    home = HOME / "langchain"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-U", "langchain-openai"], check=True)
    run(gateway, tmp_path, python, EXAMPLES / "python" / "langchain_picture.py")
    found = sizes(tmp_path)
    assert set(found) == {"chat.png", "edit.png", "tool.png"}
    assert found["tool.png"] == "1820x1024"
