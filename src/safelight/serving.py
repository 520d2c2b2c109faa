"""Serving: one process, a server or a worker, from its first look at the data folder to its end.

Owns starting one after another, the first customer, the moment of listening, signals and the drain.
app.py puts the parts together; supervising.py starts several such processes as one server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from safelight import admin_keys, allocator, customers, listening, redaction, telemetry
from safelight.api.health import make_health
from safelight.api.scrapes import make_scrape_asgi
from safelight.api.server import BACKLOG, uvicorn_config
from safelight.app import App
from safelight.clock import Clock, SystemClock
from safelight.config import Config, ServerConfig
from safelight.errors import ConfigError
from safelight.gateway.process_files import starting
from safelight.money import dollars_to_micros
from safelight.office import Office
from safelight.opening import make_data_folder
from safelight.server_info import ServerInfo

log = logging.getLogger("safelight.app")

LAST_CALL_S = 1.0
"""How long a process that stopped listening still takes orders: on connections made before."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, telling when it listens."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[int], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `serve`: draining comes before the connections are closed."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say on which port."""
        await super().startup(sockets)
        if self.started:
            self._on_listening(self.servers[0].sockets[0].getsockname()[1])

    def stop_listening(self) -> None:
        """Take no more connections; those that are there go on."""
        for one in self.servers:
            one.close()


def serve(
    config: Config,
    *,
    on_ready: Callable[[ServerInfo], None],
    make_app: Callable[[Config, Clock], App] = App,
    worker: int | None = None,
) -> int:
    """Run a server until SIGINT or SIGTERM; return the exit code.

    Args:
        config: everything, defaults filled in.
        on_ready: called once, when it listens.
        make_app: puts the parts together.
        worker: number of this process where several are one server and share its port.

    Raises:
        ConfigError: the data folder cannot be used, or the port is taken.
    """
    return _run(_serve(config, on_ready, make_app, worker), config, worker)


async def _serve(
    config: Config,
    on_ready: Callable[[ServerInfo], None],
    make_app: Callable[[Config, Clock], App],
    worker: int | None,
) -> int:
    make_data_folder(config.data_dir)
    async with starting(config.data_dir):
        app = make_app(config, SystemClock())
        try:
            settings = uvicorn_config(app.asgi, config)
            # Before the first customer is made: whoever cannot listen cannot show the key, and it
            # is shown only once.
            listener = _listener(settings, worker)
            scraped = _scrape_listener(config, worker)
            first_key = await _first_customer(app)
            operated = await app.db.read(admin_keys.any_in_use)
            recovered = await app.start()
            allocator.settle()
        except BaseException:
            await app.stop(0)
            raise

    def listening(port: int) -> None:
        info = _server_info(config, port, first_key=first_key, recovered=recovered)
        on_ready(msgspec.structs.replace(info, operated=operated))

    async with _scrapes_answered(app, scraped):
        await _until_told(app, _Server(settings, listening), listener)
    return 0


def work(
    config: Config,
    *,
    port: int | None,
    on_ready: Callable[[ServerInfo], None],
    make_app: Callable[[Config, Clock], App] = App,
) -> int:
    """Run queued work until SIGINT or SIGTERM; return the exit code.

    Args:
        config: everything, defaults filled in; `[queue] run` is for servers and not looked at.
        port: where to answer /healthz and /readyz, 0 a free one; None: nowhere.
        on_ready: called once, when it takes work; its url is empty without a port.
        make_app: puts the parts together.

    Raises:
        ConfigError: the data folder cannot be used, or the port is taken.
    """
    return _run(_work(config, port, on_ready, make_app), config)


def _run(process: Coroutine[Any, Any, int], config: Config, worker: int | None = None) -> int:
    allocator.tune()
    redaction.note_environment(os.environ)
    telemetry.configure(config.watch.logs.level, worker=worker)
    _raise_open_files()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(process)


async def _work(
    config: Config,
    port: int | None,
    on_ready: Callable[[ServerInfo], None],
    make_app: Callable[[Config, Clock], App],
) -> int:
    config = msgspec.structs.replace(
        config,
        queue=msgspec.structs.replace(config.queue, run=True),
        # No balancer sends orders to a worker, so none has to notice that it leaves.
        server=msgspec.structs.replace(config.server, port=port or 0, drain_notice_s=0.0),
    )
    make_data_folder(config.data_dir)
    async with starting(config.data_dir):
        app = make_app(config, SystemClock())
        try:
            settings = uvicorn_config(
                make_health(lambda: app.gateway.accepting, app.observing.scrapes), config
            )
            listener = None if port is None else _listener(settings, None)
            recovered = await app.start()
            allocator.settle()
        except BaseException:
            await app.stop(0)
            raise

    def listening(port: int) -> None:
        info = _server_info(config, port, first_key=None, recovered=recovered)
        on_ready(info if port else msgspec.structs.replace(info, url=""))

    if listener is None:
        listening(0)
        await _until_told(app, None, None)
    else:
        await _until_told(app, _Server(settings, listening), listener)
    return 0


