"""The console's files over HTTP: addresses, caching, security headers, and what they hold."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tomllib
from collections.abc import AsyncIterator, Iterator
from fnmatch import fnmatch
from pathlib import Path

import aiohttp
import msgspec
import pytest

import safelight
from api.conftest import Server
from safelight.api import console
from safelight.config import StorageConfig

FOLDER = Path(safelight.__file__).parent / "console"
ROOT = Path(__file__).resolve().parents[2]
# uPlot 1.6.31's own dist/uPlot.iife.min.js, as its authors committed it.
UPLOT_SHA256 = "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2"


def console_files() -> Iterator[tuple[str, str]]:
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(FOLDER)), path.read_text(encoding="utf-8")


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        server.url, headers={"accept-encoding": "identity"}
    ) as session:
        yield session


@pytest.mark.parametrize("path", ["/", "/console"])
async def test_the_page_names_files_that_exist_for_good(
    http: aiohttp.ClientSession, path: str
) -> None:
    """The page is asked for each time; all that it names may be kept for a year."""
    async with http.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-cache"
        text = await answer.text()
    named = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(named) >= 5
    for address in named:
        async with http.get(address) as answer:
            assert answer.status == 200, address
            assert "immutable" in answer.headers["cache-control"]


async def test_what_a_browser_has_is_not_sent_again(http: aiohttp.ClientSession) -> None:
    """The page has an entity tag: an unchanged one is 304 without a body."""
    async with http.get("/") as answer:
        etag = answer.headers["etag"]
    async with http.get("/", headers={"if-none-match": f"W/{etag}"}) as answer:
        assert answer.status == 304
        assert await answer.read() == b""


async def test_every_file_comes_under_a_strict_policy(http: aiohttp.ClientSession) -> None:
    """Nothing inline, no eval, no frame around it, no guessing of types, no referrer."""
    async with http.get("/") as answer:
        headers = answer.headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_only_a_bucket_lets_pictures_come_from_elsewhere() -> None:
    """Where links lead to a bucket its pictures are let in; scripts are not."""
    assert "https:" not in console.content_policy(StorageConfig())
    policy = console.content_policy(msgspec.structs.replace(StorageConfig(), serve="redirect"))
    assert "img-src 'self' data: blob: https:;" in policy
    assert policy.count("https:") == 1


async def test_files_are_smaller_on_the_wire(http: aiohttp.ClientSession) -> None:
    """Who takes gzip gets gzip, of the same text."""
    found = console.folder()
    address = f"/console/{found.version}/style.css"
    async with http.get(address, headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        packed = int(answer.headers["content-length"])
        text = await answer.read()
    async with http.get(address) as answer:
        assert await answer.read() == text
    assert packed < 0.5 * len(text)


async def test_a_page_from_before_an_upgrade_goes_on(http: aiohttp.ClientSession) -> None:
    """An older version's address gives the file of now, which nobody keeps."""
    async with http.get("/console/0123456789abcdef/main.js") as answer:
        assert answer.status == 200
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["nothing.js", "../api/console.py", "%2e%2e/config.py", "pages/"])
async def test_nothing_but_the_console_is_there(http: aiohttp.ClientSession, name: str) -> None:
    """Paths are looked up, never opened: what is no file of the console is 404."""
    async with http.get(f"/console/{console.folder().version}/{name}") as answer:
        assert answer.status == 404


async def test_the_page_is_read_only(http: aiohttp.ClientSession) -> None:
    """A POST is 405 and says what is taken."""
    async with http.post("/") as answer:
        assert answer.status == 405
        assert "GET" in answer.headers["allow"]


async def test_the_charting_library_is_the_authors_own() -> None:
    """What the Python package ships is uPlot's own file, byte for byte."""
    found = await asyncio.to_thread(console.folder)
    assert hashlib.sha256(found.assets["vendor/uplot.js"].body).hexdigest() == UPLOT_SHA256


def test_every_file_is_packaged() -> None:
    """An installation from a wheel has all files: the globs of pyproject.toml cover them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    globs = settings["tool"]["setuptools"]["package-data"]["safelight"]
    missing = [
        name
        for name, _ in console_files()
        if not any(fnmatch(f"console/{name}", glob) for glob in globs)
    ]
    assert missing == []


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    """No address of another host, no inline script or style, no markup made of text, no eval."""
    ways = (
        r"https?://(?!www\.w3\.org/)",
        r"\binnerHTML\b|\bouterHTML\b|insertAdjacentHTML|document\.write",
        r"\beval\(|new Function",
        r"<script(?![^>]*\bsrc=)|<style|\bstyle=\"|\bon\w+=\"",
    )
    found = [
        f"{name}: {match.group()}"
        for name, text in console_files()
        for way in ways
        for match in re.finditer(way, text)
    ]
    assert found == []


def test_keys_are_in_no_storage() -> None:
    """What the console keeps in a browser are its theme and which doors were used."""
    kept = {
        match
        for _, text in console_files()
        for match in re.findall(r"(?:local|session)Storage\.setItem\(([^)]*)\)", text)
    }
    assert kept == {"name, choice", '`safelight.door.${who}`, ""'}


def test_modules_are_short() -> None:
    """The rule for Python's modules holds here, too."""
    assert {name for name, text in console_files() if text.count("\n") > 500} == set()
