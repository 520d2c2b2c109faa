"""Whose webhooks are whose, their secrets, and what their customers do with them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.house import House
from gateway.mailroom import ME, Mailroom, Receiver, check, pass_time, receiver, sell
from safelight import customers, webhooks
from safelight.clock import ManualClock
from safelight.db import Transaction
from safelight.errors import InvalidRequest, InvalidValue, NotFound, RateLimited
from safelight.types import Identity

OTHER_KEY = Identity("cus_1", "key_2")
STRANGER = Identity("cus_2", "key_3")

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


# --- secrets -------------------------------------------------------------------------------------


async def test_two_secrets_sign_while_one_replaces_the_other(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    webhook, old = await room.register(listener.url)
    _, signing = await room.registering.rotate(ME, webhook.id, overlap_s=86_400)
    assert signing.secret.reveal() != old
    for pause_s, both in ((0, True), (86_000, True), (1000, False)):
        pass_time(house, pause_s)
        await sell(house)
        await room.run()
        letter = listener.letters[-1]
        check(letter, signing.secret.reveal())
        assert len(letter.headers["webhook-signature"].split(" ")) == (2 if both else 1)
        if both:
            check(letter, old)


@ON_BOTH
async def test_the_secret_for_orders_is_the_customers_and_rotates(room: Mailroom) -> None:
    first = await room.registering.secret(ME)
    assert first == await room.registering.secret(OTHER_KEY)
    assert first.secret != (await room.registering.secret(STRANGER)).secret
    second = await room.registering.rotate_secret(ME, overlap_s=60)
    third = await room.registering.rotate_secret(ME, overlap_s=60)
    assert len({first.secret, second.secret, third.secret}) == 3
    assert third == await room.registering.secret(ME)


async def test_no_secret_is_in_the_books(house: House, room: Mailroom) -> None:
    _, secret = await room.register("http://127.0.0.1:9/hook")
    rows = await house.db.read(lambda tx: tx.all("SELECT * FROM webhook"))
    assert secret.removeprefix(webhooks.SECRET_PREFIX) not in str([dict(row) for row in rows])


# --- who may -------------------------------------------------------------------------------------


@ON_BOTH
async def test_others_webhooks_and_messages_are_not_there(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    """Another customer's, and those that another key of the customer keeps for itself."""
    mine, _ = await room.register(listener.url, key_id="key_1")
    shared, _ = await room.register(listener.url)
    await sell(house)
    await room.run()
    rows = {row["webhook_id"]: row["id"] for row in await room.rows()}
    assert [one.id for one in await room.registering.all(OTHER_KEY)] == [shared.id]
    assert await room.registering.all(STRANGER) == ()
    for who, hidden in ((OTHER_KEY, mine), (STRANGER, mine), (STRANGER, shared)):
        for verb in (
            room.registering.get(who, hidden.id),
            room.registering.change(who, hidden.id, enabled=False),
            room.registering.remove(who, hidden.id),
            room.registering.rotate(who, hidden.id, overlap_s=1),
            room.registering.test(who, hidden.id),
            room.registering.deliveries(who, webhook_id=hidden.id, after=None, limit=5),
            room.registering.redeliver(who, rows[hidden.id]),
        ):
            with pytest.raises(NotFound):
                await verb
    page = await room.registering.deliveries(OTHER_KEY, webhook_id=None, after=None, limit=5)
    assert [one.webhook_id for one in page.deliveries] == [shared.id]


async def test_a_key_registers_for_itself_or_for_all_and_for_no_other_key(room: Mailroom) -> None:
    with pytest.raises(InvalidValue, match="key_id"):
        await room.register("http://127.0.0.1:9/hook", key_id="key_2")


