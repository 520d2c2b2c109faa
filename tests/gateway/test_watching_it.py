"""The prober judges downloads as an outsider; alerts reach the operator's webhook, signed, once."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from gateway.house import House
from safelight import alerts, customers
from safelight.clock import ManualClock
from safelight.config_watch import AlertsConfig, ProberConfig
from safelight.db import Transaction
from safelight.errors import ConfigError
from safelight.gateway.alert_messages import AlertMessages
from safelight.gateway.alerting import Alerting, Condition
from safelight.gateway.probing import Prober
from safelight.keyring import Keyring
from safelight.links import Links
from safelight.types import ImageRecord, Secret

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
Handler = Callable[[web.Request], web.StreamResponse]


@asynccontextmanager
async def site(handler: Handler) -> AsyncIterator[str]:
    """Serve on loopback; yield the address."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return handler(request)

    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


# --- the prober ----------------------------------------------------------------------------------


def prober(house: House, folder: Path, url: str, **config: float) -> Prober:
    links = Links(Keyring.load_or_create(folder), house.clock)
    return Prober(house.parts, links, url, ProberConfig(enabled=True, **config))  # type: ignore[arg-type]


async def picture(house: House) -> tuple[ImageRecord, bytes]:
    (job,) = await house.buy()
    assert job.image is not None
    chunks = [bytes(one) async for one in house.store.read(job.image.blob.digest)]
    return job.image, b"".join(chunks)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (lambda data: web.Response(body=data), "ok"),
        (lambda data: web.Response(body=data[:-1] + b"x"), "wrong_bytes"),
        (lambda data: web.Response(body=data[:-1]), "wrong_bytes"),
        (lambda data: web.Response(body=data + b"x"), "wrong_bytes"),
        (lambda _: web.Response(status=404), "not_found"),
        (lambda _: web.Response(status=403), "status_4xx"),
        (lambda _: web.Response(status=502), "status_5xx"),
        (lambda _: web.Response(status=204), "status_other"),
    ],
    ids=["ok", "other", "short", "long", "404", "403", "502", "204"],
)
async def test_a_download_is_judged_by_its_bytes(
    house: House, tmp_path: Path, answer: Callable[[bytes], web.Response], cause: str
) -> None:
    image, data = await picture(house)
    asked: list[web.Request] = []

    def serve(request: web.Request) -> web.Response:
        asked.append(request)
        return answer(data)

    async with site(serve) as url:
        probing = prober(house, tmp_path, url)
        probing.note(image)
        assert await probing.round() == [cause]
    (request,) = asked
    assert request.path == f"/i/{image.id}.png"
    assert "authorization" not in request.headers
    assert house.parts.notes.metrics.probe_downloads.values == {(cause,): 1}
    (row,) = await house.db.read(lambda tx: tx.all("SELECT tried, good FROM link_check"))
    assert (row["tried"], row["good"]) == (1, int(cause == "ok"))
    assert not probing.down


