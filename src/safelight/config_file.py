"""A TOML file that becomes structs, or errors that name the key and its line.

Owns reading the text, the line of every key, the conversion to struct types, the shapes of
single values and the form of configuration errors. Owns no key's meaning: that is config.py.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import msgspec

from safelight.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""The way to a value: keys of tables and positions in arrays."""

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
PerMinute = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]

StructT = TypeVar("StructT", bound=msgspec.Struct)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SYNTAX_ERROR = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


def show(path: KeyPath) -> str:
    """Return a key path as people read it: `accounts[0].name`."""
    shown = ""
    for key in path:
        if isinstance(key, int):
            shown += f"[{key}]"
            continue
        written = key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
        shown += f".{written}" if shown else written
    return shown


def known(what: str, wrong: str, names: Iterable[str]) -> str:
    """Return the name closest to a wrong one, if any is close, and the list of those known."""
    listed = list(names)
    close = difflib.get_close_matches(wrong, listed, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}known {what}: {', '.join(listed)}"


class ConfigFile:
    """The parsed text of one file.

    Args:
        name: how errors call the file.
        text: TOML.

    Raises:
        ConfigError: the text is not TOML; the message names the line.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        try:
            self.tables: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(_syntax_problem(name, text, str(error))) from None
        self._lines = key_lines(text)

    @classmethod
    def read(cls, path: Path) -> ConfigFile:
        """Read the file at `path`.

        Raises:
            ConfigError: it cannot be read, is not UTF-8 or is not TOML.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            # A byte-order mark is what some editors put first; it says nothing.
            return cls(str(path), content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"{path}:{line}: is not UTF-8 text") from None

    def error(self, path: KeyPath, problem: str) -> ConfigError:
        """Return the error for the value at `path`, on its line or that of its nearest table."""
        prefixes = (path[:end] for end in range(len(path), 0, -1))
        line = next((self._lines[prefix] for prefix in prefixes if prefix in self._lines), None)
        place = self.name if line is None else f"{self.name}:{line}"
        return ConfigError(f"{place}: {show(path)}: {problem}")

    def unknown_key(self, path: KeyPath, names: Iterable[str]) -> ConfigError:
        """Return the error for a key that nobody knows, with those that are known."""
        return self.error(path, f"unknown key; {known('keys', str(path[-1]), names)}")

    def struct(self, kind: type[StructT], table: object, path: KeyPath) -> StructT:
        """Convert the table at `path`, key by key, so that an error knows its key.

        Raises:
            ConfigError: an unknown key, a missing one, or a value that its field does not take.
        """
        if not isinstance(table, dict):
            raise self.error(path, f"expected a table, written [{show(path)}]")
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        values = {}
        for key, value in table.items():
            if key not in fields:
                raise self.unknown_key((*path, key), fields)
            values[key] = self.value(fields[key].type, value, (*path, key))
        for name, field in fields.items():
            if field.required and name not in values:
                raise self.error(path, f"the key {name!r} is missing")
        return kind(**values)

    def value(self, kind: Any, value: object, path: KeyPath) -> Any:
        """Convert the value at `path` to the type `kind`; containers element by element.

        Raises:
            ConfigError: the type does not take the value.
        """
        if get_origin(kind) is dict and isinstance(value, dict):
            element = get_args(kind)[1]
            return {key: self.value(element, item, (*path, key)) for key, item in value.items()}
        if get_origin(kind) is tuple and isinstance(value, list):
            element = get_args(kind)[0]
            return tuple(self.value(element, item, (*path, at)) for at, item in enumerate(value))
        if get_origin(kind) is Literal and value not in get_args(kind):
            choices = known("values", str(value), get_args(kind))
            raise self.error(path, f"not among the choices; {choices}")
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise self.error(path, _in_toml_words(str(error))) from None

    def http_url(self, text: str, path: KeyPath) -> str:
        """Check an address and return it without a trailing slash."""
        try:
            url = urlsplit(text)
            plain = url.scheme in ("http", "https") and url.hostname and url.port != 0
        except ValueError:
            plain = False
        if not plain or not text.isprintable() or " " in text:
            raise self.error(path, "expected an address such as https://images.example.com/v1")
        if "@" in url.netloc:
            raise self.error(path, "an address carries no user name or password; use api_key_env")
        if url.query or url.fragment or text.endswith(("?", "#")):
            raise self.error(path, "an address ends with its path; leave out '?' and '#'")
        return text.rstrip("/")


