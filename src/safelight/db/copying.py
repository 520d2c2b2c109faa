"""Copying the books from one database to another, whichever two they are.

Owns the order of the tables and the paging. All rows are read in one snapshot and written in one
transaction, so the target has everything or nothing. What belongs to running processes (who lives,
how accounts do at this moment, marks of commits) stays behind. Knows rows, not their meaning.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from safelight.db import Database, Row, Transaction

PAGE = 200
"""Rows that are read and written by one statement."""
_AHEAD = 8
"""Pages that may be read before they are written."""


@dataclass(frozen=True)
class Table:
    """A table as it is copied: in the order of `key`, `later` filled in when all rows are there."""

    name: str
    key: tuple[str, ...]
    later: str | None = None
    """A column that points at rows of the same table, in no particular order."""


COPIED = (
    Table("customer", ("id",)),
    Table("api_key", ("id",)),
    Table("balance", ("customer_id",)),
    Table("budget", ("key_id", "period")),
    Table("transfer", ("seq",)),
    Table("request", ("id",), later="retry_of"),
    Table("job", ("id",)),
    Table("attempt", ("job_id", "epoch", "k")),
    Table("image", ("id",)),
    Table("file", ("id",)),
    Table("batch", ("id",)),
    Table("batch_line", ("batch_id", "line")),
    Table("vendor_batch", ("id",)),
    Table("vendor_item", ("job_id",)),
    Table("webhook", ("id",)),
    Table("webhook_secret", ("customer_id",)),
    Table("webhook_order", ("request_id",)),
    Table("webhook_delivery", ("id",)),
    Table("request_input", ("request_id", "digest")),
    Table("blob_removal", ("digest",)),
    Table("destination", ("customer_id",)),
    Table("persist_wish", ("request_id",)),
    Table("persisting", ("image_id",)),
    Table("installation", ("only_one",)),
    Table("limiter", ("name",)),
    Table("finding", ("customer_id", "mark")),
    Table("admin_key", ("id",)),
    Table("browser_session", ("id",)),
    Table("admin_act", ("seq",)),
    Table("account_pause", ("account",)),
    Table("link_check", ("at",)),
    Table("alert", ("id",)),
    Table("alert_message", ("id",)),
)
"""Rows that others refer to come first; a settle or release comes after its reserve by `seq`."""

LEFT_BEHIND = frozenset(
    {
        "account_state",
        "alert_figures",
        "commit_mark",
        "migration",
        "process",
        "round",
        "verification",
        "watch_turn",
        "webhook_turn",
    }
)
"""What is made anew by the processes that serve the target."""


class NotEmpty(Exception):
    """The target has books of its own; nothing was changed."""


async def copy_books(source: Database, target: Database) -> dict[str, int]:
    """Copy all books into an empty database of the same schema version.

    Returns:
        How many rows of each table were copied.

    Raises:
        NotEmpty: the target has rows.
        Unavailable: one of the two went away; the target is as it was.
    """
    pages = _Pages()
    reading = asyncio.ensure_future(source.read(pages.fill))
    try:
        return await target.write(lambda tx: _write(tx, pages))
    finally:
        pages.stop()
        await asyncio.gather(reading, return_exceptions=True)


class _Pages:
    """Pages on their way from the thread that reads to the thread that writes."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[Table, list[Row]] | BaseException | None] = queue.Queue(
            _AHEAD
        )
        self._stopped = threading.Event()
        self._taken = False

    def fill(self, tx: Transaction) -> None:
        """Read everything; runs on the source's thread."""
        try:
            for table in COPIED:
                for rows in _read(tx, table):
                    if not self._put((table, rows)):
                        return
        except BaseException as error:
            self._put(error)
            raise
        self._put(None)

    def __iter__(self) -> Iterator[tuple[Table, list[Row]]]:
        if self._taken:
            # The database wants the transaction again, but its beginning is read and gone.
            raise ConnectionResetError("the target lost the connection; start the copy again")
        self._taken = True
        while (page := self._queue.get()) is not None:
            if isinstance(page, BaseException):
                raise page
            yield page

    def stop(self) -> None:
        """Let the reader end, whether anybody takes its pages or not."""
        self._stopped.set()

    def _put(self, page: tuple[Table, list[Row]] | BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(page, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False


def _read(tx: Transaction, table: Table) -> Iterator[list[Row]]:
    columns = ", ".join(table.key)
    names = ", ".join(f":{column}" for column in table.key)
    rows = tx.all(f"SELECT * FROM {table.name} ORDER BY {columns} LIMIT {PAGE}")
    while rows:
        yield rows
        last = {column: rows[-1][column] for column in table.key}
        rows = tx.all(
            f"SELECT * FROM {table.name} WHERE ({columns}) > ({names}) "
            f"ORDER BY {columns} LIMIT {PAGE}",
            last,
        )


def _write(tx: Transaction, pages: _Pages) -> dict[str, int]:
    for table in COPIED:
        if tx.one(f"SELECT 1 AS found FROM {table.name} LIMIT 1") is not None:
            raise NotEmpty(table.name)
    counts = {table.name: 0 for table in COPIED}
    later: list[tuple[Table, dict[str, Any]]] = []
    for table, rows in pages:
        counts[table.name] += len(rows)
        values = [dict(row) for row in rows]
        if table.later is not None:
            later += [
                (table, {"value": row[table.later], **{name: row[name] for name in table.key}})
                for row in values
                if row[table.later] is not None
            ]
            values = [{**row, table.later: None} for row in values]
        _insert(tx, table, values)
    for table, row in later:
        where = " AND ".join(f"{name} = :{name}" for name in table.key)
        tx.execute(f"UPDATE {table.name} SET {table.later} = :value WHERE {where}", row)
    tx.number_on("transfer", "seq")
    tx.number_on("admin_act", "seq")
    return counts


def _insert(tx: Transaction, table: Table, rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    values = ", ".join(
        "(" + ", ".join(f":{name}_{place}" for name in columns) + ")" for place in range(len(rows))
    )
    tx.execute(
        f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {values}",
        {f"{name}_{place}": row[name] for place, row in enumerate(rows) for name in columns},
    )
