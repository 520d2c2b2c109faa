"""What a person does in the console, step by step, and what is waited for after each."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from browser.house import House

DRAWN_MS = 60_000


def sign_in(page: Page, house: House, key: str) -> None:
    """Come through the door."""
    page.goto(house.url)
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


def order(page: Page, prompt: str) -> None:
    """Order what the Studio shows, and wait for the picture."""
    page.get_by_label("Prompt").fill(prompt)
    expect(page.locator(".price b")).to_have_text("$0.03")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".stage .badge.good")).to_be_visible(timeout=DRAWN_MS)


def paint(page: Page) -> None:
    """Draw one stroke over the picture."""
    box = page.locator("dialog canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.6, steps=8)
    page.mouse.up()
