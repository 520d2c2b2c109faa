"""Whatever is sent to operators' routes, the answer is a refusal or a success, never a fault."""

from __future__ import annotations

from itertools import product
from typing import Any

from administration.conftest import BASE, Desk
from safelight.admin_keys import Role
from safelight.api.admin import ADMIN_ROUTES

IDS = ("x", "\0", "a" * 5000, "../..", "é\u2028", "' OR 1=1 --", "%", "0", "f" * 32)
QUERIES = (
    "limit=0",
    "limit=-1",
    "limit=999999999999999999999",
    "limit=%D9%A1",
    "after=nobody",
    "after=%00",
    "search=%00",
    "search=" + "a" * 5000,
    "search=%FF%FE",
    "customer=%27%3B--",
    "customer=%00",
    "status=none",
    "status=completed,completed,failed",
    "created_after=99999999999",
    "pinned=perhaps",
    "standing=1",
    "subject=" + "b" * 9000,
    "step=year",
    "step=day&from=0&to=253402300799",
    "from=5&to=5",
    "from=10&to=5",
    "from=-1",
    "to=999999999999",
    "since_s=0",
    "since_s=99999999999",
    "model=none&channel=none",
    "format=xml",
    "month=2026-13",
    "nonsense=1",
    "&".join(f"a{number}=1" for number in range(50)),
)
BODIES: tuple[Any, ...] = (
    b"[",
    b"[]",
    b"\xff\xfe",
    b'{"name":"a","name":"b"}',
    b'{"amount_micros":1e400}',
    b"{" + b'"a":{' * 200 + b"}" * 201,
    b" " * 20_000,
    None,
    {},
    {"name": None},
    {"name": 5},
    {"name": ""},
    {"name": " \t"},
    {"name": "a\nb"},
    {"name": "\ud800"},
    {"name": "a\u0000"},
    {"name": "a" * 65},
    {"name": "x", "credit_micros": -1},
    {"name": "x", "credit_micros": 2**53},
    {"name": "x", "credit_micros": 1.5},
    {"name": "x", "key": "yes"},
    {"reason": "a" * 201},
    {"reason": "\ud800"},
    {"reason": ["x"]},
    {"amount_micros": "5", "reason": "x"},
    {"amount_micros": 2**70, "reason": "x"},
    {"amount_micros": 5, "reason": "\u0000"},
    {"credit_line_micros": -5},
    {"credit_line_micros": True},
    {"job_id": "\u0000", "reason": "x"},
    {"job_id": "j" * 65, "reason": "x"},
    {"budgets": None},
    {"budgets": {"year": 5}},
    {"budgets": {"day": -5}},
    {"budgets": {"day": {}}},
    {"budgets": [1]},
    {"requests_per_minute": -1},
    {"max_in_flight": 10**12},
    {"keep_alive": None},
    {"key": "sl_admin_x", "role": "owner"},
)


async def is_an_answer(desk: Desk, method: str, path: str, body: Any = None) -> None:
    answer = await desk.answer(method, path, body, role=Role.OWNER)
    assert answer.status < 500, (method, path[:80], str(body)[:80], answer.body)
    if answer.status >= 400:
        assert set(answer.json()) == {"error"}
        assert answer.json()["error"]["code"]


READ = [path for method, path, _, _ in ADMIN_ROUTES if method == "GET" and "events" not in path]
CHANGED = [(method, path) for method, path, _, _ in ADMIN_ROUTES if method != "GET"]


async def test_strange_queries_are_refused_or_answered(desk: Desk) -> None:
    await desk.order()
    for path, query in product(READ, QUERIES):
        target = path.removeprefix(BASE).replace("{id}", desk.customer)
        await is_an_answer(desk, "GET", f"{target}?{query}")


async def test_strange_names_are_not_found(desk: Desk) -> None:
    for method, path, _, _ in ADMIN_ROUTES:
        for name in IDS if "{" in path else ():
            target = path.removeprefix(BASE).replace("{id}", name).replace("{name}", name)
            await is_an_answer(desk, method, target, {"reason": "x"})


async def test_strange_bodies_are_refused(desk: Desk) -> None:
    for (method, path), body in product(CHANGED, BODIES):
        target = path.removeprefix(BASE).replace("{name}", "proof")
        await is_an_answer(desk, method, target.replace("{id}", desk.customer), body)
