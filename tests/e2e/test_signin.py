"""Signing in to a real server, with keys made and revoked by commands beside it."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp

from e2e.process import GatewayProcess

PICTURE = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}


async def test_a_day_of_an_operator_and_a_customer_in_one_browser(tmp_path: Path) -> None:
    """A picture is made and watched by cookie alone; a revoked key ends its session at once."""
    gateway = GatewayProcess(tmp_path)
    with gateway:
        assert gateway.announced["operated"] is False
        made = json.loads(
            gateway.command("admin", "keys", "create", "Ada", "--role", "owner", "--json")
        )
        jar = aiohttp.CookieJar(unsafe=True)  # an address without a name may set cookies, too
        async with aiohttp.ClientSession(gateway.url, cookie_jar=jar) as browser:
            proofs = {}
            for door, key in (
                ("/admin/v1/session", made["key"]),
                ("/v1/session", gateway.first_key),
            ):
                async with browser.post(door, json={"key": key}) as answer:
                    assert answer.status == 200, await answer.text()
                    token = (await answer.json())["csrf_token"]
                    proofs[door] = {"x-safelight-csrf": token}
            order = {**proofs["/v1/session"], "prefer": "respond-async"}
            async with browser.post("/v1/images/generations", json=PICTURE, headers=order) as a:
                assert a.status == 202, await a.text()
                job = (await a.json())["id"]
            async with browser.get(f"/v1/jobs/{job}/events") as events:
                assert "job.completed" in await events.text()
            async with browser.get("/v1/images?search=lamp") as listed:
                (picture,) = (await listed.json())["data"]
            assert picture["job_id"] == job
            async with browser.get(picture["url"]) as image:
                assert (await image.read()).startswith(b"\x89PNG")
            async with browser.get("/admin/v1/sessions") as listed:
                assert {one["kind"] for one in (await listed.json())["data"]} == {
                    "operator",
                    "customer",
                }
            gateway.command("admin", "keys", "revoke", made["id"])
            async with browser.get("/admin/v1/sessions") as over:
                assert (over.status, (await over.json())["error"]["code"]) == (401, "session_over")
            async with browser.get("/v1/jobs") as goes_on:
                assert goes_on.status == 200
            async with browser.delete("/v1/session", headers=proofs["/v1/session"]) as left:
                assert (left.status, await left.read()) == (204, b"")
            async with browser.get("/v1/jobs") as out:
                assert out.status == 401
        log = gateway.log.read_text()
        assert made["key"] not in log
    assert gateway.first_key is not None
    assert gateway.first_key not in log
