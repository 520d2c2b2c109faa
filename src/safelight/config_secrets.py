"""Where an operator's secrets are read from: the environment, or a file that is nobody else's.

Owns the checks of both and the words when a secret is missing. No message shows a value, or what
may be one: who mistakes the key for its variable's name must not find it in a log.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from safelight.config_file import ConfigFile, KeyPath
from safelight.types import Secret

MAX_BYTES = 16 * 1024
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def of_either(
    file: ConfigFile,
    table: KeyPath,
    option: str,
    named: Mapping[str, str],
    environ: Mapping[str, str],
) -> Secret | None:
    """Return the secret that a table names by `<option>_env` or `<option>_file`; None: by neither.

    Args:
        file: the operator's file.
        table: where in it.
        option: what the secret is called there, such as `api_key`.
        named: both keys of the table with their values; an empty value names nothing.
        environ: where the variable is looked up.

    Raises:
        ConfigError: both are named, or the one that is has no credential.
    """
    by_variable, by_file = f"{option}_env", f"{option}_file"
    if named[by_variable] and named[by_file]:
        problem = "the secret comes from the environment already; leave one of the two out"
        raise file.error((*table, by_file), problem)
    if named[by_variable]:
        return of_variable(file, named[by_variable], (*table, by_variable), environ)
    if named[by_file]:
        return of_file(file, named[by_file], (*table, by_file))
    return None


def of_variable(
    file: ConfigFile, variable: str, path: KeyPath, environ: Mapping[str, str]
) -> Secret:
    """Return the secret that an environment variable holds.

    Raises:
        ConfigError: it is no name of a variable, or the variable holds no credential.
    """
    if not _VARIABLE.fullmatch(variable):
        raise file.error(
            path, "expected the name of an environment variable, not the secret itself"
        )
    value = environ.get(variable, "").strip()
    if not value:
        raise file.error(path, f"the environment variable {variable} is not set")
    if not _usable(value):
        raise file.error(path, f"the environment variable {variable} holds no usable credential")
    return Secret(value)


def of_file(file: ConfigFile, name: str, path: KeyPath) -> Secret:
    """Return the secret that a file holds, which only its owner may read.

    The file is looked at once it is open, so that it is the one that was checked.

    Raises:
        ConfigError: it cannot be read, others may read or change it, or it holds no credential.
    """
    try:
        descriptor = os.open(Path(name).expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no path"
        raise file.error(path, f"the file with the secret cannot be read: {said}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise file.error(path, "expected a file with the secret in it")
        if found.st_mode & 0o077:
            said = f"others may use the file with the secret (mode {stat.S_IMODE(found.st_mode):o})"
            raise file.error(path, f"{said}; chmod 600")
        raw = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    value = raw.decode("utf-8", "replace").strip()
    if len(raw) > MAX_BYTES or not value or not _usable(value):
        raise file.error(path, "the file holds no usable credential: one line of it, nothing else")
    return Secret(value)


def _usable(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value
