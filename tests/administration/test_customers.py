"""Customers, their keys and their money, as operators make and change them over HTTP."""

from __future__ import annotations

from administration.conftest import Desk


async def test_a_customer_is_made_with_credit_and_a_key_that_works(desk: Desk) -> None:
    """The key is shown once; with it the customer sees its money."""
    made = await desk.ask(
        "POST", "/customers", {"name": " acme ", "credit_micros": 5_000_000}, status=201
    )
    assert (made["name"], made["keys"], made["frozen"]) == ("acme", 1, None)
    assert made["balance"]["available_micros"] == 5_000_000
    own = await desk.gateway.ask("GET", "/v1/billing/balance", key=made["key"])
    assert own.json()["available_micros"] == 5_000_000
    shown = await desk.ask("GET", f"/customers/{made['id']}")
    assert "key" not in shown
    assert shown == {name: value for name, value in made.items() if name != "key"}


async def test_a_customer_may_be_made_without_a_key(desk: Desk) -> None:
    made = await desk.ask("POST", "/customers", {"name": "acme", "key": False}, status=201)
    assert (made["keys"], made["balance"]["posted_micros"]) == (0, 0)
    assert "key" not in made


async def test_two_customers_do_not_share_a_name(desk: Desk) -> None:
    """Neither when one is made nor when one is renamed; what was there stays."""
    assert await desk.refused("POST", "/customers", {"name": "team"}, status=409) == "name_taken"
    made = await desk.ask("POST", "/customers", {"name": "acme"}, status=201)
    path = f"/customers/{made['id']}"
    assert await desk.refused("PATCH", path, {"name": "team"}, status=409) == "name_taken"
    assert (await desk.ask("PATCH", path, {"name": "Acme Ltd"}))["name"] == "Acme Ltd"
    assert (await desk.ask("GET", path))["name"] == "Acme Ltd"


