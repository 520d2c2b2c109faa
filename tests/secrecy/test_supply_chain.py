"""What is installed is little, pinned, and runs nothing by itself; the wheel can be made again."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNTIME_MAX = 20
"""Direct dependencies of a bare install. One more is a decision: raise this, and say why in
docs/architecture.md."""
PINNED_MAX = 130
"""All that `make` installs, with the extras of the demonstration and the recipes."""
HARMLESS_PTH = frozenset({"distutils-precedence.pth"})
"""setuptools puts its own distutils first; it runs one line of setuptools' and is no runtime
dependency but a tool of the build."""
EPOCH = "1700000000"


def _pins(name: str = "requirements.txt") -> list[str]:
    return re.findall(r"^([\w.-]+)==", (ROOT / name).read_text(), re.MULTILINE)


def test_runtime_dependencies_are_few() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= RUNTIME_MAX
    assert len(_pins()) <= PINNED_MAX


def test_each_direct_dependency_has_its_reason_in_the_architecture() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs/architecture.md").read_text()
    names = [re.split(r"[\[><;= ]", one)[0] for one in project["dependencies"]]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_no_pinned_package_runs_code_at_every_start_of_python() -> None:
    """A `.pth` with an import is executed by every interpreter, whether safelight runs or not."""
    running: list[str] = []
    for name in _pins():
        try:
            files = distribution(name).files or []
        except ModuleNotFoundError:
            continue  # pinned for another platform, or an extra that is not installed
        for file in files:
            if file.suffix == ".pth" and file.name not in HARMLESS_PTH:
                path = Path(str(file.locate()))
                text = path.read_text() if path.is_file() else "import"
                if re.search(r"^import[ \t]", text + " ", re.MULTILINE):
                    running.append(f"{name}: {file}")
    assert running == []


def _wheel(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "src/safelight",
        source / "src/safelight",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--wheel-dir",
            str(folder / "out"),
            str(source),
        ],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    return next((folder / "out").glob("*.whl"))


def test_two_wheels_of_one_source_are_equal_and_hold_nothing_that_runs_by_itself(
    tmp_path: Path,
) -> None:
    first, second = _wheel(tmp_path / "a"), _wheel(tmp_path / "elsewhere" / "b")
    digests = {hashlib.sha256(one.read_bytes()).hexdigest() for one in (first, second)}
    assert len(digests) == 1
    names = zipfile.ZipFile(first).namelist()
    assert [name for name in names if name.endswith(".pth")] == []
    assert [name for name in names if name.endswith((".so", ".pyd", ".dll", ".exe"))] == []
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"safelight"}
    assert "safelight/db/migrations/0001_spine.sql" in names
