"""The configuration, as a start would read it, and the environment that goes before it.

Owns the check of the file, of the variables that it names, and of those that overrule it. Never
shows a value: names alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safelight.config import Config, load_config
from safelight.db import address as books
from safelight.doctor import Check, failed, ok, unchecked, warning
from safelight.errors import ConfigError
from safelight.storage import address as pictures

GROUP = "configuration"
KNOWN = frozenset(
    {
        "SAFELIGHT_API_KEY",
        "SAFELIGHT_CONFIG",
        "SAFELIGHT_DATA",
        "SAFELIGHT_URL",
        books.VARIABLE,
        pictures.VARIABLE,
    }
)
"""Every variable of our own that anything reads."""


@dataclass(frozen=True, slots=True)
class Read:
    """What was read: `config` is None where the file is no good; `missing` are accounts' keys."""

    config: Config | None
    error: str = ""
    missing: tuple[tuple[str, str], ...] = ()
    """Accounts whose variable is empty, each with the variable's name."""


class _Filled(Mapping[str, str]):
    """The environment with a word in every account's variable, so that the rest can be read."""

    def __init__(self, real: Mapping[str, str], names: frozenset[str]) -> None:
        self._real, self._names = real, names

    def __getitem__(self, name: str) -> str:
        return "not-set" if name in self._names else self._real[name]

    def __iter__(self) -> Iterator[str]:
        return iter({*self._real, *self._names})

    def __len__(self) -> int:
        return len({*self._real, *self._names})


def read(path: Path | None, data: Path, environ: Mapping[str, str]) -> Read:
    """Read the configuration, also where accounts' keys are missing."""
    missing = tuple(_missing_keys(path, environ))
    try:
        filled = _Filled(environ, frozenset(variable for _, variable in missing))
        return Read(load_config(path, data, environ=filled), missing=missing)
    except ConfigError as error:
        return Read(None, str(error), missing)


def _missing_keys(path: Path | None, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if path is None:
        return
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("accounts", [])
    except (OSError, ValueError):  # what is wrong with it, loading says better
        return
    for table in tables if isinstance(tables, list) else []:
        variable = table.get("api_key_env") if isinstance(table, dict) else None
        named = isinstance(variable, str) and variable.isidentifier()
        if named and not environ.get(str(variable), "").strip():
            yield str(table.get("name", "")), str(variable)


def check(path: Path | None, found: Read, environ: Mapping[str, str]) -> Iterator[Check]:
    """Yield what is to be said of the file and the environment."""
    if found.config is None:
        advice = "Mend that line; docs/configuration.md has every key."
        yield failed(GROUP, "file", found.error, advice)
    else:
        yield ok(GROUP, "file", _file(path, found.config))
        yield from _accounts(found, found.config)
        yield from (
            warning(GROUP, "said at start", one, "See docs/configuration.md.")
            for one in found.config.warnings
        )
    for name, variable in found.missing:
        yield failed(
            GROUP, "account keys", f"account {name!r}: the variable {variable} is not set",
            f"Set {variable} where the server is started, or take the account out.",
        )  # fmt: skip
    yield from _environment(found, environ)


def _file(path: Path | None, config: Config) -> str:
    name = "no file; defaults" if path is None else str(path)
    return f"{name}: {len(config.channels)} channels, {len(config.accounts)} accounts"


def _accounts(found: Read, config: Config) -> Iterator[Check]:
    if all(account.upstream == "proof" for account in config.accounts):
        yield warning(
            GROUP, "accounts", "only the built-in proof upstream: its pictures are proofs",
            "Name an account of a vendor in [[accounts]] for real pictures.",
        )  # fmt: skip
    elif not found.missing:
        yield ok(GROUP, "account keys", "every account has its key")


def _environment(found: Read, environ: Mapping[str, str]) -> Iterator[Check]:
    unknown = sorted(
        name for name in environ if name.startswith("SAFELIGHT_") and name not in KNOWN
    )
    if unknown:
        yield warning(
            GROUP, "environment", f"nothing reads {', '.join(unknown)}",
            f"Known are {', '.join(sorted(KNOWN))}: is one misspelt?",
        )  # fmt: skip
    configured = found.config.storage.url if found.config else ""
    named = environ.get(pictures.VARIABLE, "").strip()
    if named and configured and named != configured:
        yield warning(
            GROUP, "environment", f"{pictures.VARIABLE} overrules [storage] url",
            "Keep one of both, or write the same into them.",
        )  # fmt: skip
    for name, read_it in ((books.VARIABLE, books.chosen), (pictures.VARIABLE, pictures.chosen)):
        try:
            read_it(environ)
        except ConfigError as error:
            yield failed(GROUP, "environment", str(error), f"Mend {name}.")
    yield from _credentials(named or configured, environ)


def _credentials(store: str, environ: Mapping[str, str]) -> Iterator[Check]:
    if not store.startswith("s3:"):
        return
    given = [name for name in _AWS if environ.get(name, "").strip()]
    if len(given) == 1:
        (lacking,) = set(_AWS) - set(given)
        yield failed(GROUP, "environment", f"{lacking} is not set", "Set both, or neither.")
    elif not given:
        yield unchecked(
            GROUP, "environment", "the bucket's credentials are not in the environment",
            "Fine where the machine has a role; else set AWS_ACCESS_KEY_ID and its secret.",
        )  # fmt: skip


_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
