"""Making names survive power loss: a new name is durable only when its folder is fsynced too.

Owns that one rule, which the data folder, the spool, the blob store and the keyring share.
"""

from __future__ import annotations

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make `folder`, and those above it that are missing, for their owner only, durably.

    Raises:
        OSError: it cannot be made, or something else has the name.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
