"""The clients, as a program: stock `openai` SDK clients that order by plan and note what they see.

`python -m safelight.bench.pool.caller ORDERS SEEN` reads its orders, says `{"ready": true}`, waits
for a line on standard input, calls, and writes what it saw. It runs in scaled time. The SDK is as
it comes (two retries, ten minutes' timeout); event hooks of its HTTP client only look.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import os
import random
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

import msgspec
import openai

from safelight.bench.pool.calls import UNFINISHED, Call, Orders, Seen, Try
from safelight.bench.pool.scenarios import Stream

REFUSED_S = 60.0
"""How long a client of a crowd waits after a call failed that may succeed another time."""
RAMP_S = 0.06
"""Between the first calls of two clients of a crowd: work is not scaled, the SDK's five seconds for
a connection are, and a thousand connections at one moment would not be made within them."""
_TICK_S = 0.5
_HEAD_CHARS = 64
"""Base64 characters that hold a PNG's signature and IHDR (PNG spec sections 5.2 and 11.2.1)."""

_current: ContextVar[Call] = ContextVar("call")


class _Answer(Protocol):
    """What is looked at of an answer of the SDK's HTTP client."""

    status_code: int


class Caller:
    """All clients of one scenario."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._calls: list[Call] = []
        self._held_back = 0
        self._lags: list[float] = []
        self._began = 0.0
        self._numbers = itertools.count(1)
        self._clients = {
            customer: itertools.cycle([self._client(base, key) for base in orders.bases])
            for customer, key in orders.keys.items()
        }

    async def run(self) -> Seen:
        """Carry out all orders and return what was seen."""
        self._began = time.monotonic()
        cpu_s, real_s = time.process_time(), os.times().elapsed
        ticking = asyncio.create_task(self._tick())
        streams = [
            asyncio.create_task(self._stream(stream, random.Random(f"{self._orders.seed}:{at}")))  # noqa: S311
            for at, stream in enumerate(self._orders.streams)
        ]
        _, late = await asyncio.wait(streams, timeout=self._orders.until_s)
        for task in (*late, ticking):
            task.cancel()
        results = await asyncio.gather(*streams, ticking, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        lags = sorted(self._lags) or [0.0]
        return Seen(
            calls=tuple(self._calls),
            held_back=self._held_back,
            cpu_share=round((time.process_time() - cpu_s) / (os.times().elapsed - real_s), 3),
            lag_p95_s=round(lags[int(len(lags) * 0.95)], 3),
            lag_max_s=round(lags[-1], 3),
        )

    def _client(self, base: str, key: str) -> openai.AsyncOpenAI:
        hooks: dict[str, list[Callable[..., Any]]] = {
            "request": [self._sent],
            "response": [self._answered],
        }
        return openai.AsyncOpenAI(
            base_url=base,
            api_key=key,
            # The SDK's own client and limits; trust_env only keeps proxies away from loopback.
            http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks, trust_env=False),
        )

    def _now(self) -> float:
        return time.monotonic() - self._began

    async def _sent(self, _request: object) -> None:
        _current.get().tries.append(Try(round(self._now(), 3)))

    async def _answered(self, response: _Answer) -> None:
        last = _current.get().tries[-1]
        last.ended_s, last.status = round(self._now(), 3), response.status_code

    async def _tick(self) -> None:
        while True:
            due = time.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._lags.append(time.monotonic() - due)

    async def _stream(self, stream: Stream, chance: random.Random) -> None:
        await asyncio.sleep(max(0.0, stream.from_s - self._now()))
        sizes = itertools.cycle(stream.sizes)
        async with asyncio.TaskGroup() as group:
            if stream.per_minute is None:
                left = itertools.repeat(0) if stream.count is None else iter(range(stream.count))
                for _ in range(stream.crowd):
                    group.create_task(self._one_after_another(stream, left, sizes))
                    await asyncio.sleep(RAMP_S)
                return
            busy: set[asyncio.Task[bool]] = set()
            async for _ in self._arrivals(stream, chance):
                if len(busy) >= stream.crowd:
                    self._held_back += 1
                    continue
                task = group.create_task(self._call(stream, next(sizes)))
                busy.add(task)
                task.add_done_callback(busy.discard)

    async def _arrivals(self, stream: Stream, chance: random.Random) -> AsyncIterator[float]:
        assert stream.per_minute is not None
        gap_s = 60.0 / stream.per_minute
        at = stream.from_s
        for number in itertools.count(1):
            at += gap_s if stream.even else chance.expovariate(1 / gap_s)
            if at >= stream.until_s or (stream.count is not None and number > stream.count):
                return
            await asyncio.sleep(max(0.0, at - self._now()))
            yield at

    async def _one_after_another(
        self, stream: Stream, left: Iterator[int], sizes: Iterator[str]
    ) -> None:
        for _ in left:
            if self._now() >= stream.until_s:
                return
            if not await self._call(stream, next(sizes)):
                await asyncio.sleep(REFUSED_S)

    async def _call(self, stream: Stream, size: str) -> bool:
        prompt = f"{stream.prompt or 'lamp'} {next(self._numbers)} on a table"
        call = Call(
            prompt=prompt, customer=stream.customer, size=size, started_s=round(self._now(), 3)
        )
        call.tries = []
        self._calls.append(call)
        _current.set(call)
        try:
            await self._order(call)
        except asyncio.CancelledError:
            call.code = UNFINISHED
            raise
        finally:
            call.ended_s = round(self._now(), 3)
        return call.ok or call.status == 400

    async def _order(self, call: Call) -> None:
        client = next(self._clients[call.customer])
        try:
            answer = await client.images.generate(
                model=self._orders.model, prompt=call.prompt, size=call.size
            )
        except openai.APIStatusError as error:
            call.status, call.code = error.status_code, str(error.code or error.type or "")
        except (openai.APIError, ValueError) as error:
            call.code = type(error).__name__
        else:
            call.status = 200
            picture = answer.data[0].b64_json if answer.data else None
            call.got = dimensions(picture or "")
            call.code = "" if call.got else "no_picture"


def dimensions(picture: str) -> str:
    """Return WIDTHxHEIGHT of a PNG in base64, or nothing if it is none."""
    try:
        head = base64.b64decode(picture[:_HEAD_CHARS], validate=True)
        return "{}x{}".format(*struct.unpack(">II", head[16:24])) if head[12:16] == b"IHDR" else ""
    except (binascii.Error, struct.error):
        return ""


def main() -> None:
    """Do what the orders say."""
    given, seen = (Path(name) for name in sys.argv[1:3])
    caller = msgspec.json.decode(given.read_bytes(), type=Orders)

    async def run() -> Seen:
        crowd = Caller(caller)
        print('{"ready": true}', flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print('{"began": true}', flush=True)
        return await crowd.run()

    seen.write_bytes(msgspec.json.encode(asyncio.run(run())))


if __name__ == "__main__":
    main()
