"""The composition root: the only file that names concrete parts and puts them together.

Owns start and stop: the data folder, which processes start on one after another, the first
customer, recovery before the first request and every few seconds after it, the drain at the end.
Also the office: what the operator's commands do on a data folder,
whether a server runs on it or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import secrets
import shutil
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import uvicorn

from safelight import accounts, attempts, customers, ledger, telemetry
from safelight.api import make_asgi
from safelight.api.context import Services
from safelight.api.server import uvicorn_config
from safelight.channels import Channels
from safelight.clock import Clock, SystemClock
from safelight.config import Config
from safelight.costs import MarginWatch
from safelight.db import Database, Transaction
from safelight.db.sqlite import SqliteDatabase
from safelight.errors import ConfigError, Unavailable
from safelight.gateway import Gateway
from safelight.gateway.audit import audit
from safelight.gateway.background import Background
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes, starting
from safelight.gateway.reading import statement_page
from safelight.gateway.recovery import recover
from safelight.gateway.refusals import Refusals
from safelight.gateway.spooling import SpoolFolder
from safelight.gateway.upkeep import SHARE_S, SHOW_S, Upkeep
from safelight.images import PixelWorker
from safelight.keyring import Keyring
from safelight.links import Links
from safelight.money import dollars_to_micros
from safelight.pool import Pool
from safelight.storage.disk import DiskStore
from safelight.types import Balance, Micros, StatementLine
from safelight.upstreams import Upstream, load_upstream

log = logging.getLogger("safelight.app")

DATABASE_FILE = "safelight.db"
STATEMENT_PAGE = 1000
LOOK_S = 5.0
"""How often a process looks for what dead ones left."""


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


class App:
    """Everything that one server process needs, put together."""

    def __init__(self, config: Config, clock: Clock) -> None:
        data = config.data_dir
        self.config = config
        self.clock = clock
        # Before anything is opened: a wrong option is the operator's to mend, nothing is to close.
        self.upstreams: dict[str, Upstream] = {
            name: load_upstream(name, clock)
            for name in sorted({account.upstream for account in config.accounts})
        }
        accounts = tuple(self.upstreams[one.upstream].check(one) for one in config.accounts)
        self.owner = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.keyring = Keyring.load_or_create(data)
        self.db = _open_database(data, clock)
        self.channels = Channels(config.channels)
        self.processes = Processes(data / "processes", self.owner)
        self.store = DiskStore(data / "blobs")
        self.parts = Parts(
            db=self.db,
            pool=Pool(accounts, clock, policy=config.pool),
            storage=self.store,
            pixels=PixelWorker(),
            channels=self.channels,
            upstreams=self.upstreams,
            spool=SpoolFolder(data / "spool", self.processes),
            clock=clock,
            margins=MarginWatch(config.pool.margin_alarm, clock),
            refusals=Refusals(config.pool.refusals_per_hour),
        )
        self.upkeep = Upkeep(self.parts, owner=self.owner)
        self.gateway = Gateway(
            self.parts,
            processes=self.processes,
            pepper=self.keyring.pepper(),
            max_file_bytes=config.server.max_file_bytes,
            min_free_bytes=config.storage.min_free_bytes,
            max_in_flight=config.server.max_in_flight,
        )
        self.services = Services(
            gateway=self.gateway,
            channels=self.channels,
            links=Links(self.keyring, clock, max_ttl_s=_longest_link(config)),
            storage=self.store,
            clock=clock,
            config=config,
            spool_dir=self.processes.own_folder(data / "uploads"),
        )
        self.asgi = make_asgi(self.services)
        self._background = Background()

    async def start(self) -> int:
        """Continue what dead processes left, then accept orders; return how many jobs."""
        await self.upkeep.share()
        recovered = await self._take_over()
        self.gateway.accepting = True
        await self.upkeep.show()
        background = self._background
        background.run("take over", self._look, pause_s=LOOK_S)
        background.run("share limits", self.upkeep.share, pause_s=SHARE_S)
        background.run("show accounts", self.upkeep.show, pause_s=SHOW_S)
        background.run("probe accounts", self.upkeep.probe, pause_s=self.config.pool.probe_s)
        return recovered

    async def _look(self) -> None:
        # Who drains must not begin what it will not finish: another process will.
        if self.gateway.accepting:
            await self._take_over()

    async def _take_over(self) -> int:
        taken = await recover(self.gateway, self.parts, self.processes)
        await asyncio.to_thread(self.processes.remove_left, self.services.spool_dir.parent)
        return taken

    async def stop(self, drain_s: float) -> int:
        """Drain, then close everything; return how many jobs are left to other processes."""
        await self._background.stop()
        left = await self.gateway.drain(drain_s)
        with contextlib.suppress(Unavailable):
            await self.upkeep.leave()
        for upstream in self.upstreams.values():
            await upstream.close()
        self.parts.pixels.close()
        self.store.close()
        await self.db.close()
        self.parts.spool.leave()
        shutil.rmtree(self.services.spool_dir, ignore_errors=True)
        # Last: from here on others take over what is left, so nothing here may still be at work.
        self.processes.leave()
        return left


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


def serve(config: Config, *, on_ready: Callable[[ServerInfo], None]) -> int:
    """Run a server until SIGINT or SIGTERM; return the exit code.

    Raises:
        ConfigError: the data folder cannot be used, or the port is taken.
    """
    telemetry.configure()
    _raise_open_files()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, on_ready))


async def _serve(config: Config, on_ready: Callable[[ServerInfo], None]) -> int:
    _make_data_folder(config.data_dir)
    async with starting(config.data_dir):
        app = App(config, SystemClock())
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


class Office:
    """What an operator's commands do with customers, keys and money."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._pepper = keyring.pepper()

    async def create_customer_key(self, name: str, credit_micros: Micros) -> str:
        """Make a key for the customer `name`, whom it makes if there is none, with credit."""
        key, key_id = customers.new_key()
        customer_id = f"cus_{secrets.token_hex(8)}"

        def work(tx: Transaction) -> None:
            owner = customers.find_customer(tx, name)
            if owner is None:
                owner = customer_id
                customers.create_customer(tx, customer_id=owner, name=name)
                ledger.open_balance(tx, owner)
            customers.add_key(
                tx, key=key, key_id=key_id, customer_id=owner, name=name, pepper=self._pepper
            )
            if credit_micros > 0:
                _topup(tx, owner, credit_micros, "first credit")

        await self._db.write(work)
        return key

    async def list_keys(self) -> list[customers.KeyInfo]:
        """Return every key, oldest first."""
        return await self._db.read(customers.list_keys)

    async def revoke_key(self, key_id: str) -> bool:
        """End a key; False when there is no such key in use."""
        return await self._db.write(lambda tx: customers.revoke_key(tx, key_id))

    async def credit(self, customer: str, amount_micros: Micros, reason: str) -> Balance:
        """Top up a customer, or correct the balance downwards with a negative amount.

        Raises:
            LookupError: no such customer.
            ledger.WouldOverdraw: less than that is available.
        """

        def work(tx: Transaction) -> Balance:
            customer_id = _customer(tx, customer)
            if amount_micros > 0:
                _topup(tx, customer_id, amount_micros, reason)
            else:
                ledger.adjust(
                    tx,
                    transfer_id=f"tr_{secrets.token_hex(12)}",
                    customer_id=customer_id,
                    amount_micros=amount_micros,
                    actor="operator",
                    reason=reason,
                )
            return ledger.balance(tx, customer_id)

        return await self._db.write(work)

    async def statement(self, customer: str) -> tuple[StatementLine, ...]:
        """Return every statement line of a customer.

        Raises:
            LookupError: no such customer.
        """

        def work(tx: Transaction) -> tuple[StatementLine, ...]:
            customer_id = _customer(tx, customer)
            lines: list[StatementLine] = []
            more = True
            while more:
                after = lines[-1].id if lines else None
                page = statement_page(tx, customer_id, after=after, limit=STATEMENT_PAGE)
                lines += page.lines
                more = page.has_more
            return tuple(lines)

        return await self._db.read(work)

    async def waste(self) -> dict[str, attempts.Waste]:
        """Return, by account, the images that were sold and given to nobody."""
        return await self._db.read(attempts.waste)

    async def account_book(self, since_s: float | None) -> accounts.AccountBook:
        """Return every account's figures of the last `since_s` seconds; None: of all time."""
        return await self._db.read(lambda tx: accounts.read(tx, since_s=since_s))

    async def audit(self) -> list[str]:
        """Return what in the books does not fit together; empty means sound."""
        return await self._db.read(audit)


