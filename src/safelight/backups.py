"""Backups as they lie in a folder: the manifest, and a data folder's note of its newest one.

Owns these small files, and nothing that copies. A backup is what its manifest says it is; the
manifest is written last, so what an interrupted one left is none.

    FOLDER/manifest.json            names the two files below, with their digests
    FOLDER/safelight-<time>.db      the database, whole
    FOLDER/secrets-<time>.json      the keys
    FOLDER/blobs/ab/cd/<digest>     the pictures that the database names, of all backups here
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import secrets
from pathlib import Path

import msgspec

from safelight.durable import fsync_folder
from safelight.errors import ConfigError

FORMAT = 1
MANIFEST_FILE = "manifest.json"
NOTE_FILE = "backup.json"
ORIGIN_FILE = "restored.json"


class KeptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the backup and what its bytes must be."""

    name: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup is: `taken_at` is the moment that it shows, milliseconds since 1970.

    `rows` counts the rows of each table, `missing` names pictures that were lost before the backup.
    `store` is the bucket that has the pictures, empty where they are in the backup.
    """

    format: int
    version: str
    taken_at: int
    database: KeptFile
    secrets: KeptFile
    rows: dict[str, int]
    pictures: int
    picture_bytes: int
    missing: tuple[str, ...] = ()
    store: str = ""


class Note(msgspec.Struct, frozen=True):
    """Where the newest backup of a data folder was put, and the moment that it shows."""

    folder: str
    taken_at: int


class Origin(msgspec.Struct, frozen=True):
    """Which backup a data folder was restored from.

    `complete` is False while files are being put into it. `reconciled` is True when the jobs that
    were open in the backup have been released.
    """

    folder: str
    taken_at: int
    restored_at: int
    complete: bool = False
    reconciled: bool = False


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the backup in `folder`.

    Raises:
        ConfigError: there is no backup, or not one of this program.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ConfigError(f"the folder {folder} holds no backup: it has no {path.name}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if manifest.format != FORMAT:
        raise ConfigError(f"{path} has the form {manifest.format}; this program knows {FORMAT}")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the backup in `folder` be what `manifest` says, at once and durably."""
    _replace(folder / MANIFEST_FILE, manifest)


def note_backup(data_dir: Path, note: Note) -> None:
    """Remember the newest backup in the data folder, for whoever finds its database damaged."""
    _replace(data_dir / NOTE_FILE, note)


def newest_backup(data_dir: Path) -> str:
    """Return in words where the newest backup of a data folder is."""
    try:
        note = msgspec.json.decode((data_dir / NOTE_FILE).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError):
        return "no backup of it is known"
    return f"its newest backup, of {in_words(note.taken_at)}, is in {note.folder}"


def in_words(at_ms: int) -> str:
    """Return a moment as people write it."""
    moment = dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC)
    return moment.isoformat(sep=" ", timespec="seconds").replace("+00:00", " UTC")


def read_origin(data_dir: Path) -> Origin | None:
    """Return which backup a data folder was restored from; None: it was not.

    Raises:
        ConfigError: the note is damaged.
    """
    path = data_dir / ORIGIN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Origin)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def check_whole(data_dir: Path) -> None:
    """Refuse a data folder whose restore was interrupted.

    Raises:
        ConfigError: it was, or is still under way.
    """
    origin = read_origin(data_dir)
    if origin is not None and not origin.complete:
        raise ConfigError(
            f"the restore of {data_dir} from {origin.folder} was not finished; remove the folder "
            "and restore again"
        )


def write_origin(data_dir: Path, origin: Origin) -> None:
    """Note which backup a data folder is restored from."""
    _replace(data_dir / ORIGIN_FILE, origin)


def describe(path: Path) -> KeptFile:
    """Return a file's name, size and digest, read from it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return KeptFile(path.name, file.tell(), digest)


def _replace(path: Path, content: msgspec.Struct) -> None:
    """Write a file whole or not at all, for its owner only."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    fsync_folder(path.parent)
