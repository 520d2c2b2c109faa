"""docs/gates.md: every gate has its row, and the examples do what they show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import pyvips

from safelight.client.gates import CLAIMED, NAMES

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gates.md"


def test_every_gate_has_a_row() -> None:
    assert re.findall(r"^\| `([\w-]+)` \| `", DOCS.read_text(), re.MULTILINE) == [
        *("size", "weight", "not-blank", "white-background", "near-duplicate", "text"),
    ]
    assert set(NAMES) <= set(re.findall(r"`([\w-]+)`", DOCS.read_text()))


def test_the_claimed_scripts_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (Latin|Chinese|Japanese|Korean) \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(CLAIMED)


@pytest.fixture
def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)


def test_the_examples_run(
    examples: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (pyvips.Image.black(60, 40, bands=3) + 255).cast("uchar")
    page.copy(interpretation="srgb").pngsave("shoe.png")
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)  # noqa: S102  (it is our own document)
    assert capsys.readouterr().out.startswith("True 100.0% of the border is white")
    assert names["Landscape"]().check(Path("shoe.png")).passed
