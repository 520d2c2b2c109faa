"""What is measured on a gateway with books: the verbs of customers, and rounds of its own work.

Owns the list. Each verb is one call of the gateway's own code, as the HTTP routes and the
background make it; it may be called any number of times.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count

from safelight import jobs as job_rows
from safelight.bench.growth.books import OTHER_CHANNEL, SPACING_MS
from safelight.bench.growth.house import House
from safelight.job_lists import JobFilter
from safelight.types import JobState

Call = Callable[[], Awaitable[object]]

PAGE = 20
CSV_PAGE = 100
RUNNING = (JobState.QUEUED, JobState.IN_PROGRESS)


@dataclass(frozen=True)
class Verb:
    """One thing to measure.

    Args:
        name: for people.
        make: gives the call, on a house whose books it may look at first.
        times: calls in one round: cheap ones need more to be seen.
        lines: how much one call does; its cost is shown for one of them.
    """

    name: str
    make: Callable[[House], Call]
    times: int = 20
    lines: int = 1


def _order(house: House) -> Call:
    return lambda: house.buy(0)


def _statement(house: House, *, middle: bool) -> Call:
    big = house.books.customers[0]

    async def first() -> object:
        return await house.gateway.statement(big, after=None, limit=PAGE, from_s=None, to_s=None)

    async def beyond() -> object:
        job = house.books.newest[len(house.books.newest) // 2]
        receipt = await house.gateway.receipt(big, job)
        line = receipt.movements[-1].id
        return await house.gateway.statement(big, after=line, limit=PAGE, from_s=None, to_s=None)

    return beyond if middle else first


def _span(house: House) -> tuple[int, int]:
    """Return the last third of the time of the books, unix seconds: a month deep in them."""
    books = house.books
    length = min(30 * 86_400_000, (books.ended_ms - books.began_ms) // 3)
    return (books.ended_ms - 2 * length) // 1000, (books.ended_ms - length) // 1000


def _month(house: House) -> Call:
    big, (from_s, to_s) = house.books.customers[0], _span(house)
    return lambda: house.gateway.statement(
        big, after=None, limit=CSV_PAGE, from_s=from_s, to_s=to_s
    )


def _few_lines(house: House) -> Call:
    """Return a look at a short span of long ago, which ends before a page is full."""
    big, (from_s, _) = house.books.customers[0], _span(house)
    to_s = from_s + 40 * SPACING_MS // 1000
    return lambda: house.gateway.statement(
        big, after=None, limit=CSV_PAGE, from_s=from_s, to_s=to_s
    )


def _jobs(house: House, chosen: JobFilter, *, middle: bool = False) -> Call:
    big = house.books.customers[0]
    after = house.books.newest[len(house.books.newest) // 2] if middle else None
    return lambda: house.gateway.job_page(big, chosen, after=after, newest_first=True, limit=PAGE)


def _span_of_jobs(house: House) -> Call:
    from_s, _ = _span(house)
    chosen = JobFilter(from_ms=from_s * 1000, to_ms=from_s * 1000 + 100 * SPACING_MS)
    return _jobs(house, chosen)


def _job(house: House) -> Call:
    turns = count()
    seen = house.books.newest

    return lambda: house.gateway.job(house.books.customers[0], seen[next(turns) % len(seen)])


def _image(house: House) -> Call:
    found: list[str] = []

    async def look() -> object:
        for job_id in () if found else reversed(house.books.newest):
            job = await house.gateway.job(house.books.customers[0], job_id)
            if job.image is not None:
                found.append(job.image.id)
                break
        return await house.db.read(lambda tx: job_rows.get_image(tx, found[0]))

    return look


def _place(house: House) -> Call:
    # Not the big customer: half of the backlog is its, which may be more than one key may have.
    return lambda: house.submit(len(house.books.customers) - 1, queued=True)


def _serve_queued(house: House) -> Call:
    async def serve() -> None:
        order = await house.submit(len(house.books.customers) - 1, queued=True)
        await house.queueing.run(order.jobs[0].id)

    return serve


def _among_all(house: House) -> Call:
    turns = count()
    customers = house.books.customers

    return lambda: house.gateway.balance(customers[next(turns) * 7919 % len(customers)])


def _anybody(house: House) -> Call:
    turns = count()
    customers = house.books.customers

    return lambda: house.buy(next(turns) * 7919 % len(customers))


CUSTOMERS = (
    Verb("an order, from its placing to its delivery", _order, times=6),
    Verb("statement: first page", lambda house: _statement(house, middle=False)),
    Verb("statement: a page from the middle", lambda house: _statement(house, middle=True)),
    Verb("statement: a line of a month's CSV", _month, times=10, lines=CSV_PAGE),
    Verb("statement: a short span of time", _few_lines),
    Verb("job list: newest", lambda house: _jobs(house, JobFilter())),
    Verb("job list: from the middle", lambda house: _jobs(house, JobFilter(), middle=True)),
    Verb(
        "job list: failed ones",
        lambda house: _jobs(house, JobFilter(states=(JobState.FAILED,))),
    ),
    Verb("job list: open ones", lambda house: _jobs(house, JobFilter(states=RUNNING))),
    Verb("job list: a rare channel", lambda house: _jobs(house, JobFilter(channel=OTHER_CHANNEL))),
    Verb("job list: a span of time", _span_of_jobs),
    Verb("one job", _job, times=60),
    Verb("one picture, as its link is read", _image, times=60),
    Verb("balance", _among_all, times=60),
)
"""What customers ask."""

ROUNDS = (
    Verb("round: sign of life", lambda house: house.beat),
    Verb("round: look for dead processes", lambda house: house.look_for_the_dead, times=10),
    Verb("round: reaper", lambda house: house.reap, times=10),
    Verb("round: limits shared", lambda house: house.upkeep.share, times=10),
    Verb("round: retention", lambda house: house.retention.sweep, times=10),
    Verb("round: files", lambda house: house.filing.sweep, times=10),
    Verb("round: batches", lambda house: house.batching.sweep, times=10),
    Verb("round: pictures to carry", lambda house: house.persisting.sweep, times=10),
)
"""What the gateway does by itself every few seconds."""

QUEUE = (
    Verb("queued order placed", _place, times=6),
    Verb("queued order placed, taken and run", _serve_queued, times=6),
)
"""What happens in front of a backlog."""

ANYBODY = (
    Verb("an order of any customer", _anybody, times=6),
    Verb("balance", _among_all, times=60),
)
"""What meets many customers."""
