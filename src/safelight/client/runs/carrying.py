"""Accepted pictures to a second place as they arrive: a folder or a bucket.

Owns what has been carried there and what could not be. The places themselves are `destinations`'.
"""

from __future__ import annotations

import asyncio

from safelight.client.destinations import Destination
from safelight.client.errors import ClientError
from safelight.client.runs.books import Books
from safelight.client.runs.history import Roll

AT_ONCE = 4
TRIES = 3


class Carrying:
    """Puts files to a destination, a few at a time.

    Args:
        destination: where to.
        address: its name, as it was given; with the file's name it says what is there already.
        books: remember what was put.
        pause_s: before the second try, seconds; doubled for the next one.
    """

    def __init__(
        self, destination: Destination, address: str, books: Books, *, pause_s: float
    ) -> None:
        self._destination = destination
        self._address = address
        self._books = books
        self._pause_s = pause_s
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self.put = 0
        self.failed: dict[str, str] = {}
        """Why a file is not there, by its name."""

    def begin(self, item_id: str, roll: Roll) -> None:
        """Carry an accepted picture away in the background, unless it is there."""
        story = self._books.history.story(item_id)
        if story.puts.get(f"{self._address} {roll.path}") == roll.sha256:
            return
        task = asyncio.create_task(self._carry(item_id, roll.path, roll.sha256))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait until all is there, or known not to come."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def leave(self) -> None:
        """Stop where it is; the next start goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, item_id: str, name: str, sha256: str) -> None:
        async with self._slots:
            for failures in range(TRIES):
                try:
                    await self._destination.put(name, self._books.folder.path / name, sha256)
                except (ClientError, OSError) as error:
                    self.failed[name] = str(error)
                    if failures + 1 < TRIES:
                        await asyncio.sleep(self._pause_s * 2.0**failures)
                    continue
                self.failed.pop(name, None)
                break
            else:
                return
        try:
            await self._books.note_of_run(
                "put", item=item_id, to=self._address, name=name, sha256=sha256
            )
        except OSError as error:
            self.failed[name] = str(error)
            return
        self.put += 1
