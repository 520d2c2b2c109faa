"""Books of any size, as the gateway would have left them: rows, sums and hash chains.

Owns the rows of ended and of queued jobs, written into an SQLite file whose schema and customers
are there. They are written set by set, without the indexes, which are made anew behind them: a
million jobs take about two minutes. `verify` finds nothing wrong with them. Of pictures only the
rows are there: their time is over, and their bytes are gone.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from safelight import ledger
from safelight.types import ImageRequest, JobFailure, Operation, PlanMethod, SizePlan

CHANNEL, OTHER_CHANNEL = "gpt-image-2-vip", "gpt-image-2-all"
ROUTE = "/v1/images/generations"
PRICE_MICROS = 30_000
CREDIT_MICROS = 10**12
SPACING_MS = 25_000
"""Between two jobs: a million of them are ten months."""
REST_MS = 25 * 3_600_000
"""Between the newest ended job and now: the time of its picture is over."""
REMEMBERED_MS = 7 * 86_400_000
"""So long it is remembered that the bytes of a picture were removed (`removals.KEEP_MS`)."""
CHUNK = 10_000
OTHER_SHARE, FAILED_SHARE, RETRIED_SHARE = 0.06, 0.08, 0.05

_ORDER = ImageRequest(
    operation=Operation.GENERATION, channel=CHANNEL, prompt="a lamp on a table", size="1024x1024"
)
_PLAN = SizePlan(
    width=1024, height=1024, method=PlanMethod.NATIVE, canvas_width=1024, canvas_height=1024
)
_FAILURE = JobFailure(
    status=503, type="server_error", code="upstream_stalled", message="The upstream stalled."
)
_ACTOR = "gateway"

Progress = Callable[[str], None]
Values = dict[str, Any]


@dataclass
class _Purse:
    """A customer's side of the ledger, as it stands while rows are made."""

    customer: str
    key: str
    posted: int = CREDIT_MICROS
    held: int = 0
    chain: bytes = ledger.GENESIS
    latest_at: int = 0


@dataclass
class Books:
    """What was written, for whoever measures on it.

    Args:
        customers: ids, the big one first: every second job is its.
        keys: of each customer one, in the same order.
        jobs: how many ended jobs there are.
        queued: how many wait.
        newest: ids of some ended jobs of the big customer, oldest first, over the whole time.
        began_ms: when the first job was accepted, milliseconds since 1970.
        ended_ms: when the last one was.
    """

    customers: list[str]
    keys: list[str]
    jobs: int
    queued: int
    newest: list[str] = field(default_factory=list)
    began_ms: int = 0
    ended_ms: int = 0


def write(
    file: Path,
    *,
    jobs: int,
    customers: int,
    accounts: int,
    queued: int = 0,
    now_ms: int,
    seed: int = 1,
    progress: Progress = lambda _: None,
) -> Books:
    """Fill a migrated SQLite file that has no rows and that nobody else has open.

    Args:
        file: the database.
        jobs: ended jobs.
        customers: how many; each has one key and more money than it spends.
        accounts: over which the attempts are spread.
        queued: jobs that wait for a process.
        now_ms: the present, milliseconds since 1970.
        seed: of ids and choices.
        progress: told what is done.
    """
    maker = _Maker(jobs, customers, accounts, now_ms, random.Random(seed))  # noqa: S311 - no secret
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        # Nothing of this needs to survive a crash: the file is made for this run.
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-400000")
        indexes = _take_indexes(connection)
        for done, rows in _counted(maker.ended(), CHUNK):
            _insert(connection, rows)
            progress(f"{done} of {jobs} jobs")
        for _, rows in _counted(maker.queued(queued), CHUNK):
            _insert(connection, rows)
        _insert(connection, list(maker.ends()))
        progress("indexes")
        connection.execute("BEGIN")
        for sql in indexes:
            connection.execute(sql)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
    return Books(
        customers=[purse.customer for purse in maker.purses],
        keys=[purse.key for purse in maker.purses],
        jobs=jobs,
        queued=queued,
        newest=maker.seen,
        began_ms=maker.began_ms,
        ended_ms=now_ms - REST_MS,
    )


Row = tuple[str, Values]


