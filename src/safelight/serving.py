"""Serving: one process from its first look at the data folder to its last answer.

Owns starting one after another, the first customer, the listening socket, signals and the drain.
app.py puts the parts together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator

import msgspec
import uvicorn

from safelight import customers, telemetry
from safelight.api.server import uvicorn_config
from safelight.app import App, make_data_folder
from safelight.clock import Clock, SystemClock
from safelight.config import Config
from safelight.errors import ConfigError
from safelight.gateway.process_files import starting
from safelight.money import dollars_to_micros
from safelight.office import Office
from safelight.types import Micros

log = logging.getLogger("safelight.app")


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a started server is; `first_key` only on the first start of a data folder."""

    url: str
    first_key: str | None
    customer: str | None
    credit_micros: Micros
    channels: tuple[str, ...]
    accounts: tuple[str, ...]
    recovered_jobs: int
    warnings: tuple[str, ...] = ()


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


def serve(
    config: Config,
    *,
    on_ready: Callable[[ServerInfo], None],
    make_app: Callable[[Config, Clock], App] = App,
) -> int:
    """Run a server until SIGINT or SIGTERM; return the exit code.

    Args:
        config: everything, defaults filled in.
        on_ready: called once, when it listens.
        make_app: puts the parts together.

    Raises:
        ConfigError: the data folder cannot be used, or the port is taken.
    """
    telemetry.configure()
    _raise_open_files()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, on_ready, make_app))


async def _serve(
    config: Config,
    on_ready: Callable[[ServerInfo], None],
    make_app: Callable[[Config, Clock], App],
) -> int:
    make_data_folder(config.data_dir)
    async with starting(config.data_dir):
        app = make_app(config, SystemClock())
        try:
            settings = uvicorn_config(app.asgi, config)
            # Before the first customer is made: whoever cannot listen cannot show the key, and it
            # is shown only once.
            listener = _bound(settings)
            first_key = await _first_customer(app)
            recovered = await app.start()
        except BaseException:
            await app.stop(0)
            raise

    def listening(port: int) -> None:
        on_ready(_server_info(config, port, first_key=first_key, recovered=recovered))

    server = _Server(settings, listening)
    stopping: list[asyncio.Task[int]] = []

    def stop() -> None:
        if stopping:  # the second signal: leave now, the next start goes on
            server.force_exit = True
            stopping[0].cancel()
        else:
            log.warning("draining", extra={"jobs": app.gateway.running})
            stopping.append(asyncio.create_task(_drain(app, server)))

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await server.serve([listener])
    finally:
        await app.stop(0)
    return 0


def _bound(settings: uvicorn.Config) -> socket.socket:
    """Take the address to listen on.

    Raises:
        ConfigError: it is in use, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(settings.backlog)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); is it in use? "
            "Choose another with --port or [server] port."
        ) from error
    listener.setblocking(False)
    return listener


async def _drain(app: App, server: _Server) -> int:
    """Refuse new orders, let running jobs finish, then let the server close its connections."""
    app.gateway.accepting = False
    try:
        return await app.gateway.drain(app.config.server.drain_s)
    finally:
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
        warnings=config.warnings,
    )


async def _first_customer(app: App) -> str | None:
    """On the first start, make a customer with credit; return its key."""
    billing = app.config.billing
    if await app.db.read(customers.any_customer):
        return None
    office = Office(app.db, app.keyring)
    credit = dollars_to_micros(billing.first_credit)
    return await office.create_customer_key(billing.first_customer, credit)


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
