"""What the gateway asks its database does not grow with what is in it.

The statements that are looked at are those that really ran, noted while a gateway served; the costs
are steps of SQLite's machine, the same number on every machine and under any load.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engines import Queues
from gateway.house import House as Served
from gateway.house import open_books
from safelight import jobs, owners
from safelight.administration import Feed, Looking
from safelight.bench.growth import plans, verbs
from safelight.bench.growth.counting import steps
from safelight.bench.growth.house import fill, house
from safelight.bench.growth.plans import Noting, Statement
from safelight.clock import Clock, ManualClock, SystemClock
from safelight.config import Config, LimitsConfig, RetentionConfig
from safelight.db import Database, Transaction
from safelight.db.sqlite import SqliteDatabase
from safelight.gateway.orders import Queued
from safelight.gateway.removing import Removing
from safelight.gateway.retention import Retention
from safelight.gateway.upkeep import Upkeep
from safelight.gateway.verification import Verification
from safelight.image_lists import Wanted
from safelight.job_lists import JobFilter
from safelight.types import JobState

IN_PROPORTION = (
    # The length of the queue, looked at every five seconds: a count of the entries of an index.
    "SELECT COUNT(*) AS jobs FROM job WHERE state = 'queued' AND lease_owner IS NULL",
    # The calls that are out, and the open jobs that processes have: by indexes of these alone.
    "SELECT DISTINCT a.job_id FROM attempt a",
    "SELECT DISTINCT lease_owner AS owner FROM job",
    f"{owners._OPEN_JOB}WHERE state IN ('queued', 'in_progress') AND lease_owner IS NOT NULL",
    # Those that wait, put in line for whoever asks how long: twenty thousand at most, once a while.
    "SELECT id, channel FROM job WHERE state = 'queued' AND lease_owner IS NULL ORDER BY CASE",
)
"""What may read an index to its end, by the beginning of its text."""
STATES = (JobState.COMPLETED, JobState.FAILED)
FILTERS = (
    JobFilter(),
    JobFilter(states=STATES),
    JobFilter(channel="gpt-image-2"),
    JobFilter(request_id="req_1"),
    JobFilter(batch_id="batch_1"),
    JobFilter(states=STATES, channel="gpt-image-2"),
    JobFilter(from_ms=1, to_ms=2),
)


async def serve_and_note(folder: Path) -> list[Statement]:
    """Let a gateway do everything once; return each statement that ran, with its values."""
    noted: dict[str, Statement] = {}

    def note(one: Statement) -> None:
        noted.setdefault(one.sql, one)

    clock = SystemClock()
    limits = LimitsConfig(requests_per_minute=100, max_in_flight=50)
    served = await Served(
        folder, db=Noting(open_books(folder, clock), note), queues=Queues(), limits=limits
    ).open()
    gateway = served.gateway
    (job,) = await served.buy()
    await served.buy("keyed", key="k1")
    await served.buy("again", retry_count=1)
    queued = await served.submit("later", queued=Queued())
    await gateway.standings(queued.jobs)
    await served.queueing.sweep()
    await served.queueing.run(queued.jobs[0].id)
    unwanted = await served.submit("not at all", queued=Queued())
    await gateway.cancel("cus_1", unwanted.jobs[0].id)
    page = await gateway.statement("cus_1", after=None, limit=1, from_s=None, to_s=None)
    await gateway.statement("cus_1", after=page.lines[0].id, limit=9, from_s=1, to_s=2**31)
    for chosen in FILTERS:
        for newest_first in (True, False):
            for after in (None, job.id):
                await gateway.job_page(
                    "cus_1", chosen, after=after, newest_first=newest_first, limit=5
                )
    await gateway.job("cus_1", job.id)
    await gateway.receipt("cus_1", job.id)
    await gateway.balance("cus_1")
    assert job.image is not None
    await gateway.image(job.image.id)
    await served.reaper.look()
    await served.look()
    await served.processes.beat(served.db)
    await served.db.read(lambda tx: jobs.open_jobs_of(tx, {"dead"}, limit=5))
    await Upkeep(served.parts, owner="test").share()
    await Retention(served.parts, RetentionConfig(), Removing(served.parts)).sweep()
    await look_as_operators_do(served.db, clock, served.config)
    await served.close()
    return list(noted.values())


async def look_as_operators_do(db: Database, clock: Clock, config: Config) -> None:
    """Read every list, page and plot that operators have."""
    looking = Looking(db, clock, config, b"pepper")
    chosen = JobFilter(states=(JobState.COMPLETED,))
    (job,), _ = await looking.job_page(None, chosen, after=None, limit=1)
    assert job.image is not None
    for chosen in FILTERS:
        for customer_id in (None, "cus_1"):
            for after in (None, job.id):
                await looking.job_page(customer_id, chosen, after=after, limit=5)
    for words in ((), ("lamp",)):
        for pinned in (None, True):
            for after in (None, job.image.id):
                for customer_id in (None, "cus_1"):
                    wanted = Wanted(customer_id=customer_id, words=words, pinned=pinned)
                    await looking.image_page(wanted, after=after, limit=5)
    await looking.batch_page(None, after=None, limit=5)
    await looking.customer_page(search="", after=None, limit=5)
    await looking.key_page(customer_id=None, after=None, limit=5)
    await looking.key_page(customer_id="cus_1", after=None, limit=5)
    await looking.receipt(job.id)
    await looking.account_entries(since_s=3600)
    await looking.capacity_per_minute()
    await looking.points("minute", from_s=clock.now_ms() // 1000 - 60, to_s=clock.now_ms() // 1000)
    await looking.acts(subject="cus_1", after=None, limit=5)
    await looking.alerts(standing=False, after=None, limit=5)
    feed = Feed(db)
    await feed.look()
    await feed.look()


async def test_no_statement_of_a_serving_gateway_reads_a_large_table_to_its_end(
    tmp_path: Path,
) -> None:
    noted = await serve_and_note(tmp_path)
    assert len(noted) > 80
    db = SqliteDatabase(tmp_path / "t.db", ManualClock())
    found = [
        f"{one.sql}: {line}"
        for one in noted
        if not one.sql.startswith(("SAVEPOINT", "RELEASE", *IN_PROPORTION))
        for line in plans.scans(one, await db.read(_plan(one)))
    ]
    await db.close()
    assert found == []


def _plan(one: Statement) -> Callable[[Transaction], list[str]]:
    return lambda tx: plans.plan(tx, one)


def test_a_scan_is_found_in_the_plans_of_both_databases() -> None:
    one = Statement("SELECT j.id FROM job j JOIN customer c ON c.id = j.customer_id", {})
    assert plans.scans(one, ["SCAN j", "SEARCH c USING INDEX x (id=?)"]) == ["SCAN j"]
    assert plans.scans(one, ["SCAN c"]) == []
    assert plans.scans(one, ["Hash Join", "  ->  Seq Scan on job j"]) == ["  ->  Seq Scan on job j"]


async def test_six_times_the_jobs_cost_the_same_steps(tmp_path: Path) -> None:
    """Statement, lists, one job, balance, an order, and the rounds of the background."""
    clock = SystemClock()
    houses = []
    for ended in (700, 4200):
        folder = tmp_path / str(ended)
        books = await fill(folder, jobs=ended, customers=3, accounts=10, queued=20, clock=clock)
        houses.append(await house(folder, books, accounts=10).open())
    grown = []
    for verb in (*verbs.CUSTOMERS, *verbs.ROUNDS, verbs.QUEUE[0]):
        counted = []
        for one in houses:
            call = verb.make(one)
            await call()  # the first time prepares statements, and settles what was due
            counted.append(await steps(one.counter, call))
        if counted[1] > 1.25 * counted[0] + 50:
            grown.append(f"{verb.name}: {counted[0]} steps, then {counted[1]}")
    report = await Verification(houses[0].db, None, clock).run(blobs=None)
    for one in houses:
        await one.close()
    assert grown == []
    assert [str(one) for one in report.findings] == []
    assert report.jobs > 700


async def test_filled_books_have_rows_like_those_of_the_gateway(tmp_path: Path) -> None:
    """The same columns have values, but for what only a picture of long ago has."""
    clock = SystemClock()
    books = await fill(tmp_path, jobs=20, customers=2, accounts=2, queued=0, clock=clock)
    made = await house(tmp_path, books, accounts=2).open()
    job = await made.buy(0)
    values = {"job": job.id, "request": job.request_id}
    for table, ended in ENDED.items():
        mine = {"request": "id = :request", "job": "id = :job"}.get(table, "job_id = :job")
        read = f"SELECT * FROM {table} WHERE {ended} AND"
        bought = await made.db.read(_one(f"{read} {mine}", values))
        filled = await made.db.read(_one(f"{read} NOT ({mine})", values))
        differing = {name for name in bought if (bought[name] is None) != (filled[name] is None)}
        assert differing <= {"deleted_at", "deleted_reason"}, table
    await made.close()


def _one(sql: str, values: dict[str, str]) -> Callable[[Transaction], dict[str, object]]:
    return lambda tx: dict(tx.one(sql, values) or {})


ENDED = {
    "request": "delivered_at IS NOT NULL",
    "job": "state = 'completed'",
    "attempt": "outcome = 'ok'",
    "image": "1 = 1",
    "transfer": "kind = 'settle'",
}
"""By table, which of its rows are compared."""
