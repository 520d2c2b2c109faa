"""GET /v1/billing/balance and /v1/billing/statement: a customer's money, as JSON and as CSV.

Owns the rendering; every number comes from the ledger as it is. The CSV streams, however long it
is.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import msgspec

from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.errors import InvalidValue, UnknownParameter
from safelight.gateway.orders import StatementPage
from safelight.months import month_span
from safelight.types import StatementLine

_PARAMETERS = ("format", "after", "limit", "from", "to", "month")
_LIMIT = 100
_LIMIT_MAX = 1000
_SECONDS_MAX = 253_402_300_799
"""The end of the year 9999, the last that a date can name."""


class Selection(msgspec.Struct, frozen=True):
    """Which lines of the statement are asked for; times in unix seconds, `to_s` excluded."""

    after: str | None
    limit: int | None
    from_s: int | None
    to_s: int | None


class StatementList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/billing/statement: lines, oldest first; `after` takes the last id to go on."""

    object: str = "list"
    data: tuple[StatementLine, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


async def balance(exchange: Exchange) -> None:
    """Answer GET /v1/billing/balance."""
    identity = await authenticate(exchange)
    await exchange.respond_json(await exchange.services.gateway.key_balance(identity))


async def statement(exchange: Exchange) -> None:
    """Answer GET /v1/billing/statement."""
    identity = await authenticate(exchange)
    await respond_statement(exchange, identity.customer_id)


async def respond_statement(exchange: Exchange, customer_id: str) -> None:
    """Answer with a customer's statement, as the query wants it."""
    query = exchange.query()
    selection = parse_selection(query)
    if _wants_csv(query, exchange.header("accept")):
        await _respond_csv(exchange, customer_id, selection)
        return
    page = await _page(exchange, customer_id, selection, selection.limit or _LIMIT)
    lines = page.lines
    await exchange.respond_json(
        StatementList(
            data=lines,
            first_id=lines[0].id if lines else None,
            last_id=lines[-1].id if lines else None,
            has_more=page.has_more,
        )
    )


def parse_selection(query: Mapping[str, str]) -> Selection:
    """Return what the query asks for.

    Raises:
        UnknownParameter: a name that is none of ours.
        InvalidValue: a value that cannot be read, naming its parameter.
    """
    for name in query:
        if name not in _PARAMETERS:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    limit = query.get("limit")
    if limit is not None and not (limit.isascii() and limit.isdigit() and len(limit) < 6):
        raise InvalidValue("'limit' is a number.", param="limit")
    if limit is not None and not 1 <= int(limit) <= _LIMIT_MAX:
        raise InvalidValue(f"'limit' is a number from 1 to {_LIMIT_MAX}.", param="limit")
    from_s, to_s = _span(query)
    return Selection(
        after=query.get("after") or None,
        limit=None if limit is None else int(limit),
        from_s=from_s,
        to_s=to_s,
    )


def _span(query: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the bounds that are asked for: those of a month, or `from` and `to`."""
    month = query.get("month")
    if month is None:
        return _seconds(query, "from"), _seconds(query, "to")
    if query.get("from") or query.get("to"):
        raise InvalidValue("'month' stands alone; leave out 'from' and 'to'.", param="month")
    try:
        return month_span(month)
    except ValueError as error:
        raise InvalidValue(f"'month': {error}.", param="month") from error


def _seconds(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    # Eight digits are a day as people write it (20261122), not a second of the year 1970.
    seconds = text.isascii() and text.isdigit() and len(text) <= 12 and len(text) != 8
    if seconds and int(text) <= _SECONDS_MAX:
        return int(text)
    # A plus sign in a query is a space; before an offset it can only be that.
    for form in (text, text.replace(" ", "+")):
        try:
            moment = datetime.fromisoformat(form)
        except ValueError:
            continue
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    raise InvalidValue(
        f"{name!r} is a time in unix seconds or an ISO date such as 2026-11-30.", param=name
    )


def _wants_csv(query: Mapping[str, str], accept: str | None) -> bool:
    asked = query.get("format")
    if asked not in (None, "json", "csv"):
        raise InvalidValue("'format' is json or csv.", param="format")
    return asked == "csv" or (asked is None and "text/csv" in (accept or ""))


async def _page(
    exchange: Exchange, customer_id: str, selection: Selection, limit: int
) -> StatementPage:
    return await exchange.services.gateway.statement(
        customer_id,
        after=selection.after,
        limit=limit,
        from_s=selection.from_s,
        to_s=selection.to_s,
    )


async def _respond_csv(exchange: Exchange, customer_id: str, selection: Selection) -> None:
    """Write the lines of one page, or all of them where no limit was given."""
    chunks = _csv_chunks(exchange, customer_id, selection)
    # A page is read before the head is sent, so that a bad cursor can still be an error.
    first = await anext(chunks)
    await exchange.start(
        200,
        [
            (b"content-type", b"text/csv; charset=utf-8; header=present"),
            (b"content-disposition", b'attachment; filename="statement.csv"'),
            (b"cache-control", b"no-store"),
        ],
    )
    async with exchange.watched():
        await exchange.write(first)
        async for chunk in chunks:
            await exchange.write(chunk)
        await exchange.finish()


async def _csv_chunks(
    exchange: Exchange, customer_id: str, selection: Selection
) -> AsyncIterator[bytes]:
    columns = StatementLine.__struct_fields__
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    while True:
        page = await _page(exchange, customer_id, selection, selection.limit or _LIMIT_MAX)
        for line in page.lines:
            writer.writerow([getattr(line, column) for column in columns])
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
        if selection.limit is not None or not page.has_more:
            return
        selection = msgspec.structs.replace(selection, after=page.lines[-1].id)
