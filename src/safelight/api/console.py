"""The console's files: one page for people, its modules and styles, and the charting library.

Owns addresses, caching and the security headers of what a browser runs. The page itself is
`safelight/console/`; what it shows comes from the routes beside this one.

Every file has an address with the digest of all of them in it, so a browser keeps it for good and
modules of two versions never meet. Only the page itself is asked for each time.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.metadata
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, NamedTuple

from safelight.api.exchange import Exchange
from safelight.api.problems import Headers
from safelight.config import StorageConfig
from safelight.errors import NotFound

CHART_PACKAGE: Final = "youplot"
"""The package that ships uPlot; none of its Python is imported."""
_CHARTS: Final = {
    "vendor/uplot.js": "youplot/vendor/uplot.iife.min.js",
    "vendor/uplot.css": "youplot/vendor/uplot.min.css",
}
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PLACE = b"CONSOLE_VERSION"
"""Stands in the page where the digest goes."""
_FOREVER = b"public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """One file as it is sent."""

    body: bytes
    gzipped: bytes
    media_type: str
    etag: str


class Folder(NamedTuple):
    """All files by their path, and what their addresses have in them."""

    version: str
    page: Asset
    assets: dict[str, Asset]


def content_policy(storage: StorageConfig) -> str:
    """Return the Content-Security-Policy: nothing but what this server sends.

    Pictures alone may come from elsewhere, where links are answered with addresses of a bucket.
    `data:` and `blob:` are what a page makes itself: previews of files, partial images, masks.
    """
    pictures = "'self' data: blob:" + (" https:" if storage.serve == "redirect" else "")
    return (
        f"default-src 'self'; img-src {pictures}; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


@lru_cache(maxsize=1)
def folder() -> Folder:
    """Read the files once; blocks."""
    found = dict(_walk(files("safelight") / "console", ""))
    found.update(_charts())
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(path.encode() + b"\0" + hashlib.sha256(found[path]).digest())
    version = digest.hexdigest()[:16]
    page = found.pop("index.html").replace(_PLACE, version.encode())
    return Folder(
        version,
        _asset("index.html", page),
        {path: _asset(path, body) for path, body in found.items()},
    )


def _walk(place: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in place.iterdir():
        path = prefix + entry.name
        if entry.is_dir():
            yield from _walk(entry, f"{path}/")
        elif path.rpartition(".")[2] in _TYPES:
            yield path, entry.read_bytes()


def _charts() -> Iterator[tuple[str, bytes]]:
    try:
        package = importlib.metadata.distribution(CHART_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        # A distribution's packager left it out: the page says so where the plots would be.
        return
    for path, inside in _CHARTS.items():
        yield path, (files_of(package) / inside).read_bytes()


def files_of(package: importlib.metadata.Distribution) -> Traversable:
    """Return the folder that a distribution was installed into."""
    return package.locate_file("")  # type: ignore[return-value] # a Path, for what pip installs


def _asset(path: str, body: bytes) -> Asset:
    return Asset(
        body,
        gzip.compress(body, 9, mtime=0),
        _TYPES[path.rpartition(".")[2]],
        f'"{hashlib.sha256(body).hexdigest()[:32]}"',
    )


async def page(exchange: Exchange) -> None:
    """Answer GET /: the page; all else that it needs is named with its digest."""
    found = await asyncio.to_thread(folder)
    await _send(exchange, found.page, b"no-cache")


async def asset(exchange: Exchange) -> None:
    """Answer GET /console/{version}/{path}.

    A page that was loaded before an upgrade asks for modules of its own version. It gets those of
    now, uncached, which beats a page that falls silent.

    Raises:
        NotFound: there is no such file.
    """
    found = await asyncio.to_thread(folder)
    wanted = found.assets.get(exchange.path_param("path"))
    if wanted is None:
        raise NotFound("The console has no such file; load the page again.")
    current = exchange.path_param("version") == found.version
    await _send(exchange, wanted, _FOREVER if current else b"no-store")


async def _send(exchange: Exchange, found: Asset, caching: bytes) -> None:
    policy = content_policy(exchange.services.config.storage)
    headers: Headers = [
        (b"cache-control", caching),
        (b"content-security-policy", policy.encode()),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"etag", found.etag.encode()),
        (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
        (b"referrer-policy", b"no-referrer"),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
    ]
    if found.etag in (exchange.header("if-none-match") or ""):
        await exchange.start(304, headers)
        await exchange.finish()
        return
    body = found.body
    if "gzip" in (exchange.header("accept-encoding") or ""):
        body = found.gzipped
        headers.append((b"content-encoding", b"gzip"))
    await exchange.respond(200, body, media_type=found.media_type, headers=headers)
