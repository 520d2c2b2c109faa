"""The children of a pool bench: started in groups of their own, and ended whatever happens.

Owns starting, waiting for readiness and ending, and the launcher's command for scaled time.
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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from safelight.bench.errors import BenchError

START_S = 120.0
"""Real seconds that a child may take until it is ready."""
_STEP_S = 0.1
_TAIL = 600
_LAUNCHER = Path(__file__).with_name("scaled.py")


@dataclass(frozen=True, slots=True)
class Child:
    """A running child; `lag` is the file that the launcher writes, if it is scaled."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    lag: Path | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    async def line(self) -> bytes:
        """Return the next line of standard output.

        Raises:
            BenchError: it ended, or nothing came within START_S.
        """
        assert self.process.stdout is not None
        line = b""
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(self.process.stdout.readline(), START_S)
        if not line:
            raise BenchError(f"the {self.name} did not start. {self.last_words()}")
        return line

    async def answers(self, port: int, path: str) -> None:
        """Wait until GET `path` is answered with 200.

        Raises:
            BenchError: it ended, or did not answer within START_S.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + START_S
        while loop.time() < until and self.process.returncode is None:
            if await asyncio.to_thread(_is_up, port, path):
                return
            await asyncio.sleep(_STEP_S)
        raise BenchError(f"the {self.name} did not start. {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of what it wrote to standard error."""
        return self.log.read_text(errors="replace")[-_TAIL:].strip()


@dataclass(frozen=True, slots=True)
class Time:
    """The time that the children of one play share; see `scaled`."""

    speed: float
    anchor_ns: int

    def command(self, lag: Path | None = None, python: str = sys.executable) -> list[str]:
        """Return the beginning of a command that runs a program in this time."""
        launcher = [python, str(_LAUNCHER), "--speed", f"{self.speed:g}"]
        watched = [] if lag is None else ["--lag", str(lag)]
        return [*launcher, "--anchor-ns", str(self.anchor_ns), *watched, "--"]


@asynccontextmanager
async def child(
    name: str,
    command: Sequence[str],
    folder: Path,
    *,
    speaks: bool = True,
    env: Mapping[str, str] | None = None,
    lag: Path | None = None,
) -> AsyncIterator[Child]:
    """Run a program in `folder` and end it with all that it started.

    Args:
        name: what errors call it, and its log.
        command: program and arguments.
        folder: where it runs and its log goes.
        speaks: whether its standard output is read here; otherwise it goes to the log.
        env: the whole environment; None: this process's.
        lag: the file that its launcher writes.
    """
    log = folder / f"{name}.log"
    with log.open("ab") as written:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if speaks else written,
            stderr=written,
            env=None if env is None else dict(env),
            start_new_session=True,  # Ctrl-C is for the bench, which then ends everything in order
        )
    try:
        yield Child(name, process, log, lag)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process with all that it started: what it holds is thrown away anyway."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.shield(process.wait())


def free_ports(count: int) -> list[int]:
    """Return ports of loopback on which nobody listens now."""
    with contextlib.ExitStack() as open_sockets:
        ports = []
        for _ in range(count):
            one = open_sockets.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports.append(int(one.getsockname()[1]))
    return ports


def _is_up(port: int, path: str) -> bool:
    try:
        status, _ = ask(port, path, timeout_s=5.0)
    except BenchError:
        return False
    return status == 200


def ask(
    port: int, path: str, *, key: str = "", order: object = None, timeout_s: float = 60.0
) -> tuple[int, bytes]:
    """Ask a child on loopback (POST if there is an `order`) and return status and body.

    Raises:
        BenchError: there was no answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    method, body = ("GET", None) if order is None else ("POST", json.dumps(order))
    headers = {} if body is None else {"content-type": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{method} {path} was not answered: {error}") from error
    finally:
        connection.close()