async def test_a_redirect_to_the_store_is_followed(house: House, tmp_path: Path) -> None:
    image, data = await picture(house)

    def serve(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/i/"):
            raise web.HTTPFound("/bucket")
        return web.Response(body=data)

    async with site(serve) as url:
        probing = prober(house, tmp_path, url)
        probing.note(image)
        assert await probing.round() == ["ok"]


async def test_where_nothing_answers_the_prober_is_down_and_comes_back(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    image, data = await picture(house)
    async with site(lambda _: web.Response(body=data)) as url:
        pass
    probing = prober(house, tmp_path, url)
    probing.note(image)
    for round_ in range(3):
        assert probing.down is False, round_
        assert await probing.round() == ["connection"]
        clock.advance(60)
    assert probing.down
    await house.close()


async def test_processes_take_turns(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    image, data = await picture(house)
    async with site(lambda _: web.Response(body=data)) as url:
        one, two = prober(house, tmp_path, url), prober(house, tmp_path, url)
        one.note(image)
        two.note(image)
        assert await one.round() == ["ok"]
        assert await two.round() == []
        clock.advance(60)
        assert await two.round() == ["ok"]
    await house.close()


async def test_a_link_that_is_about_to_end_is_left_alone(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    image, data = await picture(house)
    async with site(lambda _: web.Response(body=data)) as url:
        probing = prober(house, tmp_path, url)
        probing.note(image)
        assert image.expires_at is not None
        clock.advance((image.expires_at - clock.now_ms()) / 1000 - 30)
        assert await probing.round() == []
    await house.close()


# --- alerts --------------------------------------------------------------------------------------


class Ops:
    """An operator's receiver, which verifies as receivers do."""

    def __init__(self) -> None:
        self.took: list[tuple[str, dict[str, object]]] = []
        self.status = 200

    def serve(self, request: web.Request) -> web.Response:
        body = request._read_bytes or b""
        event = Webhook(SECRET).verify(body.decode(), dict(request.headers))
        if self.status == 200:
            self.took.append((request.headers["webhook-id"], event))
        return web.Response(status=self.status)


async def test_an_alert_is_told_when_it_is_raised_and_when_it_is_resolved(tmp_path: Path) -> None:
    house = await House(tmp_path).open()
    wrong = [Condition("account_out", "a", "the account is out")]
    ops = Ops()
    async with site(ops.serve) as url:
        config = AlertsConfig(webhook_url=url, clear_s=0)
        alerting = Alerting(house.parts, config, owner="test", see=lambda: list(wrong))
        messages = AlertMessages(house.parts, url, Secret(SECRET))
        raised, _ = await alerting.look()
        assert [one.subject for one in raised] == ["a"]
        assert await alerting.look() == ([], [])
        assert await messages.send_due() == 1
        assert await messages.send_due() == 0
        wrong.clear()
        _, resolved = await alerting.look()
        assert [one.rule for one in resolved] == ["account_out"]
        assert await messages.send_due() == 1
    assert [event["type"] for _, event in ops.took] == ["alert.raised", "alert.resolved"]
    assert len({name for name, _ in ops.took}) == 2
    assert ops.took[0][1]["data"]["words"] == "the account is out"  # type: ignore[index]
    await house.close()


async def test_a_message_that_is_not_taken_comes_again_under_its_id(tmp_path: Path) -> None:
    clock = ManualClock()
    house = await House(tmp_path, clock=clock).open()
    ops = Ops()
    ops.status = 503
    async with site(ops.serve) as url:
        config = AlertsConfig(webhook_url=url)
        see = [Condition("disk_low", "", "the disk is nearly full")]
        alerting = Alerting(house.parts, config, owner="test", see=lambda: see)
        messages = AlertMessages(house.parts, url, Secret(SECRET))
        await alerting.look()
        assert await messages.send_due() == 0
        ops.status = 200
        assert await messages.send_due() == 0  # its pause is not over
        clock.advance(60)
        # The receiver looks at its own clock, and would refuse a message of another day.
    (message,) = await house.db.read(lambda tx: alerts.due(tx, limit=5))
    assert message.attempts == 1
    await house.close()


async def test_two_processes_raise_one_alert_and_both_must_be_well(house: House) -> None:
    config = AlertsConfig(clear_s=0)
    mine, theirs = [Condition("account_out", "a", "out")], [Condition("account_out", "a", "out")]
    one = Alerting(house.parts, config, owner="one", see=lambda: list(mine))
    two = Alerting(house.parts, config, owner="two", see=lambda: list(theirs))
    assert len((await one.look())[0]) == 1
    assert await two.look() == ([], [])
    mine.clear()
    assert await one.look() == ([], [])
    await two.leave()
    assert len((await one.look())[1]) == 1


async def test_a_webhook_that_was_switched_off_and_a_finding_are_alerts(house: House) -> None:
    def spoil(tx: Transaction) -> None:
        assert customers.any_customer(tx)
        tx.execute(
            "INSERT INTO webhook (id, customer_id, url, events, description, created_at, "
            "disabled_at, disabled_reason) VALUES ('wh_1', 'cus_1', 'https://x.example', ',*,', "
            "'', :now, :now, 'failing')",
            {"now": tx.now_ms},
        )
        tx.execute(
            "INSERT INTO finding (customer_id, mark, words, found_at) "
            "VALUES ('cus_1', 'm', 'w', :now)",
            {"now": tx.now_ms},
        )

    await house.db.write(spoil)
    alerting = Alerting(house.parts, AlertsConfig(clear_s=0), owner="test", see=list)
    raised, _ = await alerting.look()
    assert [(one.rule, one.subject) for one in raised] == [
        ("books_wrong", "cus_1"),
        ("webhook_disabled", "wh_1"),
    ]

    def mend(tx: Transaction) -> None:
        tx.execute("UPDATE finding SET accepted_at = :now", {"now": tx.now_ms})
        tx.execute("UPDATE webhook SET disabled_reason = 'owner'")

    await house.db.write(mend)
    assert len((await alerting.look())[1]) == 2


def test_a_secret_of_another_form_is_refused(house: House) -> None:
    for secret in ("", "whsec_", "whsec_!!", "whsec_" + base64.b64encode(b"short").decode()):
        with pytest.raises(ConfigError, match="whsec_"):
            AlertMessages(house.parts, "https://ops.example.com", Secret(secret))
