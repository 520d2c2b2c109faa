"""Text files that a person wrote, read with errors that name the file and the line.

Owns opening and decoding; what the lines mean is their readers' business.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from safelight.client.recipes.errors import BadRecipe

TEXT_BYTES_MAX = 4 * 1024 * 1024
"""A larger file is no outline, list of styles or table of texts; somebody named the wrong one."""


def read_text(path: Path, what: str) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Args:
        path: the file.
        what: what it should be, for the message: `the outline`.

    Raises:
        BadRecipe: it is not there, cannot be read, is too large, or is not UTF-8.
    """
    try:
        if path.stat().st_size > TEXT_BYTES_MAX:
            raise BadRecipe(f"too large for {what}: is this the right file?", file=path)
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadRecipe(f"{what} is not there: check the name", file=path) from None
    except OSError as error:
        raise BadRecipe(f"{what} cannot be read: {error.strerror}", file=path) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadRecipe(
            f"{what} is not UTF-8 text: save it as UTF-8", file=path, line=line
        ) from None


STEM_BYTES_MAX = 80
"""Of one part of a name: two of them, an ending and a temporary name fit in any file system."""


def stem_of(text: str) -> str:
    """Return `text` as a part of a file name: letters and digits of any script, and hyphens."""
    plain = unicodedata.normalize("NFKC", text).strip().lower()
    # Marks are letters' parts in Devanagari, Bengali, Thai; without them words become others.
    kept = (char if unicodedata.category(char)[0] in "LNM" else "-" for char in plain)
    stem = re.sub(r"-+", "-", "".join(kept)).strip("-")
    while len(stem.encode()) > STEM_BYTES_MAX:
        stem = stem[:-1].rstrip("-")
    return stem or "picture"
