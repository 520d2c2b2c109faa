"""A customer's and an operator's day in the console, in a real browser over a real gateway."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from browser.chromium import Window, needs_chromium
from browser.house import House
from browser.steps import order, paint, sign_in

pytestmark = needs_chromium


def test_a_customer_signs_in_orders_and_finds_the_charge(window: Window, house: House) -> None:
    """Sign in, see the price, watch the picture come, find it on the statement, sign out."""
    page = window.page
    sign_in(page, house, house.customer)
    order(page, 'A quiet poster, title "HELLO"')
    page.get_by_role("link", name="Statement").click()
    line = page.get_by_role("table", name="Statement").get_by_role("row").last
    expect(line).to_contain_text("\u2212$0.03")
    stored = page.evaluate("JSON.stringify({...localStorage, ...sessionStorage}) + document.cookie")
    assert house.customer not in stored
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Key")).to_be_visible()
    assert page.context.cookies() == []
    assert house.ask("/admin/v1/sessions")["data"] == []


@pytest.mark.campaign
def test_a_whole_day_of_a_customer(window: Window, house: House) -> None:
    """Partials, an edit with a mask, the gallery under the keys, the steps of a job, the export."""
    page = window.page
    sign_in(page, house, house.customer)
    page.get_by_label("21:9").check(force=True)
    page.get_by_label("4K").check(force=True)  # takes seconds to draw, so there are glimpses
    glimpses = page.evaluate_handle(
        "() => { const seen = []; new MutationObserver(() => {"
        " const image = document.querySelector('.frame-picture.partial img');"
        " if (image) seen.push(image.src.slice(0, 22)); })"
        ".observe(document.body, {childList: true, subtree: true, attributes: true});"
        " return seen; }"
    )
    order(page, "A wide harbour at dusk, unmistakably blue")
    assert "data:image/" in str(glimpses.json_value()), "no partial image was shown"
    expect(page.locator(".stage figcaption")).to_contain_text("native pixels")
    page.get_by_role("button", name="Edit with mask").click()
    paint(page)
    page.get_by_role("button", name="Use this mask").click()
    expect(page.get_by_role("button", name="Masked")).to_be_visible()
    order(page, "Put a lamp there")
    page.get_by_role("link", name="Gallery").click()
    page.get_by_label("Search").fill("harbour")
    picture = page.locator(".picture")
    expect(picture).to_have_count(1)
    picture.focus()
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Unpin")).to_be_visible()
    page.get_by_label("Search").fill("no such words")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("row").nth(1).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".steps li").last).to_contain_text("Delivered and charged")
    expect(page.locator(".steps li").first).to_contain_text("Accepted")
    page.get_by_role("link", name="Statement").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Export CSV").click()
    assert saved.value.suggested_filename == "statement.csv"
    assert "/v1/billing/statement?format=csv&month=" in saved.value.url


@pytest.mark.campaign
def test_a_whole_day_of_an_operator(window: Window, house: House) -> None:
    """Make a customer, order with its key, pause an account, see the plots move."""
    page = window.page
    sign_in(page, house, house.owner)
    expect(page.get_by_role("heading", name="Pool")).to_be_visible()
    page.get_by_role("link", name="Customers and keys").click()
    page.get_by_role("button", name="New customer").click()
    page.get_by_label("Name").fill("studio-north")
    page.get_by_label("First credit").fill("2.50")
    page.get_by_role("dialog").get_by_role("button", name="New customer").click()
    key = page.locator("[data-secret]").inner_text()
    assert re.fullmatch(r"sl_live_\w{46}", key)
    page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
    expect(page.locator(".tile").first).to_contain_text("$2.50")
    plots_move(page, key)
    page.get_by_role("link", name="Pool").click()
    row = page.get_by_role("row").filter(has_text="project-a")
    row.get_by_role("button", name="Pause").click()
    page.get_by_label("Reason").fill("invoice is late")
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("invoice is late")
    row.get_by_role("button", name="Resume").click()
    expect(row.locator(".badge.good")).to_be_visible()
    page.get_by_role("link", name="System and alerts").click()
    expect(page.get_by_role("table", name="Audit")).to_contain_text("account.pause")
    acts = house.ask("/admin/v1/audit")["data"]
    assert [one["act"] for one in acts][:2] == ["account.resume", "account.pause"]
    assert {one["actor_name"] for one in acts[:2]} == {"Ada"}


def plots_move(page: Page, key: str) -> None:
    """A picture that is ordered shows in the plots by itself."""
    page.get_by_role("link", name="Metrics").click()
    rate = page.locator(".plot").filter(has_text="Images a minute").locator("h2 b")
    expect(page.locator(".plot canvas")).to_have_count(6)
    before = rate.inner_text()
    page.get_by_role("link", name="Studio").click()
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    order(page, "A green door")
    page.get_by_role("link", name="Metrics").click()
    expect(rate).not_to_have_text(before)
