"""Accounts as operators see, pause and resume them, over all processes and over restarts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from administration.conftest import ORDER, Desk, desk_of
from e2e.in_process import AppInMemory, running
from e2e.process import GatewayProcess
from safelight.admin_keys import Role
from safelight.clock import ManualClock
from safelight.config import load_config
from safelight.office import open_office

TWO = """
[[accounts]]
name = "one"
upstream = "proof"
channels = ["gpt-image-2-vip", "gpt-image-2-all"]
images_per_minute = 30

[[accounts]]
name = "two"
upstream = "proof"
channels = ["gpt-image-2-vip"]
images_per_minute = 12.5
"""


async def accounts(desk: Desk) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in (await desk.ask("GET", "/accounts"))["data"]}


async def ordered(desk: Desk) -> tuple[int, str | None]:
    """Return status and error code of one more order."""
    answer = await desk.gateway.ask("POST", "/v1/images/generations", ORDER)
    body = answer.json()
    return answer.status, body["error"]["code"] if "error" in body else None


async def test_accounts_are_shown_with_their_figures_and_limits(tmp_path: Path) -> None:
    """Groups count once in the capacity; what the figures cover is said."""
    async with running(tmp_path / "data", TWO) as gateway:
        desk = await desk_of(gateway)
        await desk.order()
        await gateway.app.upkeep.share()
        listed = await desk.ask("GET", "/accounts")
        assert listed["since_s"] == 86_400
        one, two = listed["data"]
        assert (one["name"], one["upstream"], one["group"]) == ("one", "proof", "one")
        assert (one["state"], one["paused"], one["score"]) == ("ready", None, 1.0)
        assert one["limit"] == {"images_per_minute": 30.0, "learnt": False, "configured": 30.0}
        assert one["delivered"] + two["delivered"] == 1
        used = one if one["delivered"] else two
        assert (used["success_share"], used["cost_per_image_micros"]) == (1.0, 0)
        gateway.clock.advance(3600)
        later = await desk.ask("GET", "/accounts?since_s=60")
        assert [entry["delivered"] for entry in later["data"]] == [0, 0]
        await gateway.app.upkeep.show()
        points = (await desk.ask("GET", "/series"))["data"]
        assert {point["capacity_per_minute"] for point in points} == {42.5}
        assert await desk.refused("GET", "/accounts?since_s=0", status=400) == "invalid_value"


async def test_channels_and_sizes_are_those_of_the_configuration(tmp_path: Path) -> None:
    async with running(tmp_path / "data", TWO) as gateway:
        desk = await desk_of(gateway)
        channels = {one["id"]: one for one in (await desk.ask("GET", "/channels"))["data"]}
        assert channels["gpt-image-2-vip"]["accounts"] == ["one", "two"]
        assert channels["gpt-image-2-all"]["accounts"] == ["one"]
        assert channels["gpt-image-2-vip"]["price_micros"] == 30_000
        for query in ("", "?model=gpt-image-2-vip"):
            own = await gateway.ask("GET", f"/v1/sizes{query}")
            assert (await desk.answer("GET", f"/sizes{query}")).body == own.body
        code = await desk.refused("GET", "/sizes?model=none", status=404)
        assert code == "model_not_found"


async def test_a_paused_account_gets_no_new_attempt_until_it_is_resumed(desk: Desk) -> None:
    """Pausing twice keeps the first reason; whoever waits on the line is told at once."""
    paused = await desk.ask("POST", "/accounts/proof/pause", {"reason": "key rotation"})
    assert paused["paused"] == {
        "reason": "key rotation",
        "by": "operator Ada",
        "at": desk.gateway.clock.now_ms() // 1000,
    }
    again = await desk.ask("POST", "/accounts/proof/pause", {"reason": "again"})
    assert again["paused"] == paused["paused"]
    await desk.gateway.app.upkeep.share()
    assert (await accounts(desk))["proof"]["state"] == "paused"
    assert await ordered(desk) == (503, "upstream_down")
    resumed = await desk.ask("POST", "/accounts/proof/resume")
    assert resumed["paused"] is None
    await desk.gateway.app.upkeep.share()
    assert await ordered(desk) == (200, None)


async def test_only_accounts_that_are_there_are_paused(desk: Desk) -> None:
    for act, body in (("pause", {"reason": "x"}), ("resume", None)):
        assert await desk.refused("POST", f"/accounts/spare/{act}", body, status=404) == "not_found"
    assert [one["act"] for one in await desk.acts() if one["act"].startswith("account.")] == []


async def test_a_pause_holds_in_every_process_and_over_restarts(tmp_path: Path) -> None:
    """One process pauses; another on the same books stops, and a third begins stopped."""
    async with running(tmp_path) as first:
        desk = await desk_of(first)
        second = AppInMemory(load_config(None, tmp_path, environ={}), ManualClock())
        await second.start()
        await desk.ask("POST", "/accounts/proof/pause", {"reason": "x"})
        await second.upkeep.share()  # every two seconds by itself
        assert [view.state for view in second.parts.pool.views()] == ["paused"]
        await second.stop(0)
        third = AppInMemory(load_config(None, tmp_path, environ={}), ManualClock())
        await third.start()
        assert [view.state for view in third.parts.pool.views()] == ["paused"]
        await desk.ask("POST", "/accounts/proof/resume")
        await third.upkeep.share()
        assert [view.state for view in third.parts.pool.views()] == ["ready"]
        await third.stop(0)


@pytest.mark.campaign
async def test_a_pause_by_one_server_stops_another_within_seconds(tmp_path: Path) -> None:
    """Two real processes: the second refuses orders soon after the first was told."""
    with GatewayProcess(tmp_path / "a") as one, one.beside(tmp_path / "b") as two:
        customer = one.key()
        async with open_office(one.data) as office:
            key, _ = await office.create_admin_key("Ada", Role.OPERATOR)
        async with aiohttp.ClientSession() as http:
            path = f"{one.url}/admin/v1/accounts/proof/pause"
            headers = {"authorization": f"Bearer {key}"}
            async with http.post(path, json={"reason": "x"}, headers=headers) as answer:
                assert answer.status == 200
            began, status = time.monotonic(), 200
            headers = {"authorization": f"Bearer {customer}"}
            while status == 200 and time.monotonic() < began + 30:
                path = f"{two.base_url}/images/generations"
                async with http.post(path, json=ORDER, headers=headers) as answer:
                    status = answer.status
        assert (status, time.monotonic() - began < 10) == (503, True)
