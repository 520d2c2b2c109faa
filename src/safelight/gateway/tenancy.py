"""Whose store it is: one set of books has one store for all its processes, and no other has it.

Owns the agreement at the start of a process. The books say where their pictures are; a store says
whose it is. A mistake here would be dear: pictures in two places, or a sweep that removes what
another installation has.
"""

from __future__ import annotations

import logging

from safelight import installations
from safelight.errors import STORAGE_UNAVAILABLE, ConfigError, StorageError
from safelight.gateway.parts import Parts
from safelight.storage import address

log = logging.getLogger("safelight.storage")


async def agree_on_store(parts: Parts, url: str) -> None:
    """See that the books' pictures are in this process's store, and that it is theirs.

    A store that does not answer now is believed: nothing is removed from it before it has.

    Args:
        parts: with that store.
        url: its address, empty for the data folder.

    Raises:
        ConfigError: the pictures are elsewhere, or the store is another installation's.
    """
    new_id = parts.new_id("ins")
    ours, noted = await parts.db.write(
        lambda tx: installations.identify(tx, new_id=new_id, store=url)
    )
    if noted != url:
        raise ConfigError(
            f"the pictures of these books are in {address.in_words(noted)}, and this process would "
            f"keep them in {address.in_words(url)}; set {address.VARIABLE}, or move them: "
            "safelight storage move"
        )
    if url == address.FOLDER:
        return
    try:
        owner = await parts.storage.claim(ours)
    except StorageError as error:
        if error.code == STORAGE_UNAVAILABLE:
            log.exception("the object store does not answer")
            return
        raise ConfigError(str(error)) from error
    if owner != ours:
        raise ConfigError(
            f"{address.in_words(url)} belongs to another installation; choose another bucket or "
            "prefix"
        )
