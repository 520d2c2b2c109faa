"""The feed: what changes, told to open consoles a few times a second at most.

Owns one look a second at accounts, ended jobs and alerts while anybody watches, shared by all who
watch this process, and nothing at all while nobody does. News are hints to look again: a watcher
who is slow misses some, and none is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator

import msgspec

from safelight import account_pauses, accounts, alerts, customers, series
from safelight.alerts import Alert
from safelight.db import Database, Transaction
from safelight.errors import Unavailable

log = logging.getLogger("safelight.admin")

LOOK_S = 1.0
SAMPLE = 5
"""Ended jobs that are told one by one in one look; the others are counted."""
QUEUE_MAX = 50


class News(msgspec.Struct, frozen=True, kw_only=True):
    """Something that changed: `pool`, `jobs` or `alert`."""

    kind: str
    data: dict[str, object]


class Feed:
    """Watches for one process.

    Args:
        db: the database.
        every_s: seconds between looks.
    """

    def __init__(self, db: Database, *, every_s: float = LOOK_S) -> None:
        self._db = db
        self._every_s = every_s
        self._watchers: dict[asyncio.Queue[News | None], None] = {}
        self._task: asyncio.Task[None] | None = None
        self._accounts: dict[str, dict[str, object]] | None = None
        self._standing: dict[str, Alert] | None = None
        self._since_ms: int | None = None

    async def follow(self) -> AsyncGenerator[News, None]:
        """Yield what changes from now on, until nobody asks any more or the process leaves."""
        queue: asyncio.Queue[News | None] = asyncio.Queue(QUEUE_MAX + 1)
        self._watchers[queue] = None
        if self._task is None:
            self._task = asyncio.create_task(self._look_while_watched(), name="admin feed")
        try:
            while (news := await queue.get()) is not None:
                yield news
        finally:
            self._watchers.pop(queue, None)

    async def look(self) -> list[News]:
        """Return what has changed since the last look; of the first one nothing."""
        return await self._db.read(self._look)

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watchers)

    def spread(self, news: list[News]) -> None:
        """Tell all who watch; whoever is slow misses some."""
        for queue in self._watchers:
            for one in news:
                if queue.qsize() < QUEUE_MAX:
                    queue.put_nowait(one)

    async def stop(self) -> None:
        """Stop looking, and tell those who watch that nothing comes any more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for queue in self._watchers:
            queue.put_nowait(None)

    async def _look_while_watched(self) -> None:
        self._accounts = self._standing = self._since_ms = None
        try:
            while self._watchers:
                try:
                    news = await self.look()
                except Unavailable:  # the next look tells
                    news = []
                self.spread(news)
                await asyncio.sleep(self._every_s)
        finally:
            self._task = None

    def _look(self, tx: Transaction) -> list[News]:
        found = [
            *self._changed_accounts(tx),
            *self._ended_jobs(tx),
            *self._changed_alerts(tx),
        ]
        self._since_ms = tx.now_ms
        return found

    def _changed_accounts(self, tx: Transaction) -> list[News]:
        book = accounts.read(tx, since_s=0)
        pauses = account_pauses.all_pauses(tx)
        now: dict[str, dict[str, object]] = {
            name: {
                "name": name,
                "state": one.state,
                "reason": one.reason,
                "until": None if one.until is None else one.until // 1000,
                "paused": name in pauses,
            }
            for name, one in book.standings.items()
        }
        before, self._accounts = self._accounts, now
        if before is None:
            return []
        changed = [one for name, one in now.items() if _words(before.get(name)) != _words(one)]
        return [News(kind="pool", data={"accounts": changed})] if changed else []

    def _ended_jobs(self, tx: Transaction) -> list[News]:
        if self._since_ms is None:
            return []
        counts, sample = series.ended_between(
            tx, from_ms=self._since_ms, to_ms=tx.now_ms, sample=SAMPLE
        )
        if not counts:
            return []
        names = customers.names_of(tx, [one.customer_id for one in sample])
        jobs = [
            {
                "id": one.id,
                "customer": names[one.customer_id],
                "model": one.channel,
                "status": one.state,
                "completed_at": one.completed_at // 1000,
            }
            for one in sample
        ]
        return [News(kind="jobs", data={"ended": counts, "jobs": jobs})]

    def _changed_alerts(self, tx: Transaction) -> list[News]:
        now = {one.id: one for one in alerts.current(tx)}
        before, self._standing = self._standing, now
        if before is None:
            return []
        gone = [alerts.get(tx, name) or one for name, one in before.items() if name not in now]
        raised = [_told(one) for name, one in now.items() if name not in before]
        if not raised and not gone:
            return []
        resolved = [_told(one) for one in gone]
        return [News(kind="alert", data={"raised": raised, "resolved": resolved})]


def _told(alert: Alert) -> dict[str, object]:
    return {
        "id": alert.id,
        "name": alert.rule,
        "subject": alert.subject,
        "message": alert.words,
        "raised_at": alert.raised_at // 1000,
        "resolved_at": None if alert.resolved_at is None else alert.resolved_at // 1000,
    }


def _words(one: dict[str, object] | None) -> tuple[object, ...]:
    # When a state ends moves a little with every look, and is no news.
    return () if one is None else (one["state"], one["reason"], one["paused"])
