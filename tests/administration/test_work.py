"""Everybody's jobs, pictures and batches, as operators see, end and mend them."""

from __future__ import annotations

from typing import Any

from administration.conftest import Desk


async def second_customer(desk: Desk) -> tuple[str, str]:
    """Make another customer who has bought a picture; return its id and its key."""
    made = await desk.ask(
        "POST", "/customers", {"name": "acme", "credit_micros": 9_000_000}, status=201
    )
    body = {"model": "gpt-image-2-all", "prompt": "Ein Löwe", "size": "1024x1024"}
    answer = await desk.gateway.ask("POST", "/v1/images/generations", body, key=made["key"])
    assert answer.status == 200, answer.body
    return made["id"], made["key"]


async def test_jobs_of_all_customers_are_listed_and_filtered(desk: Desk) -> None:
    """Each with its customer and its prompt; the filters are the customers' own, and who."""
    mine = await desk.order()
    desk.gateway.clock.advance(1)
    other, _ = await second_customer(desk)
    desk.gateway.clock.advance(1)
    waiting = await queued(desk)
    listed = (await desk.ask("GET", "/jobs"))["data"]
    assert [(one["customer"], one["prompt"]) for one in listed] == [
        ("team", "later"),
        ("acme", "Ein Löwe"),
        ("team", "a lamp on a table"),
    ]
    for query, ids in (
        (f"customer={other}", [listed[1]["id"]]),
        ("status=queued,in_progress", [waiting]),
        ("status=completed", [listed[1]["id"], mine]),
        ("status=failed", []),
        ("channel=gpt-image-2-all", [listed[1]["id"]]),
        ("model=gpt-image-2-vip", [waiting, mine]),
        (f"request_id={listed[2]['request_id']}", [mine]),
        (f"created_after={listed[1]['created_at']}", [waiting, listed[1]["id"]]),
        (f"after={listed[1]['id']}", [mine]),
        ("customer=cus_none", []),
    ):
        found = await desk.ask("GET", f"/jobs?{query}")
        assert [one["id"] for one in found["data"]] == ids, query
    first = await desk.ask("GET", "/jobs?limit=2")
    assert (first["has_more"], first["last_id"]) == (True, listed[1]["id"])


async def queued(desk: Desk) -> str:
    """Have the customer order without waiting; nobody works on it before it is asked for."""
    body = {"model": "gpt-image-2-vip", "prompt": "later", "not_before": 1_800_100_000}
    made = await desk.gateway.ask(
        "POST", "/v1/images/generations", body, headers={"prefer": "respond-async"}
    )
    assert made.status == 202, made.body
    job: str = made.json()["id"]
    return job


async def test_a_job_shows_its_calls_by_the_names_of_accounts(desk: Desk) -> None:
    """Its owner sees an alias; what the vendor bills is the operator's to see."""
    job = await desk.order()
    shown = await desk.ask("GET", f"/jobs/{job}")
    assert (shown["attempts"], shown["customer_id"]) == (1, desk.customer)
    (call,) = shown["calls"]
    assert (call["account"], call["group"], call["outcome"]) == ("proof", "proof", "ok")
    assert (call["delivered"], call["sold"], call["cost_micros"]) == (True, True, 0)
    receipt = await desk.ask("GET", f"/jobs/{job}/receipt")
    own = (await desk.gateway.ask("GET", f"/v1/jobs/{job}/receipt")).json()
    assert own["attempts"][0]["account"] != "proof"
    assert receipt["attempts"] == [call]
    assert (receipt["cost_micros"], receipt["cost_complete"]) == (0, True)
    assert receipt["margin_micros"] == receipt["charged_micros"] == 30_000
    same = set(own) - {"attempts"}
    assert {name: receipt[name] for name in same} == {name: own[name] for name in same}


async def test_a_waiting_job_is_cancelled_and_one_that_has_ended_is_not(desk: Desk) -> None:
    """As its customer could; the act is noted with what the job was and is."""
    job = await queued(desk)
    ended = await desk.ask("POST", f"/jobs/{job}/cancel")
    assert (ended["status"], ended["customer"]) == ("cancelled", "team")
    act = (await desk.acts())[0]
    assert (act["act"], act["subject"], act["before"], act["after"]) == (
        "job.cancel",
        job,
        "queued",
        "cancelled",
    )
    assert (await desk.ask("POST", f"/jobs/{job}/cancel"))["status"] == "cancelled"
    done = await desk.order()
    assert await desk.refused("POST", f"/jobs/{done}/cancel", status=409) == "job_ended"
    balance = (await desk.ask("GET", f"/customers/{desk.customer}"))["balance"]
    assert (balance["posted_micros"], balance["held_micros"]) == (9_970_000, 0)


