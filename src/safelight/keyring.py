"""The secrets that one data folder makes for itself: the pepper of API keys, the keys of links.

Owns the file `secrets.json` beside the database: made at first use from random bytes, readable by
its owner only, replaced atomically, fsynced. Whoever loses it loses all API keys and all links;
whoever reads it can forge links. That is why it is no part of the database: back the two up apart.

    {"version": 1,
     "pepper": {"current": "p1", "keys": {"p1": "<64 hex digits>"}},
     "links": {"current": "k2", "keys": {"k1": "<64 hex digits>", "k2": "<64 hex digits>"}}}
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import msgspec

from safelight.durable import fsync_folder
from safelight.errors import ConfigError
from safelight.types import Secret

log = logging.getLogger("safelight.keyring")

FILE_NAME = "secrets.json"
KEY_BYTES = 32

_KEY_ID = re.compile(r"[kp][1-9][0-9]{0,5}")
_KEY_HEX = re.compile(r"[0-9a-f]{64}")


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    current: str
    keys: dict[str, Secret]

    def check(self) -> None:
        if self.current not in self.keys:
            raise ValueError("the current key is missing")
        for name, value in self.keys.items():
            if not _KEY_ID.fullmatch(name) or not _KEY_HEX.fullmatch(value.reveal()):
                raise ValueError("a key is not 32 bytes in hex under a proper id")

    def __repr__(self) -> str:
        return f"_Keys(current={self.current!r}, ids={sorted(self.keys)})"


class _Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    pepper: _Keys
    links: _Keys

    def check(self) -> None:
        if self.version != 1:
            raise ValueError("its version is unknown")
        self.pepper.check()
        self.links.check()


class Keyring:
    """The secrets of one data folder. Nothing of them shows in repr; it cannot be pickled.

    Make it with `load_or_create`. It holds what the file held when it was read: after a rotation
    by one process, others learn the new key when they start again.
    """

    __slots__ = ("_path", "_secrets")

    def __init__(self, path: Path, content: _Secrets) -> None:
        self._path = path
        self._secrets = content

    @classmethod
    def load_or_create(cls, data_dir: Path) -> Keyring:
        """Return the keyring of `data_dir`; the folder and the file are made where missing.

        Safe when several processes start at once: one of them makes the file, all read that one.

        Raises:
            ConfigError: the file is damaged, or cannot be read, written or protected.
        """
        path = data_dir / FILE_NAME
        try:
            if not path.exists():
                data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                _create(path)
            _protect(path)
            return cls(path, _load(path))
        except OSError as error:
            raise ConfigError(
                f"{path}: {error.strerror}. safelight keeps its secrets there."
            ) from error

    @property
    def current_kid(self) -> str:
        """The id of the key that signs new links."""
        return self._secrets.links.current

    @property
    def live_kids(self) -> tuple[str, ...]:
        """The ids of the keys whose links are taken, oldest first; at most two."""
        return tuple(sorted(self._secrets.links.keys, key=_number))

    def pepper(self) -> bytes:
        """Return the 32 secret bytes under which API keys are hashed."""
        keys = self._secrets.pepper
        return bytes.fromhex(keys.keys[keys.current].reveal())

    def webhook_key(self, name: str) -> bytes:
        """Return the 32 secret bytes that sign a customer's messages under this name.

        They are derived from the pepper for this one purpose (HKDF-SHA256, with "webhook" as salt
        and the name as info), so that they are stored nowhere and need no file of their own.
        """
        return hkdf_sha256(self.pepper(), salt=b"webhook", info=name.encode(), length=KEY_BYTES)

    def prompt_key(self) -> bytes:
        """Return the 32 secret bytes under which prompts are hashed in the log (HKDF-SHA256)."""
        return hkdf_sha256(self.pepper(), salt=b"prompt", info=b"log", length=KEY_BYTES)

    def link_key(self, kid: str) -> bytes:
        """Return the 32-byte MAC key of the live key `kid`.

        It is derived for this one purpose: HKDF-SHA256 (RFC 5869) of the secret, with the purpose
        "url" as salt and the id as info.

        Raises:
            KeyError: no live key has that id.
        """
        secret = bytes.fromhex(self._secrets.links.keys[kid].reveal())
        return hkdf_sha256(secret, salt=b"url", info=kid.encode(), length=KEY_BYTES)

    def rotate_links(self) -> str:
        """Make a new key the current one and return its id.

        The key before stays live, so its links go on until they expire; older ones end at once.
        Rotate no more often than the longest link lives.

        Raises:
            ConfigError: the file is damaged or cannot be replaced.
        """
        try:
            with _locked(self._path.parent):
                content = _load(self._path)
                old = content.links
                kid = f"k{max(map(_number, old.keys)) + 1}"
                links = _Keys(kid, {old.current: old.keys[old.current], kid: _random_key()})
                content = msgspec.structs.replace(content, links=links)
                part = _write_part(self._path, content)
                part.replace(self._path)
                fsync_folder(self._path.parent)
        except OSError as error:
            raise ConfigError(f"{self._path}: {error.strerror}.") from error
        self._secrets = content
        return kid

    def __repr__(self) -> str:
        return f"Keyring({str(self._path)!r}, current_kid={self.current_kid!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is not pickled")


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """Derive `length` bytes from `secret`: HKDF with SHA-256 (RFC 5869, section 2).

    Raises:
        ValueError: `length` is more than 255 hashes.
    """
    if not 0 < length <= 255 * hashlib.sha256().digest_size:
        raise ValueError(f"HKDF-SHA256 gives no {length} bytes")
    pseudorandom_key = hmac.digest(salt or bytes(32), secret, "sha256")
    result, block, number = b"", b"", 0
    while len(result) < length:
        number += 1
        block = hmac.digest(pseudorandom_key, block + info + bytes([number]), "sha256")
        result += block
    return result[:length]


def _number(kid: str) -> int:
    return int(kid[1:])


def _random_key() -> Secret:
    return Secret(secrets.token_hex(KEY_BYTES))


def _create(path: Path) -> None:
    """Make the file, unless somebody else does so at the same moment."""
    content = _Secrets(
        version=1,
        pepper=_Keys("p1", {"p1": _random_key()}),
        links=_Keys("k1", {"k1": _random_key()}),
    )
    part = _write_part(path, content)
    try:
        # Unlike a rename, a link does not replace a file that came first; and unlike opening the
        # file itself, it never shows a half-written one.
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
    fsync_folder(path.parent)


def _write_part(path: Path, content: _Secrets) -> Path:
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content, enc_hook=_revealed)) + b"\n")
        file.flush()
        os.fsync(descriptor)
    return part


def _revealed(value: object) -> str:
    assert isinstance(value, Secret)  # nothing else in the file's structs needs a hook
    return value.reveal()


def _kept(kind: type, value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("a key is no text")  # noqa: TRY004  (msgspec turns this one into its own)
    return kind(value)


def _load(path: Path) -> _Secrets:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Secrets, dec_hook=_kept)
        content.check()
    except (msgspec.MsgspecError, ValueError) as error:
        # Only msgspec's and our own words: they name places in the file, never its values.
        raise ConfigError(f"{path} is damaged: {error}. Restore it from a backup.") from None
    return content


def _protect(path: Path) -> None:
    """Take everybody else's access away."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        path.chmod(0o600)
        log.warning("%s was open to others (mode %03o); it is now 600", path, mode)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, against a rotation by another process at the same time."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
