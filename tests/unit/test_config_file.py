"""Where each key of a TOML text stands, and errors that say so."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.config_file import ConfigFile, KeyPath, key_lines, show

ROOT = Path(__file__).parents[2]

TRICKY = '''\
# a comment with [brackets] = and "quotes"
top = 1
"quoted key" = 'x'  # = # [
dotted.a."b.c" = """
[not.a.table]
not_a_key = 1 \\""" still
"""
literal = \'\'\'
'' ] } = \'\'\'
quotes = """a"""""
escaped = "\\" # \\\\"
numbers = [
  1, # one ]
  [2, 3],

  { x = 1, y.z = [
    4 ] },
  "],", ]
when = 1979-05-27 07:32:00
inline = { a = 1, "b" = { c = 2 }, d = [] }
empty = {}

[table . sub]
key = true

[[array]]
name = 1
[array.child]
key = 2

[[array]]
  [[array.nested]]
  key = 3
  [[array.nested]]
  key = 4
[last]'''

TRICKY_LINES: dict[KeyPath, int] = {
    ("top",): 2,
    ("quoted key",): 3,
    ("dotted", "a", "b.c"): 4,
    ("literal",): 8,
    ("quotes",): 10,
    ("escaped",): 11,
    ("numbers",): 12,
    ("numbers", 0): 13,
    ("numbers", 1, 1): 14,
    ("numbers", 2, "x"): 16,
    ("numbers", 2, "y", "z", 0): 17,
    ("numbers", 3): 18,
    ("when",): 19,
    ("inline", "b", "c"): 20,
    ("inline", "d"): 20,
    ("table", "sub", "key"): 24,
    ("array", 0): 26,
    ("array", 0, "name"): 27,
    ("array", 0, "child", "key"): 29,
    ("array", 1): 31,
    ("array", 1, "nested", 0, "key"): 33,
    ("array", 1, "nested", 1): 34,
    ("array", 1, "nested", 1, "key"): 35,
    ("last",): 36,
}


def paths(value: object, path: KeyPath = ()) -> set[KeyPath]:
    """Return the path of everything in a parsed document."""
    items: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return {(*path, key) for key, _ in items}.union(*(paths(v, (*path, k)) for k, v in items))


def test_the_line_of_every_kind_of_key_is_known() -> None:
    lines = key_lines(TRICKY)
    assert {path: lines[path] for path in TRICKY_LINES} == TRICKY_LINES
    assert set(lines) == paths(tomllib.loads(TRICKY))


@pytest.mark.parametrize("name", ["safelight.example.toml", "pyproject.toml"])
def test_the_scanner_sees_what_the_parser_sees(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert set(key_lines(text)) == paths(tomllib.loads(text))


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8)
values = st.recursive(
    st.one_of(
        st.integers(-5, 5).map(str),
        st.booleans().map(lambda value: str(value).lower()),
        texts.map(lambda text: msgspec.json.encode(text).decode()),
        st.text("ab#]}=,[{\"\\\n'", max_size=6)
        .filter(lambda text: "'''" not in text and not text.endswith("'"))
        .map(lambda text: f"'''{text}'''"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[ " + ", # ]\n".join(items) + "\n]"),
        st.lists(inner, max_size=2).map(
            lambda items: "{" + ", ".join(f"k{at} = {item}" for at, item in enumerate(items)) + "}"
        ),
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(texts, values), max_size=5, unique_by=lambda pair: pair[0]))
def test_values_of_any_shape_are_skipped_whole(pairs: list[tuple[str, str]]) -> None:
    """Every key lands on the line that it was written on, whatever its neighbours' values hold."""
    text, expected = "", {}
    for key, value in pairs:
        expected[(key,)] = text.count("\n") + 1
        text += f"{msgspec.json.encode(key).decode()} = {value}\n"
    document = tomllib.loads(text)
    lines = key_lines(text)
    assert set(lines) == paths(document)
    assert {path: line for path, line in lines.items() if len(path) == 1} == expected


def test_paths_are_shown_as_they_are_written() -> None:
    assert show(("accounts", 0, "name")) == "accounts[0].name"
    assert show(("channels", "studio:xl", "n_max")) == 'channels."studio:xl".n_max'


def test_an_error_without_a_line_of_its_own_stands_at_its_table() -> None:
    file = ConfigFile("f.toml", "\n[a.b]\nc = 1\n")
    assert str(file.error(("a", "b", "missing", 3), "x")) == "f.toml:2: a.b.missing[3]: x"
    assert str(file.error(("nowhere",), "x")) == "f.toml: nowhere: x"