async def test_a_charge_is_given_back_once(desk: Desk) -> None:
    job = await desk.order()
    body = {"job_id": job, "reason": "it has six fingers"}
    given = await desk.ask("POST", "/refunds", body, status=201)
    assert (given["amount_micros"], given["balance"]["posted_micros"]) == (30_000, 10_000_000)
    assert await desk.refused("POST", "/refunds", body, status=409) == "already_refunded"
    free = await queued(desk)
    code = await desk.refused("POST", "/refunds", {**body, "job_id": free}, status=409)
    assert code == "not_charged"
    code = await desk.refused("POST", "/refunds", {**body, "job_id": "job_none"}, status=404)
    assert code == "not_found"
    lines = (await desk.ask("GET", f"/customers/{desk.customer}/statement"))["data"]
    assert [(one["kind"], one["reason"]) for one in lines if one["kind"] == "refund"] == [
        ("refund", "it has six fingers")
    ]


async def test_pictures_are_found_by_words_and_kept_let_go_and_deleted(desk: Desk) -> None:
    """Letters of every script are found in either case; a deleted picture is on no list."""
    await desk.order()
    desk.gateway.clock.advance(1)
    other, _ = await second_customer(desk)
    listed = (await desk.ask("GET", "/images"))["data"]
    assert [one["customer"] for one in listed] == ["acme", "team"]
    lion, lamp = listed

    async def ids(query: str) -> list[str]:
        return [one["id"] for one in (await desk.ask("GET", f"/images?{query}"))["data"]]

    assert await ids("search=L%C3%96WE") == [lion["id"]]
    assert await ids("search=table%20lamp") == [lamp["id"]]
    assert await ids(f"search={lamp['sha256'][:9]}") == [lamp["id"]]
    assert await ids("search=nothing") == []
    assert await ids(f"customer={other}") == [lion["id"]]
    assert await ids(f"after={lion['id']}") == [lamp["id"]]
    pinned = await desk.ask("POST", f"/images/{lamp['id']}/pin")
    assert (pinned["pinned"], pinned["kept_until"]) == (True, None)
    assert await ids("pinned=true") == [lamp["id"]]
    unpinned = await desk.ask("POST", f"/images/{lamp['id']}/unpin")
    assert (unpinned["pinned"], unpinned["kept_until"] is None) == (False, False)
    assert (await desk.ask("DELETE", f"/images/{lamp['id']}"))["deleted"] is True
    assert await ids("") == [lion["id"]]
    own = await desk.gateway.ask("GET", f"/v1/images/{lamp['id']}")
    assert own.status == 410
    acts = [(one["act"], one["before"], one["after"]) for one in await desk.acts()]
    assert acts[:3] == [
        ("image.delete", "expires", "deleted"),
        ("image.unpin", "pinned", "expires"),
        ("image.pin", "expires", "pinned"),
    ]
    assert await desk.refused("POST", f"/images/{lamp['id']}/pin", status=410) == "image_deleted"


async def test_batches_of_all_customers_are_shown(desk: Desk) -> None:
    batch = await a_batch(desk)
    listed = await desk.ask("GET", "/batches")
    (shown,) = listed["data"]
    assert (shown["id"], shown["customer"], shown["customer_id"]) == (
        batch["id"],
        "team",
        desk.customer,
    )
    own = (await desk.gateway.ask("GET", f"/v1/batches/{batch['id']}")).json()
    one = await desk.ask("GET", f"/batches/{batch['id']}")
    assert set(one) == {*own, "customer", "customer_id"}
    for name in ("input_file_id", "endpoint", "created_at", "expires_at"):  # the rest moves on
        assert one[name] == shown[name] == own[name]
    of_customer = await desk.ask("GET", f"/batches?customer={desk.customer}")
    assert [found["id"] for found in of_customer["data"]] == [batch["id"]]
    assert (await desk.ask("GET", "/batches?customer=cus_none"))["data"] == []
    assert await desk.refused("GET", "/batches/batch_none", status=404) == "not_found"


async def a_batch(desk: Desk) -> dict[str, Any]:
    """Have the customer upload one line and order it as a batch."""
    line = (
        b'{"custom_id":"a","method":"POST","url":"/v1/images/generations",'
        b'"body":{"model":"gpt-image-2-vip","prompt":"x"}}\n'
    )
    form = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        + line
        + b"\r\n--b--\r\n"
    )
    sent = await desk.gateway.ask(
        "POST", "/v1/files", form, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert sent.status == 200, sent.body
    made = await desk.gateway.ask(
        "POST",
        "/v1/batches",
        {
            "input_file_id": sent.json()["id"],
            "endpoint": "/v1/images/generations",
            "completion_window": "24h",
        },
    )
    assert made.status == 200, made.body
    found: dict[str, Any] = made.json()
    return found
