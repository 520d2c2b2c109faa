"""What was done, what is wrong, what runs: audit, alerts, verification, system, events."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from administration.conftest import BASE, Desk
from administration.test_work import queued
from safelight import admin_acts, alerts
from safelight.admin_keys import Role
from safelight.administration.feed import SAMPLE, Feed, News
from safelight.alerts import Wrong
from safelight.api.admin import ADMIN_ROUTES
from safelight.api.admin.contract import ADMIN_OPERATIONS, SESSION_OPERATIONS
from safelight.api.admin.sessions import SESSION_ROUTES
from safelight.api.openapi import openapi_json
from safelight.db import Transaction
from safelight.office import open_office

CHANGING = {(method, path) for method, path, _, _ in ADMIN_ROUTES if method != "GET"}


def filled(path: str, ids: dict[str, str]) -> str:
    """Return a route's path with ids of things that are there."""
    kind = path.removeprefix(BASE).split("/")[1]
    return path.removeprefix(BASE).replace("{id}", ids.get(kind, "x")).replace("{name}", "proof")


async def things(desk: Desk) -> dict[str, str]:
    """Make one of each thing that can be changed; return their ids by the path's first word."""
    bought = await desk.order()
    job = (await desk.ask("GET", f"/jobs/{bought}"))["image"]["id"]
    key = (await desk.ask("GET", "/keys"))["data"][0]["id"]
    waiting = await queued(desk)
    return {
        "customers": desk.customer, "keys": key, "jobs": waiting, "images": job, "bought": bought
    }  # fmt: skip


async def test_every_change_leaves_one_line_of_who_did_what_from_where(desk: Desk) -> None:
    """All state-changing routes, each done once."""
    ids = await things(desk)
    reason = {"reason": "because"}
    bodies: dict[str, Any] = {
        "/customers": {"name": "acme", "credit_micros": 5},
        "/customers/{id}": {"name": "Team"},
        "/customers/{id}/credit": {"amount_micros": 5, **reason},
        "/customers/{id}/credit-line": {"credit_line_micros": 5},
        "/customers/{id}/keys": {"name": "second"},
        "/keys/{id}": {"max_in_flight": 5},
        "/refunds": {"job_id": ids["bought"], **reason},
        "/customers/{id}/freeze": reason,
        "/customers/{id}/unfreeze": reason,
        "/accounts/{name}/pause": reason,
    }
    seen = {one["id"] for one in await desk.acts()}
    acts = set()
    last = ("DELETE", f"{BASE}/keys/{{id}}/revoke")
    for method, path in sorted(CHANGING, key=lambda one: (one == last, one[0] == "DELETE", one)):
        body = bodies.get(path.removeprefix(BASE))
        answer = await desk.answer(method, filled(path, ids), body)
        assert answer.status in (200, 201), (method, path, answer.body)
        (act,) = [one for one in await desk.acts() if one["id"] not in seen]
        seen.add(act["id"])
        assert (act["actor_name"], act["address"]) == ("operator Ada", "127.0.0.1"), path
        assert (act["outcome"], act["actor"][:6]) == ("done", "admin:"), path
        assert act["subject"], path
        acts.add(act["act"])
    assert len(acts) == len(CHANGING)


async def test_the_audit_is_read_by_subject_and_in_pages(desk: Desk) -> None:
    path = f"/customers/{desk.customer}"
    for name in ("b", "c", "d"):
        await desk.ask("PATCH", path, {"name": name})
    await desk.ask("POST", "/customers", {"name": "other"}, status=201)
    mine = (await desk.ask("GET", f"/audit?subject={desk.customer}"))["data"]
    assert [(one["before"], one["after"]) for one in mine[:3]] == [
        ("c", "d"),
        ("b", "c"),
        ("team", "b"),
    ]
    page = await desk.ask("GET", f"/audit?subject={desk.customer}&limit=2")
    rest = await desk.ask("GET", f"/audit?subject={desk.customer}&after={page['last_id']}")
    assert page["has_more"] is True
    assert page["data"] + rest["data"] == mine


