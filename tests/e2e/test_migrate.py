"""An installation moves between its file and a Postgres, and loses nothing on the way."""

from __future__ import annotations

import asyncio
import json
import subprocess
import urllib.request
from pathlib import Path

import msgspec
import pytest

from e2e.books import get, get_text
from e2e.process import GatewayProcess, accounts
from safelight import attempts, customers, jobs, ledger
from safelight.bench.faults.server import FaultUpstream
from safelight.clock import SystemClock
from safelight.db import Transaction
from safelight.db.schema import migrations
from safelight.opening import open_database
from safelight.types import (
    BlobRef,
    ImageRequest,
    JobFailure,
    Operation,
    PlanMethod,
    Received,
    SizePlan,
)

VARIABLE = "SAFELIGHT_DATABASE_URL"


def order(url: str, key: str, prompt: str) -> bytes:
    """Buy one picture and return the answer's body."""
    body = {"model": "gpt-image-2-vip", "prompt": prompt, "size": "1280x720"}
    request = urllib.request.Request(
        f"{url}/v1/images/generations",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        data: bytes = answer.read()
        return data


def fill(data: Path, customer: str, lines: int) -> None:
    """Write many jobs that ended, as the gateway writes them: most delivered, some refused."""

    def work(tx: Transaction) -> None:
        customer_id = customers.find_customer(tx, customer)
        assert customer_id is not None
        row = tx.one("SELECT * FROM image ORDER BY id LIMIT 1")
        key = tx.one("SELECT id FROM api_key WHERE customer_id = :c", {"c": customer_id})
        assert row is not None
        assert key is not None
        fields = {name: row[name] for name in BlobRef.__struct_fields__}
        blob = BlobRef(**{**fields, "has_alpha": bool(fields["has_alpha"])})
        for number in range(lines):
            end_one(tx, number, customer_id, key["id"], blob)

    async def write() -> None:
        db = open_database(data, SystemClock())
        await db.write(work)
        await db.close()

    asyncio.run(write())


def end_one(tx: Transaction, number: int, customer_id: str, key_id: str, blob: BlobRef) -> None:
    """Write one job from its acceptance to its end."""
    request = jobs.RequestRow(
        id=f"req_{number:024x}",
        customer_id=customer_id,
        key_id=key_id,
        route="/v1/images/generations",
        fingerprint=number.to_bytes(32, "big"),
        idempotency_key=f"order-{number}",
        # Towards the other end of the order of names, so that both directions occur.
        retry_of=f"req_{number - 1:024x}" if number % 7 == 1 else None,
        retry_count=0,
        attached_by=None,
        attached_until=0,
        n=1,
        created_at=tx.now_ms,
        delivered_at=None,
    )
    jobs.insert_request(tx, request)
    reserve_id, transfer_id = f"tr_a{number:023x}", f"tr_b{number:023x}"
    job_id = f"job_{number:024x}"
    ledger.reserve(
        tx,
        transfer_id=reserve_id,
        customer_id=customer_id,
        job_id=job_id,
        amount_micros=30_000,
        actor="test",
    )
    prompt = f"«плёнка» 写真 {number} 100 % :name \\ ' \""
    jobs.insert_job(
        tx,
        job_id=job_id,
        request=request,
        n=0,
        order=ImageRequest(
            channel="gpt-image-2-vip",
            size="1280x720",
            operation=Operation.GENERATION,
            prompt=prompt,
        ),
        size_plan=SizePlan(PlanMethod.NATIVE, blob.width, blob.height, blob.width, blob.height),
        price_micros=30_000,
        reserve_id=reserve_id,
        lease_owner="gone",
        deadline_at=tx.now_ms + 900_000,
        budget_day="2026-11-22",
    )
    job = jobs.get_job(tx, job_id)
    assert job is not None
    if number % 5 == 4:
        failure = JobFailure(status=400, type="x", code="moderation_blocked", message="No.")
        assert jobs.fail(tx, job, failure, cancelled=failure)
        ledger.release(
            tx, transfer_id=transfer_id, reserve_id=reserve_id, actor="test", reason="refused"
        )
        return
    assert attempts.begin(tx, job, k=1, account="account-0", group="account-0")
    received = Received(path=Path("spool"), digest=blob.digest, bytes=blob.bytes)
    attempts.receive(tx, job_id, 1, 1, received)
    assert jobs.complete(tx, job, epoch=1, k=1, image_id=f"{number:032x}", blob=blob, link_ttl_s=60)
    ledger.settle(
        tx, transfer_id=transfer_id, reserve_id=reserve_id, actor="test", reason="delivered"
    )


@pytest.mark.parametrize(
    "lines_before", [300, pytest.param(10_000, marks=pytest.mark.campaign)], ids=str
)
def test_an_installation_moves_to_postgres_and_back(
    tmp_path: Path, postgres_url: str, lines_before: int
) -> None:
    """The statement stays the same to the byte, `verify` is clean, orders go on; both ways."""
    with FaultUpstream.in_thread() as upstream:
        gateway = GatewayProcess(tmp_path, accounts(upstream.base_url))
        key = gateway.key(credit="5000.00")
        with gateway:
            order(gateway.url, key, "before")
        fill(gateway.data, "team", lines_before)
        with gateway:
            before = get_text(f"{gateway.url}/v1/billing/statement?format=csv", key)
        assert before.count("\n") == lines_before + 3  # header, top-up, the picture

        moved = gateway.command("migrate", "--from", "sqlite:", "--to", postgres_url, "--json")
        assert json.loads(moved)["rows"]["job"] == lines_before + 1
        assert not (gateway.data / "safelight.db").exists()
        gateway.environ[VARIABLE] = postgres_url
        with gateway:
            assert get_text(f"{gateway.url}/v1/billing/statement?format=csv", key) == before
            assert gateway.command("verify", "--blobs", "none", "--json")
            order(gateway.url, key, "after")
            lines = get_text(f"{gateway.url}/v1/billing/statement?format=csv", key)
            assert lines.startswith(before)
            assert lines.count("\n") == before.count("\n") + 1
            assert get(f"{gateway.url}/v1/billing/balance", key)["held_micros"] == 0

        gateway.command("migrate", "--from", postgres_url, "--to", "sqlite:")
        del gateway.environ[VARIABLE]
        with gateway:
            assert get_text(f"{gateway.url}/v1/billing/statement?format=csv", key) == lines
            order(gateway.url, key, "home again")
        assert msgspec.json.decode(gateway.command("verify", "--json"))["findings"] == []


def refused(gateway: GatewayProcess, *words: str) -> str:
    """Run a command that must fail, and return what it says."""
    try:
        gateway.command(*words)
    except subprocess.CalledProcessError as error:
        said: str = error.stderr
        return said
    raise AssertionError(f"{words} was carried out")


def test_a_move_is_refused_while_somebody_serves(tmp_path: Path, postgres_url: str) -> None:
    with GatewayProcess(tmp_path) as gateway:
        said = refused(gateway, "migrate", "--from", "sqlite:", "--to", postgres_url)
        assert "stop it before its books are moved" in said
        assert gateway.command("verify", "--json")
    gateway.stop()


def test_a_move_into_other_books_is_refused(tmp_path: Path, postgres_url: str) -> None:
    first, second = GatewayProcess(tmp_path / "1"), GatewayProcess(tmp_path / "2")
    first.key("one")
    second.key("two")
    first.command("migrate", "--from", "sqlite:", "--to", postgres_url)
    said = refused(second, "migrate", "--from", "sqlite:", "--to", postgres_url)
    assert "has books of its own" in said
    assert "two" in second.command("keys", "list", "--json")


def test_the_schema_is_brought_up_to_date_by_name(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path)
    gateway.key()
    newest = migrations("sqlite")[-1].version
    assert json.loads(gateway.command("migrate", "--json")) == {"schema_version": newest}
