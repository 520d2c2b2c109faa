"""The composition root: the only file that names concrete parts and puts them together.

Owns the making of every part, recovery before the first request and every few seconds after it,
and the order in which all is closed. serving.py runs it as a process, office.py works beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import shutil
from collections.abc import Collection

import msgspec

from safelight import allocator, backups
from safelight.administration import Administration
from safelight.api import make_asgi
from safelight.api.batch_forms import BatchForms
from safelight.api.batches import BatchMessages
from safelight.api.context import Services
from safelight.api.sending import SendingRoom
from safelight.api.webhooks import JobMessages
from safelight.channels import Channels
from safelight.clock import Clock
from safelight.config import Config
from safelight.costs import MarginWatch
from safelight.db import Database, address
from safelight.engine import Engine, Handler, Queue, connecting
from safelight.engine.durable import DurableEngine
from safelight.entropy import ENTROPY
from safelight.errors import Unavailable
from safelight.gateway import Gateway
from safelight.gateway.background import Background
from safelight.gateway.batching import Batching
from safelight.gateway.filing import Filing
from safelight.gateway.notifying import COALESCE_S, Notifying
from safelight.gateway.parts import Parts
from safelight.gateway.persisting import SWEEP_S as PERSIST_S
from safelight.gateway.persisting import Persisting
from safelight.gateway.processes import Processes
from safelight.gateway.queueing import SWEEP_S, Queueing
from safelight.gateway.reaping import LOOK_S as REAP_S
from safelight.gateway.reaping import Reaper
from safelight.gateway.recovery import LOOK_S, Recovery
from safelight.gateway.refusals import Refusals
from safelight.gateway.registering import Registering
from safelight.gateway.removing import Removing
from safelight.gateway.restored import release_open_jobs
from safelight.gateway.retention import SWEEP_S as RETENTION_S
from safelight.gateway.retention import Retention
from safelight.gateway.spooling import SpoolFolder
from safelight.gateway.tenancy import agree_on_store
from safelight.gateway.upkeep import SHARE_S, SHOW_S, Upkeep
from safelight.gateway.vendor_lane import VendorLane
from safelight.gateway.verification import Verification
from safelight.gateway.verification.auditor import RESTS, Auditor
from safelight.guarded import GuardedClient
from safelight.images import PixelWorker
from safelight.keyring import Keyring
from safelight.links import Links
from safelight.metrics import Metrics
from safelight.observing import Observing, make_notes
from safelight.opening import (
    open_database,
    where_pictures_are,
)
from safelight.pool import Pool
from safelight.storage import BlobStore
from safelight.storage import address as store_address
from safelight.storage.bucket import Patience
from safelight.storage.measured import MeasuredStore
from safelight.storage.opening import open_at as open_store_at
from safelight.strangers import Rules
from safelight.types import Account
from safelight.upstreams import Upstream, load_upstream
from safelight.upstreams.batches import checked_accounts

log = logging.getLogger("safelight.app")

ORDER_PATIENCE_S = 1.0
"""How long an order waits for another process's lock on the database. What must be written in the
end is written again and again; whoever orders would rather be told soon."""


class App:
    """Everything that one server process needs, put together.

    Args:
        config: what the operator wants.
        clock: the time of every part.
        rng: where ids, pauses and choices come from; the system's unless a simulation gives one.
    """

    def __init__(self, config: Config, clock: Clock, *, rng: random.Random | None = None) -> None:
        data = config.data_dir
        rng = rng or ENTROPY
        self.config = config
        self.clock = clock
        # Before anything is opened: a wrong option is the operator's to mend, nothing is to close.
        self.upstreams: dict[str, Upstream] = {
            name: self.make_upstream(name)
            for name in sorted({account.upstream for account in config.accounts})
        }
        accounts = checked_accounts(config.accounts, self.upstreams)
        self.store_url = where_pictures_are(data, os.environ, configured=config.storage.url)
        self.owner = f"{os.getpid()}-{rng.getrandbits(48):012x}"
        self.keyring = Keyring.load_or_create(data)
        self.metrics = Metrics(clock, window_s=config.watch.alerts.window_s)
        self.db = self.make_database()
        self.channels = Channels(config.channels)
        self.processes = Processes(
            data / "processes", self.owner, clock=clock, lease_s=config.server.lease_s
        )
        self.store: BlobStore = MeasuredStore(self.make_store(), self.metrics)
        self.parts = self._make_parts(accounts, rng)
        self.retention = Retention(self.parts, config.retention, Removing(self.parts))
        self.upkeep = Upkeep(self.parts, owner=self.owner)
        self.auditor = Auditor(
            self.db,
            Verification(self.db, self.store, clock, self.parts.rng, rests=RESTS),
            clock,
            every_s=config.billing.verify_s,
            blobs=config.billing.verify_blobs,
        )
        self.uploads = self.processes.files.own_folder(data / "uploads")
        self.handlers: dict[Queue, Handler] = {}  # who works on which; filled before the start
        self.engine = self.make_engine()
        self.gateway = self._make_gateway()
        self.queueing = Queueing(
            self.gateway,
            self.parts,
            self.processes,
            self.engine,
            width=config.queue.width(config.server.max_in_flight),
        )
        self.gateway.remind = self.queueing.remind
        self.handlers["jobs"] = self.queueing.run
        self.filing = Filing(self.parts, config.files)
        self.batching = self._make_batching(accounts)
        self.handlers |= {"batches": self.batching.feed, "vendor_batches": self.vendor_lane.visit}
        links = Links(self.keyring, clock, max_ttl_s=config.longest_link_s)
        self.notifying = self._make_notifying(links)
        self.handlers["webhooks"] = self.notifying.deliver
        self.persisting = Persisting(self.parts, self.engine)
        self.handlers["storage"] = self.persisting.run
        self.observing = Observing(config, self.parts, self.gateway, links, owner=self.owner)
        self.administration = Administration(
            self.parts,
            self.gateway,
            retention=self.retention,
            auditor=self.auditor,
            config=config,
            pepper=self.keyring.pepper(),
        )
        self.services = self._make_services(links)
        self.asgi = make_asgi(self.services)
        self._recovery = Recovery(self.gateway, self.parts, self.processes)
        self._reaper = Reaper(self.gateway, self.parts, self.processes, self._recovery)
        self._heart, self._background = Background(), Background()

    def _make_parts(self, accounts: tuple[Account, ...], rng: random.Random) -> Parts:
        config, clock = self.config, self.clock
        return Parts(
            db=self.db,
            # Spreads load and guards nothing.
            pool=Pool(accounts, clock, random.Random(rng.getrandbits(64)), config.pool),  # noqa: S311
            storage=self.store,
            pixels=self.make_pixels(),
            channels=self.channels,
            upstreams=self.upstreams,
            spool=SpoolFolder(config.data_dir / "spool", self.processes.files),
            clock=clock,
            margins=MarginWatch(config.pool.margin_alarm, clock),
            refusals=Refusals(config.pool.refusals_per_hour),
            rng=rng,
            retention=config.retention,
            guard=Rules(config.webhooks),
            notes=make_notes(config, self.metrics, clock, self.keyring),
        )

    def _make_gateway(self) -> Gateway:
        config = self.config
        return Gateway(
            self.parts,
            processes=self.processes,
            pepper=self.keyring.pepper(),
            max_file_bytes=config.server.max_file_bytes,
            min_free_bytes=config.storage.min_free_bytes,
            max_in_flight=config.server.max_in_flight,
            limits=config.limits,
            queue=config.queue,
        )

    def _make_services(self, links: Links) -> Services:
        config = self.config
        return Services(
            gateway=self.gateway,
            channels=self.channels,
            links=links,
            storage=self.store,
            webhooks=Registering(self.parts, self.notifying),
            retention=self.retention,
            filing=self.filing,
            batching=self.batching,
            clock=self.clock,
            config=config,
            spool_dir=self.uploads,
            sending=SendingRoom(config.server.max_sending_bytes),
            metrics=self.metrics,
            scrapes=self.observing.scrapes,
            administration=self.administration,
        )

    def _make_notifying(self, links: Links) -> Notifying:
        return Notifying(
            self.parts,
            processes=self.processes,
            engine=self.engine,
            client=GuardedClient(self.parts.guard),
            derive=self.keyring.webhook_key,
            views={
                "job": JobMessages(self.gateway, links, self.config.server),
                "batch": BatchMessages(self.batching),
            },
            config=self.config.webhooks,
        )

    def _make_batching(self, accounts: tuple[Account, ...]) -> Batching:
        bounds = self.config.vendor_batches
        self.vendor_lane = VendorLane(
            self.parts, self.gateway, self.engine, self.owner, accounts, bounds
        )
        return Batching(
            self.parts,
            engine=self.engine,
            acceptance=self.gateway.acceptance,
            remind=self.queueing.remind,
            cancel_job=self.gateway.cancel,
            forms=BatchForms(lambda: self.services),
            filing=self.filing,
            config=self.config.batches,
            lane=self.vendor_lane,
            folder=self.uploads,
        )

    # The seams: one step each, so that whoever composes the program may stand between.

    def make_database(self) -> Database:
        """Open the database of the data folder.

        Raises:
            ConfigError: it is damaged, or not to be opened.
        """
        return open_database(
            self.config.data_dir,
            self.clock,
            patience_s=ORDER_PATIENCE_S,
            on_damage=self._stop_accepting,
            meter=self.metrics.commits,
        )

    def _stop_accepting(self, what: str) -> None:
        """Say what is damaged and where a backup is, and accept nothing more. For any thread."""
        data = self.config.data_dir
        log.critical(
            "the database is damaged: nothing is accepted or written any more; "
            "stop, keep a copy of the data folder and restore",
            extra={
                "file": str(data / address.DATABASE_FILE),
                "fault": what,
                "backup": backups.newest_backup(data),
            },
        )
        self.gateway.refuse_all()

    def make_store(self) -> BlobStore:
        """Open the blob store of the data folder.

        Raises:
            ConfigError: it cannot be set up.
        """
        storage = self.config.storage
        return open_store_at(
            self.store_url,
            self.config.data_dir,
            cache_bytes=storage.cache_bytes,
            patience=Patience(request_s=storage.request_timeout_s, total_s=storage.patience_s),
        )

    def make_pixels(self) -> PixelWorker:
        """Make the workers on pictures."""
        return PixelWorker()

    def make_upstream(self, name: str) -> Upstream:
        """Make the adapter of that name.

        Raises:
            ConfigError: there is none.
        """
        return load_upstream(name, self.clock)

    def make_engine(self) -> Engine:
        """Make the queues, in a file of the data folder or beside the books on Postgres."""
        config, url = self.config, address.chosen(os.environ)
        return DurableEngine(
            lambda: connecting.postgres(url) if url else connecting.sqlite_file(config.data_dir),
            owner=self.owner,
            handlers=self.handlers,
            dead=self._dead_among,
            clock=self.clock,
            widths={"jobs": config.queue.width(config.server.max_in_flight)},
            share=config.queue.customer_share,
            polls_s={"jobs": config.queue.poll_s},
            runs=config.queue.run,
            used=lambda: url is not None or connecting.is_there(config.data_dir),
        )

    async def _dead_among(self, owners: Collection[str]) -> set[str]:
        alive = self.processes.alive
        return await self.db.read(lambda tx: {one for one in owners if not alive(tx, one)})

    async def start(self) -> int:
        """Continue what dead processes left, then accept orders; return how many jobs."""
        await agree_on_store(self.parts, self.store_url)
        if self.store_url != store_address.FOLDER:
            store_address.note(self.config.data_dir, self.store_url)
        # Before the first row is leased to it; without a row it would count as dead.
        await self._beat()
        self._heart.run("heartbeat", self._beat, pause_s=self.processes.beat_s)
        await self._finish_restore()
        await self.upkeep.share()
        recovered = await self._recovery.take_page()
        self.gateway.accepting = True
        await self.upkeep.show()
        await self.engine.start()
        background = self._background
        background.run("look after queues", self.engine.look, pause_s=LOOK_S)
        background.run("sweep queue", self.queueing.sweep, pause_s=SWEEP_S, at_once=True)
        background.run("sweep batches", self.batching.sweep, pause_s=SWEEP_S, at_once=True)
        background.run("vendor batches", self.vendor_lane.sweep, pause_s=SWEEP_S, at_once=True)
        background.run("expire files", self.filing.sweep, pause_s=SWEEP_S, at_once=True)
        background.run("tell webhooks", self.notifying.watch, pause_s=COALESCE_S, at_once=True)
        background.run("take over", self._look, pause_s=LOOK_S)
        background.run("reap", self._reaper.look, pause_s=REAP_S)
        background.run("share limits", self.upkeep.share, pause_s=SHARE_S)
        background.run("show accounts", self.upkeep.show, pause_s=SHOW_S)
        background.run("persist", self.persisting.sweep, pause_s=PERSIST_S, at_once=True)
        background.run("retention", self.retention.sweep, pause_s=RETENTION_S, at_once=True)
        background.run("probe accounts", self.upkeep.probe, pause_s=self.config.pool.probe_s)
        background.run("give memory back", allocator.give_back, pause_s=allocator.GIVE_BACK_S)
        verify_s = self.config.billing.verify_s
        background.run("verify", self.auditor.round, pause_s=verify_s, at_once=True)
        return recovered

    async def _finish_restore(self) -> None:
        """On the first start after a restore, let nothing go on that was open in the backup."""
        origin = backups.read_origin(self.config.data_dir)
        if origin is None or origin.reconciled:
            return
        await release_open_jobs(self.parts, until_ms=origin.restored_at)
        backups.write_origin(self.config.data_dir, msgspec.structs.replace(origin, reconciled=True))

    async def _look(self) -> None:
        # Who drains must not begin what it will not finish: another process will.
        if self.gateway.accepting:
            uploads = self.services.spool_dir.parent
            await asyncio.to_thread(self.processes.files.remove_left, uploads)
            await self._recovery.look()

    async def _beat(self) -> None:
        await self.processes.beat(self.db)

    async def drain(self, seconds: float) -> int:
        """Begin nothing more, and give running jobs `seconds`; return how many are left."""
        self.gateway.accepting = False
        await self.administration.stop()
        _, left = await asyncio.gather(self.engine.pause(), self.gateway.drain(seconds))
        return left

    async def stop(self, drain_s: float) -> int:
        """Drain, then close everything; return how many jobs are left to other processes."""
        await self.observing.stop()
        await self._background.stop()
        left = await self.drain(drain_s)
        await self.observing.close()
        await self.engine.stop()
        with contextlib.suppress(Unavailable):
            await self.upkeep.leave()
        await self._heart.stop()
        with contextlib.suppress(Unavailable):
            await self.processes.retire(self.db)
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
