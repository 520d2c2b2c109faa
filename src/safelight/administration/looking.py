"""What operators look at: everybody's customers, keys, jobs, pictures, accounts, acts and plots.

Owns the reads that combine rooms for the admin API; SQL is the rooms'. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from safelight import (
    account_pauses,
    accounts,
    admin_acts,
    alerts,
    batches,
    browser_sessions,
    budgets,
    customers,
    image_lists,
    job_lists,
    jobs,
    ledger,
    series,
)
from safelight.account_pauses import Pause
from safelight.accounts import AccountBook, Limit, Standing, Tally
from safelight.admin_acts import Act
from safelight.alerts import Alert
from safelight.batches import BatchRow, Counts
from safelight.browser_sessions import Session
from safelight.clock import Clock
from safelight.config import Config
from safelight.customers import CustomerInfo, KeyInfo
from safelight.db import Database, Transaction
from safelight.errors import InvalidValue, NotFound
from safelight.gateway.orders import StatementPage
from safelight.gateway.reading import statement_page
from safelight.gateway.receipts import Receipt, read_receipt
from safelight.gateway.verification import known
from safelight.job_lists import JobFilter
from safelight.series import Point, Step
from safelight.types import Account, ImageRecord, Job

FIGURES_S, FIGURES_REST = 2.0, 20.0
"""How old figures of accounts may be that pages ask for again and again: so many seconds, and so
many times as long as it took to read them."""
FIGURES_MAX = 8
"""Spans of figures that are remembered."""
_STOPPED = ("paused", "refused", "exhausted", "down")
FINDINGS_MAX = 200

T = TypeVar("T")


class AccountEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One account of the configuration, the books or both."""

    name: str
    account: Account | None
    group: str | None
    tally: Tally
    standing: Standing | None
    limit: Limit | None
    pause: Pause | None


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """What the last verification came to. Times in milliseconds since 1970."""

    began_at: int | None
    ended_at: int | None
    findings: tuple[known.Standing, ...]


