"""The fault upstream's server: the vendor's images API on loopback, by script, with its own books.

Owns requests, the vendor's checks (key, model, limits, parameters) and the record of every request
and sale. `replies.py` writes the answers. A *sale* is booked when the vendor has made the picture:
after the latency, as the answer begins, whether the client is still there or not.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from aiohttp import BodyPartReader, web

from faults import replies
from faults.errors import ORGANISATION, error
from faults.script import Act, Behaviour, Kind, behaviour, queue, script

_FIELDS = frozenset(
    (
        *("model", "prompt", "n", "size", "quality", "background", "output_format"),
        *("output_compression", "moderation", "stream", "partial_images", "user"),
        *("safety_identifier", "input_fidelity"),
    )
)
_MAGIC = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp"}


@dataclass(frozen=True)
class SeenFile:
    """A file of an edit request."""

    field: str
    filename: str
    content_type: str
    bytes: int
    sha256: str


@dataclass
class Seen:
    """One request as it arrived. `at` is unix seconds, `number` counts from 1."""

    number: int
    at: float
    path: str
    key: str
    headers: dict[str, str]
    fields: dict[str, Any] = field(default_factory=dict)
    files: list[SeenFile] = field(default_factory=list)
    kind: str = ""

    @property
    def operation(self) -> str:
        """`edits` or `generations`."""
        return self.path.rpartition("/")[2]

    @property
    def model(self) -> str:
        return str(self.fields.get("model", ""))

    @property
    def prompt(self) -> str:
        return str(self.fields.get("prompt", ""))

    @property
    def size(self) -> str:
        return str(self.fields.get("size", "auto"))

    @property
    def form(self) -> str:
        return str(self.fields.get("output_format", "png"))

    @property
    def streams(self) -> bool:
        return str(self.fields.get("stream", "")).lower() == "true"


@dataclass
class Sale:
    """One picture that was made and billed. `delivered`: its last byte was written."""

    id: str
    request: int
    at: float
    key: str
    model: str
    size: str
    prompt: str
    kind: str
    format: str
    bytes: int
    sha256: str
    delivered: bool = False


class FaultUpstream:
    """An images API that does what its script says.

    Args:
        act: the script; see `faults.script.script`.
        latency_s: how long a picture takes unless its behaviour says so.
        time_scale: multiplies every latency and stall.
        keys: API key to its images per minute (None: no limit); None: any key is good.
        models: the models that exist.
        strict: refuse unknown parameters and illegal sizes as the vendor does.
        window_s: the limits' window.
        log: a file that gets one JSON line for each request and sale, at once.
        port: 0 for a free one.
    """

    def __init__(
        self,
        act: Any = Kind.OK,
        *,
        latency_s: float = 0.0,
        time_scale: float = 1.0,
        keys: Mapping[str, float | None] | None = None,
        models: tuple[str, ...] = ("gpt-image-2",),
        strict: bool = True,
        window_s: float = 60.0,
        log: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.requests: list[Seen] = []
        self.sales: list[Sale] = []
        self.strays: list[Seen] = []
        """Requests to anywhere else: followed redirects, downloads of pictures."""
        self.keys = keys
        self.models = models
        self.strict = strict
        self.latency_s = latency_s
        self.time_scale = time_scale
        self.closing = asyncio.Event()
        self.pictures: dict[str, tuple[bytes, str]] = {}
        self.host = host
        self.port = port
        self._script = script(act)
        self._window_s = window_s
        self._recent: dict[str, deque[float]] = {}
        self._log_path = log
        self._log: TextIO | None = None
        self._runner: web.AppRunner | None = None

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def play(self, *acts: Act, then: Act = Kind.OK) -> None:
        """Replace the script: `acts` in order, then `then` for ever."""
        self._script = queue(acts, then=then)

    async def __aenter__(self) -> FaultUpstream:
        app = web.Application(client_max_size=1024**3)
        app.router.add_post("/v1/images/generations", self._images)
        app.router.add_post("/v1/images/edits", self._images)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/log", self._books)
        app.router.add_get("/pictures/{name}", self._picture)
        app.router.add_route("*", "/{anything:.*}", self._stray)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if self._log_path is not None:
            self._log = self._log_path.open("a", encoding="utf-8")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._log is not None:
            self._log.close()

    @classmethod
    @contextmanager
    def in_thread(cls, act: Any = Kind.OK, **options: Any) -> Iterator[FaultUpstream]:
        """Serve from a thread of its own, for tests that are not asynchronous."""
        upstream = cls(act, **options)
        started: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
        started = concurrent.futures.Future()

        async def serve() -> None:
            stop = asyncio.Event()
            try:
                async with upstream:
                    started.set_result((asyncio.get_running_loop(), stop))
                    await stop.wait()
            except OSError as problem:
                started.set_exception(problem)

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="fault-upstream")
        thread.start()
        loop, stop = started.result()
        try:
            yield upstream
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()

    def sell(self, seen: Seen, form: str, size: str, picture: bytes, sale_id: str) -> Sale:
        """Book a sale."""
        sale = Sale(
            id=sale_id,
            request=seen.number,
            at=time.time(),
            key=seen.key,
            model=seen.model,
            size=size,
            prompt=seen.prompt,
            kind=seen.kind,
            format=form,
            bytes=len(picture),
            sha256=hashlib.sha256(picture).hexdigest(),
        )
        self.sales.append(sale)
        self._note("sale", sale)
        return sale

    async def work(self, seconds: float | None, request: web.BaseRequest | None = None) -> None:
        """Let time pass, until the server closes; with a request, until its client is gone."""
        end = None if seconds is None else time.monotonic() + seconds * self.time_scale
        while not self.closing.is_set():
            if request is not None and _is_gone(request):
                return
            left = 0.05 if end is None else end - time.monotonic()
            if left <= 0:
                return
            try:
                wait = min(left, 0.05) if request is not None else left
                await asyncio.wait_for(self.closing.wait(), wait)
            except TimeoutError:
                continue

    async def _images(self, request: web.Request) -> web.StreamResponse:
        seen = self._seen(request, len(self.requests) + 1)
        self.requests.append(seen)
        refused = await self._read(request, seen) or self._check(seen)
        chosen = refused or behaviour(self._script(seen))
        seen.kind = str(chosen.kind)
        self._note("request", seen)
        try:
            return await replies.reply(self, request, seen, chosen)
        except ConnectionError:
            return web.Response()  # the client has gone; the books are already right

    def _seen(self, request: web.Request, number: int) -> Seen:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        headers = {name.lower(): value for name, value in request.headers.items()}
        return Seen(number, time.time(), request.path, key, headers)

    async def _read(self, request: web.Request, seen: Seen) -> Behaviour | None:
        """Read the body into `seen`; return the refusal of one that cannot be read."""
        if seen.operation == "generations" or request.content_type == "application/json":
            try:
                seen.fields = await request.json()
            except ValueError:
                return _refuse("We could not parse the JSON body of your request.")
            return None
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            name = part.name or ""
            data = bytes(await part.read())
            if part.filename is None:
                seen.fields[name] = data.decode()
                continue
            kind = part.headers.get("Content-Type", "")
            digest = hashlib.sha256(data).hexdigest()
            seen.files.append(SeenFile(name, part.filename, kind, len(data), digest))
            if kind not in {sniffed for magic, sniffed in _MAGIC.items() if data.startswith(magic)}:
                return _refuse(
                    f"Invalid file '{name}': unsupported mimetype ('{kind}').",
                    code="unsupported_file_mimetype",
                    param=name.removesuffix("[]"),
                )
        return None

    def _check(self, seen: Seen) -> Behaviour | None:
        """Return the refusal that the vendor's own checks give, before any script."""
        if not seen.key or (self.keys is not None and seen.key not in self.keys):
            return Behaviour(kind=Kind.AUTH)
        if seen.model not in self.models:
            return Behaviour(kind=Kind.MODEL_GONE)
        return (self._check_fields(seen) if self.strict else None) or self._check_limit(seen)

    def _check_fields(self, seen: Seen) -> Behaviour | None:
        for name in seen.fields.keys() - _FIELDS:
            text = f"Unknown parameter: '{name}'."
            return _refuse(text, code="unknown_parameter", param=name)
        if not seen.prompt:
            return _refuse("Missing required parameter: 'prompt'.", param="prompt")
        if not _legal(seen.size):
            text = f"Invalid size '{seen.size}'. Width and height must both be divisible by 16."
            return _refuse(text, kind="image_generation_user_error", param="size")
        if "output_compression" in seen.fields and seen.form == "png":
            text = "Compression less than 100 is not supported for PNG output format"
            return _refuse(text, param="output_compression")
        if seen.operation == "edits" and not any("image" in file.field for file in seen.files):
            return _refuse("Missing required parameter: 'image'.", param="image")
        return None

    def _check_limit(self, seen: Seen) -> Behaviour | None:
        """A sliding window of images per minute for each key."""
        limit = self.keys.get(seen.key) if self.keys is not None else None
        if limit is None:
            return None
        now = time.monotonic()
        recent = self._recent.setdefault(seen.key, deque())
        while recent and recent[0] <= now - self._window_s:
            recent.popleft()
        if len(recent) < limit:
            recent.append(now)
            return None
        wait = recent[0] + self._window_s - now
        headers = {
            "retry-after-ms": str(int(wait * 1000) + 1),
            "x-ratelimit-limit-images": f"{limit:g}",
            "x-ratelimit-remaining-images": "0",
            "x-ratelimit-reset-images": f"{wait:.3f}s",
        }
        return Behaviour(kind=Kind.THROTTLED, retry_after=str(int(wait) + 1), headers=headers)

    async def _models(self, request: web.Request) -> web.Response:
        refused = self._seen(request, 0)
        if not refused.key or (self.keys is not None and refused.key not in self.keys):
            return web.json_response(
                error("Incorrect API key.", code="invalid_api_key"), status=401
            )
        data = [{"id": name, "object": "model", "owned_by": ORGANISATION} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _books(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": [asdict(seen) for seen in self.requests],
                "sales": [asdict(sale) for sale in self.sales],
            }
        )

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        self.strays.append(self._seen(request, len(self.strays) + 1))
        data, kind = self.pictures[request.match_info["name"]]
        return web.Response(body=data, content_type=kind)

    async def _stray(self, request: web.Request) -> web.Response:
        self.strays.append(self._seen(request, len(self.strays) + 1))
        return web.json_response(error("Unknown request URL."), status=404)

    def _note(self, event: str, record: Seen | Sale) -> None:
        if self._log is not None:
            self._log.write(json.dumps({"event": event, **asdict(record)}) + "\n")
            self._log.flush()


def _is_gone(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()


def _refuse(
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str = "invalid_value",
    param: str | None = None,
) -> Behaviour:
    body = error(message, kind=kind, code=code, param=param)
    return Behaviour(kind=Kind.STATUS, status=400, body=body)


def _legal(size: str) -> bool:
    """Return whether the vendor makes this size (OpenAI image generation guide, gpt-image-2)."""
    if size == "auto":
        return True
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        return False
    short, long = sorted((int(width), int(height)))
    pixels = short * long
    whole = short % 16 == 0 and long % 16 == 0 and short > 0
    return whole and long <= min(3840, 3 * short) and 655_360 <= pixels <= 8_294_400
