"""Money, jobs and images against each other.

Owns the reads that compare tables, one page in one snapshot: a job, its reserve, what resolved it,
its image and its attempts change together, so within a snapshot they agree whatever is running.
Changes nothing; blobs are compared in `blobs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from safelight import budgets
from safelight.db import Row, Transaction
from safelight.gateway.verification.findings import Check, Finding, found

PAGE = 500
OVERDUE_MS = 10 * 60 * 1000
"""A job ends at its deadline, give or take the writing of a last picture and a takeover."""
ALIVE_MS = 2 * 60 * 1000
"""A process that has given a sign of life since is at work."""

_OPEN = ("queued", "in_progress")

_JOBS = (
    "SELECT j.id, j.customer_id, j.state, j.price_micros, j.reserve_id, j.image_id, j.attempts, "
    "j.deadline_at, r.kind AS r_kind, r.customer_id AS r_customer, r.job_id AS r_job, "
    "r.amount_micros AS r_amount, "
    "(SELECT COUNT(*) FROM transfer s WHERE s.reserve_id = j.reserve_id AND s.kind = 'settle') "
    "AS settles, "
    "(SELECT COUNT(*) FROM transfer s WHERE s.reserve_id = j.reserve_id AND s.kind = 'release') "
    "AS releases, "
    "(SELECT COUNT(*) FROM image i WHERE i.job_id = j.id) AS images, "
    "(SELECT COUNT(*) FROM attempt a WHERE a.job_id = j.id) AS sent, "
    "(SELECT COUNT(*) FROM attempt a WHERE a.job_id = j.id AND a.settled = 1) AS delivered "
    "FROM job j LEFT JOIN transfer r ON r.id = j.reserve_id "
    "WHERE j.id > :after{mine} ORDER BY j.id LIMIT :limit"
)
_TRANSFERS = (
    "SELECT t.id, t.customer_id, t.job_id, j.id AS j_id, j.customer_id AS j_customer, "
    "j.reserve_id AS j_reserve FROM transfer t LEFT JOIN job j ON j.id = t.job_id "
    "WHERE t.seq > :after AND t.seq <= :until{mine} "
    "AND (t.kind = 'reserve' OR t.job_id IS NOT NULL) "
    "AND (j.id IS NULL OR j.customer_id <> t.customer_id "
    "OR (t.kind = 'reserve' AND j.reserve_id <> t.id)) ORDER BY t.seq"
)
_IMAGES = (
    "SELECT i.id, i.customer_id, i.job_id, i.digest, i.bytes, i.deleted_at, i.expires_at, "
    "i.pinned_at, i.original_digest, i.original_bytes, j.id AS j_id, "
    "j.customer_id AS j_customer, j.image_id AS j_image FROM image i "
    "LEFT JOIN job j ON j.id = i.job_id WHERE i.id > :after{mine} ORDER BY i.id LIMIT :limit"
)


@dataclass(frozen=True)
class Page:
    """What one page held; `after` is where the next begins, None at the end."""

    findings: list[Finding]
    rows: list[Row]
    after: str | None


def jobs_page(
    tx: Transaction, after: str, *, customer_id: str | None = None, limit: int = PAGE
) -> Page:
    """Compare the jobs behind `after` with their money, images and attempts."""
    rows = _read(tx, _JOBS, "j", after, customer_id, limit)
    late_before_ms = _late_before_ms(tx)
    return _page(rows, [one for row in rows for one in _job(row, late_before_ms)], limit)


def images_page(
    tx: Transaction, after: str, *, customer_id: str | None = None, limit: int = PAGE
) -> Page:
    """Compare the images behind `after` with their jobs; `rows` names their blobs."""
    rows = _read(tx, _IMAGES, "i", after, customer_id, limit)
    return _page(rows, [one for row in rows for one in _image(row)], limit)


def strays(
    tx: Transaction, *, after: int, until: int, customer_id: str | None = None
) -> list[Finding]:
    """Return what is wrong between the transfers of a range of `seq` and the jobs they name."""
    values = {"after": after, "until": until, "customer": customer_id}
    if customer_id is None:
        del values["customer"]
    rows = tx.all(_TRANSFERS.format(mine=_mine("t", customer_id)), values)
    return [_stray(row) for row in rows]


def newest_seq(tx: Transaction) -> int:
    """Return the seq of the newest transfer, 0 where there is none."""
    row = tx.one("SELECT MAX(seq) AS seq FROM transfer")
    return 0 if row is None or row["seq"] is None else int(row["seq"])


def budget_faults(tx: Transaction, *, customer_id: str | None = None) -> list[Finding]:
    """Return which budgets have not used what their keys' jobs cost."""
    faults = budgets.verify(tx)
    if not faults:
        return []
    owners = {row["id"]: row["customer_id"] for row in tx.all("SELECT * FROM api_key ORDER BY id")}
    findings = []
    for fault in faults:
        key_id = fault.removeprefix("key ").partition(":")[0]
        owner = owners.get(key_id, "")
        if customer_id in (None, owner):
            findings.append(found(Check.BUDGET, owner, f"key {key_id}", stored=fault))
    return findings


