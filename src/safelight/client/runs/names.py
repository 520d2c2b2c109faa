"""Names of the files of a run: what may be one, and how one is made where none is given."""

from __future__ import annotations

import re
import unicodedata

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""Endings that a name may have, and the formats they promise."""
RESERVED = frozenset(
    {"review", "replaced", "manifest.json", "manifest.csv", "run.jsonl", ".safelight"}
)
"""What the run itself writes in its folder."""
SLUG_LENGTH = 40
PART_BYTES_MAX = 200
"""Of one name: file systems take 255, and an ending and a temporary name come on top."""
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')


def stem_and_format(name: str) -> tuple[str, str | None]:
    """Return a name without its picture's ending, and the format that the ending promises."""
    for ending, promised in FORMATS.items():
        if name.lower().endswith(ending):
            return name[: -len(ending)], promised
    return name, None


def faulty_name(stem: str) -> str | None:
    """Return in words why no picture can be called this; None where it can."""
    parts = stem.split("/")
    troubles = {
        "a name relative to the run's folder is wanted": not stem or stem.startswith("/"),
        "names must stay in the run's folder, without empty parts": any(
            part in ("", ".", "..") for part in parts
        ),
        'names must not have control characters or any of < > : " | ? * and backslashes': (
            _FORBIDDEN.search(stem) is not None
        ),
        "names must not begin or end with a blank, nor end with a full stop": any(
            part != part.strip() or part.endswith(".") for part in parts
        ),
        f"a name is at most {PART_BYTES_MAX} bytes long": any(
            len(part.encode()) > PART_BYTES_MAX for part in parts
        ),
        f"{parts[0]!r} is what the run itself writes": (
            parts[0].lower() in RESERVED or parts[0].startswith(".")
        ),
    }
    return next((words for words, is_so in troubles.items() if is_so), None)


def slug(prompt: str, item_id: str) -> str:
    """Return a name for a picture that was given none: words of the prompt, and the item's id.

    It follows from the content alone, so rows may be moved and the file stays where it is.
    """
    text = unicodedata.normalize("NFKC", prompt).lower()
    words = re.sub(r"[^\w]+", "-", text).replace("_", "-").strip("-")
    short = words[:SLUG_LENGTH].strip("-")
    while len(short.encode()) > PART_BYTES_MAX - 20:
        short = short[:-1]
    return f"{short}-{item_id}" if short else item_id
