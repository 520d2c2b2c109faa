"""How a recipe says that it cannot be carried out as it was asked for.

BadOrder                    (of the client) nothing was sent, nothing was spent
`-- BadRecipe               names the file, the line and the field, where there are such

ClientError
`-- MissingPart             a package of the extra `recipes` is not installed
"""

from __future__ import annotations

from pathlib import Path

from safelight.client.errors import BadOrder, ClientError


class BadRecipe(BadOrder):
    """What a recipe was given cannot be used.

    Args:
        what: what is wrong, and what to write instead.
        file: where it stands.
        line: in that file, from 1.
    """

    def __init__(self, what: str, *, file: Path | None = None, line: int | None = None) -> None:
        place = "" if file is None else f"{file}: " if line is None else f"{file}:{line}: "
        super().__init__(place + what)
        self.file = file
        self.line = line


class MissingPart(ClientError):
    """A package that a recipe needs is not installed.

    Args:
        package: its name.
        what: what it is needed for.
    """

    def __init__(self, package: str, what: str) -> None:
        super().__init__(
            f"{what} needs the package {package}: pip install 'safelight[recipes]'",
        )
        self.package = package
