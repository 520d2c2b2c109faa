"""The journal survives torn lines and says what happened; money rests on its order."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.client.runs import FolderBusy, FolderForeign
from safelight.client.runs.books import Books
from safelight.client.runs.folder import JOURNAL, RunFolder
from safelight.client.runs.history import History, RollState
from safelight.client.runs.journal import VERSION, Journal, peek
from safelight.client.runs.steps import KEY_LIFE_S, Budget, Step, next_step

DAY_S = 86_400.0
ORDERED = {"what": "ordered", "at": 100.0, "item": "a", "roll": 1, "key": "k", "price_micros": 30}
RECEIVED = {
    "what": "received",
    "at": 101.0,
    "item": "a",
    "roll": 1,
    "path": "x",
    "sha256": "0f",
    "charge_micros": 29,
}


def test_a_torn_last_line_is_cut_off_and_nothing_else(tmp_path: Path) -> None:
    """Power loss may leave part of a line, or a page of zeros; what is before it counts."""
    path = tmp_path / JOURNAL
    for torn in (b'{"what":"rec', b"\0" * 40, b"\0" * 40 + b"\n", b'{"what":"x"}'):
        path.write_bytes(b'{"what":"run","run_id":"r","at":1}\n' + torn)
        assert [line["what"] for line in peek(path)] == ["run"]
        assert path.read_bytes().endswith(torn)
        journal = Journal(path)
        journal.write("start", durable=True, items=[])
        journal.close()
        assert [line["what"] for line in peek(path)] == ["run", "start"]


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    """A journal that cannot be trusted must not order anything again."""
    path = tmp_path / JOURNAL
    path.write_bytes(b'{"what":"run"}\nrubbish\n{"what":"start"}\n')
    with pytest.raises(FolderForeign, match=f"{JOURNAL}:2"):
        Journal(path)


def test_a_journal_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    """It may say what this one does not understand."""
    path = tmp_path / JOURNAL
    path.write_text(json.dumps({"what": "run", "version": VERSION + 1}) + "\n")
    with pytest.raises(FolderForeign, match="newer"):
        Journal(path)


def test_lines_that_do_not_fit_together_are_refused() -> None:
    """A roll that was never ordered cannot have come."""
    with pytest.raises(FolderForeign, match="does not fit together"):
        History([RECEIVED])


def test_one_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    """The second is told; when the first has ended it may."""
    with RunFolder(tmp_path), pytest.raises(FolderBusy, match="another run"):
        RunFolder(tmp_path)
    with RunFolder(tmp_path):
        pass


def test_an_order_costs_when_its_picture_is_known_and_is_at_risk_before() -> None:
    """Not twice, and not only when it was accepted."""
    history = History([ORDERED])
    (roll,) = history.story("a").rolls
    assert (history.cost_micros, roll.at_risk_micros) == (0, 30)
    history.learn(RECEIVED)
    assert (history.cost_micros, roll.at_risk_micros) == (29, 0)
    history.learn({"what": "again", "item": "a", "roll": 1})
    assert (history.cost_micros, roll.at_risk_micros) == (29, 0)
    assert roll.state is RollState.ORDERED
    history.learn({**RECEIVED, "charge_micros": 29})
    assert history.cost_micros == 29


def test_a_free_failure_costs_nothing_and_a_lost_picture_does() -> None:
    """What was charged was charged, whether there is a file or not."""
    failed = History([ORDERED, {"what": "failed", "item": "a", "roll": 1, "reason": "no"}])
    assert failed.cost_micros == 0
    lost = History([ORDERED, {"what": "lost", "item": "a", "roll": 1, "charge_micros": 30}])
    assert lost.cost_micros == 30


def test_what_comes_next_follows_from_the_newest_roll() -> None:
    """An order that may be under way is asked for under its key, or looked up when that is old."""
    history = History([])
    story = history.story("a")
    assert next_step(story, rerolls=0, now=0.0) is Step.ORDER
    history.learn(ORDERED)
    assert next_step(story, rerolls=0, now=100.0 + KEY_LIFE_S - 1) is Step.COLLECT
    assert next_step(story, rerolls=0, now=100.0 + KEY_LIFE_S) is Step.LOOK_UP
    history.learn(RECEIVED)
    assert next_step(story, rerolls=0, now=DAY_S) is Step.JUDGE
    history.learn({"what": "rejected", "item": "a", "roll": 1, "path": "y"})
    assert next_step(story, rerolls=0, now=DAY_S) is Step.REVIEW
    assert next_step(story, rerolls=1, now=DAY_S) is Step.ORDER
    history.learn({**ORDERED, "roll": 2})
    history.learn({"what": "failed", "item": "a", "roll": 2})
    assert next_step(story, rerolls=1, now=DAY_S) is Step.ORDER
    history.learn({**ORDERED, "roll": 3})
    history.learn({**RECEIVED, "roll": 3})
    history.learn({"what": "accepted", "item": "a", "roll": 3, "path": "z"})
    assert next_step(story, rerolls=0, now=DAY_S) is Step.DONE
    assert story.cost_micros == 58


async def test_a_picture_never_takes_the_place_of_another_items(tmp_path: Path) -> None:
    """A changed row may want the old one's name: the old picture is put aside, and found there."""
    with RunFolder(tmp_path) as folder:
        books = Books(folder)
        (tmp_path / "hero.png").write_bytes(b"old")
        (folder.incoming / "new.png").write_bytes(b"new")
        books.history.learn(ORDERED)
        books.history.learn(RECEIVED)
        books.history.learn({"what": "accepted", "item": "a", "roll": 1, "path": "hero.png"})
        await books.put_in_place(".safelight/incoming/new.png", "hero.png", "of new")
    assert (tmp_path / "hero.png").read_bytes() == b"new"
    assert (tmp_path / "replaced" / "hero.png").read_bytes() == b"old"
    roll = books.history.story("a").accepted
    assert roll is not None
    assert roll.path == "replaced/hero.png"


