"""The article's programs with clients that we did not write: Python SDKs and the JavaScript one."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.books import check_sums, witness
from e2e.process import GatewayProcess

CLIENTS = Path(__file__).parent.parent / "clients"
HOME = Path(os.environ.get("SAFELIGHT_CAMPAIGN", "campaign")).absolute()

pytestmark = pytest.mark.campaign


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path) as running:
        yield running
        running.stop()
    assert witness(running.data).faults == []


def environment(gateway: GatewayProcess) -> tuple[str, dict[str, str]]:
    key = gateway.key()
    return key, {**os.environ, "OPENAI_BASE_URL": gateway.base_url, "OPENAI_API_KEY": key}


@pytest.mark.parametrize("version", ["==1.109.*", "==2.32.*", ""], ids=["1.109", "2.32", "newest"])
def test_the_python_sdk(gateway: GatewayProcess, tmp_path: Path, version: str) -> None:
    home = HOME / f"openai{version.strip('=.*') or '-newest'}"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "-q", f"openai{version}"], check=True)
    key, environ = environment(gateway)
    done = subprocess.run(
        [python, CLIENTS / "article.py", tmp_path / "pictures"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert check_sums(gateway.url, key)["held_micros"] == 0


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
@pytest.mark.parametrize("script", ["article.mjs", "batch.mjs"])
def test_the_javascript_sdk(gateway: GatewayProcess, tmp_path: Path, script: str) -> None:
    home = HOME / "javascript"
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", "openai@latest"],
        cwd=home,
        check=True,
    )
    shutil.copy(CLIENTS / script, home / script)
    key, environ = environment(gateway)
    done = subprocess.run(
        ["node", home / script, tmp_path / "pictures"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stdout.splitlines()[-1:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert check_sums(gateway.url, key)["held_micros"] == 0
