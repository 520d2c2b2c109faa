"""docs/writing-a-recipe.md and docs/recipes.md: what stands there works as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from e2e.process import GatewayProcess
from recipes.made import shoe
from safelight.client.recipes.languages import codes, language
from safelight.client.recipes.outline import read_outline
from safelight.client.recipes.texts import read_texts

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str, kind: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_recipe_of_the_page_becomes_a_command(gateway: GatewayProcess, tmp_path: Path) -> None:
    """Written as the page says into a package, installed, and run as the page says."""
    code, check = blocks("writing-a-recipe.md", "python")
    [project] = blocks("writing-a-recipe.md", "toml")
    [command] = blocks("writing-a-recipe.md", "sh")
    site = installed(tmp_path / "site", code, tomllib.loads(project)["project"]["entry-points"])
    names: dict[str, object] = {"__name__": "icons"}
    exec(compile(code, "icons.py", "exec"), names)  # noqa: S102 - the page's own code
    exec(compile(check, "test_icons.py", "exec"), names)  # noqa: S102
    environ = {
        **os.environ,
        "PYTHONPATH": str(site),
        "SAFELIGHT_URL": gateway.base_url,
        "SAFELIGHT_API_KEY": gateway.first_key or "",
    }
    words = shlex.split(command)
    assert words[0] == "safelight"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (tmp_path / "icons").iterdir()}
    assert {"a-boat.png", "a-tree.png", "contact-sheet.html", "contact-sheet.pdf"} <= made


def installed(site: Path, code: str, points: Mapping[str, Mapping[str, str]]) -> Path:
    """Lay a package down as pip would, with its entry points."""
    info = site / "icons-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "icons.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: icons\nVersion: 1.0\n")
    lines = [
        line
        for group, found in points.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in found.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def test_the_examples_of_the_page_on_recipes_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shoe(tmp_path / "shoe.png")
    [code] = blocks("recipes.md", "python")
    exec(compile(code, "recipes.md", "exec"), {"__name__": "example"})  # noqa: S102
    assert capsys.readouterr().out.splitlines()[0] == "shoe-pure-white pure-white 1024x1024"
    [copy] = blocks("recipes.md", "toml")
    (tmp_path / "copy.toml").write_text(copy, encoding="utf-8")
    base, texts = read_texts(tmp_path / "copy.toml", [language("zh"), language("ja")])
    assert list(base) == ["title", "button"]
    assert set(texts) == {"zh", "ja"}
    [outline] = blocks("recipes.md", "markdown")
    (tmp_path / "talk.md").write_text(outline, encoding="utf-8")
    [section] = read_outline(tmp_path / "talk.md").sections
    assert section.picture.startswith("what the illustration shall show")
    assert "all that follows" in section.notes


def test_the_page_names_every_recipe_and_counts_its_languages() -> None:
    text = (DOCS / "recipes.md").read_text(encoding="utf-8")
    shipped = [
        one.name for one in entry_points(group="safelight.recipes") if "safelight" in one.value
    ]
    assert {"deck", "posters", "products"} <= set(shipped)
    assert [name for name in shipped if f"safelight run {name}" not in text] == []
    assert f"{len(codes())} are known" in text
