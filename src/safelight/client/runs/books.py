"""The books of a run: its folder, its journal, and the history that both tell.

Owns that a line is in the journal before the history has it, and that no file of another item is
ever written over.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from safelight.client.runs.faults import DiskFull, RunStopped
from safelight.client.runs.folder import FULL, RunFolder
from safelight.client.runs.history import History, Roll
from safelight.client.runs.journal import VERSION

REPLACED = "replaced"
"""Where pictures go whose name another one takes."""


class Books:
    """A run's folder with its past; lines go into both.

    Args:
        folder: locked by this process.

    Raises:
        FolderForeign: what is in it does not fit together.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.history = History(folder.journal.lines)

    async def begin(self, name: str, plan_digest: str, ids: tuple[str, ...]) -> None:
        """Write down that a start begins; the first one names the run.

        Raises:
            OSError: the journal cannot be written.
        """
        if not self.history.run_id:
            run_id = f"run-{secrets.token_hex(6)}"
            await self._write("run", durable=True, run_id=run_id, name=name, version=VERSION)
        await self._write("start", durable=True, plan=plan_digest, items=list(ids))

    async def note(
        self, what: str, item_id: str, number: int, *, durable: bool = False, **facts: Any
    ) -> None:
        """Write down what happened to a roll.

        Raises:
            OSError: it could not be written; the history does not have it either.
        """
        await self._write(what, durable=durable, item=item_id, roll=number, **facts)

    async def note_of_run(self, what: str, **facts: Any) -> None:
        """Write down what happened to the run as a whole.

        Raises:
            OSError: as `note`.
        """
        await self._write(what, durable=False, **facts)

    async def _write(self, what: str, *, durable: bool, **facts: Any) -> None:
        at = round(time.time(), 3)
        journal = self.folder.journal
        if durable:
            line = await asyncio.to_thread(journal.write, what, durable=True, at=at, **facts)
        else:
            line = journal.write(what, at=at, **facts)
        self.history.learn(line)

    async def ask_again(self, item_id: str, roll: Roll) -> None:
        """Write down that a picture is fetched again under its order's key."""
        await self.note("again", item_id, roll.number)

    async def put_in_place(self, source: str, target: str, sha256: str) -> None:
        """Give an accepted picture its name; what bears that name already is put aside."""
        folder = self.folder
        if source == target:
            return
        if (folder.path / target).exists() and not folder.holds(target, sha256):
            await self._put_aside(target)
        await asyncio.to_thread(folder.move, source, target)

    async def _put_aside(self, name: str) -> None:
        """Move a file whose name is taken, and say so where an item's story knows it."""
        place, number = f"{REPLACED}/{name}", 1
        while (self.folder.path / place).exists():
            number += 1
            place = f"{REPLACED}/{number}/{name}"
        await asyncio.to_thread(self.folder.move, name, place)
        for item_id, story in self.history.stories.items():
            roll = story.accepted
            if roll is not None and roll.path == name:
                await self.note("accepted", item_id, roll.number, path=place)

    def trouble(self, error: OSError) -> RunStopped:
        """Return in words what a failed write means for the run."""
        where = error.filename or self.folder.path
        if error.errno in FULL:
            return DiskFull(f"{where}: {error.strerror}; nothing more is ordered")
        return RunStopped(f"{where}: {error.strerror or error}; nothing more is ordered")
