"""How fast a key may ask: requests per minute, jobs in flight, jobs in the queue.

Owns the rule of each and the true time to come again. Counted in the database, in the transaction
that accepts the order, so that they hold over all processes; an order that is joined is not
counted. What an operator set for a key stands above the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from safelight import backlog, customers, jobs
from safelight.config import LimitsConfig, QueueConfig
from safelight.db import Transaction
from safelight.errors import InvalidValue, RateLimited
from safelight.notices import LimitNotice
from safelight.types import Job

WINDOW_MS = 60_000
LOOKED_AT = 32
"""Jobs that are looked at for when one will have ended: a flood must not read thousands."""
AGAIN_MIN_S = 1.0
QUEUE_AGAIN_S = 60.0
"""When to come again to a full queue: nobody can say when others will have been served."""


class Crowded(Exception):
    """A key has as many jobs in flight as it may.

    Args:
        limit: how many.
        over: how many of them must end before the new order fits.
        oldest: those that have been open longest.
        notices: what the answer's headers tell.
    """

    def __init__(
        self, limit: int, over: int, oldest: Sequence[Job], notices: tuple[LimitNotice, ...]
    ) -> None:
        super().__init__(limit, over)
        self.limit = limit
        self.over = over
        self.oldest = oldest
        self.notices = notices

    def refusal(self, expected_s: Callable[[Job], float], now_ms: int) -> RateLimited:
        """Return the answer.

        Args:
            expected_s: in how many seconds a job will have ended.
            now_ms: the present, milliseconds since 1970.
        """
        ends = sorted(
            min(expected_s(job), (job.deadline_at - now_ms) / 1000) for job in self.oldest
        )
        # None is left where they have ended since they were counted.
        wait_s = max([AGAIN_MIN_S, *ends[: self.over][-1:]])
        return RateLimited(
            f"This key has as many pictures in flight as it may ({self.limit}); "
            f"send the request again in {wait_s:.0f} s.",
            retry_after_s=wait_s,
            limits=self.notices,
        )


class KeyLimits:
    """Admits the orders of keys, or says when to come again.

    Args:
        defaults: for keys without limits of their own.
        queue: how many jobs of a key may wait in the queue.
    """

    def __init__(self, defaults: LimitsConfig, queue: QueueConfig) -> None:
        self._defaults = defaults
        self._queue = queue

    def admit(
        self, tx: Transaction, key_id: str, n: int, *, queued: bool = False
    ) -> tuple[LimitNotice, ...]:
        """Return what a new order of `n` pictures leaves of the key's limits.

        Called when the row of its request is written, and before those of its jobs.

        Args:
            tx: the transaction that accepts the order.
            key_id: whose limits.
            n: pictures.
            queued: whether they are to wait in the queue: then they are not in flight yet.

        Raises:
            RateLimited: the key has sent as many requests in the last minute as it may, or has as
                many jobs in the queue.
            Crowded: it has as many jobs in flight as it may.
            InvalidValue: it may never have so many in flight.
        """
        per_minute, in_flight = self._of(tx, key_id)
        if not per_minute and not in_flight and not queued:
            return ()
        # Whoever else counts for this key waits until this order is counted.
        tx.lock(f"key:{key_id}")
        notices = _admit_request(tx, key_id, per_minute) if per_minute else ()
        if queued:
            self._admit_to_queue(tx, key_id, n, notices)
        elif in_flight:
            _admit_jobs(tx, key_id, in_flight, n, notices)
        return notices

    def may_run_another(self, tx: Transaction, key_id: str) -> bool:
        """Return whether a key has fewer jobs in flight than it may."""
        _, in_flight = self._of(tx, key_id)
        if not in_flight:
            return True
        tx.lock(f"key:{key_id}")
        return jobs.count_open_of_key(tx, key_id) < in_flight

    def _of(self, tx: Transaction, key_id: str) -> tuple[int, int]:
        """Return requests per minute and jobs in flight; 0 is no limit."""
        own = customers.limits_of(tx, key_id)
        per_minute, in_flight = own.requests_per_minute, own.max_in_flight
        if per_minute is None:
            per_minute = self._defaults.requests_per_minute
        if in_flight is None:
            in_flight = self._defaults.max_in_flight
        return per_minute, in_flight

    def _admit_to_queue(
        self, tx: Transaction, key_id: str, n: int, notices: tuple[LimitNotice, ...]
    ) -> None:
        limit = self._queue.max_waiting_per_key
        if backlog.count_of_key(tx, key_id) + n > limit:
            raise RateLimited(
                f"This key has as many pictures in the queue as it may ({limit}); "
                "let some finish and send the request again.",
                retry_after_s=QUEUE_AGAIN_S,
                limits=notices,
            )


def _admit_request(tx: Transaction, key_id: str, limit: int) -> tuple[LimitNotice, ...]:
    # A request of a later time than any clocks differ by is of a clock that was set back since.
    since, until = tx.now_ms - WINDOW_MS, tx.now_ms + WINDOW_MS
    count = jobs.requests_since(tx, key_id, since_ms=since, until_ms=until)
    if count <= limit:
        left, reset_s = limit - count, WINDOW_MS / 1000
        return (LimitNotice(unit="requests", limit=limit, remaining=left, reset_s=reset_s),)
    # The newest is the one to be refused.
    newest = jobs.time_of_request(tx, key_id, back=1, until_ms=until)
    leaver = jobs.time_of_request(tx, key_id, back=limit, until_ms=until)
    wait_s = _leaves_in_s(leaver, tx.now_ms)
    raise RateLimited(
        f"This key may send {limit} request{'' if limit == 1 else 's'} a minute; "
        f"send this one again in {wait_s:.0f} s.",
        retry_after_s=max(AGAIN_MIN_S, wait_s),
        limits=(
            LimitNotice(
                unit="requests",
                limit=limit,
                remaining=0,
                reset_s=_leaves_in_s(newest, tx.now_ms),
            ),
        ),
    )


def _leaves_in_s(came_at: int | None, now_ms: int) -> float:
    """Return after how many seconds a request does not count any more."""
    return 0.0 if came_at is None else (came_at + WINDOW_MS - now_ms) / 1000


def _admit_jobs(
    tx: Transaction, key_id: str, limit: int, n: int, notices: tuple[LimitNotice, ...]
) -> None:
    if n > limit:
        raise InvalidValue(
            f"This key may have {limit} pictures in flight; ask for at most so many at once.",
            param="n",
        )
    over = jobs.count_open_of_key(tx, key_id) + n - limit
    if over > 0:
        oldest = jobs.oldest_open_of_key(tx, key_id, limit=LOOKED_AT)
        raise Crowded(limit, over, oldest, notices)
