"""Customers of a gateway that is restarted all the time: a steady stream of orders, and its books.

Owns the pace (so many calls a second, whatever the answers take) and what each call came to. Three
kinds: the official SDK as it comes, the SDK without its retries on a connection of its own, and an
order that is collected later with no retry at any step.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import openai

MODEL = "gpt-image-2-vip"
SIZE = "1024x1024"
TIMEOUT_S = 60.0


@dataclass
class Call:
    """One order as its customer saw it."""

    kind: str
    accepted: bool = False
    """It got a status line that promises a picture."""
    job_id: str = ""
    sha256: str = ""
    error: str = ""
    retries: int = 0
    """How often the SDK repeated it."""


@dataclass
class Customers:
    """The calls of all streams; `stop` ends them after those under way.

    Args:
        base_url: the balancer's address, with /v1.
        key: whose orders they are.
    """

    base_url: str
    key: str
    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Order nothing more."""
        self._stopped.set()

    async def run(self, *, sdk: float, plain: float, later: float) -> list[Call]:
        """Order until stopped, so many calls a second of each kind; return all calls."""
        async with (
            openai.AsyncOpenAI(
                base_url=self.base_url, api_key=self.key, timeout=TIMEOUT_S
            ) as client,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
        ):
            await asyncio.gather(
                self._stream("sdk", sdk, lambda call: self._ask(client, call)),
                self._stream("plain", plain, self._ask_once),
                self._stream("later", later, lambda call: self._collect(session, call)),
            )
        return self.calls

    async def _stream(
        self, kind: str, per_second: float, ask: Callable[[Call], Awaitable[None]]
    ) -> None:
        loop = asyncio.get_running_loop()
        begin, number = loop.time(), 0
        under_way: set[asyncio.Task[None]] = set()
        while not self._stopped.is_set():
            call = Call(kind)
            self.calls.append(call)
            task = asyncio.create_task(self._noted(ask, call))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
            pause_s = begin + number / per_second - loop.time()
            with_pause = asyncio.wait_for(self._stopped.wait(), max(0.0, pause_s))
            await asyncio.gather(with_pause, return_exceptions=True)
        await asyncio.gather(*under_way)

    async def _noted(self, ask: Callable[[Call], Awaitable[None]], call: Call) -> None:
        try:
            await ask(call)
        except (openai.OpenAIError, aiohttp.ClientError, TimeoutError) as error:
            call.error = f"{type(error).__name__}: {error}"[:300]

    async def _ask(self, client: openai.AsyncOpenAI, call: Call) -> None:
        answer = await client.images.with_raw_response.generate(
            model=MODEL, prompt="a lamp", size=SIZE
        )
        call.accepted = True
        call.job_id = answer.headers["x-safelight-job-id"]
        call.retries = answer.retries_taken
        data = answer.parse().data
        assert data is not None
        call.sha256 = hashlib.sha256(base64.b64decode(data[0].b64_json or "")).hexdigest()

    async def _ask_once(self, call: Call) -> None:
        async with openai.AsyncOpenAI(
            base_url=self.base_url, api_key=self.key, timeout=TIMEOUT_S, max_retries=0
        ) as client:
            await self._ask(client, call)

    async def _collect(self, session: aiohttp.ClientSession, call: Call) -> None:
        """Order, wait for the end, and fetch the picture by its link: each step once."""
        headers = {"authorization": f"Bearer {self.key}"}
        body = {"model": MODEL, "prompt": "a lamp", "size": SIZE, "async": True}
        url = f"{self.base_url}/images/generations"
        async with session.post(url, json=body, headers=headers) as answer:
            answer.raise_for_status()
            job = await answer.json()
        call.accepted = True
        call.job_id = job["id"]
        while job["status"] in ("queued", "in_progress"):
            url = f"{self.base_url}/jobs/{call.job_id}?wait=20"
            async with session.get(url, headers=headers) as answer:
                answer.raise_for_status()
                job = await answer.json()
        if job["image"] is None:
            call.error = str(job["error"])
            return
        async with session.get(job["image"]["url"]) as answer:
            answer.raise_for_status()
            call.sha256 = hashlib.sha256(await answer.read()).hexdigest()