class Looking:
    """Reads for operators.

    Args:
        db: the database.
        clock: how old figures are.
        config: the accounts, and what is expected of them.
        pepper: the secret that aliases of accounts are made with.
    """

    def __init__(self, db: Database, clock: Clock, config: Config, pepper: bytes) -> None:
        self._db = db
        self._clock = clock
        self._config = config
        self._pepper = pepper
        self._figures: dict[float | None, tuple[AccountBook, float]] = {}

    async def _page(self, work: Callable[[Transaction], T]) -> T:
        try:
            return await self._db.read(work)
        except LookupError:
            message = "'after' must be an id that this list has shown."
            raise InvalidValue(message, param="after") from None

    # --- customers and keys ----------------------------------------------------------------------

    async def customer_page(
        self, *, search: str, after: str | None, limit: int
    ) -> tuple[list[CustomerInfo], bool]:
        """Return customers by name, and whether there are more."""
        found = await self._page(
            lambda tx: customers.page(tx, search=search, after=after, limit=limit + 1)
        )
        return found[:limit], len(found) > limit

    async def customer(self, customer_id: str) -> CustomerInfo:
        """Return a customer.

        Raises:
            NotFound: none has the id.
        """
        found = await self._db.read(lambda tx: customers.get(tx, customer_id))
        if found is None:
            raise no_customer(customer_id)
        return found

    async def names(self, customer_ids: Sequence[str]) -> dict[str, str]:
        """Return the names of customers by id."""
        return await self._db.read(lambda tx: customers.names_of(tx, customer_ids))

    async def key_page(
        self, *, customer_id: str | None, after: str | None, limit: int
    ) -> tuple[list[KeyInfo], bool]:
        """Return keys, oldest first, with their budgets, and whether there are more."""

        def look(tx: Transaction) -> list[KeyInfo]:
            found = customers.key_page(tx, customer_id=customer_id, after=after, limit=limit + 1)
            return [
                msgspec.structs.replace(one, budgets=budgets.states(tx, one.id)) for one in found
            ]

        found = await self._page(look)
        return found[:limit], len(found) > limit

    async def statement(
        self,
        customer_id: str,
        *,
        after: str | None,
        limit: int,
        from_s: int | None,
        to_s: int | None,
    ) -> StatementPage:
        """Return a page of a customer's statement.

        Raises:
            NotFound: no such customer.
        """

        def look(tx: Transaction) -> StatementPage:
            try:
                ledger.balance(tx, customer_id)
            except LookupError:
                raise no_customer(customer_id) from None
            return statement_page(
                tx, customer_id, after=after, limit=limit, from_s=from_s, to_s=to_s
            )

        return await self._db.read(look)

    async def key(self, key_id: str) -> KeyInfo | None:
        """Return a key with its budgets, in use or not, or None."""

        def look(tx: Transaction) -> KeyInfo | None:
            found = customers.get_key(tx, key_id)
            if found is None:
                return None
            return msgspec.structs.replace(found, budgets=budgets.states(tx, key_id))

        return await self._db.read(look)

    # --- work ------------------------------------------------------------------------------------

    async def job_page(
        self, customer_id: str | None, chosen: JobFilter, *, after: str | None, limit: int
    ) -> tuple[list[Job], bool]:
        """Return jobs, newest first, and whether there are more."""

        def look(tx: Transaction) -> tuple[list[Job], bool]:
            ids = job_lists.page(
                tx, customer_id, chosen, after=after, newest_first=True, limit=limit + 1
            )
            found = {job.id: job for job in jobs.among(tx, ids[:limit])}
            return [found[job_id] for job_id in ids[:limit]], len(ids) > limit

        return await self._page(look)

    async def job(self, job_id: str) -> Job:
        """Return anybody's job.

        Raises:
            NotFound: none has the id.
        """
        found = await self._db.read(lambda tx: jobs.get_job(tx, job_id))
        if found is None:
            raise no_job(job_id)
        return found

    async def receipt(self, job_id: str) -> Receipt:
        """Return all that is known of anybody's job.

        Raises:
            NotFound: none has the id.
        """
        found = await self._db.read(lambda tx: read_receipt(tx, job_id, pepper=self._pepper))
        if found is None:
            raise no_job(job_id)
        return found

    async def batch_page(
        self, customer_id: str | None, *, after: str | None, limit: int
    ) -> tuple[list[tuple[BatchRow, Counts]], bool]:
        """Return batches, newest first, and whether there are more."""
        found = await self._page(
            lambda tx: batches.page(tx, customer_id, after=after, limit=limit + 1)
        )
        return found[:limit], len(found) > limit

    async def batch(self, batch_id: str) -> tuple[BatchRow, Counts]:
        """Return anybody's batch.

        Raises:
            NotFound: none has the id.
        """

        def look(tx: Transaction) -> tuple[BatchRow, Counts] | None:
            row = batches.get(tx, batch_id)
            return None if row is None else (row, batches.counts(tx, row))

        found = await self._db.read(look)
        if found is None:
            raise NotFound(f"No batch has the id {batch_id!r}.", param="id")
        return found

    async def image_page(
        self, wanted: image_lists.Wanted, *, after: str | None, limit: int
    ) -> image_lists.Page:
        """Return pictures, newest first."""
        return await self._page(lambda tx: image_lists.page(tx, wanted, after=after, limit=limit))

    async def image(self, image_id: str) -> ImageRecord:
        """Return anybody's picture, gone or not.

        Raises:
            NotFound: none has the id.
        """
        found = await self._db.read(lambda tx: jobs.get_image(tx, image_id))
        if found is None:
            raise NotFound(f"No picture has the id {image_id!r}.", param="id")
        return found

    # --- accounts and plots ----------------------------------------------------------------------

    async def account_entries(self, *, since_s: float | None) -> list[AccountEntry]:
        """Return every account with its figures of the last `since_s` seconds; None: of all time.

        Figures may be a few seconds old; how an account stands is as its processes say now.
        """
        figures = await self._figures_of(since_s)

        def look(tx: Transaction) -> tuple[AccountBook, dict[str, Pause]]:
            return accounts.read(tx, since_s=0), account_pauses.all_pauses(tx)

        now, pauses = await self._db.read(look)
        configured = {account.name: account for account in self._config.accounts}
        known_names = {name for name, _ in figures.tallies} | set(now.standings) | set(pauses)
        return [
            _entry(name, configured.get(name), figures, now, pauses.get(name))
            for name in [*configured, *sorted(known_names - set(configured))]
        ]

    async def _figures_of(self, since_s: float | None) -> AccountBook:
        began = self._clock.monotonic()
        book, until = self._figures.get(since_s, (None, 0.0))
        if book is None or until <= began:
            book = await self._db.read(lambda tx: accounts.read(tx, since_s=since_s))
            now = self._clock.monotonic()
            if len(self._figures) >= FIGURES_MAX:
                self._figures.clear()
            self._figures[since_s] = book, now + FIGURES_S + FIGURES_REST * (now - began)
        return book

    async def capacity_per_minute(self) -> float | None:
        """Return how many images a minute the limits allow now; None: of a group none is known.

        Groups count whose accounts are not all paused, refused, without money or down.
        """
        now = await self._db.read(lambda tx: accounts.read(tx, since_s=0))
        limits: dict[str, float | None] = {}
        for account in self._config.accounts:
            standing = now.standing(account.name, account.group)
            if standing is None or standing.state in _STOPPED:
                continue
            limit = now.limits.get(account.group)
            stated = account.images_per_minute
            limits[account.group] = stated if limit is None else limit.images_per_minute
        known_limits = [one for one in limits.values() if one is not None]
        return sum(known_limits) if len(known_limits) == len(limits) else None

    async def account_names(self) -> set[str]:
        """Return the accounts that can be paused."""
        rows = await self._db.read(account_pauses.all_pauses)
        return {account.name for account in self._config.accounts} | set(rows)

    async def points(self, step: Step, *, from_s: int, to_s: int) -> list[Point]:
        """Return what happened in each step of a span.

        Raises:
            InvalidValue: there are too many steps.
        """
        try:
            return await self._db.read(lambda tx: series.read(tx, step, from_s=from_s, to_s=to_s))
        except series.TooMany as error:
            raise InvalidValue(
                f"This span has {error}. Ask for a shorter one, or for longer steps.",
                param="from",
                code="too_many_points",
            ) from None

    # --- the house -------------------------------------------------------------------------------

    async def books(self) -> Books:
        """Return what the last verification came to."""

        def look(tx: Transaction) -> Books:
            began_at, ended_at = known.last_run(tx)
            findings = tuple(known.standing(tx, limit=FINDINGS_MAX))
            return Books(began_at=began_at, ended_at=ended_at, findings=findings)

        return await self._db.read(look)

    async def alerts(
        self, *, standing: bool, after: str | None, limit: int
    ) -> tuple[list[Alert], bool]:
        """Return alerts: those that stand, or all, newest first; and whether there are more."""

        def look(tx: Transaction) -> list[Alert]:
            if standing:
                return alerts.current(tx)
            seen = None if after is None else alerts.get(tx, after)
            if after is not None and seen is None:
                raise LookupError(after)
            return alerts.history(tx, after=seen, limit=limit + 1)

        found = await self._page(look)
        return (found, False) if standing else (found[:limit], len(found) > limit)

    async def sessions(self) -> list[Session]:
        """Return the sessions that are not over."""
        return await self._db.read(browser_sessions.open_sessions)

    async def acts(
        self, *, subject: str | None, after: str | None, limit: int
    ) -> tuple[list[Act], bool]:
        """Return what was done, newest first, and whether there is more."""
        found = await self._page(
            lambda tx: admin_acts.page(tx, subject=subject, after=after, limit=limit + 1)
        )
        return found[:limit], len(found) > limit


def _entry(
    name: str,
    account: Account | None,
    figures: AccountBook,
    now: AccountBook,
    pause: Pause | None,
) -> AccountEntry:
    group = account.group if account else figures.groups.get(name)
    standing = now.standing(name, group)
    return AccountEntry(
        name=name,
        account=account,
        group=group,
        tally=figures.of_account(name),
        standing=standing,
        limit=now.limits.get(group or ""),
        pause=pause,
    )


def no_customer(customer_id: str) -> NotFound:
    """Return that there is no such customer."""
    return NotFound(f"No customer has the id {customer_id!r}.", param="id")


def no_job(job_id: str) -> NotFound:
    """Return that there is no such job."""
    return NotFound(f"No job has the id {job_id!r}.", param="id")
