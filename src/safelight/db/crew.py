"""A crew: threads that each hold one session and take works from one queue.

Owns the threads, the queue, and whether the server can be reached at all; what becomes of a work is
the caller's function. A work begins only when its thread has a session, so one that waits in vain
can be withdrawn, and nothing of it has happened.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import psycopg

from safelight.db import Transaction
from safelight.db.postgres_session import Session

log = logging.getLogger("safelight.db")

PAUSE_FIRST_S, PAUSE_MAX_S = 0.05, 0.5
SLOW_OPENING_S = 0.5
"""A server that has not let anybody in for this long counts as away."""

Work = Callable[[Transaction], Any]


class Task:
    """A work that waits for its turn, and the future of its result."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.future: Future[Any] = Future()
        self._lock = threading.Lock()

    def begin(self) -> bool:
        """Take it up; False when it was withdrawn. From here on it runs to its end."""
        with self._lock:
            return not self.future.done() and self.future.set_running_or_notify_cancel()

    def refuse(self, error: Exception) -> bool:
        """Withdraw it with an error; False when it has begun."""
        with self._lock:
            if self.future.running() or self.future.done():
                return False
            self.future.set_exception(error)
            return True

    def run(self, do: Callable[[Work], Any]) -> None:
        """Do the work, which has begun, and tell whoever waits."""
        try:
            result = do(self.work)
        except BaseException as error:  # noqa: BLE001  (handed to the caller that submitted the work)
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Door:
    """Whether the server lets anybody in: what all threads on one database know together."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._opening: dict[Session, float] = {}

    def shut_for_s(self) -> float:
        """Return for how many seconds nobody was let in who tried; 0: the door is open."""
        now = time.monotonic()
        with self._lock:
            slow = now - min(self._opening.values(), default=now)
            if self._away_since is not None:
                return now - self._away_since
            return slow if slow > SLOW_OPENING_S else 0.0

    def open(self, session: Session) -> bool:
        """Try once to open a session; the first failure and the return are logged."""
        with self._lock:
            self._opening[session] = time.monotonic()
        try:
            session.open()
        except psycopg.Error as error:
            self._note(session, away=True, said=str(error))
            return False
        self._note(session, away=False)
        return True

    def wait(self, tries: int) -> None:
        """Pause before the next try, longer each time and never all at once."""
        longest = min(PAUSE_FIRST_S * 2**tries, PAUSE_MAX_S)
        time.sleep(longest * self._rng.uniform(0.5, 1.0))

    def _note(self, session: Session, *, away: bool, said: str = "") -> None:
        with self._lock:
            began = self._opening.pop(session)
            before = self._away_since is not None
            if not away:
                self._away_since = None
            elif not before:
                self._away_since = began
        if away and not before:
            log.error("the database cannot be reached", extra={"fault": said})
        elif before and not away:
            log.warning("the database is back")


class Crew:
    """Threads that serve one queue.

    Args:
        name: of the threads.
        size: how many.
        door: shared by the crews of one database.
        make_session: called once by each thread.
        do: runs one work in a session that is open, or was a moment ago.
        after: called when a work has ended and its caller has been told.
    """

    def __init__(
        self,
        name: str,
        size: int,
        door: Door,
        make_session: Callable[[], Session],
        do: Callable[[Session, Work], Any],
        after: Callable[[Session], None] | None = None,
    ) -> None:
        self._door = door
        self._make_session = make_session
        self._do = do
        self._after = after
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{k}", daemon=True)
            for k in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, task: Task) -> None:
        """Queue a work."""
        self._queue.put(task)

    def finish(self) -> None:
        """Do what is queued, then end; returns when all threads have."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        session = self._make_session()
        try:
            while (task := self._queue.get()) is not None:
                if self._opened(session, task) and task.begin():
                    task.run(lambda work: self._do(session, work))
                    if self._after is not None:
                        self._after(session)
        finally:
            session.close()

    def _opened(self, session: Session, task: Task) -> bool:
        """Open the session unless it is; False when nobody waits for the task any more."""
        tries = 0
        while not session.is_open:
            if task.future.done():
                return False
            if not self._door.open(session):
                self._door.wait(tries)
                tries += 1
        return True
