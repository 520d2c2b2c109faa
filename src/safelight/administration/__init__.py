"""Administration: what the admin API may see and do, and who may.

Puts the rooms of operators together for one server process: `doors` lets people in, `looking`
reads, `deeds` acts in somebody's name, `feed` tells what changes, `system` what runs. Knows no
HTTP; roles stand in the table of routes.
"""

from __future__ import annotations

from safelight.admin_acts import Actor
from safelight.administration import system
from safelight.administration.deeds import Deeds, Rooms
from safelight.administration.doors import Doors
from safelight.administration.feed import Feed
from safelight.administration.looking import Looking
from safelight.administration.verifying import Verifying
from safelight.clock import Clock
from safelight.config import Config
from safelight.gateway import Gateway
from safelight.gateway.parts import Parts
from safelight.gateway.retention import Retention
from safelight.gateway.verification.auditor import Auditor
from safelight.office_customers import OfficeCustomers
from safelight.office_money import OfficeMoney
from safelight.office_watch import OfficeWatch

__all__ = ["Administration", "Deeds", "Doors", "Feed", "Looking"]


class Administration:
    """The operators' side of one process.

    Args:
        parts: rooms below.
        gateway: cancels jobs, and knows customers' keys.
        retention: keeps and deletes pictures.
        auditor: verifies.
        config: the operator's file.
        pepper: the secret under which keys are stored.
    """

    def __init__(
        self,
        parts: Parts,
        gateway: Gateway,
        *,
        retention: Retention,
        auditor: Auditor,
        config: Config,
        pepper: bytes,
    ) -> None:
        self._rooms = Rooms(parts.db, gateway, retention, auditor)
        self._parts = parts
        self._config = config
        self._pepper = pepper
        self._started_ms = parts.clock.now_ms()
        self._sizes = system.FolderSizes(config.data_dir, parts.clock)
        self.clock: Clock = parts.clock
        self.doors = Doors(parts.db, parts.clock, pepper, gateway.authenticate)
        self.looking = Looking(parts.db, parts.clock, config, pepper)
        self.feed = Feed(parts.db)
        self.verifying = Verifying()

    def acting_as(self, actor: Actor) -> Deeds:
        """Return what `actor` may do, each deed noted in that name."""
        db, store = self._parts.db, self._parts.storage
        return Deeds(
            self._rooms,
            actor,
            customers=OfficeCustomers(db, self._pepper, actor),
            money=OfficeMoney(db, actor),
            watch=OfficeWatch(db, store, self._parts.clock, actor),
        )

    async def system(self) -> system.SystemState:
        """Return what runs here."""
        return await system.look(
            db=self._parts.db,
            store=self._parts.storage,
            config=self._config,
            clock=self._parts.clock,
            sizes=self._sizes,
            commits=self._parts.notes.metrics.commits.seconds,
            started_ms=self._started_ms,
            gateway=self._rooms.gateway,
        )

    async def stop(self) -> None:
        """Tell watchers that nothing comes any more, and end what operators have begun."""
        await self.feed.stop()
        await self.verifying.stop()
