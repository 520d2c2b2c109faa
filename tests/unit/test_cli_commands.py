"""A command is found by its name, and one that is started loads little beside itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from safelight.cli import build
from safelight.cli.commands import COMMANDS

LOADED = """
import sys
from safelight.cli import main
assert main(["keys", "list", "--data", sys.argv[1]]) == 0
print(*sorted(sys.modules), file=sys.stderr)
"""


def commands_of(only: str | None) -> list[str]:
    program: Any = get_command(build(only))
    return list(program.commands)


def test_the_program_has_the_commands_of_the_list() -> None:
    assert sorted(commands_of(None)) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_program_for_one_command_has_no_other(name: str) -> None:
    assert commands_of(name) == [name]


def test_an_operators_command_loads_no_other_command_and_no_http_client(tmp_path: Path) -> None:
    """An import in the wrong place would cost every command a third of its time."""
    subprocess.run(
        [sys.executable, "-m", "safelight", "keys", "create", "shop", "--data", str(tmp_path)],
        check=True,
        capture_output=True,
    )
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(tmp_path)], check=True, capture_output=True, text=True
    )
    loaded = set(done.stderr.split())
    assert "safelight.office" in loaded
    assert "aiohttp" not in loaded
    others = {f"safelight.cli.{place.module}" for name, place in COMMANDS.items() if name != "keys"}
    assert not loaded & others
