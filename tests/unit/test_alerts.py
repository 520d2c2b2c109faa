"""Alerts: raised once, resolved once, by the figures of all processes and with hysteresis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fresh_books import sqlite_books
from safelight import alerts
from safelight.alerts import Alert, Wrong
from safelight.clock import ManualClock
from safelight.config_watch import AlertsConfig
from safelight.db import Transaction
from safelight.gateway.alerting import (
    DOWNLOADS,
    GENERATION,
    HIDDEN,
    VISIBLE,
    Condition,
    Figures,
    figures_of,
    judge,
)
from safelight.metrics import Metrics

CONFIG = AlertsConfig()
BROKEN = Wrong(rule="visible_errors", words="2 % are 5xx", value=0.02, threshold=0.01)
HOLDS = Wrong(rule="visible_errors", words="0.8 %", value=0.008, threshold=0.01, holds=True)


class Desk:
    """The rows of alerts, in an hour that moves when told."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.db = sqlite_books(folder / "t.db", self.clock)
        self._made = 0

    async def settle(self, *wrong: Wrong, after_s: float = 0) -> tuple[list[str], list[str]]:
        """Settle after a while; return the rules that were raised and resolved."""
        self.clock.advance(after_s)
        self._made += 10
        ids = [f"alt_{self._made + at}" for at in range(len(wrong))]

        def work(tx: Transaction) -> tuple[list[Alert], list[Alert]]:
            return alerts.settle(tx, wrong, new_ids=ids, clear_ms=60_000)

        raised, resolved = await self.db.write(work)
        return [one.rule for one in raised], [one.rule for one in resolved]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    yield made
    await made.db.close()


async def test_what_stays_wrong_is_raised_once(desk: Desk) -> None:
    assert await desk.settle(BROKEN) == (["visible_errors"], [])
    assert await desk.settle(BROKEN, after_s=10) == ([], [])
    (standing,) = await desk.db.read(alerts.current)
    assert (standing.value, standing.threshold, standing.resolved_at) == (0.02, 0.01, None)


async def test_it_is_resolved_once_when_all_was_well_for_long_enough(desk: Desk) -> None:
    await desk.settle(BROKEN)
    assert await desk.settle(after_s=10) == ([], [])
    assert await desk.settle(after_s=59) == ([], [])
    assert await desk.settle(after_s=1) == ([], ["visible_errors"])
    assert await desk.settle(after_s=100) == ([], [])
    assert await desk.db.read(alerts.current) == []
    (past,) = await desk.db.read(alerts.history)
    assert past.resolved_at == past.raised_at + 70_000


async def test_a_relapse_begins_the_wait_anew(desk: Desk) -> None:
    await desk.settle(BROKEN)
    await desk.settle(after_s=10)
    assert await desk.settle(BROKEN, after_s=40) == ([], [])
    assert await desk.settle(after_s=30) == ([], [])
    assert await desk.settle(after_s=59) == ([], [])
    assert await desk.settle(after_s=1) == ([], ["visible_errors"])


async def test_between_the_bounds_nothing_is_raised_and_nothing_resolved(desk: Desk) -> None:
    assert await desk.settle(HOLDS) == ([], [])
    await desk.settle(BROKEN)
    for _ in range(20):
        assert await desk.settle(HOLDS, after_s=10) == ([], [])
    assert len(await desk.db.read(alerts.current)) == 1


async def test_a_clock_that_is_set_back_resolves_nothing_early(desk: Desk) -> None:
    await desk.settle(BROKEN)
    await desk.settle(after_s=10)
    desk.clock.jump(-3600)
    assert await desk.settle(after_s=5) == ([], [])
    assert await desk.settle(after_s=60) == ([], ["visible_errors"])


async def test_history_is_paged_newest_first(desk: Desk) -> None:
    for name in "abc":
        await desk.settle(Wrong(rule="account_out", subject=name, words="out"), after_s=1)
    first = await desk.db.read(lambda tx: alerts.history(tx, limit=2))
    assert [one.subject for one in first] == ["c", "b"]
    rest = await desk.db.read(lambda tx: alerts.history(tx, after=first[-1], limit=2))
    assert [one.subject for one in rest] == ["a"]


