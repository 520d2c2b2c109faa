"""Every page of the console: how it looks in both themes and on a phone, and that nothing is wrong.

The pictures go to the folder that CONSOLE_SHOTS names, else to a temporary one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import pyvips
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from browser.chromium import Window, needs_chromium, opened
from browser.house import House
from browser.steps import order, paint, sign_in

pytestmark = [needs_chromium, pytest.mark.campaign]
FIRST_VIEW_BYTES = 200_000
SHOT_BYTES = 150_000
PAGES = (
    "studio", "gallery", "jobs", "runs", "statement", "pool", "customers", "metrics", "system",
)  # fmt: skip
LOOKS = (("light", 1280, 860), ("dark", 1280, 860), ("light", 390, 844), ("dark", 390, 844))


def test_the_first_view_is_light_and_keeps_to_its_policy(window: Window, house: House) -> None:
    """Sign-in and Studio together stay under 200 kB on the wire; nothing comes from elsewhere."""
    page, bodies = window.page, []
    page.on("response", lambda answer: bodies.append((answer.url, answer.request.sizes())))
    page.on("request", lambda asked: window.foreign.append(asked.url))
    sign_in(page, house, house.customer)
    expect(page.locator(".price b")).to_be_visible()
    weight = sum(sizes["responseBodySize"] + sizes["responseHeadersSize"] for _, sizes in bodies)
    assert len(bodies) > 10
    assert weight < FIRST_VIEW_BYTES
    assert not any("uplot" in address for address, _ in bodies)
    assert {
        one for one in window.foreign if not one.startswith((house.url, "data:", "blob:"))
    } == set()
    assert (
        page.evaluate("document.querySelectorAll('script:not([src]), style, [style]').length") >= 0
    )


def test_a_wrong_key_is_refused_in_words(window: Window, house: House) -> None:
    """The door says what to do; the key's field keeps the focus, and nothing was stored."""
    page = window.page
    page.goto(house.url)
    page.get_by_label("Key").fill("sl_live_nonsense")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("copied whole")
    expect(page.get_by_label("Key")).to_be_focused()
    # A refused sign-in is the browser's own line about status 401, and nothing else.
    assert all("401" in fault for fault in window.faults)
    window.faults.clear()


def test_an_inline_script_does_not_run(window: Window, house: House) -> None:
    """The policy stops what an injection would bring: scripts and styles in the page, and eval."""
    page = window.page
    page.goto(house.url)
    expect(page.get_by_label("Key")).to_be_visible()
    page.evaluate(
        "() => { const one = document.createElement('script'); one.textContent = 'window.ran = 1';"
        " document.body.append(one); }"
    )
    assert page.evaluate("window.ran") is None
    assert any("Content Security Policy" in fault for fault in window.faults)
    window.faults.clear()


@pytest.mark.parametrize(("theme", "width", "height"), LOOKS)
def test_every_page_looks_right_and_is_accessible(
    browser: Browser, house: House, tmp_path: Path, theme: str, width: int, height: int
) -> None:
    """axe-core finds nothing serious on any page; a picture of each is kept to be looked at."""
    folder = Path(os.environ.get("CONSOLE_SHOTS", tmp_path))
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )
    window = opened(context)
    page, name = window.page, f"{theme}-{width}"
    page.goto(house.url)
    expect(page.get_by_label("Key")).to_be_visible()
    _look(page, folder / f"signin-{name}.webp")
    _fill(page, house)
    _look(page, folder / f"studio-done-{name}.webp")
    page.get_by_role("button", name="Edit with mask").click()
    paint(page)
    _look(page, folder / f"mask-{name}.webp")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    _look(page, folder / f"shortcuts-{name}.webp")
    page.keyboard.press("Escape")
    # In the same browser, as somebody who has both keys.
    opened_door = context.request.post(
        f"{house.url}/admin/v1/session", data={"key": house.owner}, headers={"origin": house.url}
    )
    assert opened_door.ok, opened_door.text()
    page.evaluate("localStorage.setItem('safelight.door.operator', '')")
    for one in PAGES:
        page.goto(f"{house.url}/#/{one}")
        page.reload()
        _settle(page)
        _look(page, folder / f"{one}-{name}.webp")
    for one in ("jobs", "customers"):
        page.goto(f"{house.url}/#/{one}")
        page.locator("tbody tr").first.click()
        expect(page.get_by_role("link", name=re.compile("^All "))).to_be_visible()
        _settle(page)
        _look(page, folder / f"{one}-one-{name}.webp")
    for one, opens in (("customers", "New customer"), ("gallery", "Open"), ("pool", "Pause")):
        page.goto(f"{house.url}/#/{one}")
        page.get_by_role("button", name=opens, exact=True).first.click()
        expect(page.get_by_role("dialog")).to_be_visible()
        _look(page, folder / f"{one}-dialog-{name}.webp")
        page.keyboard.press("Escape")
    assert window.faults == []
    context.close()


def _fill(page: Page, house: House) -> None:
    page.get_by_label("Key").fill(house.customer)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("16:9").check(force=True)
    order(page, 'Launch poster in red light, large title "SAFELIGHT"')


def _settle(page: Page) -> None:
    """Wait until nothing is loading any more."""
    page.wait_for_load_state("networkidle")
    expect(page.locator(".bone")).to_have_count(0)


def _look(page: Page, path: Path) -> None:
    """Check the page as it stands, and keep its picture; it never scrolls sideways."""
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    found = Axe().run(page).response["violations"]
    serious = [
        f"{path.stem}: {one['id']} {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    shot = pyvips.Image.new_from_buffer(page.screenshot(), "")
    shot.write_to_file(str(path), Q=82)
    assert serious == []
    assert overflow <= 0, f"{path.stem} is {overflow} px too wide"
    assert path.stat().st_size < SHOT_BYTES
