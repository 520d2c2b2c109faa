"""A gateway, a browser and windows for the console's tests; one of each for a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from browser.chromium import Window, executable, launched, opened
from browser.double import Double
from e2e.process import GatewayProcess


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A real gateway over the built-in proof upstream."""
    folder: Path = tmp_path_factory.mktemp("console")
    with GatewayProcess(folder) as running:
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
def double(gateway: GatewayProcess, context: BrowserContext) -> Double:
    """The doors of this context; the first start's customer has a key already."""
    made = Double(gateway)
    assert gateway.first_key is not None
    made.keys[gateway.first_key] = "default"
    made.install(context)
    return made


@pytest.fixture
def window(context: BrowserContext, double: Double) -> Iterator[Window]:
    """A page whose test fails when anything in it went wrong."""
    made = opened(context)
    yield made
    assert made.faults == []
    assert double.unproved == []