def _in_toml_words(message: str) -> str:
    """Say what msgspec found in the words of a TOML file: string, integer, boolean."""
    words = message[:1].lower() + message[1:].replace("`", "").replace(" | null", "")
    for python, toml in (("str", "string"), ("int", "integer"), ("bool", "boolean")):
        words = re.sub(rf"\b{python}\b", toml, words)
    return words


def _syntax_problem(name: str, text: str, message: str) -> str:
    match = _SYNTAX_ERROR.fullmatch(message)
    if match is None:
        return f"{name}: is not valid TOML: {message}"
    problem, line, column = match.groups()
    if line is None:
        return f"{name}:{len(text.splitlines()) or 1}: is not valid TOML: {problem} (at the end)"
    return f"{name}:{line}: is not valid TOML: {problem} (column {column})"


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every key, table and array element of a valid TOML text."""
    return _Scanner(text).scan()


class _Scanner:
    """Walks over valid TOML (TOML 1.0) and notes where each key stands; values are only skipped."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._lines: dict[KeyPath, int] = {}
        self._last_of_array: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        """Return the line of every key."""
        table: KeyPath = ()
        while self._skip_blank():
            table = self._header() if self._peek() == "[" else self._pair(table)
        return self._lines

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _note(self, path: KeyPath) -> None:
        self._lines.setdefault(path, bisect_right(self._newlines, self._at - 1) + 1)

    def _skip(self, pattern: str) -> str:
        match = re.compile(pattern, re.DOTALL).match(self._text, self._at)
        if match is None:
            raise ValueError(f"not valid TOML at character {self._at}")
        self._at = match.end()
        return match[0]

    def _skip_blank(self) -> bool:
        """Skip white space, newlines and comments; return whether anything follows."""
        self._skip(r"(?:[ \t\r\n]+|#[^\n]*)*")
        return self._at < len(self._text)

    def _header(self) -> KeyPath:
        brackets = len(self._skip(r"\[\[?"))
        keys = self._keys()
        path: KeyPath = ()
        for number, key in enumerate(keys, start=1):
            path = (*path, key)
            self._note(path)
            if number == len(keys) and brackets == 2:
                self._last_of_array[path] = self._last_of_array.get(path, -1) + 1
            if path in self._last_of_array:
                path = (*path, self._last_of_array[path])
                self._note(path)
        self._skip(r"\]\]?")
        return path

    def _pair(self, table: KeyPath) -> KeyPath:
        """Note `a.b = value` and what is inside the value; return `table`."""
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path)
        self._skip(r"=[ \t]*")
        self._value(path)
        return table

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(r"[ \t]*")
            if self._peek() in ('"', "'"):
                # A quoted key is a string like any other: the parser itself knows its escapes.
                keys.append(str(tomllib.loads(f"key = {self._string()}")["key"]))
            else:
                keys.append(self._skip(r"[A-Za-z0-9_-]+"))
            self._skip(r"[ \t]*")
            if self._peek() != ".":
                return keys
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        match self._peek():
            case '"' | "'":
                self._string()
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                self._skip(r"[^,\]}\n#]+")

    def _string(self) -> str:
        quote = self._peek()
        if self._text.startswith(quote * 3, self._at):
            # Up to two quotes may stand directly before the closing three.
            escape = r"\\." if quote == '"' else r"(?!)"
            return self._skip(
                rf"{quote * 3}(?:{escape}|(?!{quote * 3}).)*{quote * 3}{quote}{{0,2}}"
            )
        return self._skip(r'"(?:\\.|[^"\\])*"' if quote == '"' else r"'[^']*'")

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        position = 0
        while self._skip_blank() and self._peek() != "]":
            self._note((*path, position))
            self._value((*path, position))
            self._skip_blank()
            self._skip(",?")
            position += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._skip_blank() and self._peek() != "}":
            self._pair(path)
            self._skip_blank()
            self._skip(",?")
        self._at += 1
