"""Room: how many jobs may be in flight in this process.

Owns the count. It is taken inside the transaction that inserts the jobs, one after another on the
writer's thread, so that orders that come together cannot all pass; it is given back in the event
loop when a job's run ends.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from safelight.errors import Unavailable


class Room:
    """At most `limit` jobs."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._taken: set[str] = set()

    @property
    def free(self) -> int:
        """How many more jobs there is room for."""
        return self.limit - len(self._taken)

    def take(self, job_ids: Collection[str]) -> None:
        """Make room for new jobs; for those that have it already, again.

        Raises:
            Unavailable: there is none; nothing was taken.
        """
        with self._lock:
            if len(self._taken.union(job_ids)) > self.limit:
                raise Unavailable(
                    "The gateway has as many jobs in flight as it may; send the request again.",
                    code="too_many_in_flight",
                    retry_after_s=5,
                    should_retry=True,
                )
            self._taken.update(job_ids)

    def occupy(self, job_id: str) -> None:
        """Count a job that runs, also one that an earlier process left."""
        with self._lock:
            self._taken.add(job_id)

    def give_back(self, job_id: str) -> None:
        """Say that a job is not in flight any more."""
        with self._lock:
            self._taken.discard(job_id)

    def forget(self, job_ids: Collection[str]) -> None:
        """Give back what was taken for jobs that were not inserted after all."""
        with self._lock:
            self._taken.difference_update(job_ids)
