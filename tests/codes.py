"""Every error code that the gateway's source can put on the wire, read from the source itself.

Owns the ways in which code names one: `code=` and `default_code`, the code beside a `FaultClass`,
constants that are named for it, and the words for storage.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "safelight"
_CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+|conflict|unavailable")
_NOT_SERVED = ("bench", "cli", "client", "doctor")


def codes_in_source() -> dict[str, set[str]]:
    """Return every code with the modules that name it."""
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] in _NOT_SERVED:
            continue
        for code in _codes(ast.parse(path.read_text(encoding="utf-8"))):
            if _CODE.fullmatch(code):
                found.setdefault(code, set()).add(str(path.relative_to(SOURCE)))
    return found


def _codes(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code" | "default_code", value=value):
                yield from _texts(value)
            case ast.Assign(targets=[target], value=value) if _names_code(target):
                yield from _texts(value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) if _names_code(target):
                yield from _texts(value)
            case ast.Call(func=func, args=[first, *_]) if _takes_a_code(func):
                yield from _texts(first)
            case ast.Call(args=args):
                yield from _beside_a_fault(args)
            case ast.Tuple(elts=elements):
                yield from _beside_a_fault(elements)
            case ast.FunctionDef(name="storage_code"):
                yield from (
                    text
                    for one in ast.walk(node)
                    if isinstance(one, ast.Return) and one.value is not None
                    for text in _texts(one.value)
                )


def _names_code(target: ast.expr) -> bool:
    name = str(getattr(target, "id", None) or getattr(target, "attr", ""))
    return name in ("code", "default_code") or name.endswith("_CODE")


def _takes_a_code(func: ast.expr) -> bool:
    """Return whether a function of failures or of a batch's faults takes a code first."""
    return getattr(func, "id", "") == "unavailable" or getattr(func, "attr", "") == "fault"


def _beside_a_fault(values: list[ast.expr]) -> Iterator[str]:
    for left, right in itertools.pairwise(values):
        if getattr(getattr(left, "value", None), "id", "") == "FaultClass":
            yield from _texts(right)


def _texts(value: ast.expr) -> Iterator[str]:
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
