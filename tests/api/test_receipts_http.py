"""Receipts and months of the statement over HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from api.conftest import Server
from safelight.attempts import Attempt
from safelight.gateway.receipts import Movement, Receipt
from safelight.types import (
    ImageRequest,
    Job,
    JobFailure,
    JobState,
    Operation,
    PlanMethod,
    SizePlan,
    StatementLine,
)

NOW = 1_800_000_000_000
SECRET = "openai-main-billing@example"
ODD_IDS = ("job_none", "%00", "a" * 5000, "..%2F..%2Fetc", "'--", "%F0%9F%98%80", "%FF", "job_1%20")


def attempt(k: int, **more: object) -> Attempt:
    values: dict[str, object] = {
        "outcome": "ok",
        "code": None,
        "sold": True,
        "settled": False,
        "upstream_request_id": f"req_vendor_{k}",
        "cost_micros": 12_345,
        "ended_at": NOW + 1_500 * k,
        **more,
    }
    return Attempt(
        job_id="job_1",
        epoch=1,
        k=k,
        account=SECRET,
        group="org-secret",
        sent_at=NOW,
        **values,  # type: ignore[arg-type]
    )


def movement(kind: str, amount: int, held: int, balance: int, reason: str) -> Movement:
    return Movement(
        id=f"tr_{kind}",
        kind=kind,
        created_at=NOW,
        amount_micros=amount,
        held_micros=held,
        balance_micros=balance,
        reason=reason,
    )


def receipt(server: Server, *, delivered: bool) -> Receipt:
    plan = SizePlan(PlanMethod.CROP, 1820, 1024, 1824, 1024)
    order = ImageRequest(
        operation=Operation.GENERATION, channel="gpt-image-2-vip", prompt="a lamp", size="1820x1024"
    )
    image = server.gateway.add_image("cus_1", server.gateway.picture, job_id="job_1")
    job = Job(
        id="job_1",
        request_id="req_1",
        customer_id="cus_1",
        key_id="key_1",
        n=0,
        state=JobState.COMPLETED if delivered else JobState.FAILED,
        stage=None,
        request=order,
        size_plan=plan,
        price_micros=30_000,
        reserve_id="tr_reserve",
        epoch=1,
        deadline_at=NOW,
        created_at=NOW,
        completed_at=NOW + 9_000,
        image=image if delivered else None,
        failure=None if delivered else JobFailure(status=400, type="x", code="c", message="m"),
    )
    reserved = movement("reserve", 0, 30_000, 1_000_000, "price held")
    if delivered:
        ended = movement("settle", -30_000, -30_000, 970_000, "image delivered")
        made: tuple[Attempt, ...] = (
            attempt(1, outcome="slow", code="upstream_timeout"),
            attempt(2, settled=True),
        )
    else:
        ended = movement("release", 0, -30_000, 1_000_000, "moderation_blocked")
        made = (attempt(1, outcome="client", sold=False, cost_micros=None),)
    return Receipt(
        job=job,
        customer="acme",
        movements=(reserved, ended),
        attempts=made,
        aliases={SECRET: "account-3f2ac1"},
    )


async def test_a_receipt_has_order_picture_money_and_attempts(
    server: Server, http: aiohttp.ClientSession
) -> None:
    """Everything that one line of the statement stands for."""
    server.gateway.receipts["job_1"] = receipt(server, delivered=True)
    async with http.get("/v1/jobs/job_1/receipt") as answer:
        assert answer.status == 200
        found = await answer.json()
    assert (found["object"], found["id"], found["request_id"]) == (
        "image.receipt",
        "job_1",
        "req_1",
    )
    assert (found["size_asked"], found["size"]) == ("1820x1024", "8x6")
    assert found["size_plan"] == {"method": "crop", "canvas": "1824x1024"}
    assert found["image"]["width"] == 8
    assert len(found["image"]["sha256"]) == 64
    assert (found["price_micros"], found["charged_micros"]) == (30_000, 30_000)
    assert found["free_reason"] is None
    assert [line["kind"] for line in found["transfers"]] == ["reserve", "settle"]
    assert found["transfers"][1] == {
        "id": "tr_settle",
        "kind": "settle",
        "created_at": NOW // 1000,
        "amount_micros": -30_000,
        "held_micros": -30_000,
        "balance_micros": 970_000,
        "reason": "image delivered",
    }
    assert found["attempts"][1] == {
        "number": 2,
        "sent_at": NOW // 1000,
        "seconds": 3.0,
        "outcome": "ok",
        "delivered": True,
        "account": "account-3f2ac1",
        "upstream_request_id": "req_vendor_2",
    }
    assert found["attempts"][0]["outcome"] == "slow"


async def test_a_free_job_says_why(server: Server, http: aiohttp.ClientSession) -> None:
    server.gateway.receipts["job_1"] = receipt(server, delivered=False)
    async with http.get("/v1/jobs/job_1/receipt") as answer:
        found = await answer.json()
    assert (found["charged_micros"], found["free_reason"]) == (0, "moderation_blocked")
    assert (found["status"], found["image"], found["size"]) == ("failed", None, None)


async def test_a_customer_sees_no_account_name_group_or_vendor_cost(
    server: Server, http: aiohttp.ClientSession
) -> None:
    server.gateway.receipts["job_1"] = receipt(server, delivered=True)
    async with http.get("/v1/jobs/job_1/receipt") as answer:
        text = await answer.text()
    for hidden in (SECRET, "org-secret", "12345", "cost", "margin", "sold", "upstream_timeout"):
        assert hidden not in text


async def test_another_customers_receipt_is_not_there(
    server: Server, http: aiohttp.ClientSession
) -> None:
    found = receipt(server, delivered=True)
    job = msgspec.structs.replace(found.job, customer_id="cus_2")
    server.gateway.receipts["job_1"] = msgspec.structs.replace(found, job=job)
    async with http.get("/v1/jobs/job_1/receipt") as answer:
        assert answer.status == 404


@pytest.mark.parametrize("job_id", ODD_IDS)
async def test_odd_ids_are_no_job(http: aiohttp.ClientSession, job_id: str) -> None:
    url = URL(f"/v1/jobs/{job_id}/receipt", encoded=True)
    async with http.get(url) as answer:
        assert answer.status in {404, 400, 431}
        assert "error" in await answer.json()


class OfText(dict[str, Any]):
    """Jobs as a database keeps them that takes no NUL in a text, as Postgres."""

    def get(self, key: str, default: Any = None) -> Any:
        assert "\0" not in key
        return super().get(key, default)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/jobs/job%00_1", 404),
        ("/v1/jobs/%00/receipt", 404),
        ("/v1/images/%00", 404),
        ("/v1/billing/statement?after=%00", 400),
        ("/v1/billing/statement?month=2026-11%00", 400),
    ],
)
async def test_a_nul_reaches_no_database(
    server: Server, http: aiohttp.ClientSession, path: str, status: int
) -> None:
    server.gateway.jobs = OfText()
    server.gateway.receipts = OfText()
    async with http.get(URL(path, encoded=True)) as answer:
        assert answer.status == status
        error = (await answer.json())["error"]
        assert error["param"] == ("id" if status == 404 else path.partition("?")[2].split("=")[0])


# --- months of the statement ---------------------------------------------------------------------


@pytest.fixture
def lines(server: Server) -> list[StatementLine]:
    """Lines in the last second of November, the first of December and its last."""
    moments = (1_796_083_199, 1_796_083_200, 1_798_761_599, 1_798_761_600)
    made = [
        StatementLine(
            id=f"tr_{n}",
            created_at=at,
            kind="topup",
            job_id=None,
            request_id=None,
            channel=None,
            size=None,
            size_plan=None,
            amount_micros=10**n,
            balance_micros=0,
            reason="credit",
            image_sha256=None,
            attempts=None,
        )
        for n, at in enumerate(moments)
    ]
    server.gateway.lines.extend(made)
    return made


@pytest.mark.parametrize(("month", "ids"), [("2026-11", [0]), ("2026-12", [1, 2]), ("2027-02", [])])
async def test_a_month_ends_before_the_next_begins(
    http: aiohttp.ClientSession, lines: list[StatementLine], month: str, ids: list[int]
) -> None:
    """In JSON and in CSV alike."""
    wanted = [f"tr_{n}" for n in ids]
    async with http.get("/v1/billing/statement", params={"month": month}) as answer:
        assert [line["id"] for line in (await answer.json())["data"]] == wanted
    params = {"month": month, "format": "csv"}
    async with http.get("/v1/billing/statement", params=params) as answer:
        rows = (await answer.text()).splitlines()[1:]
    assert [row.partition(",")[0] for row in rows] == wanted


@pytest.mark.parametrize(
    "params",
    [
        *({"month": text} for text in ("2026-13", "9999-12", "0000-00", "", "2026", "x" * 9000)),
        {"month": "2026-11", "from": "2026-11-03"},
        {"month": "2026-11", "to": "1796083200"},
        {"month": "2026-13", "format": "csv"},
    ],
)
async def test_what_is_no_month_is_named(
    http: aiohttp.ClientSession, lines: list[StatementLine], params: dict[str, str]
) -> None:
    async with http.get("/v1/billing/statement", params=params) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "month"
