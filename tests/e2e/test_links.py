"""Links live for exactly as long as they say."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from e2e.in_process import InProcess, running
from safelight import customers
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


async def test_raising_a_customers_epoch_ends_all_its_links(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        link = await link_of(gateway)
        owner = await gateway.app.gateway.authenticate(gateway.key)
        await gateway.app.db.write(lambda tx: customers.raise_link_epoch(tx, owner.customer_id))
        assert (await gateway.ask("GET", link)).status == 404


async def test_another_customers_job_is_404(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        body = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1280x544"}
        answer = await gateway.ask("POST", "/v1/images/generations", body)
        job_id = answer.headers["x-safelight-job-id"]
        own = await gateway.ask("GET", f"/v1/jobs/{job_id}")
        assert own.json()["status"] == "completed"
        stranger = await _stranger(gateway)
        assert (await gateway.ask("GET", f"/v1/jobs/{job_id}", key=stranger)).status == 404
