"""/v1/jobs: look at one job, wait for it, list many, cancel one.

Owns the routes' queries. The shape of a job is `job_views`'; what happens to it step by step is
told by `events`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from safelight.api.body import read_chunks
from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.api.job_views import JobList, job_views, retry_after
from safelight.api.problems import Headers
from safelight.errors import Conflict, InvalidValue, UnknownParameter
from safelight.job_lists import JobFilter
from safelight.types import Job, JobState

LIMIT, LIMIT_MAX = 20, 100
QUERY = (
    "status",
    "model",
    "request_id",
    "batch_id",
    "created_after",
    "created_before",
    "after",
    "limit",
    "order",
)
_NO_STORE = (b"cache-control", b"no-store")
_UNIX_DIGITS = 11
_BODY_MAX = 4096


async def job(exchange: Exchange) -> None:
    """Answer GET /v1/jobs/{id}, with `wait` once the job has ended or so many seconds passed."""
    identity = await authenticate(exchange)
    gateway = exchange.services.gateway
    query = exchange.query()
    _check_names(query, ("wait",))
    wait_s = _wait_s(query.get("wait"), exchange.services.config.server.max_wait_s)
    found = await gateway.job(identity.customer_id, exchange.path_param("id"))
    if wait_s and not found.state.terminal:
        async with exchange.watched():
            found = await exchange.until_gone(gateway.ended_within(found, wait_s))
    views = await job_views(exchange, [found])
    headers: Headers = [_NO_STORE, *retry_after(exchange, views)]
    await exchange.respond_json(views[0], headers=headers)


async def jobs(exchange: Exchange) -> None:
    """Answer GET /v1/jobs."""
    identity = await authenticate(exchange)
    query = exchange.query()
    _check_names(query, QUERY)
    page = await exchange.services.gateway.job_page(
        identity.customer_id,
        filter_of(query),
        after=query.get("after") or None,
        newest_first=_newest_first(query.get("order")),
        limit=_limit(query.get("limit")),
    )
    views = tuple(await job_views(exchange, page.jobs))
    listed = JobList(
        data=views,
        first_id=views[0].id if views else None,
        last_id=views[-1].id if views else None,
        has_more=page.has_more,
    )
    await exchange.respond_json(listed, headers=[_NO_STORE])


async def cancel(exchange: Exchange) -> None:
    """Answer POST /v1/jobs/{id}/cancel; of a job that is cancelled already like the first time.

    Raises:
        Conflict: it has ended otherwise, as OpenAI's batches answer.
    """
    identity = await authenticate(exchange)
    async for _ in read_chunks(exchange, _BODY_MAX):
        pass  # some clients send an empty object
    found = await exchange.services.gateway.cancel(identity.customer_id, exchange.path_param("id"))
    refuse_ended(found)
    views = await job_views(exchange, [found])
    await exchange.respond_json(views[0], headers=[_NO_STORE])


def refuse_ended(found: Job) -> None:
    """Refuse to cancel what has ended otherwise.

    Raises:
        Conflict: it is completed, or has failed.
    """
    if found.state in (JobState.COMPLETED, JobState.FAILED):
        raise Conflict(
            f"The job has ended: it is {found.state}. Only a job that is queued or in progress "
            "can be cancelled.",
            code="job_ended",
            param="id",
        )


def _check_names(query: Mapping[str, str], known: tuple[str, ...]) -> None:
    for name in query:
        if name not in known:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])


def _wait_s(text: str | None, most_s: float) -> float:
    if not text:
        return 0.0
    number = _number(text, digits=5)
    if number is None or number > most_s:
        raise InvalidValue(f"'wait' is a number of seconds from 0 to {most_s:g}.", param="wait")
    return float(number)


def filter_of(query: Mapping[str, str]) -> JobFilter:
    """Return which jobs the query asks for, or raise InvalidValue."""
    return JobFilter(
        states=_states(query.get("status")),
        channel=query.get("model") or None,
        request_id=query.get("request_id") or None,
        batch_id=query.get("batch_id") or None,
        from_ms=_time_ms(query, "created_after"),
        to_ms=_time_ms(query, "created_before"),
    )


def _states(text: str | None) -> tuple[JobState, ...]:
    if not text:
        return ()
    try:
        return tuple(dict.fromkeys(msgspec.convert(text.split(","), list[JobState])))
    except msgspec.ValidationError:
        names = ", ".join(JobState)
        message = f"'status' is one or more of {names}, with commas between."
        raise InvalidValue(message, param="status") from None


def _time_ms(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    number = _number(text, digits=_UNIX_DIGITS)
    if number is None:
        raise InvalidValue(f"{name!r} is a time in unix seconds.", param=name)
    # Jobs know milliseconds, their owners seconds: both bounds include the second they name.
    return number * 1000 + (999 if name == "created_before" else 0)


def _newest_first(text: str | None) -> bool:
    if text not in (None, "", "asc", "desc"):
        raise InvalidValue("'order' is asc or desc.", param="order")
    return text != "asc"


def _limit(text: str | None) -> int:
    if not text:
        return LIMIT
    number = _number(text, digits=4)
    if number is None or not 1 <= number <= LIMIT_MAX:
        raise InvalidValue(f"'limit' is a number from 1 to {LIMIT_MAX}.", param="limit")
    return number


def _number(text: str, *, digits: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        return None
    return int(text)