async def test_one_turn_at_a_time_over_all_processes(desk: Desk) -> None:
    async def take() -> bool:
        return await desk.db.write(lambda tx: alerts.take_turn(tx, "prober", not_within_ms=60_000))

    assert await take()
    assert not await take()
    desk.clock.advance(60)
    assert await take()
    desk.clock.jump(-3600)
    assert await take()


async def test_a_message_is_claimed_once_and_ends(desk: Desk) -> None:
    await desk.settle(BROKEN)
    (alert,) = await desk.db.read(alerts.current)
    await desk.db.write(lambda tx: alerts.insert_message(tx, alert, alerts.RAISED))
    (message,) = await desk.db.read(lambda tx: alerts.due(tx, limit=5))
    assert message.alert == alert
    next_at = desk.clock.now_ms() + 5000
    assert await desk.db.write(lambda tx: alerts.claim(tx, message, next_at=next_at))
    assert not await desk.db.write(lambda tx: alerts.claim(tx, message, next_at=next_at))
    assert await desk.db.read(lambda tx: alerts.due(tx, limit=5)) == []
    desk.clock.advance(5)
    (again,) = await desk.db.read(lambda tx: alerts.due(tx, limit=5))
    assert (again.id, again.attempts) == (message.id, 1)
    await desk.db.write(lambda tx: alerts.end_message(tx, again.id, error=None, final=True))
    assert await desk.db.read(lambda tx: alerts.due(tx, limit=5)) == []


# --- judging -------------------------------------------------------------------------------------


def rules(*figures: Figures) -> list[tuple[str, bool]]:
    return [(one.rule, one.holds) for one in judge(figures, CONFIG)]


@pytest.mark.parametrize(
    ("rule", "sums", "found"),
    [
        (GENERATION, (121.0 * 20, 20.0), [(GENERATION, False)]),
        (GENERATION, (119.0 * 20, 20.0), [(GENERATION, True)]),
        (GENERATION, (108.0 * 20, 20.0), []),
        (GENERATION, (500.0 * 19, 19.0), []),
        (VISIBLE, (11.0, 1000.0), [(VISIBLE, False)]),
        (VISIBLE, (10.0, 1000.0), [(VISIBLE, True)]),
        (VISIBLE, (5.0, 1000.0), []),
        (HIDDEN, (3.0, 20.0), [(HIDDEN, False)]),
        (DOWNLOADS, (6.0, 1000.0), [(DOWNLOADS, False)]),
        (DOWNLOADS, (2.0, 1000.0), []),
    ],
)
def test_the_thresholds_are_those_of_the_article(
    rule: str, sums: tuple[float, float], found: list[tuple[str, bool]]
) -> None:
    assert rules(Figures({rule: sums})) == found


def test_processes_are_judged_together() -> None:
    """Neither has enough answers to say anything; the one that fails is a tenth of the whole."""
    assert rules(Figures({VISIBLE: (1.0, 10.0)})) == []
    assert rules(Figures({VISIBLE: (2.0, 10.0)}), Figures({VISIBLE: (0.0, 10.0)})) == [
        (VISIBLE, False)
    ]
    assert rules(Figures({VISIBLE: (2.0, 10.0)}), Figures({VISIBLE: (0.0, 990.0)})) == []


def test_what_two_processes_see_is_one_alert() -> None:
    seen = Figures(conditions=(Condition("account_out", "a", "it is out"),))
    assert rules(seen, seen) == [("account_out", False)]


def test_figures_are_those_of_the_window() -> None:
    clock = ManualClock()
    metrics = Metrics(clock)
    metrics.probed("ok", 0.1)
    metrics.probed("timeout", 30.0)
    metrics.answered("chat", "5xx")
    assert figures_of(metrics, ()).shares == {DOWNLOADS: (1.0, 2.0), VISIBLE: (1.0, 1.0)}
    clock.advance(301)
    assert figures_of(metrics, ()) == Figures()
