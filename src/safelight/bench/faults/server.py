"""The fault upstream's server: the vendor's images API on loopback, by plan, with its own books.

Owns the routes, the order of the vendor's decisions (conditions, key, model, parameters, limits,
script) and the life of the server. `replies.py` writes the answers. A *sale* is booked when the
vendor has made the picture: after the latency, as the answer begins, whether the client is still
there or not.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from aiohttp import BodyPartReader, web

from safelight.bench.faults import replies
from safelight.bench.faults.batch_api import BatchDesk
from safelight.bench.faults.books import Books, Mark, Sale, Seen, SeenFile
from safelight.bench.faults.chance import uniform
from safelight.bench.faults.checks import check_fields, check_file, refuse
from safelight.bench.faults.errors import ORGANISATION, error, throttled
from safelight.bench.faults.limits import MINUTE_S, Limit, Limiter, Verdict
from safelight.bench.faults.scenario import Scenario
from safelight.bench.faults.script import Act, Behaviour, Kind, behaviour, queue, script
from safelight.bench.faults.summary import summarise
from safelight.bench.faults.timing import VendorTime

__all__ = ["FaultUpstream", "Sale", "Seen", "SeenFile"]


class FaultUpstream:
    """An images API that does what its plan says.

    The attributes `keys`, `models`, `strict` and `latency_s` may be changed while it serves.

    Args:
        act: the script; see `script.script`.
        log: a file that gets one JSON line for each request, sale, delivery and mark, at once.
        host: the address to listen on.
        port: 0 for a free one.
        monotonic: the clock of limits, conditions and records, in real seconds.
        plan: fields of `Scenario`. Server failures come at once here unless `failure_s` is given.
    """

    def __init__(
        self,
        act: Any = Kind.OK,
        *,
        log: Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        **plan: Any,
    ) -> None:
        scenario = Scenario(script=act, **{"failure_s": 0.0, **plan})
        self.scenario = scenario
        self.time = VendorTime(scenario.speed, monotonic=monotonic)
        self.books = Books(self.time.now_s, log)
        self.strays: list[Seen] = []
        """Requests to anywhere else: followed redirects, downloads of pictures."""
        self.keys: Mapping[str, float | None] | None = scenario.known_keys
        self.models = scenario.models
        self.strict = scenario.strict
        self.latency_s = scenario.latency_s
        self.pictures: dict[str, tuple[bytes, str]] = {}
        self.host = host
        self.port = port
        self._script = script(act, seed=scenario.seed)
        self._windows = [(one, script(one.act, seed=scenario.seed)) for one in scenario.windows]
        self._limiters: dict[str, Limiter] = {}
        self.desk = BatchDesk(self)
        """Its Files and Batch API."""
        self._runner: web.AppRunner | None = None

    @classmethod
    def from_scenario(cls, scenario: Scenario, **where: Any) -> FaultUpstream:
        """Return the fault upstream of a scenario; `where`: log, host, port, monotonic."""
        plan = {name: getattr(scenario, name) for name in scenario.__struct_fields__}
        return cls(plan.pop("script"), **plan, **where)

    @property
    def requests(self) -> list[Seen]:
        """Every images request, in order of arrival."""
        return self.books.requests

    @property
    def sales(self) -> list[Sale]:
        """Every sale, in order."""
        return self.books.sales

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"http://{self.host}:{self.port}"

    @property
    def base_url(self) -> str:
        """What an account of it has as its `base_url`."""
        return f"{self.origin}/v1"

    def play(self, *acts: Act, then: Act = Kind.OK) -> None:
        """Replace the script: `acts` in order, then `then` for ever."""
        self._script = queue(acts, then=then)

    async def __aenter__(self) -> FaultUpstream:
        app = web.Application(client_max_size=1024**3)
        app.router.add_post("/v1/images/generations", self._images)
        app.router.add_post("/v1/images/edits", self._images)
        app.router.add_get("/v1/models", self._models)
        self.desk.routes(app)
        app.router.add_get("/log", self._log)
        app.router.add_get("/summary", self._summary)
        app.router.add_post("/mark", self._mark)
        app.router.add_get("/pictures/{name}", self._picture)
        app.router.add_route("*", "/{anything:.*}", self._stray)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.books.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.time.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self.books.close()

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

    # --- what the plan says ---

    def picture_s(self, seen: Seen) -> float:
        """Return how long a picture takes for this request."""
        drawn = self.scenario.latency
        base = self.latency_s if drawn is None else drawn.draw_s(self.scenario.seed, seen.number)
        return base * self.scenario.slow.get(seen.key, 1.0)

    def failure_s(self, seen: Seen) -> float:
        """Return how long a server failure takes for this request."""
        return self.scenario.failure_s * (
            1 + uniform(self.scenario.seed, "failure", seen.number) / 2
        )

    async def work(self, seconds: float | None, request: web.BaseRequest | None = None) -> None:
        """Let vendor seconds pass, until the server closes; with a request, until its client goes.

        None: for ever.
        """
        await self.time.wait(seconds, None if request is None else lambda: _is_gone(request))

    def limit_of(self, group: str) -> Limit | None:
        """Return the limit of a group, or the one that a key of its own group has in `keys`."""
        if group in self.scenario.limits:
            return self.scenario.limits[group]
        own = self.keys.get(group) if self.keys is not None else None
        return None if own is None else Limit(images_per_minute=own)

    def mark(self, name: str) -> Mark:
        """Name this moment, for `summary`."""
        return self.books.mark(name)

    def summary(
        self, since: str | None = None, until: str | None = None, *, window_s: float = MINUTE_S
    ) -> dict[str, Any]:
        """Return what the books add up to; `since` and `until`: a mark, or vendor seconds as text.

        Raises:
            KeyError: no such mark.
        """
        now_s = self.time.now_s()
        counted = summarise(
            self.books.requests,
            self.books.sales,
            limit_of=self.limit_of,
            since_s=0.0 if since is None else self.books.moment(since),
            until_s=math.inf if until is None else self.books.moment(until),
            window_s=window_s,
        )
        bounds = {"at_s": now_s, "until_s": min(now_s, counted["until_s"])}
        return {"speed": self.time.speed, **counted, **bounds}

    # --- one images request ---

    async def _images(self, request: web.Request) -> web.StreamResponse:
        seen = self._seen(request, len(self.requests) + 1)
        self.requests.append(seen)
        chosen = await self._read(request, seen) or self._decide(seen)
        seen.kind = str(chosen.kind)
        if chosen.kind is Kind.STATUS:
            seen.status = chosen.status
        self.books.answering(seen)
        try:
            return await replies.reply(self, request, seen, chosen)
        except ConnectionError:
            return web.Response()  # the client has gone; the books are already right

    def _seen(self, request: web.Request, number: int) -> Seen:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        headers = {}
        if self.scenario.keep_headers:
            headers = {name.lower(): value for name, value in request.headers.items()}
        return Seen(
            number,
            time.time(),
            request.path,
            key,
            headers,
            at_s=self.time.now_s(),
            group=self.scenario.groups.get(key, key),
        )

    async def _read(self, request: web.Request, seen: Seen) -> Behaviour | None:
        """Read the body into `seen`; return the refusal of one that cannot be read."""
        if seen.operation == "generations" or request.content_type == "application/json":
            try:
                seen.fields = msgspec.json.decode(await request.read(), type=dict[str, Any])
            except msgspec.DecodeError:
                return refuse("We could not parse the JSON body of your request.")
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
            if refused := check_file(name, kind, data):
                return refused
        return None

    def _decide(self, seen: Seen) -> Behaviour:
        """Return what happens: a scheduled failure, the vendor's own checks, or the script."""
        acts = (
            plays(seen) for window, plays in self._windows if window.covers(seen.at_s, seen.key)
        )
        condition = next((behaviour(act) for act in acts), None)
        if condition is not None and not condition.sells:
            return condition
        if refused := self._check(seen):
            return refused
        verdict = self._ask_limit(seen)
        if verdict is not None and not verdict.granted:
            return _refused_by_limit(verdict, seen.images)
        chosen = condition or behaviour(self._script(seen))
        if verdict is None or not verdict.headers:
            return chosen
        return replace(chosen, headers={**verdict.headers, **chosen.headers})

    def _check(self, seen: Seen) -> Behaviour | None:
        """Return the refusal of a key, model or parameter that is not good."""
        if not self._is_known(seen.key):
            return Behaviour(kind=Kind.AUTH)
        if seen.model not in self.models:
            return Behaviour(kind=Kind.MODEL_GONE)
        return check_fields(seen) if self.strict else None

    def decide_line(self, seen: Seen) -> Behaviour:
        """Return what happens to one line of a batch: batches have no limits by the minute."""
        return self._check(seen) or behaviour(self._script(seen))

    def knows(self, key: str) -> bool:
        """Return whether a key is good."""
        return self._is_known(key)

    def _is_known(self, key: str) -> bool:
        return bool(key) and (self.keys is None or key in self.keys)

    def _ask_limit(self, seen: Seen) -> Verdict | None:
        limit = self.limit_of(seen.group)
        if limit is None:
            return None
        limiter = self._limiters.get(seen.group)
        if limiter is None or limiter.limit != limit:
            limiter = self._limiters[seen.group] = Limiter(limit)
        return limiter.ask(seen.at_s, images=seen.images, inputs=len(seen.files))

    # --- everything else ---

    async def _models(self, request: web.Request) -> web.Response:
        seen = self._seen(request, 0)
        acts = (
            plays(seen) for window, plays in self._windows if window.covers(seen.at_s, seen.key)
        )
        revoked = any(behaviour(act).kind is Kind.AUTH for act in acts)
        if revoked or not self._is_known(seen.key):
            refused = error("Incorrect API key.", code="invalid_api_key")
            return web.json_response(refused, status=401)
        data = [{"id": name, "object": "model", "owned_by": ORGANISATION} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    async def _log(self, _request: web.Request) -> web.Response:
        return _json({"requests": self.requests, "sales": self.sales, "marks": self.books.marks})

    async def _summary(self, request: web.Request) -> web.Response:
        asked = request.query
        try:
            window_s = float(asked.get("window_s", MINUTE_S))
            return _json(self.summary(asked.get("since"), asked.get("until"), window_s=window_s))
        except KeyError as missing:
            return web.json_response(error(f"No mark {missing}.", param="since"), status=404)
        except ValueError:
            return web.json_response(error("No number.", param="window_s"), status=400)

    async def _mark(self, request: web.Request) -> web.Response:
        name = request.query.get("name")
        if not name:
            return web.json_response(error("A mark has a name.", param="name"), status=400)
        return _json(self.mark(name))

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        self.strays.append(self._seen(request, len(self.strays) + 1))
        data, kind = self.pictures[request.match_info["name"]]
        return web.Response(body=data, content_type=kind)

    async def _stray(self, request: web.Request) -> web.Response:
        self.strays.append(self._seen(request, len(self.strays) + 1))
        return web.json_response(error("Unknown request URL."), status=404)


def _is_gone(request: web.BaseRequest) -> bool:
    return request.transport is None or request.transport.is_closing()


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _refused_by_limit(verdict: Verdict, images: int) -> Behaviour:
    return Behaviour(
        kind=Kind.THROTTLED,
        headers=verdict.headers,
        body=throttled(
            verdict.headers.get("retry-after"),
            what=verdict.what,
            limit=verdict.limit,
            used=verdict.used,
            requested=images if verdict.what == "images" else 1,
        ),
    )
