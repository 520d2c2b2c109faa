"""The rows of the pool over a real database: the shared last minute, limits and states."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from attempt_books import AttemptBooks
from safelight import attempts, limiters
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.limiters import AccountStateRow, LimiterRow
from safelight.types import Job

WINDOW_MS = 61_000


@pytest.fixture
async def books(tmp_path: Path, database_url: str) -> AsyncIterator[AttemptBooks]:
    made = await AttemptBooks(tmp_path, ManualClock(), url=database_url).open()
    yield made
    await made.db.close()


async def send(books: AttemptBooks, *, group: str = "org", inputs: int = 0) -> Job:
    job = await books.job()
    await books.write(
        lambda tx: attempts.begin(tx, job, k=1, account="a", group=group, input_images=inputs)
    )
    return job


async def free_in(books: AttemptBooks, images: int, group: str = "org") -> float | None:
    """Return the seconds until the group may send again, None: now."""

    def look(tx: Transaction) -> float | None:
        at = limiters.free_at(tx, group, images=images, window_ms=WINDOW_MS)
        return None if at is None else (at - tx.now_ms) / 1000

    return await books.write(look)


async def inputs_free_in(books: AttemptBooks, inputs: int, most: int) -> float | None:
    def look(tx: Transaction) -> float | None:
        at = limiters.inputs_free_at(tx, "org", inputs=inputs, most=most, window_ms=WINDOW_MS)
        return None if at is None else (at - tx.now_ms) / 1000

    return await books.write(look)


def learnt(name: str = "org", **more: object) -> LimiterRow:
    values: dict[str, object] = {
        "images_per_minute": 12.5,
        "learnt": True,
        "configured": 20,
        "cooling_until": 1000,
        "exhausted_until": 2000,
        "changed_at": 500,
        **more,
    }
    return LimiterRow(name=name, **values)  # type: ignore[arg-type]


# --- the last minute -------------------------------------------------------------------------


async def test_a_group_that_has_sent_nothing_may_send(books: AttemptBooks) -> None:
    assert await free_in(books, images=1) is None
    await send(books, group="other")
    assert await free_in(books, images=1) is None


async def test_a_full_minute_says_when_its_oldest_place_is_free(books: AttemptBooks) -> None:
    for _ in range(3):
        await send(books)
        books.clock.advance(10)
    assert await free_in(books, images=4) is None
    assert await free_in(books, images=3) == 31
    assert await free_in(books, images=2) == 41
    books.clock.advance(31)
    assert await free_in(books, images=3) is None


async def test_failed_attempts_count_as_well(books: AttemptBooks) -> None:
    job = await send(books)
    await books.end(job, "fast", sold=False)
    assert await free_in(books, images=1) == 61


async def test_of_many_that_ask_at_once_no_more_begin_than_may(books: AttemptBooks) -> None:
    """The count and the row are one transaction: two cannot take the same place."""
    made = [await books.job() for _ in range(30)]

    def begin(tx: Transaction, job: Job) -> bool:
        if limiters.free_at(tx, "org", images=7, window_ms=WINDOW_MS) is not None:
            return False
        return attempts.begin(tx, job, k=1, account="a", group="org")

    begun = await asyncio.gather(
        *(books.write(lambda tx, job=job: begin(tx, job)) for job in made)  # type: ignore[misc]
    )
    assert sum(begun) == 7


async def test_pictures_sent_along_are_counted_by_themselves(books: AttemptBooks) -> None:
    await send(books)
    assert await inputs_free_in(books, 16, most=4) is None  # alone it may be more than the limit
    await send(books, inputs=3)
    books.clock.advance(20)
    assert await inputs_free_in(books, 1, most=4) is None
    assert await inputs_free_in(books, 2, most=4) == 41
    books.clock.advance(41)
    assert await inputs_free_in(books, 4, most=4) is None


async def test_what_was_granted_leaves_out_what_was_refused(books: AttemptBooks) -> None:
    ended = {"ok": 2, "fast": 1, "throttled": 4, "superseded": 1, None: 2}
    for outcome, times in ended.items():
        for _ in range(times):
            job = await send(books)
            if outcome == "ok":
                await books.receive(job)
            elif outcome is not None:
                await books.end(job, outcome, sold=False)
    await send(books, group="other")

    async def granted() -> int:
        return await books.write(lambda tx: limiters.granted_before(tx, "org", window_ms=60_000))

    assert await granted() == 6
    books.clock.advance(60)
    assert await granted() == 0


# --- limits ------------------------------------------------------------------------------------


async def test_what_was_learnt_is_found_again(books: AttemptBooks) -> None:
    unknown = learnt("free", images_per_minute=None, configured=None, learnt=False)
    for row in (learnt(), unknown):
        await books.write(lambda tx, row=row: limiters.keep_limiter(tx, row))  # type: ignore[misc]
    assert await books.db.read(lambda tx: limiters.get_limiter(tx, "org")) == learnt()
    assert await books.db.read(lambda tx: limiters.get_limiter(tx, "none")) is None
    assert await books.db.read(limiters.all_limiters) == [unknown, learnt()]


async def test_the_newest_lesson_replaces_the_older_but_no_longer_cooling(
    books: AttemptBooks,
) -> None:
    newer = learnt(images_per_minute=9, cooling_until=800, exhausted_until=0, changed_at=900)
    for row in (learnt(), newer):
        await books.write(lambda tx, row=row: limiters.keep_limiter(tx, row))  # type: ignore[misc]
    kept = await books.db.read(lambda tx: limiters.get_limiter(tx, "org"))
    assert kept is not None
    assert (kept.images_per_minute, kept.exhausted_until, kept.changed_at) == (9, 0, 900)
    assert kept.cooling_until == 1000


# --- states --------------------------------------------------------------------------------------


def state(
    account: str, owner: str, word: str = "ready", until: int | None = None
) -> AccountStateRow:
    return AccountStateRow(
        account=account, owner=owner, state=word, reason="", until=until, in_flight=2
    )


async def shown(books: AttemptBooks) -> list[tuple[str, str, str]]:
    rows = await books.db.read(
        lambda tx: tx.all("SELECT * FROM account_state ORDER BY owner, account")
    )
    return [(row["owner"], row["account"], row["state"]) for row in rows]


async def test_each_process_replaces_what_it_has_said_itself(books: AttemptBooks) -> None:
    async def keep(owner: str, *rows: AccountStateRow) -> None:
        await books.write(lambda tx: limiters.keep_account_states(tx, owner, list(rows)))

    await keep("p1", state("a", "p1"), state("b", "p1", "cooling", 77))
    await keep("p2", state("a", "p2", "refused"))
    await keep("p1", state("a", "p1", "ejected"))
    assert await shown(books) == [("p1", "a", "ejected"), ("p2", "a", "refused")]
    await keep("p1")
    assert await shown(books) == [("p2", "a", "refused")]


async def test_what_silent_processes_said_is_forgotten(books: AttemptBooks) -> None:
    async def keep(owner: str) -> None:
        await books.write(lambda tx: limiters.keep_account_states(tx, owner, [state("a", owner)]))

    await keep("old")
    books.clock.advance(100)
    await keep("new")
    before = books.clock.now_ms() - 50_000
    await books.write(lambda tx: limiters.forget_account_states(tx, before_ms=before))
    assert await shown(books) == [("new", "a", "ready")]


async def test_a_call_that_never_left_takes_no_place(books: AttemptBooks) -> None:
    job = await send(books)
    assert await free_in(books, 1) is not None
    await books.write(
        lambda tx: attempts.end(
            tx,
            job.id,
            job.epoch,
            1,
            outcome="local",
            code="upstream_unreachable",
            sold=False,
            upstream_request_id=None,
        )
    )
    assert await free_in(books, 1) is None
    granted = await books.write(lambda tx: limiters.granted_before(tx, "org", window_ms=WINDOW_MS))
    assert granted == 0
