"""What docs/runs.md shows works as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from runs.house import House
from safelight.client.runs import GateMaker, read_plan

PAGE = Path(__file__).parents[2] / "docs" / "runs.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_plan_is_read(tmp_path: Path) -> None:
    """With its templates, gates and bounds."""
    (block,) = blocks("toml")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1007.png").write_bytes(b"1")
    (tmp_path / "shoes.toml").write_text(block)
    found = read_plan(tmp_path / "shoes.toml", GateMaker())
    (item,) = found.plan.items
    assert item.order.prompt == "A red running shoe on wet asphalt, dawn light"
    assert item.out == "shoes/1007-red"
    assert [gate.name for gate in item.gates] == ["size", "not-blank", "near-duplicate"]
    assert dict(item.order.parameters) == {"output_format": "webp"}
    assert (found.wishes.max_cost, found.wishes.concurrency) == ("12.5", 20)


def test_the_table_is_read(tmp_path: Path) -> None:
    """As it is printed, indented by four."""
    text = PAGE.read_text()
    rows = re.findall(r"^    (sku,.*|1007,.*)$", text, re.MULTILINE)
    assert len(rows) == 3
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1007.png").write_bytes(b"1")
    (tmp_path / "shoes.csv").write_text("\n".join(rows) + "\n")
    outs = [item.out for item in read_plan(tmp_path / "shoes.csv", GateMaker()).plan.items]
    assert outs == ["shoes/1007-red", "shoes/1007-blue"]


async def test_the_program_runs(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds its gateway in the environment."""
    (block,) = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - the page's own example
    (house.folder / "lamps.csv").write_text("prompt,size\na lamp,1024x1024\n")
    await names["make"](house.folder / "lamps.csv", house.folder / "lamps")
    said = capsys.readouterr().out
    assert ".png" in said
    assert said.endswith("{} 30000\n")
    assert house.agree(house.folder / "lamps") == 1
    shutil.rmtree(house.folder / "lamps")