class _Maker:
    """Makes rows, oldest first; each is the name of its table and its values."""

    def __init__(
        self, jobs: int, customers: int, accounts: int, now_ms: int, rng: random.Random
    ) -> None:
        self._jobs = jobs
        self._accounts = accounts
        self._now_ms = now_ms
        self._rng = rng
        self.began_ms = now_ms - REST_MS - jobs * SPACING_MS
        self.purses = [_Purse(f"cus_{at:08x}", f"key_{at:08x}") for at in range(customers)]
        self.seen: list[str] = []
        self._fixed = {
            channel: msgspec.json.encode(msgspec.structs.replace(_ORDER, channel=channel)).decode()
            for channel in (CHANNEL, OTHER_CHANNEL)
        }
        self._plan = msgspec.json.encode(_PLAN).decode()
        self._failure = msgspec.json.encode(_FAILURE).decode()

    def ended(self) -> Iterator[list[Row]]:
        """Yield the rows of each ended job; before the first one those of the customers."""
        yield list(self._begin())
        for number in range(self._jobs):
            yield list(self._ended(number))

    def queued(self, count: int) -> Iterator[list[Row]]:
        """Yield the rows of each job that waits."""
        for number in range(count):
            yield list(self._queued(number, count))

    def ends(self) -> Iterator[Row]:
        """Yield what the customers have at the end."""
        for purse in self.purses:
            yield (
                "balance",
                {
                    "customer_id": purse.customer,
                    "posted_micros": purse.posted,
                    "held_micros": purse.held,
                    "chain": purse.chain,
                    "latest_at": purse.latest_at,
                },
            )

    def _begin(self) -> Iterator[Row]:
        at = self.began_ms - 1000
        for number, purse in enumerate(self.purses):
            named = {"name": f"customer {number}", "created_at": at}
            yield "customer", {"id": purse.customer, **named}
            yield (
                "api_key",
                {
                    "id": purse.key,
                    "customer_id": purse.customer,
                    "digest": self._rng.randbytes(32),
                    "last4": "0000",
                    **named,
                },
            )
            yield self._transfer(
                purse,
                at,
                id=self._id("tr"),
                kind="topup",
                debit=ledger.FUNDING,
                credit=purse.customer,
                amount_micros=CREDIT_MICROS,
                actor="bench",
                reason="credit",
            )

    def _purse(self, number: int) -> _Purse:
        """Return whose a job is: every second one the big customer's, the rest in turns."""
        others = len(self.purses) - 1
        return self.purses[0 if number % 2 == 0 or not others else 1 + number // 2 % others]

    def _ended(self, number: int) -> Iterator[Row]:
        purse = self._purse(number)
        at = self.began_ms + number * SPACING_MS
        failed = self._rng.random() < FAILED_SHARE
        retried = failed or self._rng.random() < RETRIED_SHARE
        job = self._job(purse, at)
        job |= {
            "state": "failed" if failed else "completed",
            "stage": "sent" if failed else "settled",
            "started_at": at + 4,
            "completed_at": at + 40_000,
            "attempts": 1 + retried,
            "failure": self._failure if failed else None,
            "delivered_at": None if failed else at + 40_100,
            "image_id": None if failed else f"{self._rng.getrandbits(128):032x}",
        }
        if purse is self.purses[0] and number % max(2, self._jobs // 1000 * 2) == 0:
            self.seen.append(job["id"])
        yield from self._accepted(purse, job, at)
        digest = self._rng.randbytes(32).hex()
        for k in range(1, 2 + retried):
            good = not failed and k == job["attempts"]
            yield self._attempt(job, k, at + 4 + 20_000 * (k - 1), digest if good else None)
        yield self._resolution(purse, job)
        if not failed:
            yield from self._picture(job, digest)

    def _queued(self, number: int, count: int) -> Iterator[Row]:
        purse = self._purse(number)
        at = self._now_ms - REST_MS // 2 - (count - number) * 10
        job = self._job(purse, at)
        job |= {"state": "queued", "lease_owner": None, "job_class": "job"}
        job["deadline_at"] = self._now_ms + 86_400_000
        yield from self._accepted(purse, job, at)

    def _job(self, purse: _Purse, at: int) -> Values:
        channel = OTHER_CHANNEL if self._rng.random() < OTHER_SHARE else CHANNEL
        return {
            "id": self._id("job"),
            "request_id": self._id("req"),
            "customer_id": purse.customer,
            "key_id": purse.key,
            "n": 0,
            "channel": channel,
            "size": _ORDER.size,
            "request": self._fixed[channel],
            "size_plan": self._plan,
            "price_micros": PRICE_MICROS,
            "reserve_id": self._id("tr"),
            "epoch": 1,
            "deadline_at": at + 300_000,
            "created_at": at,
            "budget_day": datetime.fromtimestamp(at / 1000, UTC).date().isoformat(),
        }

    def _accepted(self, purse: _Purse, job: Values, at: int) -> Iterator[Row]:
        yield (
            "request",
            {
                "id": job["request_id"],
                "customer_id": purse.customer,
                "key_id": purse.key,
                "route": ROUTE,
                "fingerprint": self._rng.randbytes(32),
                "retry_count": 0,
                "attached_until": at + 600_000,
                "n": 1,
                "created_at": at,
                "delivered_at": job.get("delivered_at"),
            },
        )
        purse.held += PRICE_MICROS
        yield self._transfer(
            purse,
            at,
            id=job["reserve_id"],
            kind="reserve",
            debit=purse.customer,
            credit=ledger.REVENUE,
            amount_micros=PRICE_MICROS,
            job_id=job["id"],
            actor=f"key:{purse.key}",
            reason="price held",
        )
        yield "job", job

    def _attempt(self, job: Values, k: int, at: int, digest: str | None) -> Row:
        account = self._rng.randrange(self._accounts)
        return (
            "attempt",
            {
                "job_id": job["id"],
                "epoch": 1,
                "k": k,
                "account": f"account-{account}",
                "limiter_group": f"group-{account % GROUPS_MAX}",
                "sent_at": at,
                "ended_at": at + 19_000,
                "outcome": "ok" if digest else "slow",
                "sold": 1 if digest else None,
                "settled": 1 if digest else 0,
                "upstream_request_id": job["request_id"],
                "digest": digest,
                "bytes": 2_000_000 if digest else None,
                "channel": job["channel"],
                "price_micros": PRICE_MICROS,
            },
        )

    def _resolution(self, purse: _Purse, job: Values) -> Row:
        charged = job["image_id"] is not None
        purse.held -= PRICE_MICROS
        purse.posted -= PRICE_MICROS if charged else 0
        parties = (purse.customer, ledger.REVENUE)
        debit, credit = parties if charged else reversed(parties)
        return self._transfer(
            purse,
            # Its end, but not after the next job's acceptance: rows come in the order of time.
            job["created_at"] + 1,
            id=self._id("tr"),
            kind="settle" if charged else "release",
            debit=debit,
            credit=credit,
            amount_micros=PRICE_MICROS,
            reserve_id=job["reserve_id"],
            job_id=job["id"],
            actor=_ACTOR,
            reason="image delivered" if charged else "upstream_stalled",
        )

    def _picture(self, job: Values, digest: str) -> Iterator[Row]:
        at = job["completed_at"]
        gone_at = at + 86_400_000
        yield (
            "image",
            {
                "id": job["image_id"],
                "job_id": job["id"],
                "customer_id": job["customer_id"],
                "digest": digest,
                "bytes": 2_000_000,
                "format": "png",
                "width": 1024,
                "height": 1024,
                "has_alpha": 0,
                "link_ttl_s": 86_400,
                "created_at": at,
                "expires_at": gone_at,
                "deleted_at": gone_at,
                "deleted_reason": "expired",
            },
        )
        if gone_at > self._now_ms - REMEMBERED_MS:
            mark = self._id("rm")
            removed = {"digest": digest, "state": "over", "mark": mark, "changed_at": gone_at}
            yield "blob_removal", removed

    def _transfer(self, purse: _Purse, at: int, **values: Any) -> Row:
        row = {
            "reserve_id": None,
            "refund_of": None,
            "job_id": None,
            **values,
            "customer_id": purse.customer,
            "created_at": at,
            "balance_micros": purse.posted,
            "prev_hash": purse.chain,
        }
        row["hash"] = purse.chain = ledger.chain_hash(row)
        purse.latest_at = max(purse.latest_at, at)
        return "transfer", row

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._rng.getrandbits(96):024x}"


GROUPS_MAX = 50
"""Limiter groups that the accounts are spread over."""


def _counted(jobs: Iterator[list[Row]], size: int) -> Iterator[tuple[int, list[Row]]]:
    """Yield the rows of `size` jobs at a time, with how many were made until then."""
    rows: list[Row] = []
    made = 0
    for made, some in enumerate(jobs):
        rows += some
        if made % size == 0:
            yield made, rows
            rows = []
    if rows:
        yield made, rows


def _insert(connection: sqlite3.Connection, rows: list[Row]) -> None:
    by_shape: dict[tuple[str, tuple[str, ...]], list[Values]] = {}
    for table, values in rows:
        by_shape.setdefault((table, tuple(values)), []).append(values)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("BEGIN")
    for (table, names), sets in by_shape.items():
        places = ", ".join(f":{name}" for name in names)
        connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", sets)
    connection.execute("COMMIT")


def _take_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop the indexes of the large tables; return how they are made again."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND "
        "tbl_name IN ('request', 'job', 'attempt', 'transfer', 'image', 'blob_removal')"
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}")
    return [sql for _, sql in found]
