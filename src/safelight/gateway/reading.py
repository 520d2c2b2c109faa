"""Questions to the gateway: who is this, how is that job, what is on the statement.

Owns the reads that combine rooms (statement lines are transfers with what their jobs know). Changes
nothing.
"""

from __future__ import annotations

import msgspec

from safelight import budgets, customers, job_lists, jobs, ledger
from safelight.clock import Clock
from safelight.db import Database, Row, Transaction
from safelight.errors import AuthenticationFailed, InvalidValue, NotFound
from safelight.gateway.orders import JobPage, StatementPage
from safelight.gateway.receipts import Receipt, read_receipt
from safelight.job_lists import JobFilter
from safelight.types import (
    Balance,
    Identity,
    ImageRecord,
    Job,
    KeyBalance,
    SizePlan,
    StatementLine,
)

KEY_CACHE_S = 1.0
"""A revoked key is refused at most this much later."""
KEY_CACHE_MAX = 10_000


class Reading:
    """The gateway's answers to questions."""

    def __init__(self, db: Database, clock: Clock, pepper: bytes) -> None:
        self._db = db
        self._clock = clock
        self._pepper = pepper
        self._known_keys: dict[bytes, tuple[Identity, float]] = {}

    async def authenticate(self, raw_key: str) -> Identity:
        """Return who a key speaks for.

        Raises:
            AuthenticationFailed: one answer for every key that is not valid.
        """
        if not customers.well_formed(raw_key):
            raise customers.refused()
        digest = customers.digest(raw_key, self._pepper)
        now = self._clock.monotonic()
        identity, until = self._known_keys.get(digest, (None, 0.0))
        if identity is None or until <= now:
            try:
                identity = await self._db.read(lambda tx: customers.authenticate(tx, digest))
            except AuthenticationFailed:
                self._known_keys.pop(digest, None)
                raise
            if len(self._known_keys) >= KEY_CACHE_MAX:
                self._known_keys.clear()
            self._known_keys[digest] = (identity, now + KEY_CACHE_S)
        return identity

    async def job(self, customer_id: str, job_id: str) -> Job:
        """Return a customer's job.

        Raises:
            NotFound: no such job, or another customer's.
        """
        job = await self._db.read(lambda tx: jobs.get_job(tx, job_id))
        if job is None or job.customer_id != customer_id:
            raise NotFound(f"No job has the id {job_id!r}.", param="id")
        return job

    async def job_page(
        self,
        customer_id: str,
        chosen: JobFilter,
        *,
        after: str | None,
        newest_first: bool,
        limit: int,
    ) -> JobPage:
        """Return a customer's jobs in the order of their acceptance.

        Args:
            customer_id: whose.
            chosen: which of them.
            after: id of the last job already seen.
            newest_first: whether to go back in time.
            limit: most jobs to return.

        Raises:
            InvalidValue: `after` is no job of this customer.
        """

        def page(tx: Transaction) -> JobPage:
            ids = job_lists.page(
                tx, customer_id, chosen, after=after, newest_first=newest_first, limit=limit + 1
            )
            found = {job.id: job for job in jobs.among(tx, ids[:limit])}
            return JobPage(tuple(found[job_id] for job_id in ids[:limit]), len(ids) > limit)

        try:
            return await self._db.read(page)
        except LookupError:
            message = "'after' must be the id of one of your jobs."
            raise InvalidValue(message, param="after") from None

    async def receipt(self, customer_id: str, job_id: str) -> Receipt:
        """Return all that is known of a customer's job; what the customer sees of it is less.

        Raises:
            NotFound: no such job, or another customer's.
        """
        found = await self._db.read(lambda tx: read_receipt(tx, job_id, pepper=self._pepper))
        if found is None or found.job.customer_id != customer_id:
            raise NotFound(f"No job has the id {job_id!r}.", param="id")
        return found

    async def image(self, image_id: str) -> ImageRecord:
        """Return an image of any customer; callers check who may see it.

        Raises:
            NotFound: no such image, or not any more.
        """
        image = await self._db.read(lambda tx: jobs.get_image(tx, image_id))
        if image is None or image.deleted_at is not None:
            raise NotFound("No image has this id, or its link has expired.")
        return image

    async def balance(self, customer_id: str) -> Balance:
        """Return what a customer has, what is held, and what can be spent."""
        return await self._db.read(lambda tx: ledger.balance(tx, customer_id))

    async def key_balance(self, identity: Identity) -> KeyBalance:
        """Return the money of a key's customer, with the budgets of the key."""

        def look(tx: Transaction) -> KeyBalance:
            money = ledger.balance(tx, identity.customer_id)
            states = budgets.states(tx, identity.key_id)
            return KeyBalance(**msgspec.structs.asdict(money), budgets=states)

        return await self._db.read(look)

    async def statement(
        self,
        customer_id: str,
        *,
        after: str | None,
        limit: int,
        from_s: int | None,
        to_s: int | None,
    ) -> StatementPage:
        """Return statement lines, oldest first.

        Args:
            customer_id: whose.
            after: id of the last line already seen.
            limit: most lines to return.
            from_s: inclusive lower bound, unix seconds.
            to_s: exclusive upper bound, unix seconds.

        Raises:
            InvalidValue: `after` is no line of this statement.
        """

        def page(tx: Transaction) -> StatementPage:
            return statement_page(
                tx, customer_id, after=after, limit=limit, from_s=from_s, to_s=to_s
            )

        return await self._db.read(page)


def statement_page(
    tx: Transaction,
    customer_id: str,
    *,
    after: str | None,
    limit: int,
    from_s: int | None = None,
    to_s: int | None = None,
) -> StatementPage:
    """Read one page of a statement (see `Reading.statement`)."""
    try:
        rows = ledger.transfers(
            tx,
            customer_id,
            after=after,
            limit=limit + 1,
            from_ms=None if from_s is None else from_s * 1000,
            to_ms=None if to_s is None else to_s * 1000,
        )
    except LookupError:
        raise InvalidValue(
            "'after' must be the id of a line of this statement.", param="after"
        ) from None
    shown = rows[:limit]
    details = jobs.statement_details(tx, [row["job_id"] for row in shown if row["job_id"]])
    lines = tuple(_line(row, details.get(row["job_id"] or "")) for row in shown)
    return StatementPage(lines=lines, has_more=len(rows) > limit)


def _line(transfer: Row, job: Row | None) -> StatementLine:
    plan = None if job is None else msgspec.json.decode(job["size_plan"], type=SizePlan)
    size = None
    if job is not None:
        # What was delivered, measured; for a free line what was asked.
        size = f"{job['width']}x{job['height']}" if job["width"] else job["size"]
    return StatementLine(
        id=transfer["id"],
        created_at=transfer["created_at"] // 1000,
        kind=transfer["kind"],
        job_id=transfer["job_id"],
        request_id=None if job is None else job["request_id"],
        channel=None if job is None else job["channel"],
        size=size,
        size_plan=None if plan is None else plan.describe(),
        amount_micros=ledger.signed_amount(transfer),
        balance_micros=transfer["balance_micros"],
        reason=transfer["reason"],
        image_sha256=None if job is None else job["digest"],
        attempts=None if job is None else job["attempts"],
    )
