"""Rows of a plan file: .csv, .jsonl and .toml as they stand, each with its line.

Owns the three forms and their faults. What columns mean is `reading`'s business.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safelight.client.errors import BadOrder
from safelight.client.runs.faults import Fault

ENDINGS = (".csv", ".jsonl", ".toml")
CELL_MAX = 1_000_000
"""Characters of one cell; the csv module's own bound is less than a long prompt list needs."""
_ITEMS = re.compile(r"^\s*\[\[\s*items\s*\]\]")
_DELIMITERS = (",", "\t", ";")


@dataclass(frozen=True)
class Row:
    """One row: the file it is in, as it was given, its first line from 1, and its values by name.

    Cells of a .csv are text; values of the other forms are whatever JSON has. Empty cells and nulls
    are left out. `lines` has the line of each value where it is known.
    """

    file: str
    line: int
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def line_of(self, name: str) -> int:
        """Return the line of a value, or the row's own."""
        return self.lines.get(name, self.line)


@dataclass
class Sheet:
    """What a file holds: the `[run]` table of a .toml, the rows, and what could not be read."""

    run: Row
    rows: list[Row] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_sheet(path: Path) -> Sheet:
    """Return what a plan file holds.

    Raises:
        BadOrder: it cannot be read at all, or has none of the three endings.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".toml": _read_toml}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadOrder(f"{path}: a plan is a file that ends with {', '.join(ENDINGS)}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadOrder(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise BadOrder(f"{path}:{line}: the file is not UTF-8; save it as UTF-8") from error
    return reader(path, text)


# --- csv -------------------------------------------------------------------------------------


def _read_csv(path: Path, text: str) -> Sheet:
    sheet = Sheet(Row(str(path), 0, {}))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    limit = csv.field_size_limit(CELL_MAX)
    try:
        _fill_from_csv(sheet, str(path), reader)
    except csv.Error as error:
        sheet.faults.append(Fault(str(path), reader.line_num, "", f"{error} (is a quote open?)"))
    finally:
        csv.field_size_limit(limit)
    return sheet


def _delimiter(text: str) -> str:
    """Return what stands between the names of the first line: spreadsheets differ by country."""
    header = text.partition("\n")[0]
    return max(_DELIMITERS, key=lambda sign: (header.count(sign), sign == ","))


def _fill_from_csv(sheet: Sheet, file: str, reader: Any) -> None:
    header: list[str] | None = None
    before = 0
    for cells in reader:
        line, before = before + 1, reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            header = [cell.strip() for cell in cells]
            sheet.faults += _header_faults(file, line, header)
            continue
        if len(cells) > len(header):
            message = (
                f"the row has {len(cells)} cells, the header {len(header)}; put cells with a "
                "separator in them into double quotes"
            )
            sheet.faults.append(Fault(file, line, "", message))
        values = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
        sheet.rows.append(Row(file, line, {name: cell for name, cell in values.items() if cell}))
    if header is None:
        sheet.faults.append(Fault(file, 0, "", "the file is empty; its first line names columns"))


def _header_faults(file: str, line: int, header: list[str]) -> Iterator[Fault]:
    for at, name in enumerate(header):
        if not name:
            yield Fault(file, line, "", f"column {at + 1} has no name")
        elif name in header[:at]:
            yield Fault(file, line, name, "two columns have this name")


# --- jsonl -----------------------------------------------------------------------------------


def _read_jsonl(path: Path, text: str) -> Sheet:
    sheet = Sheet(Row(str(path), 0, {}))
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            message = f"no JSON: {error.msg} at character {error.colno}"
            sheet.faults.append(Fault(str(path), number, "", message))
            continue
        if not isinstance(value, dict):
            sheet.faults.append(Fault(str(path), number, "", "a line is one JSON object: {...}"))
            continue
        sheet.rows.append(Row(str(path), number, _present(value)))
    return sheet


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}


# --- toml ------------------------------------------------------------------------------------


def _read_toml(path: Path, text: str) -> Sheet:
    file = str(path)
    sheet = Sheet(Row(file, 0, {}))
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        sheet.faults.append(Fault(file, 0, "", f"no TOML: {error}"))
        return sheet
    lines = text.split("\n")
    for name in document.keys() - {"run", "items"}:
        sheet.faults.append(
            Fault(file, _line_of(lines, name, 0), name, "a plan has [run] and items")
        )
    run = document.get("run", {})
    if isinstance(run, dict):
        begin = _line_of(lines, r"\[\s*run\s*\]", 0, is_pattern=True)
        sheet.run = Row(file, begin, _present(run), _lines_of(lines, run, begin))
    else:
        sheet.faults.append(Fault(file, 0, "run", "[run] is a table"))
    _fill_from_toml(sheet, path, document.get("items"), lines)
    return sheet


def _fill_from_toml(sheet: Sheet, path: Path, items: Any, lines: list[str]) -> None:
    file = str(path)
    match items:
        case str():
            other = read_sheet(path.parent / items) if not items.endswith(".toml") else None
            if other is None:
                line = _line_of(lines, "items", 0)
                sheet.faults.append(Fault(file, line, "items", "rows are a .csv or .jsonl file"))
            else:
                sheet.rows, sheet.faults = other.rows, sheet.faults + other.faults
        case list() if all(isinstance(item, dict) for item in items):
            begins = [number for number, line in enumerate(lines, 1) if _ITEMS.match(line)]
            for at, item in enumerate(items):
                begin = begins[at] if len(begins) == len(items) else 0
                known = _lines_of(lines, item, begin) if begin else {}
                sheet.rows.append(Row(file, begin, _present(item), known))
        case None:
            sheet.faults.append(
                Fault(file, 0, "items", 'missing: write [[items]] tables, or items = "rows.csv"')
            )
        case _:
            sheet.faults.append(Fault(file, 0, "items", "[[items]] tables, or the name of a file"))


def _lines_of(lines: list[str], table: Mapping[str, Any], begin: int) -> dict[str, int]:
    return {name: _line_of(lines, name, begin) or begin for name in table}


def _line_of(lines: list[str], name: str, begin: int, *, is_pattern: bool = False) -> int:
    """Return the line of a key behind the line `begin`, from 1; 0 where it is not found.

    tomllib tells no lines, so the text is looked through: keys that are written in another way
    (dotted, in an inline table) have the line of their table.
    """
    words = name if is_pattern else rf'["\']?{re.escape(name)}["\']?\s*='
    pattern = re.compile(rf"^\s*{words}")
    for number, line in enumerate(lines[begin:], begin + 1):
        if pattern.match(line):
            return number
        if begin and line.lstrip().startswith("["):
            return 0
    return 0