async def test_commands_leave_lines_too(tmp_path: Path) -> None:
    """The same verbs on the data folder, under the operator's name for itself."""
    async with open_office(tmp_path) as office:
        await office.create_customer_key("acme", 5_000_000)
        (key,) = await office.list_keys()
        await office.credit("acme", 1_000_000, "more")
        await office.freeze("acme", "why")
        await office.unfreeze("acme", "fine")
        await office.revoke_key(key.id)
        assert await office.revoke_key("nobody") is False
        assert office.pictures is not None
        await office.pictures.purge("acme")
        acts = await office._db.read(lambda tx: admin_acts.page(tx, limit=50))
    assert [(one.act, one.outcome.partition(":")[0]) for one in reversed(acts)] == [
        ("key.create", "done"),
        ("credit.add", "done"),
        ("customer.freeze", "done"),
        ("customer.unfreeze", "done"),
        ("key.revoke", "done"),
        ("key.revoke", "refused"),
        ("pictures.purge", "done"),
    ]
    assert {(one.actor, one.address) for one in acts} == {("operator", "")}


async def test_a_route_is_for_its_role_and_higher_ones(desk: Desk) -> None:
    """Viewers see all and change nothing; customers' keys open nothing."""
    before = await desk.acts()
    for method, path, _, _ in ADMIN_ROUTES:
        target = filled(path, {})
        desk.gateway.clock.advance(30)  # wrong keys are braked
        customer = await desk.gateway.ask(method, BASE + target)
        assert customer.status == 401, path
        if path.endswith("/events"):
            continue
        viewer = await desk.answer(method, target, role=Role.VIEWER)
        if (method, path) in CHANGING:
            assert (viewer.status, viewer.json()["error"]["code"]) == (403, "role_required"), path
            owner = await desk.answer(method, target, {"nonsense": 1}, role=Role.OWNER)
            assert owner.status in (200, 400, 404), path
        else:
            assert viewer.status in (200, 404), path
    assert await desk.acts() == before


def test_the_document_describes_every_route_with_its_role() -> None:
    """Routes and operations are the same set, under the tag `admin`; references resolve."""
    described = {(one.method.upper(), BASE + one.path) for one in ADMIN_OPERATIONS}
    assert described == {(method, path) for method, path, _, _ in ADMIN_ROUTES}
    doors = {(one.method.upper(), f"/admin/v1{one.path}") for one in SESSION_OPERATIONS}
    assert doors == {(method, path) for method, path, _, _ in SESSION_ROUTES}
    document = msgspec.json.decode(openapi_json())
    for method, path, role, _ in ADMIN_ROUTES:
        operation = document["paths"][path][method.lower()]
        assert operation["tags"] == ["admin"]
        assert f"role {role}." in operation["description"]
    used = {
        piece.partition('"')[0]
        for piece in openapi_json().decode().split("#/components/schemas/")[1:]
    }
    assert used <= set(document["components"]["schemas"])


async def test_alerts_are_listed_while_they_stand_and_after(desk: Desk) -> None:
    def raise_two(tx: Transaction) -> None:
        wrong = [
            Wrong(rule="account_out", subject="spare", words="The vendor refuses its key."),
            Wrong(rule="visible_errors", words="2 % are 5xx", value=0.02, threshold=0.01),
        ]
        alerts.settle(tx, wrong, new_ids=["alert_1", "alert_2"], clear_ms=0)

    def resolve_one(tx: Transaction) -> None:
        wrong = [Wrong(rule="account_out", subject="spare", words="x")]
        alerts.settle(tx, wrong, new_ids=["alert_3"], clear_ms=0)

    db, clock = desk.gateway.app.db, desk.gateway.clock
    assert (await desk.ask("GET", "/alerts"))["data"] == []
    await db.write(raise_two)
    clock.advance(60)
    await db.write(resolve_one)
    found = {one["id"]: one for one in (await desk.ask("GET", "/alerts"))["data"]}
    assert found["alert_1"] == {
        "object": "alert",
        "id": "alert_1",
        "name": "account_out",
        "subject": "spare",
        "message": "The vendor refuses its key.",
        "value": None,
        "threshold": None,
        "raised_at": 1_800_000_000,
        "resolved_at": None,
    }
    assert found["alert_2"]["resolved_at"] == 1_800_000_060
    standing = (await desk.ask("GET", "/alerts?standing=true"))["data"]
    assert [one["id"] for one in standing] == ["alert_1"]
    first = await desk.ask("GET", "/alerts?limit=1")
    rest = await desk.ask("GET", f"/alerts?after={first['last_id']}")
    assert {one["id"] for one in first["data"] + rest["data"]} == set(found)


