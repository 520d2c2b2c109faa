"""A headless Chromium that tells what went wrong in a page.

Owns finding the system's browser and the noting of console errors, exceptions of scripts, refusals
by the Content-Security-Policy and bytes on the wire. Knows nothing of the console's pages.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
REASON = "no Chromium on this machine: install Debian's package chromium, or name one in CHROMIUM"


def executable() -> str | None:
    """Return the browser's path, or None."""
    named = os.environ.get("CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


needs_chromium = pytest.mark.skipif(executable() is None, reason=REASON)


@contextmanager
def launched() -> Iterator[Browser]:
    """Run the browser; nothing it does leaves the machine."""
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Window:
    """One page, and all that went wrong in it."""

    page: Page
    faults: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text} {message.location.get('url')}")


def opened(context: BrowserContext) -> Window:
    """Return a new page of a context."""
    return Window(context.new_page())
