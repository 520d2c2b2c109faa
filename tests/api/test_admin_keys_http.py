"""Operators' keys and sessions over HTTP: who makes and ends them, and what of it is noted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.visitors import House, open_house
from safelight import admin_acts, browser_sessions
from safelight.admin_keys import Role
from safelight.api.admin.sessions import PAGE
from safelight.db import Transaction

KEYS = "/admin/v1/admin-keys"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path / "data") as found:
        yield found


async def test_an_owner_makes_a_key_that_works_and_is_shown_once(house: House) -> None:
    """It goes as far as it was made for; the list has all of it but the key."""
    owner = house.visitor(house.admin[Role.OWNER])
    made = await owner.ask("POST", KEYS, {"name": "Bob", "role": "viewer"})
    assert made.status == 201
    assert made.headers["cache-control"] == "no-store"
    shown = made.json()
    key = shown.pop("key")
    listed = await owner.ask("GET", KEYS)
    assert key not in listed.body.decode()
    assert shown in listed.json()["data"]
    assert made.json()["last4"] == key[-4:]
    bob = house.visitor(key)
    assert (await bob.ask("GET", "/admin/v1/sessions")).status == 200
    assert (await bob.ask("GET", KEYS)).status == 403


async def test_without_a_role_a_key_is_an_operators_as_by_command(house: House) -> None:
    owner = house.visitor(house.admin[Role.OWNER])
    assert (await owner.ask("POST", KEYS, {"name": "Bob"})).json()["role"] == "operator"


async def test_a_key_has_a_name_that_can_be_read_and_a_role_that_is_known(house: House) -> None:
    owner = house.visitor(house.admin[Role.OWNER])
    for body, param in (
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": " Bob"}, "name"),
        ({"name": "B\nb"}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "Bob", "role": "king"}, "role"),
        ({"name": "Bob", "admin": True}, "admin"),
    ):
        answer = await owner.ask("POST", KEYS, body)
        assert (answer.status, answer.json()["error"]["param"]) == (400, param), body
    assert len((await owner.ask("GET", KEYS)).json()["data"]) == 3


async def test_a_revoked_key_and_its_sessions_open_nothing_any_more(house: House) -> None:
    owner, bob = house.visitor(house.admin[Role.OWNER]), house.visitor(house.admin[Role.VIEWER])
    browser = await house.operator(Role.VIEWER)
    key_id = house.admin[Role.VIEWER].removeprefix("sl_admin_")[:8]
    revoked = await owner.ask("POST", f"{KEYS}/{key_id}/revoke")
    assert (revoked.status, revoked.json()["revoked_at"]) == (200, house.clock.now_ms() // 1000)
    assert (await bob.ask("GET", "/admin/v1/sessions")).status == 401
    assert (await browser.ask("GET", "/admin/v1/sessions")).status == 401
    again = await owner.ask("POST", f"{KEYS}/{key_id}/revoke")
    assert (again.status, again.json()["error"]["code"]) == (404, "not_found")


async def test_the_last_owner_stays(house: House) -> None:
    """Of two owners one may go; the other one's key ends by command alone."""
    owner = house.visitor(house.admin[Role.OWNER])
    own_id = house.admin[Role.OWNER].removeprefix("sl_admin_")[:8]
    refused = await owner.ask("POST", f"{KEYS}/{own_id}/revoke")
    assert (refused.status, refused.json()["error"]["code"]) == (409, "last_owner")
    second = (await owner.ask("POST", KEYS, {"name": "Eve", "role": "owner"})).json()
    assert (await owner.ask("POST", f"{KEYS}/{own_id}/revoke")).status == 200
    eve = house.visitor(second["key"])
    assert (await eve.ask("POST", f"{KEYS}/{second['id']}/revoke")).status == 409
    assert await house.office.revoke_admin_key(second["id"]) is not None
    assert (await eve.ask("GET", KEYS)).status == 401


async def test_what_is_done_with_keys_is_in_the_audit_refusals_too(house: House) -> None:
    browser = await house.operator(address="198.51.100.9")
    session = (await browser.ask("GET", "/admin/v1/session")).json()["id"]
    made = (await browser.ask("POST", KEYS, {"name": "Bob"})).json()
    await browser.ask("POST", f"{KEYS}/{made['id']}/revoke")
    own_id = house.admin[Role.OWNER].removeprefix("sl_admin_")[:8]
    await browser.ask("POST", f"{KEYS}/{own_id}/revoke")
    acts = await house.app.db.read(lambda tx: admin_acts.page(tx, limit=3))
    assert [(act.act, act.subject, act.outcome[:7]) for act in acts] == [
        ("admin_key.revoke", own_id, "refused"),
        ("admin_key.revoke", made["id"], "done"),
        ("admin_key.create", made["id"], "done"),
    ]
    assert {(act.session_id, act.address, act.actor) for act in acts} == {
        (session, "198.51.100.9", f"admin:{own_id}")
    }
    assert made["key"] not in "".join(act.after + act.before for act in acts)


