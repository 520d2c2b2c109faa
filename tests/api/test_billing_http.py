"""Balance and statement over HTTP."""

from __future__ import annotations

import csv
import io

import aiohttp
import pytest

from api.conftest import Server
from safelight.types import BudgetState, StatementLine

COLUMNS = (
    "id,created_at,kind,job_id,request_id,channel,size,size_plan,amount_micros,balance_micros,"
    "reason,image_sha256,attempts"
)


@pytest.fixture
def lines(server: Server) -> list[StatementLine]:
    """A top-up and more charges than fit on one page of the CSV."""
    made = [
        StatementLine(
            id=f"tr_{n}",
            created_at=1_800_000_000 + n,
            kind="settle" if n else "topup",
            job_id=f"job_{n}" if n else None,
            request_id=f"req_{n}" if n else None,
            channel="gpt-image-2-vip" if n else None,
            size="2048x1152" if n else None,
            size_plan="native" if n else None,
            amount_micros=-30_000 if n else 100_000_000,
            balance_micros=100_000_000 - 30_000 * n,
            reason='image, "sold"' if n else "first credit",
            image_sha256="ab" * 32 if n else None,
            attempts=1 if n else None,
        )
        for n in range(2500)
    ]
    server.gateway.lines.extend(made)
    return made


async def test_the_balance(http: aiohttp.ClientSession, server: Server) -> None:
    """Integers of micro-dollars, and the budgets of the key that asks."""
    server.gateway.budgets = (
        BudgetState(
            period="day",
            limit_micros=5_000_000,
            used_micros=4_000_000,
            remaining_micros=1_000_000,
            resets_at=1_800_057_600,
            alerted=80,
        ),
    )
    async with http.get("/v1/billing/balance") as answer:
        assert await answer.json() == {
            "posted_micros": 1_000_000,
            "held_micros": 30_000,
            "available_micros": 970_000,
            "credit_line_micros": 500_000,
            "budgets": [
                {
                    "period": "day",
                    "limit_micros": 5_000_000,
                    "used_micros": 4_000_000,
                    "remaining_micros": 1_000_000,
                    "resets_at": 1_800_057_600,
                    "alerted": 80,
                }
            ],
        }


async def test_pages_follow_the_cursor(
    http: aiohttp.ClientSession, lines: list[StatementLine]
) -> None:
    """A hundred lines unless said otherwise; `after` goes on where a page ended."""
    async with http.get("/v1/billing/statement") as answer:
        page = await answer.json()
    assert len(page["data"]) == 100
    assert list(page["data"][0]) == COLUMNS.split(",")
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("tr_0", "tr_99", True)
    params = {"after": "tr_99", "limit": "2"}
    async with http.get("/v1/billing/statement", params=params) as answer:
        page = await answer.json()
    assert [line["id"] for line in page["data"]] == ["tr_100", "tr_101"]


@pytest.mark.parametrize("how", ["query", "accept"])
async def test_the_csv_has_all_lines_and_adds_up(
    http: aiohttp.ClientSession, lines: list[StatementLine], how: str
) -> None:
    """Without a limit the file is the whole statement; its sum is the balance."""
    params = {"format": "csv"} if how == "query" else {}
    headers = {"accept": "text/csv"} if how == "accept" else {}
    async with http.get("/v1/billing/statement", params=params, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/csv")
        text = (await answer.read()).decode()
    assert text.splitlines()[0] == COLUMNS
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(lines)
    assert sum(int(row["amount_micros"]) for row in rows) == lines[-1].balance_micros
    assert rows[0]["job_id"] == ""
    assert rows[1]["reason"] == 'image, "sold"'


async def test_a_limited_csv_is_one_page(
    http: aiohttp.ClientSession, lines: list[StatementLine]
) -> None:
    """With a limit the cursor works as in JSON."""
    params = {"format": "csv", "limit": "3", "after": "tr_9"}
    async with http.get("/v1/billing/statement", params=params) as answer:
        rows = list(csv.DictReader(io.StringIO((await answer.read()).decode())))
    assert [row["id"] for row in rows] == ["tr_10", "tr_11", "tr_12"]


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({"from": "1800000010", "to": "1800000013"}, 3),
        ({"from": "2027-01-15T08:00:10Z", "to": "2027-01-15T09:00:13+01:00"}, 3),
        ({"from": "2027-01-15T08:00:10", "to": "2027-01-15 08:00:13"}, 3),
        ({"from": "2027-01-16"}, 0),
        ({"from": "20270116"}, 0),
        ({"to": "20270116"}, 100),
        ({"to": "2027-01-15"}, 0),
    ],
)
async def test_times_are_seconds_or_iso_dates(
    http: aiohttp.ClientSession, lines: list[StatementLine], params: dict[str, str], count: int
) -> None:
    """Without an offset a date is UTC; eight digits are a date, not a second of 1970."""
    async with http.get("/v1/billing/statement", params=params) as answer:
        assert len((await answer.json())["data"]) == count


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"from": "yesterday"}, "from"),
        ({"from": "20279999"}, "from"),
        ({"to": "9" * 40}, "to"),
        ({"format": "xml"}, "format"),
        ({"after": "tr_none"}, "after"),
        ({"after": "tr_none", "format": "csv"}, "after"),
        ({"page": "2"}, "page"),
    ],
)
async def test_bad_queries_are_named(
    http: aiohttp.ClientSession, lines: list[StatementLine], params: dict[str, str], param: str
) -> None:
    """Each is a 400 about its parameter, also where a CSV was asked for."""
    async with http.get("/v1/billing/statement", params=params) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == param
