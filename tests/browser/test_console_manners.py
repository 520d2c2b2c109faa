"""How the console behaves under the keyboard, when something is refused, and between visits."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from browser.chromium import Window, needs_chromium
from browser.house import House
from browser.steps import sign_in

pytestmark = [needs_chromium, pytest.mark.campaign]


def test_every_page_opens_by_two_keys(window: Window, house: House) -> None:
    """`g` and a letter open a page; `?` shows the list; `/` goes to the search."""
    page = window.page
    sign_in(page, house, house.owner)
    expect(page.get_by_role("table", name="Accounts")).to_be_visible()
    for letter, heading in (("j", "Jobs"), ("m", "Statement"), ("t", "Metrics"), ("g", "Gallery")):
        page.keyboard.press("g")
        page.keyboard.press(letter)
        expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard shortcuts")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("gj?")
    expect(page.get_by_label("Search")).to_have_value("gj?")


def test_a_refused_order_says_what_to_do(window: Window, house: House) -> None:
    """Without money the stage says so, names the way out, and nothing was ordered."""
    page, key = window.page, house.gateway.key("poor", "0.01")
    sign_in(page, house, key)
    page.get_by_label("Prompt").fill("A thing that nobody pays")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".stage .note")).to_contain_text("top-up")
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("heading", name="No jobs here")).to_be_visible()
    assert all("status of 4" in fault for fault in window.faults)
    window.faults.clear()


def test_the_theme_and_the_session_outlive_a_reload(window: Window, house: House) -> None:
    """The switch goes from system to light to dark; a reload keeps it, and who is signed in."""
    page = window.page
    sign_in(page, house, house.owner)
    for name in ("system", "light"):
        page.get_by_role("button", name=f"Theme: {name}").click()
    ground = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") == ground
    assert ground == "rgb(20, 16, 15)"


def test_a_session_that_ended_elsewhere_leads_to_the_door(window: Window, house: House) -> None:
    """A call that is refused as nobody's brings the sign-in back, not a broken page."""
    page = window.page
    sign_in(page, house, house.owner)
    for session in house.ask("/admin/v1/sessions")["data"]:
        house.ask(f"/admin/v1/sessions/{session['id']}", "DELETE")
    page.evaluate("location.hash = '#/customers'")
    expect(page.get_by_label("Key")).to_be_visible()
    assert all("401" in fault for fault in window.faults)
    window.faults.clear()


def test_money_and_times_are_exact(window: Window, house: House) -> None:
    """No float touches an amount, and a time tells UTC."""
    page = window.page
    page.goto(house.url)
    shown = page.evaluate(
        "async () => { const address = document.querySelector('script[type=module]').src;"
        " const format = await import(address.replace('main.js', 'format.js'));"
        " return { sums: [0, 30000, -30000, 1234567890123456, 1, 100000].map(format.money),"
        " read: ['0.1', '1,234.56', '0.000001', '1e3', '-1', ''].map(format.parseMoney),"
        " at: format.time(1790000003).title }; }"
    )
    assert shown["sums"] == [
        "$0.00",
        "$0.03",
        "\u2212$0.03",
        "$1,234,567,890.123456",
        "$0.000001",
        "$0.10",
    ]
    assert shown["read"] == [100_000, 1_234_560_000, 1, None, None, None]
    assert shown["at"] == "2026-09-21 14:13:23 UTC"
