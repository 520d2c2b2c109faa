"""Watching one process: what /metrics shows beyond the counts, alerts, the prober, traces.

Owns the reading of gauges and of conditions from the parts of a running gateway, and the work that
goes on beside the orders to watch them. Made by the composition root; started by whoever serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import time
from collections.abc import Iterator

from safelight import __version__, alerts, ledger, tracing
from safelight.api.scrapes import Scrapes
from safelight.clock import Clock
from safelight.config import Config
from safelight.db import Transaction
from safelight.errors import StorageError, Unavailable
from safelight.gateway import Gateway
from safelight.gateway.alert_messages import SEND_S, AlertMessages
from safelight.gateway.alerting import REFUSED_S, Alerting, Condition
from safelight.gateway.background import Background
from safelight.gateway.notes import Notes
from safelight.gateway.parts import Parts
from safelight.gateway.probing import Prober
from safelight.keyring import Keyring
from safelight.links import Links
from safelight.metrics import Metrics, catalogue, exposition
from safelight.metrics.exposition import Sample
from safelight.pool import AccountView, Need, Nothing

LAG_S = 0.5
"""How often the event loop's lateness is measured."""
DISK_S = 10.0
"""How often the free space is looked at for the alerts."""
STATES = ("in_use", "cooling", "out", "paused")
"""What an account's state means for its use; the pool's own words are finer."""
_USE = {"ready": "in_use", "returning": "in_use", "cooling": "cooling", "paused": "paused"}
DISK_FACTOR = 2
"""The operator is told when so many times the space is left below which orders are refused."""


def make_notes(config: Config, metrics: Metrics, clock: Clock, keyring: Keyring) -> Notes:
    """Return what notes the ends of jobs for a process.

    Raises:
        ConfigError: traces are on, and their extra is not installed.
    """
    watch = config.watch
    traces = tracing.open_traces(watch.traces.endpoint, watch.traces.sample, __version__, clock)
    return Notes(metrics, clock, logs=watch.logs, prompt_key=keyring.prompt_key(), traces=traces)


