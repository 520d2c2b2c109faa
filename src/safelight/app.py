"""The composition root: the only file that names concrete parts and puts them together.

Owns the making of every part, recovery before the first request and every few seconds after it,
and the order in which all is closed. serving.py runs it as a process, office.py works beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import sqlite3
from pathlib import Path

from safelight.api import make_asgi
from safelight.api.context import Services
from safelight.channels import Channels
from safelight.clock import Clock
from safelight.config import Config
from safelight.costs import MarginWatch
from safelight.db import Database
from safelight.db.sqlite import SqliteDatabase
from safelight.errors import ConfigError, Unavailable
from safelight.gateway import Gateway
from safelight.gateway.background import Background
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes
from safelight.gateway.recovery import recover
from safelight.gateway.refusals import Refusals
from safelight.gateway.spooling import SpoolFolder
from safelight.gateway.upkeep import SHARE_S, SHOW_S, Upkeep
from safelight.images import PixelWorker
from safelight.keyring import Keyring
from safelight.links import Links
from safelight.pool import Pool
from safelight.storage.disk import DiskStore
from safelight.upstreams import Upstream, load_upstream

log = logging.getLogger("safelight.app")

DATABASE_FILE = "safelight.db"
LOOK_S = 5.0
"""How often a process looks for what dead ones left."""


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
        self.db = open_database(data, clock)
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


def make_data_folder(data_dir: Path) -> None:
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


def open_database(data_dir: Path, clock: Clock, *, check: bool = True) -> Database:
    """Open, check and migrate the database of a data folder.

    Raises:
        ConfigError: it is damaged, or not to be opened.
    """
    path = data_dir / DATABASE_FILE
    try:
        return SqliteDatabase(path, clock, check=check)
    except sqlite3.Error as error:
        raise ConfigError(f"the database {path} cannot be used: {error}") from error


def _longest_link(config: Config) -> int:
    """Return the longest life of any channel's links, seconds; no valid link ends later."""
    return max((channel.link_ttl_s for channel in config.channels.values()), default=1)
