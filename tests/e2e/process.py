"""`safelight serve` as a real process: started, asked, killed and started again on its folder."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import planting

REAL = ("-m", "safelight")
"""The program as it is installed."""


def free_port() -> int:
    """Return a port nobody listens on now; the same one serves every restart.

    From below those that the system gives to connections, which would take it between restarts.
    """
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class GatewayProcess:
    """One data folder and the process that serves it.

    Args:
        folder: gets the data folder, the configuration and the log.
        config: the text of the configuration.
        program: what Python runs; its arguments follow.
        environ: what the program and the operator's commands find beside our own environment.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        program: Sequence[str] = REAL,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.program = program
        self.environ = dict(environ or {})
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "serve.log"
        self.config = folder / "safelight.toml"
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(config)
        self.process: subprocess.Popen[str] | None = None
        self.first_key: str | None = None
        self.announced: dict[str, Any] = {}

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def beside(self, folder: Path) -> GatewayProcess:
        """Return another process, with a port of its own, on the same data folder."""
        other = GatewayProcess(
            folder, self.config.read_text(), program=self.program, environ=self.environ
        )
        other.data = self.data
        return other

    def start(self, environ: dict[str, str] | None = None) -> GatewayProcess:
        """Start and wait until it listens."""
        self.launch(environ)
        assert self.process is not None
        text = _first_json(self.process)
        if text is None:
            raise RuntimeError(f"the gateway did not start: {self.log.read_text()[-2000:]}")
        self.announced = text
        planting.see("output of -m safelight serve", json.dumps(text).encode())
        self.first_key = self.first_key or text.get("first_key")
        return self

    def launch(self, environ: dict[str, str] | None = None) -> None:
        """Start and do not wait."""
        command = [sys.executable, *self.program, "serve", "--json"]
        command += ["--config", str(self.config), "--data", str(self.data)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment(environ),
            )

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return what the program and the operator's commands find."""
        return {
            **os.environ,
            "UPSTREAM_KEY": planting.secret("upstream key", "sk-test"),
            **self.environ,
            **(more or {}),
        }

    def kill(self) -> None:
        """End the process as a power cut would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Pause the process as a machine that is moved elsewhere is paused."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Ask the process to drain, and return its exit code."""
        return self._end(signal.SIGTERM)

    def died(self, seconds: float = 30) -> int:
        """Wait for the process to end by itself, and return its exit code."""
        return self._end(None, seconds)

    def _end(self, number: signal.Signals | None, seconds: float = 60) -> int:
        if self.process is None:
            return 0
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(seconds)
        assert self.process.stdout is not None
        _see_rest(self.process.stdout.fileno())
        self.process.stdout.close()
        self.process = None
        return code

    def key(self, name: str = "team", credit: str = "100.00", *limits: str) -> str:
        """Make a key with the operator's command, whether the server runs or not."""
        made = self.command("keys", "create", name, "--credit", credit, *limits)
        assert made.count("\n") == 1, made
        return made.strip()

    def command(self, *words: str) -> str:
        """Run an operator's command on the data folder, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "safelight", *words, "--data", str(self.data)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=self.environment(),
        )
        return done.stdout

    def __enter__(self) -> GatewayProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.kill()


def _see_rest(output: int) -> None:
    """Show what came after the announcement; a child may hold the other end for a moment more."""
    os.set_blocking(output, False)
    with contextlib.suppress(BlockingIOError):
        planting.see("output of -m safelight serve, later", os.read(output, 65_536))


def _first_json(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    """Read the announcement, which may span several lines; None when the process ended."""
    assert process.stdout is not None
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    text = ""
    try:
        for line in process.stdout:
            text += line
            try:
                found: dict[str, Any] = json.loads(text)
            except json.JSONDecodeError:
                continue
            return found
    finally:
        watchdog.cancel()
    return None


def accounts(base_url: str, count: int = 1, **more: object) -> str:
    """Return configuration for accounts of the `openai` upstream, each in a group of its own."""
    extra = "\n".join(f"{name} = {json.dumps(value)}" for name, value in more.items())
    return "\n".join(
        f'[[accounts]]\nname = "account-{number}"\nupstream = "openai"\n'
        f'base_url = "{base_url}"\napi_key_env = "UPSTREAM_KEY"\n{extra}\n'
        for number in range(count)
    )
