"""One gateway for all that talk to the built-in renderer, with the channel of the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.process import GatewayProcess

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language in docs/integrations.md."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway without accounts, with the channel that the page defines."""
    [channel] = blocks("toml")
    with GatewayProcess(tmp_path_factory.mktemp("gateway"), channel) as running:
        yield running
        running.stop()