async def test_customers_are_searched_and_listed_in_pages(desk: Desk) -> None:
    for name in ("alpha", "beta", "Alphabet", "100%"):
        await desk.ask("POST", "/customers", {"name": name}, status=201)
    names = []
    after = ""
    while True:
        page = await desk.ask("GET", f"/customers?limit=2{after}")
        names += [one["name"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    assert sorted(names) == sorted(["alpha", "beta", "Alphabet", "100%", "team"])
    found = await desk.ask("GET", "/customers?search=ALPHA")
    assert {one["name"] for one in found["data"]} == {"alpha", "Alphabet"}
    assert [one["name"] for one in (await desk.ask("GET", "/customers?search=%25"))["data"]] == [
        "100%"
    ]


async def test_credit_goes_up_and_down_but_never_below_what_is_there(desk: Desk) -> None:
    """The transfers name the operator, as the audit does."""
    path = f"/customers/{desk.customer}/credit"
    up = await desk.ask("POST", path, {"amount_micros": 2_500_000, "reason": "invoice 7"})
    assert up["posted_micros"] == 12_500_000
    down = await desk.ask("POST", path, {"amount_micros": -500_000, "reason": "typo"})
    assert down["posted_micros"] == 12_000_000
    code = await desk.refused(
        "POST", path, {"amount_micros": -12_000_001, "reason": "x"}, status=409
    )
    assert code == "would_overdraw"
    lines = (await desk.ask("GET", f"/customers/{desk.customer}/statement"))["data"]
    assert [(one["kind"], one["amount_micros"], one["reason"]) for one in lines] == [
        ("topup", 10_000_000, "first credit"),
        ("topup", 2_500_000, "invoice 7"),
        ("adjust", -500_000, "typo"),
    ]
    refused, *done = [one for one in await desk.acts() if one["act"] == "credit.add"]
    assert refused["outcome"].startswith("refused: ")
    assert [one["outcome"] for one in done] == ["done", "done"]
    nothing = {"amount_micros": 0, "reason": "x"}
    assert await desk.refused("POST", path, nothing, status=400) == "invalid_value"


async def test_a_credit_line_is_given_and_not_taken_from_under_a_debt(desk: Desk) -> None:
    path = f"/customers/{desk.customer}"
    given = await desk.ask("PUT", f"{path}/credit-line", {"credit_line_micros": 5_000_000})
    assert given["credit_line_micros"] == 5_000_000
    await desk.ask("POST", f"{path}/credit", {"amount_micros": -12_000_000, "reason": "spent"})
    code = await desk.refused(
        "PUT", f"{path}/credit-line", {"credit_line_micros": 1_000_000}, status=409
    )
    assert code == "would_overdraw"
    shown = (await desk.ask("GET", path))["balance"]
    assert (shown["posted_micros"], shown["credit_line_micros"]) == (-2_000_000, 5_000_000)


async def test_a_frozen_customer_orders_nothing_until_it_is_let_go(desk: Desk) -> None:
    path = f"/customers/{desk.customer}"
    frozen = await desk.ask("POST", f"{path}/freeze", {"reason": "a chargeback"})
    assert frozen["frozen"]["reason"] == "a chargeback"
    order = {"model": "gpt-image-2-vip", "prompt": "x"}
    refused = await desk.gateway.ask("POST", "/v1/images/generations", order)
    assert (refused.status, refused.json()["error"]["code"]) == (403, "customer_frozen")
    free = await desk.ask("POST", f"{path}/unfreeze", {"reason": "it was paid"})
    assert (free["frozen"], free["accepted"]) == (None, [])
    await desk.order()


async def test_a_statement_is_the_one_that_its_owner_reads(desk: Desk) -> None:
    """As JSON and as CSV, to the byte."""
    await desk.order()
    for query in ("", "?format=csv", "?limit=1", "?month=2027-01"):
        own = await desk.gateway.ask("GET", f"/v1/billing/statement{query}")
        shown = await desk.answer("GET", f"/customers/{desk.customer}/statement{query}")
        assert (shown.status, shown.body) == (200, own.body)
        assert shown.body


async def test_a_key_is_made_changed_and_revoked(desk: Desk) -> None:
    """What is not named stays; null takes a budget away, and gives a rate back to the default."""
    desk.gateway.clock.advance(1)
    wanted = {"name": "ci", "budgets": {"day": 3_000_000, "total": 9_000_000}, "max_in_flight": 4}
    made = await desk.ask("POST", f"/customers/{desk.customer}/keys", wanted, status=201)
    assert (await desk.gateway.ask("GET", "/v1/jobs", key=made["key"])).status == 200
    path = f"/keys/{made['id']}"
    change = {"budgets": {"day": None, "month": 7_000_000}, "requests_per_minute": 60}
    changed = await desk.ask("PATCH", path, change)
    assert {one["period"]: one["limit_micros"] for one in changed["budgets"]} == {
        "month": 7_000_000,
        "total": 9_000_000,
    }
    assert (changed["requests_per_minute"], changed["max_in_flight"]) == (60, 4)
    again = await desk.ask("PATCH", path, {"requests_per_minute": None, "keep_alive": True})
    assert (again["requests_per_minute"], again["keep_alive"]) == (None, True)
    listed = (await desk.ask("GET", f"/keys?customer={desk.customer}"))["data"]
    assert [one["name"] for one in listed] == ["team", "ci"]
    assert listed[1] == again
    revoked = await desk.ask("POST", f"{path}/revoke")
    assert revoked["revoked_at"] is not None
    assert (await desk.ask("POST", f"{path}/revoke"))["revoked_at"] == revoked["revoked_at"]
    assert await desk.refused("PATCH", path, change, status=404) == "not_found"
    desk.gateway.clock.advance(2)  # keys that are known are looked at again after a second
    assert (await desk.gateway.ask("GET", "/v1/jobs", key=made["key"])).status == 401


async def test_keys_of_all_are_listed_in_pages(desk: Desk) -> None:
    for name in ("b", "c"):
        await desk.ask("POST", "/customers", {"name": name}, status=201)
    first = await desk.ask("GET", "/keys?limit=2")
    rest = await desk.ask("GET", f"/keys?limit=2&after={first['last_id']}")
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert {one["customer"] for one in first["data"] + rest["data"]} == {"team", "b", "c"}


async def test_who_is_not_there_is_not_found(desk: Desk) -> None:
    reason = {"reason": "x"}
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("POST", "/freeze", reason),
        ("POST", "/unfreeze", reason),
        ("POST", "/credit", {"amount_micros": 5, **reason}),
        ("PUT", "/credit-line", {"credit_line_micros": 5}),
        ("POST", "/keys", {"name": "x"}),
        ("GET", "/statement", None),
    ):
        code = await desk.refused(method, f"/customers/cus_none{path}", body, status=404)
        assert code == "not_found", path
