"""What webhooks are told about the ends of jobs, and how often it is tried."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import standardwebhooks
from aiohttp import web

from gateway.house import VIP, House
from gateway.mailroom import ME, Mailroom, Receiver, check, pass_time, receiver, sell
from safelight import deliveries, webhooks
from safelight.clock import ManualClock, SystemClock
from safelight.db import Transaction, UniqueViolation
from safelight.errors import FaultClass, InvalidValue, UpstreamError
from safelight.gateway import notifying
from safelight.gateway.notifying import HOLD_S, PER_RECEIVER, RETRY_AFTER_S, TOLD_PAUSE_MAX_S
from safelight.gateway.orders import Caller, Queued
from safelight.types import ImageRequest, JobState, Operation

REFUSAL = UpstreamError(FaultClass.CLIENT, "moderation_blocked", "No.", final_status=400)

ON_BOTH = pytest.mark.parametrize("books", ["sqlite", "postgresql"], indirect=True)
"""Those that play most of the SQL run on Postgres every time."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A house whose clock is moved by hand."""
    made = await House(tmp_path, clock=ManualClock()).open()
    yield made
    await made.close()


@pytest.fixture
def room(house: House) -> Mailroom:
    return Mailroom(house)


@pytest.fixture
async def listener(house: House) -> AsyncIterator[Receiver]:
    async with receiver(house) as made:
        yield made


# --- what is told --------------------------------------------------------------------------------


async def test_the_official_package_verifies_a_message(tmp_path: Path) -> None:
    house = await House(tmp_path, clock=SystemClock()).open()
    room = Mailroom(house)
    async with receiver(house) as listener:
        _, secret = await room.register(listener.url)
        job = await sell(house)
        assert await room.run() == 1
    (letter,) = listener.letters
    told = standardwebhooks.Webhook(secret).verify(letter.body, letter.headers)
    assert told["type"] == "job.completed"
    assert datetime.fromisoformat(told["timestamp"]).tzinfo is not None
    assert told["data"]["id"] == job.id
    assert told["data"]["object"] == "image.job"
    assert told["data"]["status"] == "completed"
    assert told["data"]["image"]["url"].startswith("http://127.0.0.1:8080/i/")
    assert len(letter.body) < 20_000
    await house.close()


