"""Upkeep of the pool: what it learns is kept and shared, refused credentials are looked at again.

Owns the traffic between the pool, which is in memory, and its rows, which all processes on one
database share and which outlive a restart. The pool decides; this carries.
"""

from __future__ import annotations

import asyncio
import logging

from safelight import account_pauses, limiters
from safelight.db import Transaction
from safelight.errors import UpstreamError
from safelight.gateway.parts import Parts
from safelight.pool import AccountView, Learnt
from safelight.types import Account

log = logging.getLogger("safelight.pool")

SHARE_S = 2.0
"""How often what was learnt is written and read."""
SHOW_S = 5.0
"""How often the state of the accounts is written, for people."""
PROBE_TIMEOUT_S = 20.0
PROBE_PAUSE_MAX = 20
"""Looks at a credential that is refused again and again grow rarer, up to so many pauses apart."""
SILENT_MS = 3600 * 1000


class Upkeep:
    """Keeps one process's pool.

    Args:
        parts: rooms below.
        owner: name of this process.
    """

    def __init__(self, parts: Parts, *, owner: str) -> None:
        self._parts = parts
        self._owner = owner
        self._seen: dict[str, int] = {}
        self._showing = asyncio.Lock()
        """Two timers show: what both insert at once, one of them could not on Postgres."""
        self._looks = 0
        self._probe_at: dict[str, int] = {}
        self._shown: list[tuple[str, str, float]] = []

    async def share(self) -> None:
        """Write what this process has learnt, then take over what others have, and what is paused.

        Where the word for an account has changed, or its score by a tenth, it is written at once,
        not at the next `show`.
        """
        pool, clock = self._parts.pool, self._parts.clock
        now = clock.monotonic()
        learnt = {name: one.keep(now) for name, one in pool.limiters.items() if one.changed}

        def work(tx: Transaction) -> tuple[list[limiters.LimiterRow], set[str]]:
            for name, one in learnt.items():
                limiters.keep_limiter(tx, _row(name, one, tx.now_ms))
            return limiters.all_limiters(tx), set(account_pauses.all_pauses(tx))

        try:
            rows, paused = await (
                self._parts.db.write(work) if learnt else self._parts.db.read(work)
            )
        except BaseException:
            for name in learnt:
                pool.limiters[name].changed = True
            raise
        now, now_ms = clock.monotonic(), clock.now_ms()
        for row in rows:
            limiter = pool.limiters.get(row.name)
            # Not "later": the wall clock may have been set back since.
            news = row.changed_at != self._seen.get(row.name)
            self._seen[row.name] = row.changed_at
            if limiter is not None and news and row.name not in learnt:
                limiter.adopt(_learnt(row, now_ms), now)
        pool.pause(paused)
        if self._shown and self._words() != self._shown:
            await self.show()

    async def show(self) -> None:
        """Write how the accounts do."""

        def work(tx: Transaction) -> None:
            limiters.keep_account_states(tx, self._owner, rows)
            limiters.forget_account_states(tx, before_ms=tx.now_ms - SILENT_MS)

        async with self._showing:
            self._shown = self._words()
            now_ms = self._parts.clock.now_ms()
            rows = [self._state(view, now_ms) for view in self._parts.pool.views()]
            await self._parts.db.write(work)

    async def leave(self) -> None:
        """Write what was learnt last, and take the states of the accounts away."""
        self._shown = []
        await self.share()
        await self._parts.db.write(lambda tx: limiters.keep_account_states(tx, self._owner, []))

    async def probe(self) -> None:
        """Ask, at no cost, whether a refused credential is accepted again."""
        self._looks += 1
        for account, refusals in self._parts.pool.refused_accounts():
            # Also where the probe passes and pictures are refused all the same: rarer each time.
            pause = min(2 ** max(0, refusals - 1), PROBE_PAUSE_MAX)
            due = self._probe_at.setdefault(account.name, self._looks + pause - 1)
            if due > self._looks:
                continue
            self._probe_at[account.name] = self._looks + pause
            if await self._accepted(account):
                del self._probe_at[account.name]
                self._parts.pool.accept(account.name)
                log.warning("credential is accepted again", extra={"account": account.name})

    async def _accepted(self, account: Account) -> bool:
        deadline = self._parts.clock.monotonic() + PROBE_TIMEOUT_S
        try:
            await self._parts.upstreams[account.upstream].probe(account, deadline=deadline)
        except UpstreamError as error:
            log.info("probe failed", extra={"account": account.name, "code": error.code})
            return False
        return True

    def _words(self) -> list[tuple[str, str, float]]:
        views = self._parts.pool.views()
        return [(view.state, view.reason, round(view.score, 1)) for view in views]

    def _state(self, view: AccountView, now_ms: int) -> limiters.AccountStateRow:
        until = None if view.until_s is None else now_ms + round(view.until_s * 1000)
        return limiters.AccountStateRow(
            account=view.account.name,
            owner=self._owner,
            state=view.state,
            reason=view.reason,
            until=until,
            in_flight=view.in_flight,
            score=view.score,
            fail_share=view.fail_share,
        )


def _row(name: str, learnt: Learnt, now_ms: int) -> limiters.LimiterRow:
    return limiters.LimiterRow(
        name=name,
        images_per_minute=learnt.images_per_minute,
        learnt=learnt.learnt,
        configured=learnt.configured,
        cooling_until=now_ms + round(learnt.cooling_s * 1000),
        exhausted_until=now_ms + round(learnt.exhausted_s * 1000),
        changed_at=now_ms,
        other_limits=learnt.others,
    )


def _learnt(row: limiters.LimiterRow, now_ms: int) -> Learnt:
    # Written later than now: the wall clock was set back, and these times with it.
    at_ms = max(now_ms, row.changed_at)
    return Learnt(
        images_per_minute=row.images_per_minute,
        learnt=row.learnt,
        configured=row.configured,
        cooling_s=max(0.0, (row.cooling_until - at_ms) / 1000),
        exhausted_s=max(0.0, (row.exhausted_until - at_ms) / 1000),
        others=row.other_limits,
    )
