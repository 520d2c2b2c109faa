"""The figures of accounts, from attempts that the gateway's own verbs made."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from attempt_books import PRICE, VIP, AttemptBooks
from safelight import accounts, attempts
from safelight.accounts import AccountBook, Tally
from safelight.clock import ManualClock
from safelight.db.schema import migrations
from safelight.types import Usage


@pytest.fixture
async def books(tmp_path: Path, database_url_seldom: str) -> AsyncIterator[AttemptBooks]:
    made = await AttemptBooks(tmp_path, ManualClock(), url=database_url_seldom).open()
    yield made
    await made.db.close()


async def look(books: AttemptBooks, since_s: float | None = None) -> AccountBook:
    return await books.db.read(lambda tx: accounts.read(tx, since_s=since_s))


async def fail(
    books: AttemptBooks, account: str, outcome: str, *, sold: bool | None = False
) -> None:
    job = await books.job()
    await books.send(job, account)
    await books.end(job, outcome, sold=sold)


async def test_an_attempt_keeps_usage_and_cost_and_channel(books: AttemptBooks) -> None:
    """What the vendor counted is stored with the attempt, not only with the job."""
    job = await books.job("gpt-image-2", 50_000)
    await books.send(job, "a")
    await books.receive(job, cost_micros=210_920, usage=Usage(output_tokens=7024))
    row = await books.db.read(lambda tx: tx.one("SELECT * FROM attempt"))
    assert row is not None
    assert (row["channel"], row["price_micros"]) == ("gpt-image-2", 50_000)
    assert (row["usage"], row["vendor_cost_micros"]) == ('{"output_tokens":7024}', 210_920)


async def test_a_rejected_picture_keeps_its_cost(books: AttemptBooks) -> None:
    """A picture of the wrong size was bought: its known cost is waste, not forgotten."""
    job = await books.job()
    await books.send(job, "a")
    await books.receive(job, cost_micros=5_000)
    await books.end(job, "bad_output", sold=True)
    tally = (await look(books)).of_account("a")
    assert (tally.waste_sold, tally.cost_micros, tally.delivered) == (1, 5_000, 0)
    assert (tally.answered, tally.faults) == (0, {"bad_output": 1})
    assert (tally.margin_micros, tally.margin_share) == (-5_000, None)
    assert tally.cost_per_image_micros is None


async def test_waste_raises_the_cost_of_each_delivered_picture(books: AttemptBooks) -> None:
    """Three pictures bought, two delivered: each has cost one and a half; rounded up."""
    for _ in range(2):
        await books.deliver("a", cost_micros=10_001)
    job = await books.job()
    await books.send(job, "a")
    await books.receive(job, cost_micros=10_000)
    await books.end(job, "bad_output", sold=True)
    tally = (await look(books)).of_account("a")
    assert tally.cost_micros == 30_002
    assert tally.cost_per_image_micros == 15_001
    assert tally.revenue_micros == 2 * PRICE
    assert tally.margin_micros == 2 * PRICE - 30_002
    assert tally.margin_share == (2 * PRICE - 30_002) / (2 * PRICE)


async def test_waste_of_unknown_cost_is_reported_apart(books: AttemptBooks) -> None:
    """A sold picture that broke off has no usage: the average is an estimate beside the cost."""
    await books.deliver("a", cost_micros=6_000)
    await books.deliver("a", cost_micros=6_001)
    await fail(books, "a", "slow", sold=True)
    await fail(books, "a", "slow", sold=None)
    tally = (await look(books)).of_account("a")
    assert (tally.waste_sold, tally.waste_unknown, tally.uncosted_waste) == (1, 1, 1)
    assert (tally.cost_micros, tally.cost_complete) == (12_001, False)
    assert tally.waste_estimate_micros == 6_001
    assert tally.margin_micros == 2 * PRICE - 12_001


async def test_an_unknown_cost_is_never_zero(books: AttemptBooks) -> None:
    """Where no cost is known, neither cost nor margin is a number."""
    await books.deliver("a")
    await fail(books, "a", "slow", sold=True)
    tally = (await look(books)).of_account("a")
    assert tally.revenue_micros == PRICE
    assert (tally.cost_micros, tally.cost_per_image_micros) == (None, None)
    assert (tally.margin_micros, tally.margin_share) == (None, None)
    assert (tally.waste_estimate_micros, tally.uncosted_delivered) == (None, 1)


async def test_a_cost_of_zero_is_known(books: AttemptBooks) -> None:
    """Proofs cost nothing: the margin is the whole price."""
    await books.deliver("proof", cost_micros=0)
    tally = (await look(books)).of_account("proof")
    assert (tally.cost_micros, tally.cost_complete, tally.margin_share) == (0, True, 1.0)


async def test_callers_mistakes_do_not_lower_an_accounts_success(books: AttemptBooks) -> None:
    """Refusals, calls that never left and processes that died say nothing of the account."""
    await books.deliver("a", cost_micros=1)
    for outcome in ("client", "client", "local", "superseded"):
        await fail(books, "a", outcome)
    job = await books.job()
    await books.send(job, "a")
    await books.write(lambda tx: attempts.lose(tx, job.id))
    assert (await look(books)).of_account("a").success_share == 1.0
    await fail(books, "a", "throttled")
    tally = (await look(books)).of_account("a")
    assert tally.success_share == 0.5
    assert tally.throttled_share == 1 / 7
    assert tally.waste_unknown == 1


async def test_a_picture_that_is_looked_at_is_no_waste_yet(books: AttemptBooks) -> None:
    """Between answer and settle it is open; nothing is said of its cost."""
    running = await books.job()
    await books.send(running, "a")
    checked = await books.job()
    await books.send(checked, "a")
    await books.receive(checked, cost_micros=7_000)
    tally = (await look(books)).of_account("a")
    assert (tally.attempts, tally.open) == (2, 2)
    assert (tally.answered, tally.waste_sold, tally.cost_micros) == (0, 0, 0)
    await books.settle(checked)
    tally = (await look(books)).of_account("a")
    assert (tally.open, tally.answered, tally.delivered, tally.cost_micros) == (1, 1, 1, 7_000)


async def test_the_picture_that_came_second_is_waste(books: AttemptBooks) -> None:
    """Of two attempts that both delivered, one is paid and the other is waste of its account."""
    job = await books.job()
    await books.send(job, "a", k=1)
    await books.send(job, "b", k=2)
    await books.receive(job, k=2, cost_micros=4_000)
    await books.settle(job, k=2)
    await books.receive(job, k=1, cost_micros=5_000)
    book = await look(books)
    late, quick = book.of_account("a"), book.of_account("b")
    assert (late.delivered, late.waste_sold, late.cost_micros) == (0, 1, 5_000)
    assert (quick.delivered, quick.waste_sold, quick.revenue_micros) == (1, 0, PRICE)


async def test_tallies_add_up_by_account_and_by_channel(books: AttemptBooks) -> None:
    """Each attempt is in exactly one tally, whichever way they are added."""
    for account, channel, price in (
        ("a", VIP, PRICE),
        ("a", "gpt-image-2", 50_000),
        ("b", "gpt-image-2", 50_000),
    ):
        await books.deliver(account, channel=channel, price_micros=price, cost_micros=20_000)
    await fail(books, "b", "fast")
    book = await look(books)
    everything = accounts.total(book.tallies.values())
    assert everything.attempts == 4
    assert everything.revenue_micros == PRICE + 100_000
    assert everything == accounts.total(map(book.of_account, ("a", "b")))
    assert everything == accounts.total(map(book.of_channel, (VIP, "gpt-image-2")))
    assert book.of_channel(VIP).margin_micros == PRICE - 20_000
    settled = await books.db.read(
        lambda tx: tx.one(
            "SELECT COUNT(*) AS n, SUM(amount_micros) AS sum FROM transfer WHERE kind = 'settle'"
        )
    )
    assert settled is not None
    assert (settled["n"], settled["sum"]) == (everything.delivered, everything.revenue_micros)


async def test_the_window_begins_where_it_is_told_to(books: AttemptBooks) -> None:
    """An attempt counts when it was sent in the window."""
    await books.deliver("a", cost_micros=1, took_s=10)
    books.clock.advance(3600)
    await books.deliver("a", cost_micros=2, took_s=10)
    assert (await look(books, 3600)).of_account("a").cost_micros == 2
    assert (await look(books, 3700)).of_account("a").cost_micros == 3
    assert (await look(books)).of_account("a").cost_micros == 3
    assert (await look(books, 5)).tallies == {}


async def test_percentiles_are_those_of_answered_attempts(books: AttemptBooks) -> None:
    """Of 1 to 20 seconds half took at most 10 and 95 % at most 19; a failure takes no part."""
    for seconds in range(1, 21):
        await books.deliver("a", took_s=seconds)
    job = await books.job()
    await books.send(job, "a")
    books.clock.advance(500)
    await books.end(job, "slow", sold=None)
    tally = (await look(books)).of_account("a")
    assert (tally.seconds(0.5), tally.seconds(0.95), tally.seconds(1.0)) == (10.0, 19.0, 20.0)
    assert Tally().seconds(0.5) is None


@pytest.mark.parametrize(("took_s", "shown"), [(0.057, 0.05), (7.77, 7.7), (93.9, 93.5)])
async def test_durations_are_kept_to_about_a_hundredth(
    books: AttemptBooks, took_s: float, shown: float
) -> None:
    await books.deliver("a", took_s=took_s)
    assert (await look(books)).of_account("a").seconds(0.5) == shown


def test_attempts_from_before_the_figures_get_channel_and_price_of_their_jobs() -> None:
    """The migration fills what older versions did not write; costs stay unknown."""
    spine, pool, costs, *_ = migrations("sqlite")
    db = sqlite3.connect(":memory:")
    db.executescript(spine.sql + pool.sql)
    db.execute(
        "INSERT INTO job (id, request_id, customer_id, key_id, n, channel, size, state, request, "
        "size_plan, price_micros, reserve_id, epoch, deadline_at, created_at) VALUES "
        "('job_1', 'r', 'c', 'k', 0, 'gpt-image-2', 'auto', 'completed', '{}', '{}', 30000, 't', "
        "1, 0, 0)"
    )
    db.execute(
        "INSERT INTO attempt (job_id, epoch, k, account, limiter_group, sent_at) "
        "VALUES ('job_1', 1, 1, 'a', 'g', 0)"
    )
    db.executescript(costs.sql)
    row = db.execute("SELECT channel, price_micros, vendor_cost_micros, usage FROM attempt")
    assert row.fetchall() == [("gpt-image-2", 30_000, None, None)]
    db.close()


# --- how accounts stand ---


async def test_of_several_processes_the_worst_word_counts(books: AttemptBooks) -> None:
    """Calls in flight are added; the worst state is shown with its reason."""
    now = books.clock.now_ms()
    await books.say("a", "ready", owner="p1", in_flight=3)
    await books.say("a", "ejected", owner="p2", in_flight=2, until=now + 15_000, reason="5 failed")
    await books.say("b", "cooling", owner="p1", until=now + 5_000)
    await books.say("b", "cooling", owner="p2", until=now + 9_000)
    book = await look(books)
    assert book.standings["a"] == accounts.Standing(
        state="ejected", reason="5 failed", until=now + 15_000, in_flight=5
    )
    assert book.standings["b"].until == now + 9_000


async def test_a_state_that_this_version_does_not_know_is_not_hidden(books: AttemptBooks) -> None:
    await books.say("a", "refused", owner="p1")
    await books.say("a", "on fire", owner="p2")
    assert (await look(books)).standings["a"].state == "on fire"


async def test_an_old_word_is_no_word(books: AttemptBooks) -> None:
    """A process that said nothing for a minute does not run."""
    await books.say("a", "ready")
    books.clock.advance(60)
    assert set((await look(books)).standings) == {"a"}
    books.clock.advance(1)
    assert (await look(books)).standings == {}


async def test_a_groups_wait_comes_before_what_an_account_said_earlier(
    books: AttemptBooks,
) -> None:
    """The limiter is shared: another process may have noted a cooling since."""
    now = books.clock.now_ms()
    for name, state in (("a", "ready"), ("b", "refused"), ("c", "ready")):
        await books.say(name, state, in_flight=1)
    await books.limit("org", 48.5, configured=60, cooling_until=now + 12_000)
    await books.limit("poor", 5, learnt=False, cooling_until=now + 1, exhausted_until=now + 900)
    book = await look(books)
    cooling = book.standing("a", "org")
    assert cooling is not None
    assert (cooling.state, cooling.until, cooling.in_flight) == ("cooling", now + 12_000, 1)
    refused = book.standing("b", "org")
    assert refused is not None
    assert refused.state == "refused"
    poor = book.standing("c", "poor")
    assert poor is not None
    assert poor.state == "exhausted"
    assert book.standing("c", None) == book.standings["c"]
    assert book.standing("nobody", "org") is None
    assert (book.limits["org"].learnt, book.limits["org"].images_per_minute) == (True, 48.5)
