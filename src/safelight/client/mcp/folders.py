"""Which files a tool may touch: one folder to write to, and those to read from.

Owns the allow-list. A name is resolved through all links before it is compared, so no link leads
out; nothing that exists is ever overwritten. What is in a picture is not looked at here.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from safelight.client.mcp.faults import ToolFault

_NAME_MAX = 80
_INPUT_BYTES_MAX = 64 * 1024 * 1024
"""No photograph is larger; what is, is not a picture that anybody means to send."""


@dataclass(frozen=True)
class Folders:
    """The folders of one server.

    Args:
        pictures: where pictures are written; readable, too.
        inputs: further folders to read from.
    """

    pictures: Path
    inputs: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", self.pictures.resolve())
        object.__setattr__(self, "inputs", tuple(one.resolve() for one in self.inputs))

    @property
    def readable(self) -> tuple[Path, ...]:
        """All folders that may be read from; relative names are looked for in this order."""
        return (self.pictures, *self.inputs)

    def readable_file(self, name: str) -> Path:
        """Return the file of that name: relative to one of the folders, or absolute inside one.

        Raises:
            ToolFault: outside the folders, not there, no ordinary file, or larger than 64 MiB.
        """
        path = self._inside(name)
        try:
            about = path.stat()
        except OSError as error:
            raise ToolFault(f"{name!r}: {error.strerror}. {self._where()}") from error
        if not stat.S_ISREG(about.st_mode):
            raise ToolFault(f"{name!r} is no file.")
        if about.st_size > _INPUT_BYTES_MAX:
            raise ToolFault(f"{name!r} is larger than {_INPUT_BYTES_MAX >> 20} MiB.")
        return path

    def readable_folder(self, name: str) -> Path:
        """Return the folder of that name, as `readable_file` does for files.

        Raises:
            ToolFault: outside the folders, or no folder.
        """
        path = self._inside(name)
        if not path.is_dir():
            raise ToolFault(f"{name!r} is no folder. {self._where()}")
        return path

    def place(self, name: str | None, fallback: str, suffix: str) -> Path:
        """Return a new, empty file for a picture; a name that is taken gets a number.

        Args:
            name: as the model wishes; folders and odd characters in it are not kept.
            fallback: the name where none is given.
            suffix: the ending that the picture's format has, with its dot.

        Raises:
            ToolFault: the folder does not take files.
        """
        stem = _stem(name) or _stem(fallback) or "picture"
        try:
            self.pictures.mkdir(parents=True, exist_ok=True)
            for number in range(1, 10_000):
                path = self.pictures / f"{stem}{f'-{number}' if number > 1 else ''}{suffix}"
                try:
                    # Made here, so that two pictures that end together never take one name.
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                except FileExistsError:
                    continue
                return path
        except OSError as error:
            raise ToolFault(f"{self.pictures}: {error.strerror}") from error
        raise ToolFault(f"{self.pictures} has too many files named {stem!r}: choose another name.")

    def _inside(self, name: str) -> Path:
        if "\0" in name or not name.strip():
            raise ToolFault(f"{name!r} is no file name. {self._where()}")
        given = Path(name).expanduser() if name.startswith("~/") else Path(name)
        candidates = [given] if given.is_absolute() else [one / given for one in self.readable]
        inside = [
            path
            for path in (candidate.resolve() for candidate in candidates)
            if any(path.is_relative_to(folder) for folder in self.readable)
        ]
        if not inside:
            raise ToolFault(f"{name!r} is outside the folders of this server. {self._where()}")
        return next((path for path in inside if path.exists()), inside[0])

    def _where(self) -> str:
        listed = ", ".join(str(folder) for folder in self.readable)
        return f"Pictures are read from: {listed}. A person adds one with --inputs."


def _stem(name: str | None) -> str:
    """Return a file stem: the last part of a path, without its ending and anything odd."""
    last = (name or "").replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    last = re.sub(r"\.(?:png|jpe?g|webp)$", "", last, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "-", last).strip("-._")[:_NAME_MAX]
