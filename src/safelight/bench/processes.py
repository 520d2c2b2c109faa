"""The processes of a bench: started on a core of their own, ended whatever happens.

Owns their start, their readiness and their end; none is left behind. `contenders` says which
programs they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.bench.errors import BenchError

START_S = 90.0
"""Seconds that a process may take to start."""
_STEP_S = 0.1
_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A started process and the port it listens on."""

    name: str
    pid: int
    port: int


@dataclass(frozen=True, slots=True)
class Cores:
    """Which CPUs a contender gets, and which are left for mock and clients; empty: any."""

    contender: frozenset[int] = frozenset()
    rest: frozenset[int] = frozenset()


def divide_cores() -> Cores:
    """Return one CPU for a contender and the others for the rest; a machine with one shares it."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores()
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        return Cores()
    return Cores(frozenset(mine[:1]), frozenset(mine[1:]))


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Let this thread, and what it starts, run on these CPUs only; empty: as it is."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def started(
    name: str,
    command: Sequence[str],
    folder: Path,
    *,
    cores: frozenset[int] = frozenset(),
    env: Mapping[str, str] | None = None,
    ready: tuple[int, str] | None = None,
) -> AsyncIterator[Running]:
    """Run a program until the block ends.

    Args:
        name: what errors call it, and its log in `folder`.
        command: program and arguments.
        folder: where it runs.
        cores: the CPUs it may use; empty: any.
        env: its whole environment; None: this process's, without the operator's own books.
        ready: the port it was given and a path that it answers once it is up; None: it tells its
            port in a line of JSON.

    Raises:
        BenchError: it did not start.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as written, on_cores(cores):
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if ready is None else written,
            stderr=written,
            env=environ() if env is None else dict(env),
            start_new_session=True,  # Ctrl-C is for the bench, which then ends everything in order
        )
    try:
        if ready is None:
            port = await _announced_port(process, name, log)
        else:
            port = ready[0]
            await _answers(process, name, log, *ready)
        yield Running(name, process.pid, port)
    finally:
        await _end(process)


async def output(command: Sequence[str], folder: Path) -> str:
    """Run a program to its end and return what it printed, without blanks at the ends.

    Raises:
        BenchError: it failed, or took longer than START_S.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ(),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(START_S):
            said, errors = await process.communicate()
    except TimeoutError:
        raise BenchError(f"{command[-1]} did not end in time") from None
    finally:
        if process.returncode is None:
            await _end(process)
    if process.returncode != 0:
        raise BenchError(f"a command failed. {errors[-500:].decode(errors='replace').strip()}")
    return said.decode().strip()


def environ(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment without what would lead a contender elsewhere, and with `extra`.

    The operator's own books, keys and proxies are none of a bench's business.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SAFELIGHT_", "OPENAI_", "LITELLM_", "REDIS_"))
        and not name.lower().endswith("_proxy")
        and name != "DATABASE_URL"
    }
    return {**kept, **(extra or {})}


def free_port() -> int:
    """Return a port of loopback on which nobody listens now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def get_json(port: int, path: str, *, key: str = "") -> Any:
    """Ask a process on loopback.

    Raises:
        BenchError: it did not answer with success.
    """
    status, body = await asyncio.to_thread(_get_now, port, path, key)
    if status != 200:
        raise BenchError(f"GET {path} was answered {status}: {body[:300]!r}")
    return json.loads(body)


def _get_now(port: int, path: str, key: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"GET {path} was not answered: {error}") from error
    finally:
        connection.close()


async def _announced_port(process: asyncio.subprocess.Process, name: str, log: Path) -> int:
    """Return the port that a process announces, itself or in its URL."""
    assert process.stdout is not None
    line = b""
    with contextlib.suppress(TimeoutError):
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
    try:
        said: Mapping[str, Any] = json.loads(line)
        return int(said["port"] if "port" in said else said["url"].rpartition(":")[2])
    except (ValueError, KeyError, TypeError) as error:
        raise _not_started(name, log) from error


async def _answers(
    process: asyncio.subprocess.Process, name: str, log: Path, port: int, path: str
) -> None:
    """Wait until a process answers at all; what it answers is its own business."""
    loop = asyncio.get_running_loop()
    until = loop.time() + START_S
    while process.returncode is None and loop.time() < until:
        try:
            await asyncio.to_thread(_get_now, port, path, "")
        except BenchError:
            await asyncio.sleep(_STEP_S)
        else:
            return
    raise _not_started(name, log)


def _not_started(name: str, log: Path) -> BenchError:
    last = log.read_text(errors="replace")[-500:].strip()
    return BenchError(f"the {name} did not start. {last}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process with all that it started: what it holds is thrown away anyway."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.shield(process.wait())


PYTHON = (sys.executable, "-m")
"""How a program of ours is run."""