async def test_sessions_are_listed_with_where_they_come_from(house: House) -> None:
    """Operators' and customers', newest first; nothing of the cookies."""
    customer = house.visitor(address="198.51.100.1")
    body = {"key": house.key}
    agent = {"user-agent": "Lynx/2.9\x01" + "x" * 300}
    await customer.ask("POST", "/v1/session", body, headers=agent)
    house.clock.advance(60)
    browser = await house.operator(Role.VIEWER, address="198.51.100.2")
    listed = (await browser.ask("GET", "/admin/v1/sessions")).json()
    now_s = house.clock.now_ms() // 1000
    newest, oldest = listed["data"]
    assert newest["current"] is True
    assert (newest["kind"], newest["name"], newest["role"]) == ("operator", "the viewer", "viewer")
    assert (newest["address"], newest["created_at"]) == ("198.51.100.2", now_s)
    assert (oldest["kind"], oldest["name"], oldest["role"]) == ("customer", "team", None)
    assert oldest["agent"] == "Lynx/2.9" + "x" * 192
    assert (oldest["address"], oldest["created_at"]) == ("198.51.100.1", now_s - 60)
    assert oldest["current"] is False
    assert (listed["last_id"], listed["has_more"]) == (oldest["id"], False)


async def test_sessions_are_listed_page_by_page(house: House) -> None:
    """A page is two hundred; the next begins behind the last one shown."""

    def many(tx: Transaction) -> None:
        for number in range(3 * PAGE // 2):
            stored = browser_sessions.digest(f"{number}", b"pepper")
            browser_sessions.begin(
                tx,
                session_id=f"ses_{number:03d}",
                stored=stored,
                admin_key_id=keys[number % len(keys)],
                address="",
                agent="",
            )

    made = [await house.office.create_admin_key(f"{at}", Role.VIEWER) for at in range(4)]
    keys = [key.id for _, key in made]
    await house.app.db.write(many)
    viewer = house.visitor(made[0][0])
    first = (await viewer.ask("GET", "/admin/v1/sessions")).json()
    rest = (await viewer.ask("GET", f"/admin/v1/sessions?after={first['last_id']}")).json()
    ids = [one["id"] for one in (*first["data"], *rest["data"])]
    assert ids == [f"ses_{number:03d}" for number in reversed(range(3 * PAGE // 2))]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    for query in ("after=none", "limit=5"):
        assert (await viewer.ask("GET", f"/admin/v1/sessions?{query}")).status == 400


async def test_an_owner_ends_any_session_and_others_their_own(house: House) -> None:
    """Ended is ended at once, and noted with who did it."""
    customer = await house.customer()
    one, two = await house.operator(Role.VIEWER), await house.operator(Role.VIEWER)
    operator, owner = await house.operator(Role.OPERATOR), await house.operator()
    ids = {
        name: (await browser.ask("GET", "/admin/v1/session")).json()["id"]
        for name, browser in (("two", two), ("operator", operator))
    }
    ids["customer"] = (await customer.ask("GET", "/v1/session")).json()["id"]
    for name in ("operator", "customer"):
        refused = await one.ask("DELETE", f"/admin/v1/sessions/{ids[name]}")
        assert (refused.status, refused.json()["error"]["code"]) == (403, "role_required")
    assert (await operator.ask("DELETE", f"/admin/v1/sessions/{ids['customer']}")).status == 403
    assert (await one.ask("DELETE", f"/admin/v1/sessions/{ids['two']}")).status == 204
    for name in ("operator", "customer"):
        assert (await owner.ask("DELETE", f"/admin/v1/sessions/{ids[name]}")).status == 204
    for browser, target in ((two, "/admin/v1/session"), (customer, "/v1/jobs")):
        assert (await browser.ask("GET", target)).status == 401
    assert (await owner.ask("DELETE", f"/admin/v1/sessions/{ids['two']}")).status == 404
    acts = await house.app.db.read(lambda tx: admin_acts.page(tx, subject=ids["two"], limit=1))
    assert [(act.act, act.actor_name) for act in acts] == [("session.end", "the viewer")]
