"""What the operator does with customers' pictures: purges them, has them carried elsewhere.

Owns these verbs of the office; `office.py` opens the data folder and owns customers, keys and
money. Beside a running server everything here holds as well.
"""

from __future__ import annotations

import secrets

import msgspec

from safelight import customers, destinations, lifetimes, removals
from safelight.clock import Clock
from safelight.db import Database, Transaction
from safelight.destinations import Destination
from safelight.gateway.persisting import check_template, check_variable
from safelight.gateway.removing import PAGE, remove_page
from safelight.office_acting import COMMAND, Acting, Actor, Note
from safelight.storage import BlobStore, address


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge has done: `left` blobs are removed by the next server that runs."""

    pictures: int
    inputs: int
    removed: int
    left: int


class DestinationState(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's bucket, and how many pictures wait for it or could not be carried."""

    customer: str
    url: str
    credentials_env: str
    key_template: str
    every_picture: bool
    waiting: int
    failed: int


class OfficePictures(Acting):
    """The pictures of one data folder.

    Args:
        db: the database.
        store: the pictures.
        clock: measures how long a removal takes.
        actor: who acts.
    """

    def __init__(
        self, db: Database, store: BlobStore, clock: Clock, actor: Actor = COMMAND
    ) -> None:
        super().__init__(db, actor)
        self._store = store
        self._clock = clock

    async def purge(self, customer: str) -> Purged:
        """Delete all pictures of a customer, pinned ones too, and the inputs of ended orders.

        Raises:
            LookupError: no such customer.
        """

        def page(tx: Transaction) -> tuple[list[str], list[str]]:
            customer_id = customers.customer_named(tx, customer)
            pictures = lifetimes.purge(tx, customer_id, limit=PAGE)
            inputs = [] if len(pictures) == PAGE else lifetimes.purge_inputs(tx, customer_id)
            originals = lifetimes.originals_of_deleted(tx, pictures)
            removals.want(tx, [*pictures, *originals, *inputs])
            return pictures, inputs

        def first_page(tx: Transaction, note: Note) -> tuple[list[str], list[str]]:
            customer_id = customers.customer_named(tx, customer)
            note.before, note.after = f"{lifetimes.count(tx, customer_id)} pictures", "none"
            return page(tx)

        some, inputs = await self._act("pictures.purge", customer, first_page)
        pictures, removed = len(some), 0
        while len(some) == PAGE:
            some, inputs = await self._db.write(page)
            pictures += len(some)
        more = True
        while more:
            mark = f"rm_{secrets.token_hex(12)}"
            done, more = await remove_page(self._db, self._store, self._clock, mark=mark)
            removed += done
        wanted = await self._db.read(lambda tx: len(removals.due(tx, limit=1_000_000)))
        return Purged(pictures=pictures, inputs=len(inputs), removed=removed, left=wanted)

    async def end_links(self, customer: str) -> None:
        """End every link of a customer that was signed until now; the pictures stay.

        Raises:
            LookupError: no such customer.
        """
        await self._db.write(
            lambda tx: customers.raise_link_epoch(tx, customers.customer_named(tx, customer))
        )

    async def set_destination(
        self, customer: str, url: str, *, credentials_env: str, key_template: str, every: bool
    ) -> DestinationState:
        """Have a customer's pictures carried to a bucket of its own.

        Raises:
            LookupError: no such customer.
            ConfigError: the address or the template cannot be used.
        """
        check_template(key_template)
        check_variable(credentials_env)
        spelled = str(address.parse(url, named="the destination"))

        def work(tx: Transaction, note: Note) -> None:
            note.after = spelled
            destinations.put(
                tx,
                Destination(
                    customer_id=customers.customer_named(tx, customer),
                    url=spelled,
                    credentials_env=credentials_env,
                    key_template=key_template,
                    every_picture=every,
                ),
            )

        await self._act("destination.set", customer, work)
        return next(one for one in await self.destinations() if one.customer == customer)

    async def remove_destination(self, customer: str) -> bool:
        """Carry a customer's pictures nowhere any more; False: they were not.

        Raises:
            LookupError: no such customer.
        """
        return await self._act(
            "destination.remove",
            customer,
            lambda tx, _note: destinations.remove(tx, customers.customer_named(tx, customer)),
        )

    async def destinations(self) -> list[DestinationState]:
        """Return every customer's bucket."""
        found = await self._db.read(destinations.all_destinations)
        return [
            DestinationState(
                customer=name,
                url=one.url,
                credentials_env=one.credentials_env,
                key_template=one.key_template,
                every_picture=one.every_picture,
                waiting=waiting,
                failed=failed,
            )
            for name, one, waiting, failed in found
        ]
