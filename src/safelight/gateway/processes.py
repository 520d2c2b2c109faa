"""Which processes serve this database now, and this one's own signs of life.

Owns the judgement who lives. Of a process with the same data folder the kernel knows: its file is
locked or not (`process_files`), and that decides at once. Of a process elsewhere there is only its
row, whose count it raises every few seconds (`heartbeats`): it is dead when this process has itself
watched the count stand still for a whole lease, or when the row is gone.

Only this process's own monotonic clock counts, and only while it looked: no wall clock and no
database's clock can end a lease by a jump, and an observer that was paused, or had no database,
does not take its own absence for another's silence: it has to find the count unchanged several
times, whatever time has passed between.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from safelight import heartbeats
from safelight.clock import Clock, SystemClock
from safelight.db import Database, Transaction
from safelight.gateway.process_files import ProcessFiles

LEASE_S = 35.0
BEAT_S = 5.0
"""How often a process gives a sign of life; for short leases four times in each. With this a silent
process's jobs are taken over 50 s after its end at the latest: a lease, two beats and a look."""
PAUSE_MAX = 1.5
"""Of the time between two looks at most so many usual pauses count as watched."""


class _Seen(msgspec.Struct, frozen=True):
    beats: int
    since: float
    """When the count was first seen here, in seconds watched, rather too late than too early."""


class Processes:
    """The living processes of one database, this one among them while the object is in use.

    Args:
        root: folder of the process files; it is made where missing.
        owner: name of this process, never used before: leases and attachments carry it.
        clock: its monotonic seconds measure the silence of others.
        lease_s: after how long a silence a process elsewhere is dead.

    Raises:
        ConfigError: the folder's file system cannot lock files.
    """

    def __init__(
        self, root: Path, owner: str, *, clock: Clock | None = None, lease_s: float = LEASE_S
    ) -> None:
        self.owner = owner
        self.files = ProcessFiles(root, owner)
        self.beat_s = min(BEAT_S, lease_s / 4)
        self._clock = clock or SystemClock()
        self._lease_s = lease_s
        self._counts = itertools.count(1)
        self._host = socket.gethostname()
        self._seen: dict[str, _Seen] = {}
        self._silent: Mapping[str, int] = {}
        self._asked_at = float("-inf")
        self._watched_s = 0.0
        self._retired = False

    def alive(self, tx: Transaction, owner: str) -> bool:
        """Return whether a process may still be at work. Usable on any thread."""
        locked = self.files.locked(owner)
        if locked is not None:
            return locked
        beats = heartbeats.beats_of(tx, owner)
        # A count that was not seen before is a sign of life, whatever was thought until now.
        return beats is not None and self._silent.get(owner) != beats

    async def beat(self, db: Database) -> None:
        """Give a sign of life, register if need be, and look for those of the others.

        Raises:
            Unavailable: the database is away; then nobody is judged either.
        """
        count = next(self._counts)

        def work(tx: Transaction) -> dict[str, int]:
            heartbeats.beat(tx, self.owner, self._host, count)
            return heartbeats.all_beats(tx)

        asked_at = self._clock.monotonic()
        self._observe(await db.write(work), asked_at)

    async def retire(self, db: Database) -> None:
        """Take this process's row away: others then need not wait for the end of its lease.

        Raises:
            Unavailable: the database is away; the row stays.
        """
        await db.write(lambda tx: heartbeats.remove(tx, self.owner))
        self._retired = True

    def leave(self) -> None:
        """Let go of the data folder; what this process left there may be taken over.

        With its row still there its file stays, too: unlocked it says that the process is dead,
        where the row alone would have it live until the end of its lease.
        """
        if self._retired:
            self.files.leave()
        else:
            self.files.die()

    def _observe(self, beats: Mapping[str, int], asked_at: float) -> None:
        """Note which counts stand still.

        Args:
            beats: as they were at some moment between `asked_at` and now.
            asked_at: monotonic seconds.
        """
        longest_s = PAUSE_MAX * self.beat_s
        self._watched_s += min(asked_at - self._asked_at, longest_s)
        self._asked_at = asked_at
        since = self._watched_s + min(self._clock.monotonic() - asked_at, longest_s)
        seen = {}
        for owner, count in beats.items():
            before = self._seen.get(owner)
            if before is None or before.beats != count:
                before = _Seen(count, since)
            seen[owner] = before
        self._seen = seen
        # Replaced as a whole: transactions read it on other threads.
        self._silent = {
            owner: one.beats
            for owner, one in seen.items()
            if owner != self.owner and self._watched_s - one.since >= self._lease_s
        }
