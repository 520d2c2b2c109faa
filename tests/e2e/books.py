"""What a stranger reads after a test: the statement, the data folder's own witness, the waste."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.office import open_office


@dataclass
class Books:
    """The books of one data folder, read without the server's help."""

    faults: list[str]
    waste: int
    unknown: int
    """Calls that left and were not answered: nobody can say whether they were billed."""


def witness(data: Path) -> Books:
    """Re-add everything in a data folder."""

    async def look() -> Books:
        async with open_office(data) as office:
            waste = (await office.waste()).values()
            return Books(
                await office.audit(),
                sum(account.sold for account in waste),
                sum(account.unknown for account in waste),
            )

    return asyncio.run(look())


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
