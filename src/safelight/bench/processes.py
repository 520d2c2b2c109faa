"""The processes of a bench: the mock upstream, the bare relay and the gateway.

Owns their start and their end: whatever happens, none is left. The gateway is started as its
operator would (`safelight serve`, with a configuration and a key made by `safelight keys`) and is
asked over HTTP for its books.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.bench.errors import BenchError
from safelight.bench.load import ANSWER_S, CHANNEL
from safelight.bench.picture import Weight

START_S = 60.0
"""Seconds that a process may take to start."""
PRICE_MICROS = 30_000
_CREDIT = "1000000.00"
_PAGE = 1000
_KEY_VARIABLE = "SAFELIGHT_BENCH_UPSTREAM_KEY"

# No watermark: the bench itself looks at the free space before it starts.
_CONFIG = """
[storage]
min_free_bytes = 0

[channels.{channel}]
price_micros = {price}

[[accounts]]
name = "mock"
upstream = "openai"
base_url = "http://127.0.0.1:{port}/v1"
api_key_env = "{variable}"
"""


@dataclass(frozen=True, slots=True)
class Running:
    """A started process and the port it listens on."""

    name: str
    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a measurement needs, running; `key` is a customer's."""

    upstream: Running
    relay: Running
    gateway: Running
    key: str
    data: Path

    async def sold(self) -> int:
        """Return how many pictures the mock upstream has sold."""
        return int((await _get(self.upstream.port, "/sold"))["sold"])

    async def statement(self) -> list[dict[str, Any]]:
        """Return all lines of the customer's statement."""
        lines: list[dict[str, Any]] = []
        path = f"/v1/billing/statement?limit={_PAGE}"
        after = ""
        while True:
            page = await _get(self.gateway.port, path + after, key=self.key)
            lines += page["data"]
            if not page["has_more"]:
                return lines
            after = f"&after={page['last_id']}"

    def stored_bytes(self) -> int:
        """Return the bytes of all blobs."""
        return sum(file.stat().st_size for file in self.data.glob("blobs/*/*/*"))


@asynccontextmanager
async def staged(wanted: Weight, folder: Path) -> AsyncIterator[Stage]:
    """Start everything for one weight, with its files in `folder`; end it all afterwards.

    Raises:
        BenchError: something did not start.
    """
    python = (sys.executable, "-m")
    async with AsyncExitStack() as ends:

        async def start(name: str, *command: str) -> Running:
            return await ends.enter_async_context(_started(name, (*python, *command), folder))

        upstream = await start("upstream", "safelight.bench.mock", wanted.name)
        relay = await start("relay", "safelight.bench.relay", str(upstream.port))
        config, data = folder / "safelight.toml", folder / "data"
        config.write_text(
            _CONFIG.format(
                channel=CHANNEL, price=PRICE_MICROS, port=upstream.port, variable=_KEY_VARIABLE
            )
        )
        key = await _make_key(data, folder)
        place = ("--config", str(config), "--data", str(data), "--host", "127.0.0.1", "--port", "0")
        gateway = await start("gateway", "safelight", "serve", "--json", *place)
        yield Stage(upstream, relay, gateway, key, data)


@asynccontextmanager
async def _started(name: str, command: Sequence[str], folder: Path) -> AsyncIterator[Running]:
    log = folder / f"{name}.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**_environ(), _KEY_VARIABLE: "sk-bench"},
            start_new_session=True,  # Ctrl-C is for the bench, which then ends everything in order
        )
    try:
        assert process.stdout is not None
        line = b""
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), START_S)
        yield Running(name, process.pid, _port(line, name, log))
    finally:
        await _end(process)


def _port(line: bytes, name: str, log: Path) -> int:
    """Return the port that a process announces, itself or in its URL."""
    try:
        said: Mapping[str, Any] = json.loads(line)
        return int(said["port"] if "port" in said else said["url"].rpartition(":")[2])
    except (ValueError, KeyError, TypeError) as error:
        last = log.read_text(errors="replace")[-500:].strip()
        raise BenchError(f"the {name} did not start. {last}") from error


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process with all that it started: what it holds is thrown away anyway."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.shield(process.wait())


async def _make_key(data: Path, folder: Path) -> str:
    command = ("-m", "safelight", "keys", "create", "bench", "--credit", _CREDIT)
    with (folder / "keys.log").open("w+b") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            "--data",
            str(data),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=_environ(),
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(START_S):
                key, _ = await process.communicate()
        except TimeoutError:
            raise BenchError("no key could be made in time") from None
        finally:
            if process.returncode is None:
                await _end(process)
        if process.returncode != 0:
            errors.seek(0)
            raise BenchError(f"no key could be made. {errors.read()[-500:].decode().strip()}")
    return key.decode().strip()


def _environ() -> dict[str, str]:
    """Return our environment without the operator's own books: a bench must not write there."""
    return {**os.environ, "SAFELIGHT_DATABASE_URL": ""}


async def _get(port: int, path: str, *, key: str = "") -> Any:
    return await asyncio.to_thread(_get_now, port, path, key)


def _get_now(port: int, path: str, key: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"GET {path} was not answered: {error}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise BenchError(f"GET {path} was answered {answer.status}: {body[:300]!r}")
    return json.loads(body)
