"""One server made of several processes: `safelight serve --workers N`.

Owns the supervisor: it reserves the address, starts the processes, starts one again that ended,
passes signals on and ends with the last of them. Serves nothing itself and opens neither database
nor data folder. What a process does is supervised.py's and serving.py's business; how several share
books and pictures is the gateway's (docs/architecture.md, "Several processes on one database").

A process gets its settings as it starts, through a pipe that stays open as long as the supervisor
lives. So all of them, and those that replace them, run on the configuration that was checked, and
when the supervisor is killed the pipe ends and they end too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from safelight import listening, telemetry
from safelight.config import Config
from safelight.errors import ConfigError
from safelight.server_info import ServerInfo
from safelight.types import Secret

log = logging.getLogger("safelight.supervisor")

PROGRAM = (sys.executable, "-m", "safelight.supervised")
"""What a process runs; its number and the data folder follow, for whoever looks at a list."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Before a process is started again; doubled each time until one has lived for `STEADY_S`."""
STEADY_S = 60.0
HOPELESS = 5
"""So many starts failed in a row, and no process is up: then another one would not help."""
FORCED_S = 10.0
"""How long a process may take to leave that was told to leave at once."""


class Settings(msgspec.Struct, frozen=True):
    """What a process is told as it starts."""

    number: int
    config: Config


class Said(msgspec.Struct, frozen=True):
    """The one line a process says: that it is ready, or why it cannot be."""

    ready: ServerInfo | None = None
    refused: str | None = None


def count_of(workers: int) -> int:
    """Return how many processes `[server] workers` means; 0 is one for each core we may use."""
    if workers:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def supervise(
    config: Config,
    count: int,
    *,
    on_ready: Callable[[ServerInfo], None],
    program: Sequence[str] = PROGRAM,
) -> int:
    """Run `count` server processes until SIGINT or SIGTERM; return the exit code.

    Args:
        config: everything, defaults filled in.
        count: how many processes.
        on_ready: called once, when all of them listen.
        program: what a process runs.

    Raises:
        ConfigError: the address is taken, or a process refused the configuration.
        ChildProcessError: a process ended before it was ready; its log says why.
    """
    telemetry.configure(config.watch.logs.level)
    with listening.reserved(config.server.host, config.server.port) as address:
        server = msgspec.structs.replace(config.server, port=address.getsockname()[1])
        config = msgspec.structs.replace(config, server=server)
        return asyncio.run(_Supervisor(config, program).run(count, on_ready))


def encode(settings: Settings) -> bytes:
    """Return settings for a pipe: their length in 8 bytes, and themselves."""
    body = msgspec.json.encode(settings, enc_hook=_plain)
    return len(body).to_bytes(8, "big") + body


def decode(body: bytes) -> Settings:
    """Return settings from the bytes behind their length."""
    return msgspec.json.decode(body, type=Settings, dec_hook=lambda kind, value: kind(value))


def _plain(value: Any) -> str:
    # A pipe to our own process is the one place beside the wire where a credential goes.
    return value.reveal() if isinstance(value, Secret) else str(Path(value))


class _Supervisor:
    """The processes of one server, by number from 1."""

    def __init__(self, config: Config, program: Sequence[str]) -> None:
        self._config = config
        self._program = program
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._up: set[int] = set()
        self._failed_in_row = 0
        self._told = asyncio.Event()
        self._forced: asyncio.Task[None] | None = None
        self._hopeless = False

    async def run(self, count: int, on_ready: Callable[[ServerInfo], None]) -> int:
        """Start all, keep them up until told to stop, and return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        try:
            ready = await self._start_all(count)
            if ready is not None:
                on_ready(ready)
            ends = await asyncio.gather(*(self._keep(number) for number in self._processes))
        finally:
            self._kill()
            await asyncio.gather(*(process.wait() for process in self._processes.values()))
        return 1 if self._hopeless else max(ends, default=0)

    async def _start_all(self, count: int) -> ServerInfo | None:
        """Start the first process, which migrates and makes the first customer; then the others.

        Returns:
            What they are together; None when they were told to stop meanwhile.
        """
        try:
            first = await self._start(1)
            rest = await asyncio.gather(*(self._start(one) for one in range(2, count + 1)))
        except (ConfigError, ChildProcessError):
            if self._told.is_set():
                return None
            raise
        recovered = sum(one.recovered_jobs for one in (first, *rest))
        return msgspec.structs.replace(first, recovered_jobs=recovered)

    async def _start(self, number: int) -> ServerInfo:
        """Start a process and wait until it listens.

        Raises:
            ConfigError: it says that it cannot, and why.
            ChildProcessError: it ended without a word.
        """
        if self._told.is_set():
            raise ChildProcessError("the server was told to stop")
        process = await asyncio.create_subprocess_exec(
            *(*self._program, str(number), str(self._config.data_dir)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # A group of its own: Ctrl-C is for the supervisor, which passes it on once.
            process_group=0,
        )
        self._processes[number] = process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):  # it has ended already; its silence says so
            process.stdin.write(encode(Settings(number, self._config)))
            await process.stdin.drain()
        if self._told.is_set():
            _tell(process)
        line = await process.stdout.readline()
        said = msgspec.json.decode(line, type=Said) if line else Said()
        if said.ready is None:
            how = _how(await process.wait())
            if said.refused is not None:
                raise ConfigError(said.refused)
            raise ChildProcessError(f"worker {number} {how} before it was ready; see its log")
        self._up.add(number)
        self._failed_in_row = 0
        return said.ready

    async def _keep(self, number: int) -> int:
        """Start a process again whenever it ends, until told to stop; return its exit code."""
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = loop.time()
            code = await self._processes[number].wait()
            self._up.discard(number)
            if self._told.is_set():
                # Who is told before it listens has nothing to finish, and ends by the signal.
                return 0 if code == -signal.SIGTERM else abs(code)
            if loop.time() - began_s >= STEADY_S:
                pause_s = FIRST_PAUSE_S
            log.error(
                "a server process ended; it is started again",
                extra={"worker": number, "fault": _how(code)},
            )
            while not await self._again(number, pause_s):
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                if self._told.is_set():
                    return 0
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _again(self, number: int, pause_s: float) -> bool:
        """Start a process after a pause; return whether it listens."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told.wait(), pause_s)
        if self._told.is_set():
            return False
        try:
            await self._start(number)
        except (ConfigError, ChildProcessError, OSError) as error:
            self._failed_in_row += 1
            fault = str(error)
            log.warning("a server process cannot start", extra={"worker": number, "fault": fault})
            if self._failed_in_row >= HOPELESS and not self._up:
                self._hopeless = True
                self._stop()
            return False
        log.warning("a server process listens again", extra={"worker": number})
        return True

    def _stop(self) -> None:
        """Let all processes drain; at a second signal leave now, and end who does not."""
        again = self._told.is_set()
        self._told.set()
        for process in self._processes.values():
            _tell(process)
        if again and self._forced is None:
            self._forced = asyncio.ensure_future(self._force())

    async def _force(self) -> None:
        await asyncio.sleep(FORCED_S)
        self._kill()

    def _kill(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()


def _tell(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()


def _how(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
