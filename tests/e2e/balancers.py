"""HAProxy and nginx as they are installed, with the files of deploy/ before processes of a test.

Owns the exchange of names and ports in those files; nothing else in them is changed.
"""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.process import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UP_S = 60.0
REPLICAS = ("serve-1:8080", "serve-2:8080")


def installed(program: str) -> bool:
    """Return whether a program is there to be run."""
    return find(program) is not None


def find(program: str) -> str | None:
    """Return the path of a program; administrators' programs are not on everybody's path."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def with_places(text: str, places: Mapping[str, str]) -> str:
    """Return a configuration with names and ports exchanged, each of which must stand in it."""
    for old, new in places.items():
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the file"
        text = text.replace(old, new)
    return text


class Balancer:
    """One balancer before two replicas; leaving the block ends it.

    Args:
        program: haproxy or nginx.
        folder: gets its configuration and its log.
        ports: where the replicas are, on loopback.
    """

    def __init__(self, program: str, folder: Path, ports: Sequence[int]) -> None:
        folder.mkdir()
        self.program = program
        self.port = free_port()
        self.log = folder / "log"
        self._status_port = free_port()
        self._folder = folder
        self._places = {
            name: f"127.0.0.1:{port}" for name, port in zip(REPLICAS, ports, strict=True)
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """Where clients are sent."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Balancer:
        command = self._haproxy() if self.program == "haproxy" else self._nginx()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self.await_up()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def await_up(self) -> None:
        """Wait until it sends requests to all replicas (nginx never knows: until it listens)."""
        until = time.monotonic() + UP_S
        while not self._is_up():
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, "a replica does not come up"
            time.sleep(0.1)

    def _is_up(self) -> bool:
        port = self._status_port if self.program == "haproxy" else self.port
        path = ";csv" if self.program == "haproxy" else "readyz"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return False
        if self.program != "haproxy":
            return True
        servers = [row for row in csv.DictReader(io.StringIO(text)) if row["svname"][:5] == "serve"]
        return len(servers) == len(REPLICAS) and {row["status"] for row in servers} == {"UP"}

    def _haproxy(self) -> list[str]:
        places = {
            **{f" {name}": f" {place}" for name, place in self._places.items()},
            "bind :8080": f"bind 127.0.0.1:{self.port}",
            "bind 127.0.0.1:8404": f"bind 127.0.0.1:{self._status_port}",
        }
        return [*self._command(), "-db", "-f", str(self._write("haproxy.cfg", places))]

    def _nginx(self) -> list[str]:
        places = {
            **self._places,
            "listen 8080;": f"listen 127.0.0.1:{self.port};",
            "/tmp/nginx.pid": str(self._folder / "nginx.pid"),  # noqa: S108 - the file's word
        }
        config = self._write("nginx.conf", places)
        return [
            *self._command(),
            *("-p", str(self._folder), "-c", str(config), "-g", "daemon off;"),
        ]

    def _command(self) -> list[str]:
        found = find(self.program)
        assert found is not None
        return [found]

    def _write(self, name: str, places: Mapping[str, str]) -> Path:
        config = self._folder / name
        config.write_text(with_places((DEPLOY / name).read_text(), places))
        return config