async def _until_told(app: App, server: _Server | None, listener: socket.socket | None) -> None:
    """Go on until a signal, then drain, then close everything; a second signal ends it at once."""
    app.observing.start()
    stopping: list[asyncio.Task[int]] = []
    told = asyncio.Event()

    def stop() -> None:
        if stopping:  # the second signal: leave now, the next start goes on
            if server is not None:
                server.force_exit = True
            stopping[0].cancel()
        else:
            log.warning("draining", extra={"jobs": app.gateway.running})
            stopping.append(asyncio.create_task(_drain(app, server)))
            told.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        if server is not None and listener is not None:
            await server.serve([listener])
        else:
            await told.wait()
            await asyncio.wait(stopping)
    finally:
        await app.stop(0)


def _listener(settings: uvicorn.Config, worker: int | None) -> socket.socket:
    """Return a socket on the address; one that is shared listens only when the server is ready.

    Raises:
        ConfigError: the address is in use, or none of this machine's.
    """
    if worker is None:
        return listening.taken(settings.host, settings.port, settings.backlog)
    return listening.shared(settings.host, settings.port)


def _scrape_listener(config: Config, worker: int | None) -> socket.socket | None:
    """Return a socket on this process's own port for /metrics, if it has one.

    Raises:
        ConfigError: the port is in use, or there is no such port.
    """
    metrics = config.watch.metrics
    if not metrics.port or metrics.access == "off":
        return None
    port = metrics.port + (worker or 1) - 1
    if port > 65_535:
        raise ConfigError(f"[metrics] port: process {worker} would need port {port}; lower it")
    return listening.taken(metrics.host, port, BACKLOG)


@contextlib.asynccontextmanager
async def _scrapes_answered(app: App, listener: socket.socket | None) -> AsyncIterator[None]:
    """Answer /metrics on a port of its own while inside, to the end of the drain."""
    if listener is None:
        yield
        return
    settings = uvicorn_config(make_scrape_asgi(app.observing.scrapes), app.config)
    server = _Server(settings, lambda _port: None)
    serving = asyncio.create_task(server.serve([listener]), name="scrapes")
    try:
        yield
    finally:
        server.should_exit = True
        await serving


async def _drain(app: App, server: _Server | None) -> int:
    """Leave: refuse new orders, let running jobs finish, let the server close its connections.

    With a notice, /readyz fails before anything else changes, until every balancer has seen it;
    then nobody can connect any more, so that one that looks at no /readyz goes elsewhere too.
    """
    notice_s = app.config.server.drain_notice_s
    try:
        app.gateway.leaving = True
        if notice_s and server is not None:
            await asyncio.sleep(notice_s)
            server.stop_listening()
            await asyncio.sleep(LAST_CALL_S)
        return await app.drain(app.config.server.drain_s)
    finally:
        if server is not None:
            server.should_exit = True


def _server_info(config: Config, port: int, *, first_key: str | None, recovered: int) -> ServerInfo:
    host = config.server.host
    shown = f"[{host}]" if ":" in host else host
    return ServerInfo(
        url=f"http://{shown}:{port}",
        first_key=first_key,
        customer=config.billing.first_customer if first_key else None,
        credit_micros=dollars_to_micros(config.billing.first_credit) if first_key else 0,
        channels=tuple(config.channels),
        accounts=tuple(account.name for account in config.accounts),
        recovered_jobs=recovered,
        warnings=(*config.warnings, *_limits_of_system(config.server)),
    )


async def _first_customer(app: App) -> str | None:
    """On the first start, make a customer with credit; return its key."""
    billing = app.config.billing
    if await app.db.read(customers.any_customer):
        return None
    office = Office(app.db, app.keyring)
    credit = dollars_to_micros(billing.first_credit)
    return await office.create_customer_key(billing.first_customer, credit)


FILES_A_JOB = 2
"""The caller's connection and the upstream's; files are open only while bytes come or go."""
_SOMAXCONN = Path("/proc/sys/net/core/somaxconn")


def _limits_of_system(server: ServerConfig) -> list[str]:
    """Return what the operating system does not allow and the configuration needs."""
    found = []
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = server.max_in_flight * FILES_A_JOB
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        found.append(
            f"{allowed} open files are allowed, and {server.max_in_flight} jobs in flight may need "
            f"{needed}: raise the limit (ulimit -n, LimitNOFILE=) or lower [server] max_in_flight"
        )
    if _SOMAXCONN.is_file() and int(_SOMAXCONN.read_text()) < BACKLOG:
        found.append(
            f"the system lets {_SOMAXCONN.read_text().strip()} connections wait to be accepted; "
            f"for bursts set net.core.somaxconn to {BACKLOG}"
        )
    return found


def _raise_open_files() -> None:
    """Allow as many open files as the system lets us: a job in flight needs up to three."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415  (absent on Windows)
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
