"""An account that fails: how soon the console shows it, and whether its figures are right."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import pyvips
from playwright.sync_api import Page, expect

from browser.chromium import Window, needs_chromium
from browser.house import House, opened_house
from browser.steps import sign_in
from e2e.process import accounts
from safelight.bench.faults.server import FaultUpstream

pytestmark = [needs_chromium, pytest.mark.campaign]
VIP, DIRECT = "gpt-image-2-vip", "gpt-image-2"
SCRIPT: dict[str, Any] = {"keys": {"sk-bad": {"mix": {"500": 0.3}}}, "then": "ok"}
SEEN_WITHIN_MS = 10_000


def config(base_url: str) -> str:
    """Return three failing accounts: one of a channel that shows errors, two of one that hides."""
    shown, *hiding = (
        accounts(base_url, 3).replace("UPSTREAM_KEY", "BAD_KEY").split("[[accounts]]")[1:]
    )
    served = [(shown, DIRECT), *((one, VIP) for one in hiding)]
    return "".join(f'[[accounts]]{one}channels = ["{channel}"]\n' for one, channel in served)


def orders(house: House, key: str) -> list[int]:
    """Order 40 pictures of each channel, and return the statuses."""
    with openai.OpenAI(base_url=f"{house.url}/v1", api_key=key, max_retries=0) as client:

        def order(wish: tuple[str, str]) -> int:
            try:
                client.images.generate(model=wish[0], prompt=wish[1], size="1024x1024")
            except openai.APIStatusError as error:
                return error.status_code
            return 200

        with ThreadPoolExecutor(4) as buyers:
            return list(
                buyers.map(order, [(m, f"{m} {n}") for n in range(40) for m in (VIP, DIRECT)])
            )


def test_a_failing_account_shows_within_ten_seconds(window: Window, tmp_path: Path) -> None:
    """The pool's page names its share of successes; the plots tell hidden from visible errors."""
    page = window.page
    with (
        FaultUpstream.in_thread(SCRIPT, seed=11) as upstream,
        opened_house(tmp_path, config(upstream.base_url), BAD_KEY="sk-bad") as house,
    ):
        key = house.gateway.key("buyers", "100.00")
        sign_in(page, house, house.owner)
        row = page.get_by_role("row").filter(has_text="account-0")
        expect(row).not_to_contain_text("%")
        statuses = orders(house, key)
        expect(row).to_contain_text("%", timeout=SEEN_WITHIN_MS)
        assert "100 %" not in row.inner_text()
        folder = Path(os.environ.get("CONSOLE_SHOTS", tmp_path))
        keep(page, folder / "fault-pool.webp")
        plots(page)
        keep(page, folder / "fault-metrics.webp")
        failed = [seen for seen in upstream.requests if seen.status == 500]
        sold = {seen.prompt for seen in upstream.requests if seen.kind == "ok"}
        now = int(time.time())
        points = house.ask(f"/admin/v1/series?step=minute&from={now - 600}&to={now + 1}")["data"]
    hidden = sum(seen.prompt in sold for seen in failed)
    assert hidden > 0
    assert sum(one["completed"] for one in points) == statuses.count(200) == len(upstream.sales)
    assert sum(one["failed"] for one in points) == len(statuses) - statuses.count(200)
    assert sum(one["hidden_errors"] for one in points) == hidden
    assert sum(one["attempts"] for one in points) == len(upstream.requests)


def keep(page: Page, path: Path) -> None:
    """Leave a picture of the page for people and for docs/console.md."""
    pyvips.Image.new_from_buffer(page.screenshot(), "").write_to_file(str(path), Q=82)


def plots(page: Page) -> None:
    """The error plot shows that some failed, seconds after they did."""
    page.get_by_role("link", name="Metrics").click()
    errors = page.locator(".plot").filter(has_text="Error rate")
    expect(errors.locator("h2 b")).not_to_have_text("\u2013", timeout=SEEN_WITHIN_MS)
    errors.get_by_text("Figures").click()
    shown = errors.locator("tbody tr").all_inner_texts()
    assert any("%" in line and not line.endswith("\t0.0 %") for line in shown), shown
