"""A real S3 API on loopback: moto's server in a process of its own, one a session.

The server keeps everything in memory and checks no signatures. `FaultProxy` stands between it and
the gateway and answers 5xx or nothing at all, by seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
from aiohttp import web

import planting
from safelight.storage import address
from safelight.storage.bucket import Bucket, Patience
from safelight.storage.cache import CacheFolder
from safelight.storage.objects import ObjectStore

START_S = 60.0
KEYS = {
    "AWS_ACCESS_KEY_ID": "test-key",
    "AWS_SECRET_ACCESS_KEY": planting.secret("secret of the bucket", "test-secret"),
}
"""What moto takes, as it takes everything."""
QUICK = Patience(request_s=0.5, connect_s=0.5, total_s=20.0)
"""For a server that answers within milliseconds, and stalls for ever."""


class S3Server:
    """moto's server; leaving the block ends it."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._buckets = 0
        # The server's own life hangs on a pipe: it ends with the tests, however they end.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> S3Server:
        until = time.monotonic() + START_S
        while True:
            try:
                self.ask("GET", "/moto-api/")
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None, "the S3 server did not start"
                assert time.monotonic() < until, "the S3 server does not answer"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def ask(self, method: str, path: str, data: bytes | None = None) -> bytes:
        """Send a request that needs no signature here."""
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            body: bytes = answer.read()
            return body

    def bucket(self) -> str:
        """Make a bucket and return its name."""
        self._buckets += 1
        name = f"pictures-{self._buckets}"
        self.ask("PUT", f"/{name}")
        return name

    def url_of(self, bucket: str, prefix: str = "", *, endpoint: str | None = None) -> str:
        """Return the address that the operator would write."""
        return f"s3://{bucket}/{prefix}?endpoint={quote(endpoint or self.url, safe=':/')}"

    def keys_in(self, bucket: str) -> list[str]:
        """Return the names of a bucket's objects."""
        listing = self.ask("GET", f"/{bucket}?list-type=2").decode()
        return [part.partition("</Key>")[0] for part in listing.split("<Key>")[1:]]


_SERVER = """
import os, sys, threading
def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=end_with_parent, daemon=True).start()
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
"""


@contextlib.contextmanager
def any_server() -> Iterator[S3Server]:
    """Start the server and give the environment its credentials."""
    before = {name: os.environ.get(name) for name in KEYS}
    os.environ.update(KEYS)
    try:
        with S3Server() as server:
            yield server
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def open_objects(url: str, folder: Path, *, patience: Patience = QUICK) -> ObjectStore:
    """Open a store at an address, with its cache in a folder."""
    bucket = Bucket(address.parse(url), patience=patience)
    return ObjectStore(bucket, CacheFolder(folder / "cache", max_bytes=64 * 1024 * 1024))


class FaultProxy:
    """Stands before an S3 API and spoils a share of the requests.

    Args:
        target: the API's origin.
        seed: of the dice.
        errors: share that is answered 503 without being passed on.
        lost: share that is passed on and answered 500: done, and the answer says it is not.
        stalls: share that is never answered.
        cuts: share whose answer breaks off in its middle.
    """

    def __init__(
        self,
        target: str,
        *,
        seed: int,
        errors: float = 0.0,
        lost: float = 0.0,
        stalls: float = 0.0,
        cuts: float = 0.0,
    ) -> None:
        self._target = target
        self._dice = random.Random(seed)
        self._shares = (("error", errors), ("lost", lost), ("stall", stalls), ("cut", cuts))
        self.seen: Counter[str] = Counter()
        self.url = ""
        self.refused = asyncio.Event()
        """Set when a request was answered 503."""
        self.down = False
        """Whether every request is answered 503."""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[FaultProxy]:
        """Listen while inside."""
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            runner = web.ServerRunner(web.Server(self._serve), shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                await runner.cleanup()

    def _fate(self) -> str:
        if self.down:
            return "error"
        throw = self._dice.random()
        for name, share in self._shares:
            if throw < share:
                return name
            throw -= share
        return "well"

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        fate = self._fate()
        self.seen[fate] += 1
        body = await request.content.read()  # of any length
        if fate == "error":
            self.refused.set()
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")
        if fate == "stall":
            await asyncio.Event().wait()
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        async with self._session.request(
            request.method,
            self._target + request.raw_path,
            data=io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
        ) as answer:
            data = await answer.read()
        if fate == "lost":
            return web.Response(status=500, text="<Error><Code>InternalError</Code></Error>")
        kept = {
            k: v
            for k, v in answer.headers.items()
            if k.lower() not in ("transfer-encoding", "connection", "server", "date")
        }
        if fate == "cut" and data:
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            await response.write(data[: len(data) // 2])
            assert request.transport is not None
            request.transport.abort()
            return response
        if request.method == "HEAD":
            response = web.StreamResponse(status=answer.status, headers=kept)
            response.content_length = int(answer.headers.get("content-length", "0"))
            await response.prepare(request)
            return response
        kept.pop("Content-Length", None)
        return web.Response(status=answer.status, body=io.BytesIO(data), headers=kept)
