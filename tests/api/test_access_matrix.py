"""Who may call what: every route of the server, by everybody, against one table.

A route without a row fails. What a call that may be made then comes to is other tests' business:
here it is only that it was let through, and that what is not the caller's own is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from api.visitors import House, Visitor, open_house
from safelight.admin_keys import Role
from safelight.api import ALL_ROUTES

PICTURE = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}
SAFE = ("GET", "HEAD")


class Kind(Enum):
    """Who a route is for."""

    PUBLIC = "anybody"
    DOOR = "whoever has the key in the body, or the cookie"
    CUSTOMER = "any customer"
    OWN = "the customer whose it is"
    MACHINE = "whoever asks on the same machine, or has the token of [metrics]"
    VIEWER = Role.VIEWER
    OPERATOR = Role.OPERATOR
    OWNER = Role.OWNER


PUBLIC, DOOR, CUSTOMER, OWN = Kind.PUBLIC, Kind.DOOR, Kind.CUSTOMER, Kind.OWN
MACHINE = Kind.MACHINE
VIEWER, OPERATOR, OWNER = Kind.VIEWER, Kind.OPERATOR, Kind.OWNER

TABLE: Mapping[str, Kind] = {
    "POST /v1/images/generations": CUSTOMER,
    "POST /v1/images/edits": CUSTOMER,
    "POST /v1/chat/completions": CUSTOMER,
    "GET /v1/models": CUSTOMER,
    "GET /v1/models/{id}": CUSTOMER,
    "GET /v1/sizes": CUSTOMER,
    "POST /v1/quote": CUSTOMER,
    "GET /v1/jobs": CUSTOMER,
    "GET /v1/jobs/{id}": OWN,
    "POST /v1/jobs/{id}/cancel": OWN,
    "GET /v1/jobs/{id}/events": OWN,
    "GET /v1/jobs/{id}/receipt": OWN,
    "POST /v1/files": CUSTOMER,
    "GET /v1/files": CUSTOMER,
    "GET /v1/files/{id}": OWN,
    "DELETE /v1/files/{id}": OWN,
    "GET /v1/files/{id}/content": OWN,
    "POST /v1/batches": CUSTOMER,
    "GET /v1/batches": CUSTOMER,
    "GET /v1/batches/{id}": OWN,
    "POST /v1/batches/{id}/cancel": OWN,
    "GET /v1/images": CUSTOMER,
    "GET /v1/images/{id}": OWN,
    "DELETE /v1/images/{id}": OWN,
    "POST /v1/images/{id}/pin": OWN,
    "POST /v1/images/{id}/unpin": OWN,
    "GET /v1/images/{id}/original": OWN,
    "POST /v1/images/links/end": CUSTOMER,
    "GET /i/{file}": PUBLIC,
    "GET /v1/webhooks": CUSTOMER,
    "POST /v1/webhooks": CUSTOMER,
    "GET /v1/webhooks/secret": CUSTOMER,
    "POST /v1/webhooks/secret/rotate": CUSTOMER,
    "GET /v1/webhooks/deliveries": CUSTOMER,
    "POST /v1/webhooks/deliveries/{id}/redeliver": OWN,
    "GET /v1/webhooks/{id}": OWN,
    "PATCH /v1/webhooks/{id}": OWN,
    "DELETE /v1/webhooks/{id}": OWN,
    "POST /v1/webhooks/{id}/rotate": OWN,
    "POST /v1/webhooks/{id}/test": OWN,
    "GET /v1/webhooks/{id}/deliveries": OWN,
    "GET /v1/billing/balance": CUSTOMER,
    "GET /v1/billing/statement": CUSTOMER,
    "POST /v1/session": DOOR,
    "GET /v1/session": DOOR,
    "GET /v1/diagnostics/silence": CUSTOMER,
    "POST /v1/diagnostics/body": CUSTOMER,
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /metrics": MACHINE,
    "GET /openapi.json": PUBLIC,
    "GET /admin/v1/customers": VIEWER,
    "POST /admin/v1/customers": OPERATOR,
    "GET /admin/v1/customers/{id}": VIEWER,
    "PATCH /admin/v1/customers/{id}": OPERATOR,
    "POST /admin/v1/customers/{id}/freeze": OPERATOR,
    "POST /admin/v1/customers/{id}/unfreeze": OPERATOR,
    "POST /admin/v1/customers/{id}/credit": OPERATOR,
    "PUT /admin/v1/customers/{id}/credit-line": OPERATOR,
    "POST /admin/v1/customers/{id}/keys": OPERATOR,
    "GET /admin/v1/customers/{id}/statement": VIEWER,
    "GET /admin/v1/keys": VIEWER,
    "PATCH /admin/v1/keys/{id}": OPERATOR,
    "POST /admin/v1/keys/{id}/revoke": OPERATOR,
    "GET /admin/v1/jobs": VIEWER,
    "GET /admin/v1/jobs/{id}": VIEWER,
    "GET /admin/v1/jobs/{id}/receipt": VIEWER,
    "POST /admin/v1/jobs/{id}/cancel": OPERATOR,
    "POST /admin/v1/refunds": OPERATOR,
    "GET /admin/v1/batches": VIEWER,
    "GET /admin/v1/batches/{id}": VIEWER,
    "GET /admin/v1/images": VIEWER,
    "POST /admin/v1/images/{id}/pin": OPERATOR,
    "POST /admin/v1/images/{id}/unpin": OPERATOR,
    "DELETE /admin/v1/images/{id}": OPERATOR,
    "GET /admin/v1/accounts": VIEWER,
    "POST /admin/v1/accounts/{name}/pause": OPERATOR,
    "POST /admin/v1/accounts/{name}/resume": OPERATOR,
    "GET /admin/v1/channels": VIEWER,
    "GET /admin/v1/sizes": VIEWER,
    "GET /admin/v1/audit": VIEWER,
    "GET /admin/v1/alerts": VIEWER,
    "GET /admin/v1/verification": VIEWER,
    "POST /admin/v1/verification": OPERATOR,
    "GET /admin/v1/system": VIEWER,
    "GET /admin/v1/series": VIEWER,
    "GET /admin/v1/events": VIEWER,
    "POST /admin/v1/session": DOOR,
    "GET /admin/v1/session": DOOR,
    "GET /admin/v1/sessions": VIEWER,
    "DELETE /admin/v1/sessions/{id}": VIEWER,
    "GET /admin/v1/admin-keys": OWNER,
    "POST /admin/v1/admin-keys": OWNER,
    "POST /admin/v1/admin-keys/{id}/revoke": OWNER,
    "DELETE /v1/session": DOOR,
    "DELETE /admin/v1/session": DOOR,
}
"""In the order in which they are called: sessions end last."""

ROUTES = {f"{method} {path}" for method, path, _ in ALL_ROUTES}


class Caller(NamedTuple):
    """Somebody in the table's columns: as whom they count, and whether their calls are proved."""

    visitor: Visitor
    customer: bool = False
    owns: bool = False
    role: Role | None = None
    proves: bool = True
    door: str | None = None
    """Where the cookie in the jar is from."""


