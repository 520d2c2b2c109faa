"""What a stranger reads after a test: the statement, the data folder's own witness, the waste."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.process import GatewayProcess
from safelight.clock import SystemClock
from safelight.db import Database, Row
from safelight.keyring import Keyring
from safelight.office import Office
from safelight.opening import open_database, open_store

_NOTHING: Mapping[str, str] = {}


@dataclass
class Books:
    """The books of one data folder, read without the server's help."""

    faults: list[str]
    waste: int
    unknown: int
    """Calls that left and were not answered: nobody can say whether they were billed."""


def witness(data: Path, environ: Mapping[str, str] = _NOTHING) -> Books:
    """Re-add everything in a data folder; `environ` may say that its books are elsewhere."""

    async def look() -> Books:
        async with _opened(data, environ) as db:
            store = open_store(data)
            office = Office(db, Keyring.load_or_create(data), store)
            waste = (await office.waste()).values()
            faults = await office.audit()
            store.close()
        return Books(
            faults,
            sum(account.sold for account in waste),
            sum(account.unknown for account in waste),
        )

    return asyncio.run(look())


def rows(gateway: GatewayProcess, sql: str, **params: Any) -> list[Row]:
    """Read rows from the database of a gateway, beside it."""

    async def look() -> list[Row]:
        async with _opened(gateway.data, gateway.environ) as db:
            return await db.read(lambda tx: tx.all(sql, params))

    return asyncio.run(look())


@asynccontextmanager
async def _opened(data: Path, environ: Mapping[str, str]) -> AsyncIterator[Database]:
    db = open_database(data, SystemClock(), check=False, environ=environ)
    try:
        yield db
    finally:
        await db.close()


def get(url: str, key: str) -> Any:
    """Read JSON from the gateway."""
    return json.loads(get_text(url, key))


def get_text(url: str, key: str) -> str:
    """Read text from the gateway."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = answer.read().decode()
        return text


def statement(url: str, key: str) -> list[dict[str, str]]:
    """Read the whole statement as CSV."""
    text = get_text(f"{url}/v1/billing/statement?format=csv", key)
    return list(csv.DictReader(io.StringIO(text)))


def check_sums(url: str, key: str) -> dict[str, int]:
    """Add the CSV up and compare with the balance; return the balance."""
    lines = statement(url, key)
    balance: dict[str, int] = get(f"{url}/v1/billing/balance", key)
    total = sum(int(line["amount_micros"]) for line in lines)
    assert total == balance["posted_micros"]
    assert int(lines[-1]["balance_micros"]) == total
    assert balance["available_micros"] == balance["posted_micros"] - balance["held_micros"]
    return balance