async def test_books_are_verified_on_request_and_findings_shown(desk: Desk) -> None:
    """A balance that does not fit is found, told in words, and its customer is stopped."""
    clean = await desk.ask("POST", "/verification")
    assert (clean["findings"], clean["running"]) == ([], False)
    assert clean["ended_at"] >= clean["began_at"]

    def spoil(tx: Transaction) -> None:
        tx.execute(
            "UPDATE balance SET posted_micros = posted_micros + 7 WHERE customer_id = :id",
            {"id": desk.customer},
        )

    await desk.gateway.app.db.write(spoil)
    found = (await desk.ask("POST", "/verification"))["findings"]
    assert found
    assert {one["customer"] for one in found} == {"team"}
    assert all(one["text"] for one in found)
    assert (await desk.ask("GET", "/verification"))["findings"] == found
    stopped = await desk.ask("GET", f"/customers/{desk.customer}")
    assert stopped["frozen"] is not None


@pytest.mark.parametrize("database_url_seldom", ["sqlite"], indirect=True)  # a file is looked at
async def test_what_runs_is_told(desk: Desk) -> None:
    await desk.order()
    found = await desk.ask("GET", "/system")
    assert found["accepting"] is True
    assert [one["id"] for one in found["processes"]] == [desk.gateway.app.owner]
    assert found["database"]["kind"] == "sqlite"
    assert found["database"]["bytes"] > 100_000
    assert found["database"]["commit_ms"] > 0
    assert found["storage"]["kind"] == "disk"
    assert found["data_folder"]["folders"]["blobs"] > 1000
    assert found["clock"]["database_ahead_ms"] == 0


# --- what changes now ----------------------------------------------------------------------------


async def test_news_tell_of_pauses_ended_jobs_and_alerts(desk: Desk) -> None:
    """Of many jobs a few are told one by one and all are counted; of the first look nothing."""
    app = desk.gateway.app
    feed = Feed(app.db)
    assert await feed.look() == []
    assert await feed.look() == []
    for _ in range(SAMPLE + 2):
        await desk.order()
    await desk.ask("POST", "/accounts/proof/pause", {"reason": "x"})
    await app.upkeep.share()
    await app.db.write(
        lambda tx: alerts.settle(
            tx, [Wrong(rule="disk_low", words="x")], new_ids=["alert_1"], clear_ms=0
        )
    )
    desk.gateway.clock.advance(1)
    pool, jobs, alert = await feed.look()
    changed: Any = pool.data["accounts"]
    (account,) = changed
    assert (account["name"], account["state"], account["paused"]) == ("proof", "paused", True)
    assert jobs.data["ended"] == {"completed": SAMPLE + 2}
    told: Any = jobs.data["jobs"]
    assert len(told) == SAMPLE
    assert {(one["customer"], one["status"]) for one in told} == {("team", "completed")}
    raised: Any = alert.data["raised"]
    assert [(one["id"], one["name"]) for one in raised] == [("alert_1", "disk_low")]
    await app.db.write(lambda tx: alerts.settle(tx, [], new_ids=[], clear_ms=0))
    (gone,) = await feed.look()
    resolved: Any = gone.data["resolved"]
    assert resolved[0]["resolved_at"] == 1_800_000_001


async def test_the_stream_brings_news_and_ends_when_the_process_leaves(desk: Desk) -> None:
    app = desk.gateway.app
    watching = asyncio.create_task(desk.answer("GET", "/events", role=Role.VIEWER))
    while not app.administration.feed.watched:  # noqa: ASYNC110  (nobody tells)
        await asyncio.sleep(0)
    app.administration.feed.spread([News(kind="pool", data={"accounts": [{"name": "proof"}]})])
    await app.administration.stop()
    answer = await watching
    assert (answer.status, answer.headers["content-type"]) == (
        200,
        "text/event-stream; charset=utf-8",
    )
    retry, event, end = answer.body.decode().split("\n\n")
    assert (retry.startswith("retry: "), end) == (True, "")
    name, data = event.split("\n")
    assert name == "event: pool"
    told = json.loads(data.removeprefix("data: "))
    assert told["type"] == "pool"
    assert told["data"]["accounts"][0]["name"] == "proof"