# --- the bound on the cost -------------------------------------------------------------------

prices = st.lists(st.integers(0, 50), min_size=1, max_size=30)


@given(limit=st.integers(0, 400), wanted=prices, free=st.lists(st.booleans(), max_size=30))
def test_a_run_never_orders_beyond_its_bound(
    limit: int, wanted: list[int], free: list[bool]
) -> None:
    """However orders come and end: what is spent and what is under way stay within it."""

    async def spend() -> None:
        budget = Budget(limit, spent_micros=0)
        under_way: list[tuple[str, int]] = []

        async def order(number: int, price: int) -> None:
            if await budget.hold(str(number), price):
                assert budget.spent_micros + budget.held_micros <= limit
                under_way.append((str(number), price))

        tasks = [asyncio.create_task(order(at, price)) for at, price in enumerate(wanted)]
        ends = iter([*free, *[False] * len(wanted)])
        while not all(task.done() for task in tasks) or under_way:
            await asyncio.sleep(0)
            if under_way:
                key, price = under_way.pop(0)
                await budget.settle(key, 0 if next(ends) else price)
        await asyncio.gather(*tasks)
        assert budget.spent_micros <= limit

    asyncio.run(spend())


async def test_an_order_waits_for_money_that_may_come_back() -> None:
    """A free failure makes room; a charge does not."""
    budget = Budget(50, spent_micros=0)
    assert await budget.hold("one", 30)
    waiting = asyncio.create_task(budget.hold("two", 30))
    await asyncio.sleep(0)
    assert not waiting.done()
    await budget.settle("one", 0)
    assert await waiting
    await budget.settle("two", 30)
    assert not await budget.hold("three", 30)
    assert budget.spent_micros == 30


async def test_an_order_that_nobody_finds_out_about_keeps_nobody_waiting() -> None:
    """It counts as spent, and the run ends at its bound instead of hanging."""
    budget = Budget(50, spent_micros=0)
    budget.hold_known("of an earlier start", 10)
    assert await budget.hold("one", 30)
    waiting = asyncio.create_task(budget.hold("two", 20))
    await asyncio.sleep(0)
    assert not waiting.done()
    await budget.doubt("one")
    assert not await waiting
    assert budget.held_micros == 40
    assert await budget.hold("of an earlier start", 0)


async def test_nobody_waits_for_money_when_the_run_stops() -> None:
    """What is under way may take minutes."""
    budget = Budget(30, spent_micros=0)
    assert await budget.hold("one", 30)
    waiting = asyncio.create_task(budget.hold("two", 30))
    await asyncio.sleep(0)
    await budget.give_up_waiting()
    assert not await waiting
