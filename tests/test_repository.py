"""Rules of the repository that keep themselves: each is stated in CONTRIBUTING.md or docs/."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

from safelight.cli import build
from safelight.cli.errors import EXIT_CODE_MEANINGS

ROOT = Path(__file__).resolve().parents[1]
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# Put together from pieces, or this file would break the rule it tests.
PACKAGE_INDEXES = [
    ".".join(words)
    for words in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"),
    )
]
INDEX_OPTIONS = ["--" + name for name in ("index-url", "extra-index-url", "trusted-host")]
MACHINE_PATH = re.compile(r"(?<![\w./:])/(?:home|root|Users|work|mnt)/[\w.-]+")


@cache
def project_files() -> tuple[Path, ...]:
    """Return the files that are, or could be, under version control."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.splitlines())
    return tuple(path for path in paths if path.is_file())


def python_files(*folders: str) -> list[Path]:
    return [
        path
        for path in project_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders
    ]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


class Shape(NamedTuple):
    """What is looked at of a module; whole trees of all of them would fill the memory."""

    docstring: str | None
    functions: tuple[tuple[str, int, int], ...]
    """The name, first line and last line of each."""


@cache
def shape(path: Path) -> Shape:
    module = tree(path)
    return Shape(
        ast.get_docstring(module),
        tuple(
            (node.name, node.lineno, node.end_lineno or node.lineno)
            for node in statements(module)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
    )


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Return all statements inside, at any depth: functions stand nowhere else."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        # A lambda and `a if b else c` have a body, too; it is no list.
        inside = getattr(node, block, None)
        for one in inside if isinstance(inside, list) else ():
            yield one
            yield from statements(one)


def text_files() -> Iterator[tuple[Path, str]]:
    for path in project_files():
        try:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def pyproject() -> dict[str, dict[str, object]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# --- code ---


def test_modules_are_short() -> None:
    """No module has more than 500 lines."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files("src", "tests")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MODULE_LINES_MAX
    }
    assert long == {}


def test_functions_are_short() -> None:
    """No function has more than 70 lines."""
    long = [
        f"{path.relative_to(ROOT)}:{first} {name}"
        for path in python_files("src", "tests")
        for name, first, last in shape(path).functions
        if last - first >= FUNCTION_LINES_MAX
    ]
    assert long == []


def test_modules_say_what_they_own() -> None:
    """Every module that holds something, of code and of tests, opens with a docstring."""
    silent = [
        str(path.relative_to(ROOT))
        for path in python_files("src", "tests")
        if path.stat().st_size and not shape(path).docstring
    ]
    assert silent == []


def test_nothing_is_called_utils() -> None:
    """A module is named after what it owns."""
    words = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert [path for path in python_files("src", "tests") if path.stem in words] == []


def test_tests_patch_nothing_and_never_sleep() -> None:
    """Tests use seams: no mock library, no setattr on our code, no waiting for time to pass.

    What plays a slow upstream may pace its answers; `asyncio.sleep(0)` only yields.
    """
    patching = r"\bunittest\.mock\b|\bmonkeypatch\.setattr\(|\bmonkeypatch\.setitem\("
    sleeping = r"\btime\.sleep\((?!\))|\basyncio\.sleep\((?!0\))"
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in python_files("tests")
        if path != Path(__file__)
        for pattern in (patching, sleeping if path.stem.startswith("test_") else patching)
        for match in re.finditer(pattern, path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_client_commands_speak_http_only() -> None:
    """What talks to a gateway imports nothing of the server."""
    local = {"__init__", "serve", "keys", "credit", "services", "bench", "bench_pool", "accounts"}
    local |= {"key_limits", "verify", "doctor"}
    local |= {"receipt", "export", "reconcile"}
    local |= {"backup", "bench_growth", "bench_money", "bench_workers", "migrate"}
    local |= {"storage", "images", "refund", "admin", "vendor_batches"}
    shared = {"safelight", "safelight.clock", "safelight.money", "safelight.types"}
    shared |= {"safelight.months"}
    found = [
        f"{path.name}: {node.module}"
        for path in python_files("src")
        if path.parent.name == "cli" and path.stem not in local
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom)
        and (module := node.module or "").startswith("safelight")
        and not module.startswith("safelight.cli")
        and module not in shared
    ]
    assert found == []


# --- files ---


def test_no_package_index_is_named() -> None:
    """Where packages come from is the machine's business."""
    found = [
        f"{path}: {word}"
        for path, text in text_files()
        for word in (*PACKAGE_INDEXES, *INDEX_OPTIONS)
        if word in text
    ]
    assert found == []


def test_no_path_of_a_machine_is_named() -> None:
    """No file knows where somebody's checkout or home is."""
    found = [
        f"{path}: {match.group()}"
        for path, text in text_files()
        for match in MACHINE_PATH.finditer(text)
    ]
    assert found == []


def test_text_is_clean() -> None:
    """Text files end with one line feed and have no trailing blanks (Markdown too)."""
    untidy = [
        str(path)
        for path, text in text_files()
        if text
        and (
            not text.endswith("\n")
            or text.endswith("\n\n")
            or re.search(r"[ \t]+$", text, re.MULTILINE)
        )
    ]
    assert untidy == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_pinned_with_hashes(name: str) -> None:
    """Every requirement is one exact version with at least one hash."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    assert lines
    loose = [
        line for line in lines if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)
    ]
    assert loose == []


def test_both_requirement_files_agree() -> None:
    """What runs in production is what was tested: shared packages have one version."""
    pins = [
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-dev.txt")
    ]
    runtime, development = pins
    assert {name: development.get(name) for name in runtime} == runtime


# --- documentation ---


def test_every_make_target_has_help() -> None:
    """`make` lists all targets, each with a line of help."""
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", text, re.MULTILINE)
    assert {"demo", "test", "serve", "lint", "bench", "campaign"} <= set(targets)
    assert [
        name for name in targets if not re.search(rf"^{name}:.*## \w", text, re.MULTILINE)
    ] == []
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony is not None
    assert sorted(phony[1].split()) == sorted(targets)


def test_every_dependency_has_its_reason() -> None:
    """docs/architecture.md has a row for each package that pyproject.toml names."""
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    assert isinstance(extras, dict)
    named = [*_strings(project["dependencies"]), *(n for e in extras.values() for n in _strings(e))]
    packages = {re.split(r"[<>=;\[ ]", name)[0] for name in named}
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert sorted(name for name in packages if f"`{name}`" not in text) == []


def _strings(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(item) for item in value]


def test_every_command_is_documented() -> None:
    """docs/cli.md has a heading for each command and names each of its options."""
    text = (ROOT / "docs" / "cli.md").read_text()
    program = get_command(build())
    missing = []
    for name, command in getattr(program, "commands", {}).items():
        for path, leaf in _leaves(name, command):
            if f"`safelight {path}" not in text:
                missing.append(path)
            missing += [
                f"{path} {option}"
                for parameter in leaf.params
                for option in parameter.opts
                if option.startswith("--") and f"`{option}" not in text and option not in text
            ]
    assert missing == []


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
        return
    for child, leaf in children.items():
        yield f"{name} {child}", leaf


def test_every_exit_code_is_documented() -> None:
    """docs/cli.md has a row for each exit code."""
    text = (ROOT / "docs" / "cli.md").read_text()
    assert [code for code in EXIT_CODE_MEANINGS if f"| {int(code)} |" not in text] == []


def test_links_between_documents_lead_somewhere() -> None:
    """Relative links in Markdown files point at files that exist."""
    dead = [
        f"{path}: {target}"
        for path, text in text_files()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
        if "://" not in target and not (ROOT / path.parent / target).exists()
    ]
    assert dead == []