async def test_each_end_of_a_job_is_told_as_what_it_is(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    await room.register(listener.url)
    await sell(house)
    house.upstream.steps.append(REFUSAL)
    await sell(house)
    request = ImageRequest(operation=Operation.GENERATION, channel=VIP, prompt="x")
    caller = Caller(customer_id="cus_1", key_id="key_1", route="/v1/images/generations")
    order = await house.gateway.submit(
        request, caller, given=frozenset({"prompt"}), queued=Queued()
    )
    await house.gateway.cancel("cus_1", order.jobs[0].id)
    house.upstream.gate.clear()
    running = await house.submit()
    await room.run()
    kinds = [msgspec.json.decode(letter.body)["type"] for letter in listener.letters]
    assert sorted(kinds) == ["job.cancelled", "job.completed", "job.failed"]
    failed = next(one for one in listener.letters if one.data["status"] == "failed")
    assert failed.data["error"]["code"] == "moderation_blocked"
    assert failed.data["image"] is None
    house.upstream.gate.set()
    await house.gateway.wait(running)


async def test_a_webhook_hears_what_it_asked_for(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    await room.register(listener.url, "job.failed", "batch.completed")
    await sell(house)
    assert await room.run() == 0
    house.upstream.steps.append(REFUSAL)
    await sell(house)
    assert await room.run() == 1


async def test_a_message_tells_a_link_that_lives_from_its_attempt_on(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    """All else stays the same at every attempt; so does the id."""
    listener.statuses = [500]
    await room.register(listener.url)
    await sell(house, channel="gpt-image-2")
    await room.run()
    pass_time(house, 4000)
    await room.run()
    first, second = listener.letters
    assert first.id == second.id
    images = [letter.data["image"] for letter in (first, second)]
    assert images[1]["expires_at"] - images[0]["expires_at"] == 4000
    assert images[1]["url"] != images[0]["url"]
    rest = [
        {**letter.data, "image": {**letter.data["image"], "url": "", "expires_at": 0}}
        for letter in (first, second)
    ]
    assert rest[0] == rest[1]


@ON_BOTH
async def test_an_order_brings_its_own_address(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    """Each of its jobs is told there, signed with the customer's own secret."""
    order = await house.submit(n=3, channel="gpt-image-2-all")
    await house.db.write(lambda tx: webhooks.keep_order_url(tx, order.request_id, listener.url))
    await house.gateway.wait(order)
    assert await room.run() == 3
    assert {letter.data["id"] for letter in listener.letters} == {job.id for job in order.jobs}
    secret = (await room.registering.secret(ME)).secret.reveal()
    for letter in listener.letters:
        check(letter, secret)


def with_address(url: str) -> Caller:
    return Caller(
        customer_id="cus_1", key_id="key_1", route="/v1/images/generations", webhook_url=url
    )


async def test_an_orders_address_is_kept_with_it(house: House) -> None:
    request = ImageRequest(operation=Operation.GENERATION, channel=VIP, prompt="x")
    given = frozenset({"prompt"})
    order = await house.gateway.submit(request, with_address("https://a.example/h"), given=given)
    rows = await house.db.read(lambda tx: tx.all("SELECT request_id, url FROM webhook_order"))
    assert [tuple(row.values()) for row in map(dict, rows)] == [
        (order.request_id, "https://a.example/h")
    ]
    await house.gateway.wait(order)


@pytest.mark.parametrize("url", ["http://a.example/h", "https://10.0.0.1/", "https://u@a.example"])
async def test_an_order_with_an_address_that_may_not_be_called_is_refused(
    house: House, url: str
) -> None:
    request = ImageRequest(operation=Operation.GENERATION, channel=VIP, prompt="x")
    with pytest.raises(InvalidValue) as caught:
        await house.gateway.submit(request, with_address(url), given=frozenset({"prompt"}))
    assert caught.value.param == "webhook_url"
    assert (await house.balance()).held_micros == 0


async def test_the_end_and_its_message_are_one_transaction(house: House, room: Mailroom) -> None:
    """It is there as soon as the job has ended, and cannot be put there twice."""
    await room.register("http://127.0.0.1:9/hook")
    job = await sell(house)
    (row,) = await room.rows()
    assert (row["subject"], row["event"], row["state"]) == (job.id, "job.completed", "pending")

    with pytest.raises(UniqueViolation):
        await house.db.write(lambda tx: notifying.job_ended(tx, job))
    assert len(await room.rows()) == 1


@ON_BOTH
async def test_the_end_of_a_batch_is_told_instead_of_its_lines(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    await room.register(listener.url)
    await room.register(f"{listener.url}/failed", "batch.failed")
    job = await sell(house)
    await room.run()

    def end(tx: Transaction) -> tuple[int, int]:
        tx.execute("DELETE FROM webhook_delivery")
        tx.execute("UPDATE job SET batch_id = 'batch_1' WHERE id = :id", {"id": job.id})
        lines = notifying.job_ended(tx, job)
        told = notifying.batch_ended(
            tx, batch_id="batch_1", customer_id="cus_1", key_id="key_1", status="completed"
        )
        return lines, told

    assert await house.db.write(end) == (0, 1)
    assert await room.run() == 1
    message = msgspec.json.decode(listener.letters[-1].body)
    assert message["type"] == "batch.completed"
    assert message["data"] == {"id": "batch_1", "of": "cus_1"}
    await house.db.write(lambda tx: tx.execute("UPDATE job SET batch_id = NULL"))


async def test_the_receiver_of_the_documents_takes_what_is_told(tmp_path: Path) -> None:
    """The example in docs/webhooks.md runs as it stands, with a secret put in."""
    house = await House(tmp_path, clock=SystemClock()).open()
    room = Mailroom(house)
    text = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0].partition("web.run_app")[0]
    served: dict[str, Any] = {}
    async with receiver(house) as refuge:
        webhook, secret = await room.register(refuge.url)
        exec(code.replace("whsec_…", secret), served)  # noqa: S102
        runner = web.AppRunner(served["app"], access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        await room.registering.change(ME, webhook.id, enabled=None, url=f"{site.name}/hook")
        await sell(house)
        assert await room.run() == 1
        (row,) = await room.rows()
        assert (row["state"], served["seen"]) == ("delivered", {row["id"]})
        await room.registering.rotate(ME, webhook.id, overlap_s=0)
        sent = await room.registering.test(ME, webhook.id)
        assert sent.last_status == 400
        await runner.cleanup()
    await house.close()


# --- again and again -----------------------------------------------------------------------------


@ON_BOTH
async def test_a_receiver_that_was_away_gets_everything_in_schedule(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    """Down through six attempts, then up: all delivered, each pause within a fifth of its own."""
    jobs, away = 5, 6
    listener.statuses = [503] * (jobs * away)
    _, secret = await room.register(listener.url)
    sold = [await sell(house, f"lamp {number}") for number in range(jobs)]
    await room.run()
    while (soonest := await house.db.read(deliveries.next_due_at)) is not None:
        pass_time(house, (soonest - 1 - house.clock.now_ms()) / 1000)
        assert await room.run() == 0, "too early"
        pass_time(house, 0.001)
        assert await room.run() > 0
    assert {letter.data["id"] for letter in listener.taken} == {job.id for job in sold}
    assert len(listener.taken) == jobs
    for letter in listener.letters:
        check(letter, secret)
    for job in sold:
        mine = [letter.at for letter in listener.letters if job.id[4:] in letter.id]
        pauses = [later - earlier for earlier, later in itertools.pairwise(mine)]
        for pause, planned in zip(pauses, RETRY_AFTER_S, strict=False):
            assert 0.8 * planned <= pause <= 1.2 * planned
    assert all(row["state"] == "delivered" for row in await room.rows())
    (webhook,) = await room.registering.all(ME)
    assert webhook.failing_since is None


async def test_after_the_last_attempt_a_message_is_given_up_and_can_be_sent_again(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    listener.statuses = [500] * (len(RETRY_AFTER_S) + 1)
    await room.register(listener.url)
    await sell(house)
    for pause in (0.0, *RETRY_AFTER_S):
        pass_time(house, pause * 1.1)
        assert await room.run() == 1
    pass_time(house, 10 * 86_400)
    assert await room.run() == 0
    (row,) = await room.rows()
    assert (row["state"], row["last_status"], row["last_error"]) == (
        "failed",
        500,
        "it answered 500",
    )
    again = await room.registering.redeliver(ME, row["id"])
    assert (again.state, again.attempts) == ("pending", 0)
    assert await room.run() == 1
    (row,) = await room.rows()
    assert (row["state"], row["last_status"], row["last_error"]) == ("delivered", 200, None)
    assert len({letter.id for letter in listener.letters}) == 1


@pytest.mark.parametrize(
    ("status", "told", "pause_s"),
    [
        (429, "600", 600),
        (503, "86400", TOLD_PAUSE_MAX_S),
        (500, "600", RETRY_AFTER_S[0]),
        (429, "1", RETRY_AFTER_S[0]),
        (429, "Wed, 99 Foo", RETRY_AFTER_S[0]),
    ],
)
async def test_a_busy_receiver_says_when_within_bounds(
    house: House, room: Mailroom, status: int, told: str, pause_s: float
) -> None:
    async with receiver(house, status, answer_headers={"Retry-After": told}) as listener:
        await room.register(listener.url)
        await sell(house)
        await room.run()
        pass_time(house, pause_s * 0.89)
        assert await room.run() == 0
        pass_time(house, pause_s * 0.22)
        assert await room.run() == 1


async def test_a_redirect_is_a_failure_and_not_followed(house: House, room: Mailroom) -> None:
    async with receiver(house) as other:
        async with receiver(house, 302, answer_headers={"Location": other.url}) as listener:
            await room.register(listener.url)
            await sell(house)
            await room.run()
        assert (len(listener.letters), len(other.letters)) == (1, 0)
    (row,) = await room.rows()
    assert (row["state"], row["last_status"]) == ("pending", 302)


async def test_a_receiver_that_is_gone_is_not_called_again(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    listener.statuses = [410]
    webhook, _ = await room.register(listener.url)
    await sell(house)
    await sell(house)
    await room.run()
    pass_time(house, 86_400)
    assert len(listener.letters) <= 2
    assert await room.run() == 0
    seen = await room.registering.get(ME, webhook.id)
    assert (seen.disabled_reason, seen.disabled_at is None) == ("gone", False)
    await sell(house)
    assert await room.run() == 0
    await room.registering.change(ME, webhook.id, enabled=True)
    await sell(house)
    assert await room.run() == 1


async def test_a_webhook_that_fails_for_days_is_switched_off(
    house: House, room: Mailroom, listener: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    listener.statuses = [500] * 3
    webhook, _ = await room.register(listener.url)
    await sell(house)
    await room.run()
    assert (await room.registering.get(ME, webhook.id)).failing_since is not None
    pass_time(house, 4 * 86_400)
    await room.run()
    assert (await room.registering.get(ME, webhook.id)).disabled_at is None
    pass_time(house, 86_400)
    await room.run()
    assert (await room.registering.get(ME, webhook.id)).disabled_reason == "failing"
    assert "a webhook is switched off" in caplog.text


# --- who waits for whom --------------------------------------------------------------------------


async def test_a_slow_receiver_keeps_no_other_one_waiting(house: House, room: Mailroom) -> None:
    async with receiver(house) as slow, receiver(house) as quick:
        slow.gate.clear()
        await room.register(slow.url)
        jobs = 3 * PER_RECEIVER
        for _ in range(jobs):
            await sell(house)
        running = asyncio.ensure_future(room.run())
        await slow.wait_for(PER_RECEIVER)
        await room.register(quick.url)
        await sell(house)
        assert await room.run() == 1
        assert len(quick.taken) == 1
        assert len(slow.letters) == PER_RECEIVER
        slow.gate.set()
        await running
        await room.run()
        assert len(slow.taken) == jobs + 1
        assert slow.busiest <= PER_RECEIVER


async def test_a_receiver_that_answers_well_gets_all_that_is_due_in_one_go(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    """One look at the outbox gives few reminders; what is due beside them follows."""
    jobs = 4 * PER_RECEIVER
    await room.register(listener.url)
    for _ in range(jobs):
        await sell(house)
    assert await room.notifying.sweep() == PER_RECEIVER
    await asyncio.gather(*(room.notifying.deliver(one.item) for one in room.engine.works))
    assert len({letter.id for letter in listener.letters}) == len(listener.letters) == jobs
    assert listener.busiest <= PER_RECEIVER


# --- what gets lost ------------------------------------------------------------------------------


async def test_a_lost_reminder_is_given_again(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    await room.register(listener.url)
    await sell(house)
    room.engine.lose = True
    assert await room.run() == 0
    room.engine.lose = False
    assert await room.run() == 0
    pass_time(house, notifying.REMINDER_S)
    assert await room.run() == 1
    assert len(listener.taken) == 1


async def test_a_reminder_that_comes_twice_makes_one_attempt(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    await room.register(listener.url)
    await sell(house)
    await room.notifying.sweep()
    (work,) = room.engine.works
    await asyncio.gather(*(room.notifying.deliver(work.item) for _ in range(5)))
    await room.notifying.deliver(work.item)
    assert len(listener.letters) == 1


async def test_a_message_between_call_and_note_is_sent_again_with_its_id(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    """By a process that died, and by one that hangs, after its time."""
    await room.register(listener.url)
    await sell(house)
    await room.notifying.sweep()
    (work,) = room.engine.works
    listener.gate.clear()
    dying = asyncio.ensure_future(room.notifying.deliver(work.item))
    await listener.wait_for(1)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    listener.gate.set()
    room.engine.works.clear()
    assert await room.run() == 0, "it may still be under way"
    pass_time(house, 15 + HOLD_S + notifying.REMINDER_S)
    assert await room.run() == 1
    first, second = listener.letters
    assert first.id == second.id


@ON_BOTH
async def test_what_a_dead_process_was_telling_is_told_at_once(
    tmp_path: Path, house: House, listener: Receiver
) -> None:
    dead = House(tmp_path, clock=house.clock, owner="dead")
    room, old = Mailroom(house), Mailroom(dead)
    await dead.processes.beat(dead.db)
    await room.register(listener.url)
    await sell(house)
    await old.notifying.sweep()
    (work,) = old.engine.works
    listener.gate.clear()
    dying = asyncio.ensure_future(old.notifying.deliver(work.item))
    await listener.wait_for(1)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await room.run() == 0
    await dead.kill()
    listener.gate.set()
    assert await room.run() == 1
    assert len({letter.id for letter in listener.letters}) == 1


async def test_news_wake_the_watch(house: House, room: Mailroom, listener: Receiver) -> None:
    """Without news it would look a minute later."""
    await room.register(listener.url)
    house.parts.news.clear()
    watching = asyncio.ensure_future(room.notifying.watch())
    await sell(house)
    async with asyncio.timeout(10):
        await watching
    assert len(room.engine.works) == 1


def test_every_end_of_a_job_has_an_event() -> None:
    ends = {f"job.{state}" for state in JobState if state.terminal}
    assert {event for event in webhooks.EVENTS if event.startswith("job.")} == ends