@contextlib.asynccontextmanager
async def open_office(data_dir: Path) -> AsyncIterator[Office]:
    """Open a data folder for an operator's command, whether a server runs on it or not."""
    _make_data_folder(data_dir)
    # Checked when the server starts: a command shall not read the whole file for one line.
    db = _open_database(data_dir, SystemClock(), check=False)
    try:
        yield Office(db, Keyring.load_or_create(data_dir))
    finally:
        await db.close()


def _make_data_folder(data_dir: Path) -> None:
    """Make the folder, for its owner only: it holds prompts, pictures and keys.

    Raises:
        ConfigError: it cannot be made or written to.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        usable = os.access(data_dir, os.W_OK | os.X_OK)
    except OSError as error:
        raise ConfigError(
            f"the data folder {data_dir} cannot be made ({error.strerror}); choose another --data"
        ) from error
    if not usable:
        raise ConfigError(f"the data folder {data_dir} cannot be written to; choose another --data")


def _open_database(data_dir: Path, clock: Clock, *, check: bool = True) -> Database:
    """Open, check and migrate the database of a data folder.

    Raises:
        ConfigError: it is damaged, or not to be opened.
    """
    path = data_dir / DATABASE_FILE
    try:
        return SqliteDatabase(path, clock, check=check)
    except sqlite3.Error as error:
        raise ConfigError(f"the database {path} cannot be used: {error}") from error


def _customer(tx: Transaction, name: str) -> str:
    found = customers.find_customer(tx, name)
    if found is None:
        raise LookupError(f"no customer is named {name!r}")
    return found


def _topup(tx: Transaction, customer_id: str, amount_micros: Micros, reason: str) -> None:
    ledger.topup(
        tx,
        transfer_id=f"tr_{secrets.token_hex(12)}",
        customer_id=customer_id,
        amount_micros=amount_micros,
        actor="operator",
        reason=reason,
    )


def _longest_link(config: Config) -> int:
    """Return the longest life of any channel's links, seconds; no valid link ends later."""
    return max((channel.link_ttl_s for channel in config.channels.values()), default=1)


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