async def test_a_webhook_of_one_key_hears_of_no_other_keys_jobs(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    def key(tx: Transaction) -> None:
        customers.add_key(tx, key="k", key_id="key_2", customer_id="cus_1", name="two", pepper=b"p")

    await house.db.write(key)
    await room.registering.create(
        OTHER_KEY, url=listener.url, events=("*",), description="", key_id="key_2"
    )
    await sell(house)
    assert await room.run() == 0


async def test_there_is_a_most_of_webhooks(room: Mailroom) -> None:
    for number in range(webhooks.MAX_PER_CUSTOMER):
        await room.register(f"http://127.0.0.1:9/{number}")
    with pytest.raises(InvalidRequest) as caught:
        await room.register("http://127.0.0.1:9/more")
    assert caught.value.code == "too_many_webhooks"


@pytest.mark.parametrize("url", ["http://10.1.2.3/x", "https://169.254.169.254/", "ftp://a.b/"])
async def test_an_address_inside_is_refused_when_it_is_registered(room: Mailroom, url: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        await room.register(url)
    assert caught.value.param == "url"


@ON_BOTH
async def test_a_test_says_what_came_of_it(room: Mailroom, listener: Receiver) -> None:
    listener.statuses = [418]
    webhook, secret = await room.register(listener.url, "job.failed")
    bad = await room.registering.test(ME, webhook.id)
    assert (bad.state, bad.last_status, bad.last_error) == ("failed", 418, "it answered 418")
    good = await room.registering.test(ME, webhook.id)
    assert (good.state, good.event) == ("delivered", "webhook.test")
    check(listener.letters[1], secret)
    assert await room.run() == 0
    page = await room.registering.deliveries(ME, webhook_id=webhook.id, after=None, limit=1)
    assert page.has_more
    rest = await room.registering.deliveries(
        ME, webhook_id=webhook.id, after=page.deliveries[0].id, limit=1
    )
    assert not rest.has_more
    assert {page.deliveries[0].id, rest.deliveries[0].id} == {bad.id, good.id}


@ON_BOTH
async def test_tests_are_few_a_minute_over_all_keys_and_processes(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    webhook, _ = await room.register(listener.url)
    elsewhere = Mailroom(house)
    for turn in range(webhooks.TURNS_A_MINUTE["test"]):
        who, where = ((ME, room), (OTHER_KEY, elsewhere))[turn % 2]
        assert (await where.registering.test(who, webhook.id)).state == "delivered"
    letters = len(listener.letters)
    with pytest.raises(RateLimited) as refused:
        await elsewhere.registering.test(ME, webhook.id)
    assert refused.value.retry_after_s == 10
    pass_time(house, 9.9)
    with pytest.raises(RateLimited, match="again in 1 s"):
        await room.registering.test(ME, webhook.id)
    pass_time(house, 0.1)
    await room.registering.test(ME, webhook.id)
    with pytest.raises(RateLimited):
        await room.registering.test(ME, webhook.id)
    assert len(listener.letters) == letters + 1
    pass_time(house, 60)
    for _ in range(webhooks.TURNS_A_MINUTE["test"]):
        await room.registering.test(ME, webhook.id)


@ON_BOTH
async def test_messages_are_sent_again_so_often_a_minute(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    webhook, _ = await room.register(listener.url)
    await sell(house)
    await room.run()
    (row,) = await room.rows()
    for _ in range(webhooks.TURNS_A_MINUTE["redelivery"]):
        await room.registering.redeliver(ME, row["id"])
    with pytest.raises(RateLimited) as refused:
        await room.registering.redeliver(OTHER_KEY, row["id"])
    assert refused.value.retry_after_s == 2
    await room.registering.test(ME, webhook.id)
    with pytest.raises(NotFound):
        await room.registering.redeliver(STRANGER, row["id"])
    pass_time(house, 2)
    await room.registering.redeliver(ME, row["id"])


@ON_BOTH
async def test_a_clock_that_is_set_back_keeps_nobody_from_testing(house: House) -> None:
    def ten_tests(tx: Transaction) -> list[int]:
        return [webhooks.take_turn(tx, "cus_1", "test") for _ in range(10)]

    pass_time(house, 86_400)
    waits = await house.db.write(ten_tests)
    assert waits == [0] * 6 + [10_000] * 4
    assert isinstance(house.clock, ManualClock)
    house.clock.jump(-86_400)
    assert await house.db.write(ten_tests) == waits


async def test_a_removed_webhook_is_told_nothing_more(
    house: House, room: Mailroom, listener: Receiver
) -> None:
    listener.statuses = [500]
    webhook, _ = await room.register(listener.url)
    await sell(house)
    await room.run()
    await room.registering.remove(ME, webhook.id)
    pass_time(house, 86_400)
    assert await room.run() == 0
    assert await room.rows() == []


async def test_old_messages_are_forgotten(house: House, room: Mailroom, listener: Receiver) -> None:
    await room.register(listener.url)
    await sell(house)
    await room.run()
    pass_time(house, 29 * 86_400)
    await room.notifying.sweep()
    assert len(await room.rows()) == 1
    pass_time(house, 2 * 86_400)
    await room.notifying.sweep()
    assert await room.rows() == []