def attempt_totals(tx: Transaction) -> Row:
    """Return how many calls were sent, delivered, sold in vain, and perhaps sold in vain."""
    totals = tx.one(
        "SELECT COUNT(*) AS sent, "
        "CAST(COALESCE(SUM(settled), 0) AS BIGINT) AS delivered, "
        "CAST(COALESCE(SUM(CASE WHEN sold = 1 AND settled = 0 THEN 1 ELSE 0 END), 0) AS BIGINT) "
        "AS in_vain, "
        "CAST(COALESCE(SUM(CASE WHEN sold IS NULL AND settled = 0 THEN 1 ELSE 0 END), 0) "
        "AS BIGINT) AS unknown FROM attempt WHERE ended_at IS NOT NULL"
    )
    assert totals is not None, "an aggregate has one row"
    return totals


def _late_before_ms(tx: Transaction) -> float:
    """Return the deadline before which no job should be open any more.

    A job that nobody could end is not late: while no server runs, and in the first minutes after.
    """
    up = tx.one(
        "SELECT MIN(started_at) AS started_at FROM process WHERE beat_at >= :alive",
        {"alive": tx.now_ms - ALIVE_MS},
    )
    bound = tx.now_ms - OVERDUE_MS
    if up is None or up["started_at"] is None or up["started_at"] > bound:
        return float("-inf")
    return bound


def _read(
    tx: Transaction, sql: str, table: str, after: str, customer_id: str | None, limit: int
) -> list[Row]:
    values: dict[str, object] = {"after": after, "limit": limit}
    if customer_id is not None:
        values["customer"] = customer_id
    return tx.all(sql.format(mine=_mine(table, customer_id)), values)


def _mine(table: str, customer_id: str | None) -> str:
    return "" if customer_id is None else f" AND {table}.customer_id = :customer"


def _page(rows: list[Row], findings: list[Finding], limit: int) -> Page:
    return Page(findings, rows, rows[-1]["id"] if len(rows) == limit else None)


def _job(row: Row, late_before_ms: float) -> list[Finding]:
    mine = _reserve_of(row) + _resolution_of(row) + _delivery_of(row)
    if row["state"] in _OPEN and row["deadline_at"] <= late_before_ms:
        mine.append(_of(row, Check.OVERDUE, f"deadline_at {row['deadline_at']}", "ended"))
    return mine


def _of(row: Row, check: Check, stored: object, expected: object) -> Finding:
    return found(check, row["customer_id"], row["id"], stored=stored, expected=expected)


def _reserve_of(row: Row) -> list[Finding]:
    seen = (row["r_kind"], row["r_customer"], row["r_job"])
    if seen != ("reserve", row["customer_id"], row["id"]):
        stored = "no such transfer" if row["r_kind"] is None else " of ".join(map(str, seen))
        return [_of(row, Check.HOLD_OF_JOB, f"{row['reserve_id']}: {stored}", "its own reserve")]
    if row["r_amount"] != row["price_micros"]:
        return [_of(row, Check.PRICE, row["r_amount"], row["price_micros"])]
    return []


def _resolution_of(row: Row) -> list[Finding]:
    settles, releases = row["settles"], row["releases"]
    stored = f"{row['state']}, {settles} settled, {releases} released"
    if row["state"] in _OPEN:
        if settles or releases:
            return [_of(row, Check.RESOLVED_TOO_EARLY, stored, "an open reserve")]
    elif row["state"] == "completed":
        if (settles, releases) != (1, 0):
            return [_of(row, Check.SETTLE, stored, "1 settled, 0 released")]
    elif (settles, releases) != (0, 1):
        return [_of(row, Check.RELEASE, stored, "0 settled, 1 released")]
    return []


def _delivery_of(row: Row) -> list[Finding]:
    findings = []
    wanted = int(row["state"] == "completed")
    stored = f"{row['state']}, {row['images']} images, names {row['image_id']}"
    if row["images"] != wanted or (row["image_id"] is not None) != bool(wanted):
        findings.append(_of(row, Check.IMAGE, stored, f"{wanted} image"))
    if row["delivered"] != wanted:
        findings.append(_of(row, Check.DELIVERED, row["delivered"], wanted))
    if row["sent"] != row["attempts"]:
        findings.append(_of(row, Check.ATTEMPTS, row["attempts"], row["sent"]))
    return findings


def _image(row: Row) -> list[Finding]:
    if row["j_image"] != row["id"]:
        stored = f"job {row['job_id']} names {row['j_image']}" if row["j_id"] else "no such job"
        return [_of(row, Check.IMAGE_OF_JOB, stored, f"job {row['job_id']} names {row['id']}")]
    if row["j_customer"] != row["customer_id"]:
        return [_of(row, Check.IMAGE_OWNER, row["customer_id"], row["j_customer"])]
    return []


def _stray(row: Row) -> Finding:
    if row["j_id"] is None:
        return _of(row, Check.HOLD_OF_NO_JOB, f"job {row['job_id']}", "a job that exists")
    if row["j_customer"] != row["customer_id"]:
        return _of(row, Check.OWNER, f"job {row['job_id']} of {row['j_customer']}", "its own job")
    return _of(row, Check.HOLD_OF_JOB, f"job {row['job_id']} has {row['j_reserve']}", "this one")
