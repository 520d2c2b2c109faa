"""Links live for exactly as long as they say."""

from __future__ import annotations

import asyncio
import json
import string
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.in_process import InProcess, running
from safelight.office import Office

DAY_S = 24 * 3600


async def link_of(gateway: InProcess, **more: Any) -> str:
    """Order a small picture as a link; return its path and query."""
    body = {
        "model": "gpt-image-2-vip",
        "prompt": "a lamp",
        "size": "1280x544",
        "response_format": "url",
        **more,
    }
    answer = await gateway.ask("POST", "/v1/images/generations", body)
    assert answer.status == 200, answer.body
    parts = urlsplit(answer.json()["data"][0]["url"])
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
async def test_a_link_serves_its_type_for_24_hours_and_is_404_a_second_later(
    tmp_path: Path, form: str
) -> None:
    async with running(tmp_path) as gateway:
        link = await link_of(gateway, output_format=form)
        gateway.clock.advance(DAY_S - 1)
        answer = await gateway.ask("GET", link)
        assert answer.status == 200
        assert answer.headers["content-type"] == f"image/{form}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert len(answer.body) == int(answer.headers["content-length"])
        gateway.clock.advance(1 + 1)
        late = await gateway.ask("GET", link)
        assert late.status == 404
        assert late.headers["x-url-error"] == "expired"
        assert late.json()["error"]["code"] == "not_found"


async def test_any_changed_byte_is_404(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        link = await link_of(gateway)
        assert (await gateway.ask("GET", link)).status == 200
        for place in range(1, len(link)):
            for other in ("0", "A", "~", link[place].swapcase(), "%"):
                if other == link[place]:
                    continue
                changed = link[:place] + other + link[place + 1 :]
                status = (await gateway.ask("GET", changed)).status
                assert status == 404, changed
        for extra in string.ascii_lowercase[:6]:
            assert (await gateway.ask("GET", f"{link}&{extra}=1")).status == 404


async def test_a_stable_link_signs_anew_for_its_owner_only(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        link = await link_of(gateway)
        gateway.clock.advance(3 * DAY_S)
        assert (await gateway.ask("GET", link)).status == 404
        image_id = link.split("/")[2].split(".")[0]
        fresh = await gateway.ask("GET", f"/v1/images/{image_id}")
        assert fresh.status == 302
        parts = urlsplit(fresh.headers["location"])
        assert (await gateway.ask("GET", f"{parts.path}?{parts.query}")).status == 200
        stranger = await _stranger(gateway)
        assert (await gateway.ask("GET", f"/v1/images/{image_id}", key=stranger)).status == 404


async def _stranger(gateway: InProcess) -> str:
    office = Office(gateway.app.db, gateway.app.keyring)
    return await office.create_customer_key("stranger", 0)


async def test_after_a_rotation_old_links_live_and_after_two_they_do_not(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        link = await link_of(gateway)
        gateway.app.keyring.rotate_links()
        assert (await gateway.ask("GET", link)).status == 200
        gateway.app.keyring.rotate_links()
        assert (await gateway.ask("GET", link)).status == 404


async def test_a_customer_ends_all_its_links_and_nobody_elses(tmp_path: Path) -> None:
    """Old links are 404, the picture stays, and its stable link signs one that works."""
    async with running(tmp_path) as gateway:
        link = await link_of(gateway)
        stranger = await _stranger(gateway)
        assert (await gateway.ask("POST", "/v1/images/links/end", key=stranger)).status == 200
        assert (await gateway.ask("GET", link)).status == 200
        ended = await gateway.ask("POST", "/v1/images/links/end")
        assert (ended.status, ended.json()) == (200, {"object": "links", "ended": True})
        gone = await gateway.ask("GET", link)
        assert gone.status == 404
        assert "x-url-error" not in gone.headers
        fresh = await gateway.ask("GET", f"/v1/images/{link.split('/')[2].split('.')[0]}")
        parts = urlsplit(fresh.headers["location"])
        assert (await gateway.ask("GET", f"{parts.path}?{parts.query}")).status == 200


async def test_the_operator_ends_a_customers_links_beside_a_running_server(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        link = await link_of(gateway)
        done = await asyncio.to_thread(_end_links, tmp_path, "team")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {"customer": "team", "ended": True}
        assert (await gateway.ask("GET", link)).status == 404
        unknown = await asyncio.to_thread(_end_links, tmp_path, "nobody")
        assert unknown.returncode != 0
        assert "nobody" in unknown.stdout + unknown.stderr


def _end_links(data: Path, customer: str) -> subprocess.CompletedProcess[str]:
    words = ["images", "end-links", customer, "--data", str(data), "--json"]
    return subprocess.run(
        [sys.executable, "-m", "safelight", *words], capture_output=True, text=True, check=False
    )


async def test_another_customers_job_is_404(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        body = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1280x544"}
        answer = await gateway.ask("POST", "/v1/images/generations", body)
        job_id = answer.headers["x-safelight-job-id"]
        own = await gateway.ask("GET", f"/v1/jobs/{job_id}")
        assert own.json()["status"] == "completed"
        stranger = await _stranger(gateway)
        assert (await gateway.ask("GET", f"/v1/jobs/{job_id}", key=stranger)).status == 404
