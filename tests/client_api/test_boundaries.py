"""What the client is made of: public names, no piece of the server, nothing loaded too early."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import safelight
from safelight import client

FOLDER = Path(client.__file__).parent


def test_public_names_are_a_sorted_list_and_exist() -> None:
    assert client.__all__ == sorted(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)
    assert (safelight.Client, safelight.AsyncClient) == (client.Client, client.AsyncClient)


def test_the_client_imports_nothing_of_the_server() -> None:
    """Not its errors, not its money, not by a detour: beside the version only itself."""
    found = [
        f"{path.relative_to(FOLDER)}: {name}"
        for path in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _imported(node)
        if name.split(".")[0] == "safelight"
        and name != "safelight.__version__"
        and name.split(".")[:2] != ["safelight", "client"]
    ]
    assert found == []


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module is not None:
        if node.module == "safelight":
            return [f"safelight.{alias.name}" for alias in node.names]
        return [node.module]
    return []


def test_a_program_that_only_names_the_client_loads_nothing_heavy() -> None:
    program = (
        "import sys; from safelight import Client; Client('http://127.0.0.1:9', 'sk-a'); "
        "print(*({'aiohttp', 'anyio', 'obstore', 'pyvips', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_the_package_itself_loads_no_client() -> None:
    program = "import sys, safelight; print('safelight.client' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
