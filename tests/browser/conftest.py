"""A gateway, a browser and windows for the console's tests; one of each for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from browser.chromium import Window, executable, launched, opened
from browser.house import House, opened_house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A real gateway over the built-in proof upstream, with an owner and a customer."""
    with opened_house(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; tests that ask for it are skipped before where there is none."""
    assert executable() is not None
    with launched() as found:
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile of its own, on a desk's screen."""
    made = browser.new_context(viewport={"width": 1280, "height": 860}, color_scheme="light")
    yield made
    made.close()


@pytest.fixture
def window(context: BrowserContext) -> Iterator[Window]:
    """A page whose test fails when anything in it went wrong."""
    made = opened(context)
    yield made
    assert made.faults == []
