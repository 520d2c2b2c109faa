"""A gateway that draws proofs, for recipes that are carried out as a person would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.process import GatewayProcess
from safelight.cli import main


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """One gateway with the built-in proof upstream for all tests of a worker."""
    config = '[billing]\nfirst_credit = "100.00"\n'
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), config) as running:
        yield running


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Recipe = Callable[..., Ended]


@pytest.fixture
def recipe(
    gateway: GatewayProcess,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Recipe:
    """Give `safelight run` its words; the working folder is the test's own."""
    assert gateway.first_key is not None
    monkeypatch.setenv("SAFELIGHT_URL", gateway.base_url)
    monkeypatch.setenv("SAFELIGHT_API_KEY", gateway.first_key)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Ended:
        code = main(["run", *words])
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run