@dataclass(frozen=True)
class Expected:
    """The answer to a caller who is not let through; None: let through."""

    status: int | None
    code: str | None = None


THROUGH = Expected(None)


def expected(kind: Kind, method: str, path: str, caller: Caller) -> Expected:
    """Return what the table says of a caller."""
    if kind is Kind.PUBLIC:
        return THROUGH
    if kind is Kind.MACHINE:  # all of them come from elsewhere, and none has that token
        return Expected(401, "invalid_token")
    if kind is Kind.DOOR:
        return _at_door(method, caller.door == path, proves=caller.proves)
    refused = _unknown(kind, caller)
    if refused is None and method not in SAFE and not caller.proves:
        refused = Expected(403, "csrf_failed")
    if refused is None and kind is Kind.OWN and not caller.owns:
        refused = Expected(404)
    if refused is None and isinstance(kind.value, Role) and not _goes_so_far(caller, kind.value):
        refused = Expected(403, "role_required")
    return refused or THROUGH


def _unknown(kind: Kind, caller: Caller) -> Expected | None:
    if kind in (Kind.CUSTOMER, Kind.OWN):
        return None if caller.customer else Expected(401, "invalid_api_key")
    return None if caller.role is not None else Expected(401, "invalid_admin_key")


def _goes_so_far(caller: Caller, role: Role) -> bool:
    return caller.role is not None and caller.role.covers(role)