class Observing:
    """Watches one process.

    Args:
        config: everything.
        parts: rooms below.
        gateway: what runs and waits.
        links: signs for the prober.
        owner: this process's name.
    """

    def __init__(
        self, config: Config, parts: Parts, gateway: Gateway, links: Links, *, owner: str
    ) -> None:
        watch = config.watch
        self._config = config
        self._parts = parts
        self._gateway = gateway
        self._background = Background()
        self._free_bytes: int | None = None
        self._started = False
        self._alerting = Alerting(parts, watch.alerts, owner=owner, see=self.conditions)
        self._messages = (
            AlertMessages(parts, watch.alerts.webhook_url, watch.alerts_secret)
            if watch.alerts_secret is not None
            else None
        )
        self._prober = Prober(parts, links, config.server.public_url, watch.prober)
        if watch.prober.enabled:
            parts.notes.on_picture = self._prober.note
        self.scrapes = Scrapes(watch, self.text, alone=config.server.workers == 1)

    def start(self) -> None:
        """Begin to watch."""
        self._started = True
        watch, run = self._config.watch, self._background.run
        run("measure lag", self._measure_lag, pause_s=0.0)
        run("look at the disk", self._look_at_disk, pause_s=DISK_S, at_once=True)
        if watch.alerts.enabled:
            run("look for alerts", self._alerting.look, pause_s=watch.alerts.every_s)
            if self._messages is not None:
                run("tell alerts", self._messages.send_due, pause_s=SEND_S)
        if watch.prober.enabled:
            run("probe links", self._prober.round, pause_s=watch.prober.every_s)

    async def stop(self) -> None:
        """Watch no more."""
        await self._background.stop()
        if self._started and self._config.watch.alerts.enabled:
            self._started = False
            with contextlib.suppress(Unavailable):
                await self._alerting.leave()

    async def close(self) -> None:
        """Send the traces that are left; after the last job has ended."""
        if self._parts.notes.traces is not None:
            await asyncio.to_thread(self._parts.notes.traces.close)

    async def _measure_lag(self) -> None:
        began = time.perf_counter()
        await asyncio.sleep(LAG_S)
        late = time.perf_counter() - began - LAG_S
        self._parts.notes.metrics.loop_lag.observe(max(0.0, late))

    async def _look_at_disk(self) -> None:
        try:
            self._free_bytes = await self._parts.storage.free_bytes()
        except (StorageError, OSError):
            self._free_bytes = None

    # --- gauges ----------------------------------------------------------------------------------

    async def text(self, accept: str) -> tuple[str, bytes]:
        """Return everything that is counted and seen now: content type and text."""
        gauges = [*self._of_process(), *self._of_pool(), *await self._of_books()]
        return exposition.write(self._parts.notes.metrics, gauges, accept)

    def _of_process(self) -> Iterator[Sample]:
        metrics = self._parts.notes.metrics
        yield Sample(catalogue.BUILD, 1, (__version__, platform.python_version()))
        yield Sample(catalogue.JOBS_IN_FLIGHT, self._gateway.running)
        yield Sample(catalogue.JOBS_WAITING, self._gateway.waiting)
        if self._free_bytes is not None:
            yield Sample(catalogue.BLOB_FREE, self._free_bytes)
        for family, window in (
            (catalogue.GENERATION_MEAN, metrics.recent_generation),
            (catalogue.VISIBLE_RATIO, metrics.recent_visible),
            (catalogue.HIDDEN_RATIO, metrics.recent_hidden),
            (catalogue.DOWNLOAD_RATIO, metrics.recent_downloads),
        ):
            value = window.ratio()
            if value is not None:
                yield Sample(family, value)

    def _of_pool(self) -> Iterator[Sample]:
        pool = self._parts.pool
        now = self._parts.clock.monotonic()
        for view in pool.views():
            name = view.account.name
            in_use = use_of(view)
            for state in STATES:
                yield Sample(catalogue.ACCOUNT_STATE, float(state == in_use), (name, state))
            yield Sample(catalogue.ACCOUNT_IN_FLIGHT, view.in_flight, (name,))
        for group, limiter in pool.limiters.items():
            if limiter.images_per_minute is not None:
                yield Sample(catalogue.GROUP_LIMIT, limiter.images_per_minute, (group,))
            yield Sample(catalogue.GROUP_SENT, limiter.sent(now), (group,))
        for endpoint, down in pool.endpoints_down().items():
            yield Sample(catalogue.ENDPOINT_DOWN, float(down), (endpoint,))

    async def _of_books(self) -> list[Sample]:
        """Return what the rows say; nothing while the database is away."""

        def look(tx: Transaction) -> tuple[int, list[str]]:
            return ledger.held_of_all(tx), [one.rule for one in alerts.current(tx)]

        try:
            held, rules = await self._parts.db.read(look)
        except Unavailable:
            return []
        found = [Sample(catalogue.HELD, held)]
        return found + [
            Sample(catalogue.ALERTS, rules.count(rule), (rule,)) for rule in sorted(set(rules))
        ]

    # --- conditions ------------------------------------------------------------------------------

    def conditions(self) -> Iterator[Condition]:
        """Yield what is wrong here, besides shares and rows."""
        for view in self._parts.pool.views():
            if use_of(view) == "out":
                words = f"the account is out: {view.state} ({view.reason})"
                yield Condition("account_out", view.account.name, words)
        for channel in self._config.channels:
            if isinstance(self._parts.pool.forecast(Need(channel)), Nothing):
                yield Condition("channel_unserved", channel, "no account can serve the channel")
        least = self._config.storage.min_free_bytes
        if self._free_bytes is not None and self._free_bytes < DISK_FACTOR * least:
            words = f"{self._free_bytes} bytes are free; below {least} no new work is accepted"
            yield Condition("disk_low", "", words)
        refused_s = self._parts.clock.monotonic() - self._parts.notes.metrics.commits.refused_at
        if refused_s < REFUSED_S:
            yield Condition("database_refused", "", "the database has refused writes")
        for channel, account in self._parts.margins.below():
            words = "the margin is below [pool] margin_alarm"
            yield Condition("margin_low", f"{channel} {account}", words)
        if self._config.watch.prober.enabled and self._prober.down:
            yield Condition("prober_down", "", "nothing answers at [server] public_url")


def use_of(view: AccountView) -> str:
    """Return what an account's state means for its use."""
    return _USE.get(view.state, "out")
