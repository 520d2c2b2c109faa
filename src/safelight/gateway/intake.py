"""Pictures that callers send, on their way into the blob store: judged, made anew, kept.

Owns the order of these steps, and the memory of which upload became which blob: a team that edits
one photo thirty times has it decoded once. Nothing of an upload but its pixels is ever kept or sent
on; how they are made anew is `images`' business.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from pathlib import Path

from safelight import images
from safelight.errors import StorageError
from safelight.gateway.parts import Parts
from safelight.gateway.removing import keep_input
from safelight.types import BlobRef

KNOWN_MAX = 4096


class Intake:
    """Takes callers' pictures in.

    Args:
        parts: rooms below.
        max_file_bytes: longest upload.
    """

    def __init__(self, parts: Parts, *, max_file_bytes: int) -> None:
        self._parts = parts
        self._max_file_bytes = max_file_bytes
        self._known: OrderedDict[str, BlobRef] = OrderedDict()
        """What uploads became, by the digest of their bytes; the newest ones."""

    async def stage(self, path: Path, *, param: str) -> BlobRef:
        """Keep the pixels of the upload at `path`, and return what they are now.

        Raises:
            InvalidImage: it is no usable picture; names `param`.
            Unavailable: it cannot be decoded, or kept, at the moment.
            StorageError: the store cannot keep it.
        """
        found = await self._parts.pixels.describe_input(
            path, max_bytes=self._max_file_bytes, param=param
        )
        known = self._known.get(found.digest)
        if known is not None and await self._kept_again(known, param):
            self._known.move_to_end(found.digest)
            return known
        # Beside the upload, whose folder is swept when this process is found dead.
        clean = path.with_name(path.name + ".clean")
        try:
            blob = await self._parts.pixels.clean_input(path, clean, found, param=param)
            await keep_input(self._parts, clean, blob.digest, images.InputProof(param))
        finally:
            with contextlib.suppress(OSError):  # what stays is swept when this process has ended
                clean.unlink(missing_ok=True)
        self._known[found.digest] = blob
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return blob

    async def _kept_again(self, blob: BlobRef, param: str) -> bool:
        """Keep what is stored already, as if it came anew; False if it is not there any more."""
        try:
            path = await self._parts.storage.local_path(blob.digest)
            await keep_input(self._parts, path, blob.digest, images.InputProof(param), given=False)
        except (StorageError, FileNotFoundError):
            return False
        return True