def _at_door(method: str, holds_cookie: bool, *, proves: bool) -> Expected:
    """Whoever has no cookie of a door is a stranger at it, whatever key they hold.

    To leave where one never was is done; to come in takes the key in the body.
    """
    if method == "GET" and not holds_cookie:
        return Expected(401, "session_over")
    if method == "DELETE" and holds_cookie and not proves:
        return Expected(403, "csrf_failed")
    return THROUGH


async def callers(house: House) -> dict[str, Caller]:
    """Return everybody: those to whom a thing does not belong before those whose it is."""
    customer, unproved = await house.customer(), await house.customer()
    operator, unproved_operator = await house.operator(), await house.operator()
    unproved.csrf = unproved_operator.csrf = None
    keys = {
        f"{role} key": Caller(house.visitor(house.admin[role]), role=role) for role in house.admin
    }
    theirs = Caller(operator, role=Role.OWNER, door="/admin/v1/session")
    own = Caller(customer, customer=True, owns=True, door="/v1/session")
    return {
        "nobody": Caller(house.visitor()),
        "wrong key": Caller(house.visitor("sl_live_wrong")),
        "other customer's key": Caller(house.visitor(house.other_key), customer=True),
        **keys,
        "operator's session, unproved": theirs._replace(visitor=unproved_operator, proves=False),
        "operator's session": theirs,
        "customer's session, unproved": own._replace(visitor=unproved, proves=False),
        "customer's session": own,
        "customer key": Caller(house.visitor(house.key), customer=True, owns=True),
    }


async def belongings(house: House) -> dict[str, str]:
    """Return, by the beginning of a path, the id of a thing of the first customer."""
    browser = house.visitor(house.key)
    order = {"prefer": "respond-async"}
    made = await browser.ask("POST", "/v1/images/generations", PICTURE)
    job = made.headers["x-safelight-job-id"]
    image = (await browser.ask("GET", f"/v1/jobs/{job}")).json()["image"]["id"]
    open_job = await browser.ask("POST", "/v1/images/generations", PICTURE, headers=order)
    hook = await browser.ask("POST", "/v1/webhooks", {"url": "https://93.184.216.34/told"})
    assert (made.status, open_job.status, hook.status) == (200, 202, 201), hook.body
    return {
        "/v1/jobs/": open_job.json()["id"],
        "/v1/images/": image,
        "/v1/webhooks/": hook.json()["id"],
        "/v1/models/": PICTURE["model"],
    }


def test_every_route_has_a_row() -> None:
    """And no row is left of a route that is gone."""
    assert set(TABLE) == ROUTES


async def test_everybody_gets_what_the_table_says(tmp_path: Path) -> None:
    """A call that is let through is answered otherwise than by 401, 403, 429 or a 5xx."""
    async with open_house(tmp_path / "data") as house:
        things = await belongings(house)
        everybody = await callers(house)
        found = []
        for number, (route, kind) in enumerate(TABLE.items()):
            for place, (name, caller) in enumerate(everybody.items()):
                method, _, path = route.partition(" ")
                # From many addresses: it is not the brakes that are looked at.
                caller.visitor.address = f"10.0.{number}.{place}"
                answer = await caller.visitor.ask(method, _target(path, things))
                says = expected(kind, method, path, caller)
                if not _fits(says, answer.status, answer.body):
                    found.append(f"{route} by {name}: {answer.status} {answer.body[:90]!r}")
        assert found == []


def _target(path: str, things: Mapping[str, str]) -> str:
    known = next((things[start] for start in things if path.startswith(start)), "none")
    return path.replace("{id}", known).replace("{name}", "none").replace("{file}", "none.png")


def _fits(says: Expected, status: int, body: bytes) -> bool:
    if says.status is None:
        return status not in (401, 403, 429) and status < 500
    return status == says.status and (says.code is None or f'"{says.code}"'.encode() in body)
