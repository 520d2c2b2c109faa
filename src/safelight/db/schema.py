"""The schema: numbered migrations, written once for both databases.

Owns the files in `migrations/` and what makes of them the words of one database. They are written
in SQLite's words; Postgres has other names for the same types. What only one of them can say stands
between a line `-- only sqlite {` (or `postgresql`) and a line `-- }`. Runs nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

Dialect = Literal["sqlite", "postgresql"]

_NAME = re.compile(r"(?P<version>\d+)_(?P<name>\w+)\.sql")
_ONLY = re.compile(r"^-- only (?P<dialect>\w+) \{\n(?P<sql>.*?)^-- \}\n", re.MULTILINE | re.DOTALL)
_POSTGRES = (
    (re.compile(r"\bINTEGER PRIMARY KEY AUTOINCREMENT\b"), "BIGSERIAL PRIMARY KEY"),
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bREAL\b"), "DOUBLE PRECISION"),
    (re.compile(r"\bBLOB\b"), "BYTEA"),
    (re.compile(r"\) STRICT;"), ");"),
)


@dataclass(frozen=True)
class Migration:
    """One step of the schema; `sql` is several statements."""

    version: int
    name: str
    sql: str


def migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """Return every step, oldest first, in the words of one database."""
    found = []
    for entry in (files("safelight.db") / "migrations").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match is not None:
            sql = _in_words_of(dialect, entry.read_text())
            found.append(Migration(int(match["version"]), match["name"], sql))
    return tuple(sorted(found, key=lambda one: one.version))


def _in_words_of(dialect: Dialect, sql: str) -> str:
    sql = _ONLY.sub(lambda match: match["sql"] if match["dialect"] == dialect else "", sql)
    if dialect == "postgresql":
        for words, others in _POSTGRES:
            sql = words.sub(others, sql)
    return sql
