"""GET /v1/images: a customer's pictures by words of their prompts, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from api.visitors import House, Visitor, open_house
from safelight import image_lists
from safelight.db import Transaction
from safelight.image_lists import Wanted

MODEL = "gpt-image-2-vip"
PROMPTS = ("A red LAMP", "a blue lamp, 50% off", "Größe und Straße", "安全灯 in the dark")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path / "data") as found:
        yield found


async def draw(browser: Visitor, prompt: str) -> str:
    """Order a picture and return its job's id."""
    body = {"model": MODEL, "prompt": prompt, "size": "1024x1024"}
    made = await browser.ask("POST", "/v1/images/generations", body)
    assert made.status == 200, made.body
    return made.headers["x-safelight-job-id"]


async def drawn(house: House) -> tuple[Visitor, list[str]]:
    """Return a customer with a picture of each prompt, a second apart, and the jobs."""
    browser = house.visitor(house.key)
    jobs = []
    for prompt in PROMPTS:
        house.clock.advance(1)
        jobs.append(await draw(browser, prompt))
    await draw(house.visitor(house.other_key), "a lamp of somebody else")
    return browser, jobs


async def prompts(browser: Visitor, query: str = "") -> list[str]:
    listed = await browser.ask("GET", f"/v1/images?{query}")
    assert listed.status == 200, listed.body
    return [one["prompt"] for one in listed.json()["data"]]


async def test_pictures_are_listed_newest_first_with_what_their_jobs_know(house: House) -> None:
    """All of the job's own view of its picture, its order beside it, and a link that works."""
    browser, jobs = await drawn(house)
    data = (await browser.ask("GET", "/v1/images")).json()["data"]
    assert [one["prompt"] for one in data] == list(reversed(PROMPTS))
    job = (await browser.ask("GET", f"/v1/jobs/{jobs[0]}")).json()
    oldest: dict[str, Any] = data[-1]
    assert {name: oldest[name] for name in job["image"] if name != "url"} == {
        name: value for name, value in job["image"].items() if name != "url"
    }
    assert {name: value for name, value in oldest.items() if name not in job["image"]} == {
        "prompt": PROMPTS[0],
        "job_id": jobs[0],
        "model": MODEL,
        "created_at": job["created_at"],
        "price_micros": job["price_micros"],
    }
    link = oldest["url"].removeprefix("http://gateway.test")
    assert (await house.visitor().ask("GET", link)).status == 200


async def test_words_of_prompts_are_found_in_any_case_and_script(house: House) -> None:
    """All words must be there; ids and digests are found by their beginning; no patterns."""
    browser, jobs = await drawn(house)
    data = (await browser.ask("GET", "/v1/images")).json()["data"]
    for search, found in (
        ("lamp", [1, 0]),
        ("Lamp%20red", [0]),
        ("lamp%20green", []),
        ("STRASSE", [2]),
        ("%E5%AE%89%E5%85%A8", [3]),
        ("50%25", [1]),
        ("%25", [1]),
        ("_", []),
        ("else", []),
        (jobs[2], [2]),
        (data[0]["id"][:12], [3]),
        (data[0]["sha256"][:12], [3]),
        ("", [3, 2, 1, 0]),
    ):
        assert await prompts(browser, f"search={search}") == [PROMPTS[at] for at in found], search


async def test_pages_join_without_a_gap_or_a_double(house: House) -> None:
    browser, _ = await drawn(house)
    seen, query = [], "limit=1"
    while True:
        page = (await browser.ask("GET", f"/v1/images?{query}")).json()
        seen += [one["prompt"] for one in page["data"]]
        if not page["has_more"]:
            break
        query = f"limit=1&after={page['last_id']}"
    assert seen == list(reversed(PROMPTS))
    searched = (await browser.ask("GET", "/v1/images?search=lamp&limit=1")).json()
    rest = (await browser.ask("GET", f"/v1/images?search=lamp&after={searched['last_id']}")).json()
    assert [one["prompt"] for one in (*searched["data"], *rest["data"])] == [PROMPTS[1], PROMPTS[0]]
    assert (searched["has_more"], rest["has_more"]) == (True, False)


def copies(tx: Transaction, table: str, column: str, job_id: str) -> None:
    """Add as many newer copies of a job or its picture as one call looks at."""
    names = [row["name"] for row in tx.all(f"SELECT name FROM pragma_table_info('{table}')")]
    new = {
        "id": "'copy_' || printf('%027d', copy)",
        "job_id": "'copy_' || printf('%027d', copy)",
        "created_at": "created_at + 100000",
    }
    values = ", ".join(new.get(name, name) for name in names)
    tx.execute(
        "WITH RECURSIVE number(copy) AS (SELECT 1 UNION ALL SELECT copy + 1 FROM number "
        f"WHERE copy < {image_lists.LOOK_MAX}) INSERT INTO {table} ({', '.join(names)}) "
        f"SELECT {values} FROM {table}, number WHERE {column} = :job",
        {"job": job_id},
    )


async def test_a_search_looks_at_a_bounded_number_and_says_where_it_goes_on(house: House) -> None:
    """Nothing found is no end where more is to be looked at."""
    browser, _ = await drawn(house)
    image = (await browser.ask("GET", "/v1/images?search=red")).json()["data"][0]

    await house.app.db.write(lambda tx: copies(tx, "job", "id", image["job_id"]))
    await house.app.db.write(lambda tx: copies(tx, "image", "job_id", image["job_id"]))
    await house.app.db.write(
        lambda tx: tx.execute(
            "UPDATE job SET request = REPLACE(request, 'red', 'green') WHERE id LIKE '%copy%'"
        )
    )
    first = (await browser.ask("GET", "/v1/images?search=red")).json()
    assert (first["data"], first["has_more"]) == ([], True)
    second = (await browser.ask("GET", f"/v1/images?search=red&after={first['last_id']}")).json()
    assert [one["prompt"] for one in second["data"]] == [PROMPTS[0]]
    assert second["has_more"] is False


async def test_pinned_ones_are_listed_alone_and_deleted_ones_not_at_all(house: House) -> None:
    browser, _ = await drawn(house)
    data = (await browser.ask("GET", "/v1/images")).json()["data"]
    await browser.ask("POST", f"/v1/images/{data[1]['id']}/pin")
    assert await prompts(browser, "pinned=true") == [PROMPTS[2]]
    assert await prompts(browser, "pinned=false") == [PROMPTS[3], PROMPTS[1], PROMPTS[0]]
    assert await prompts(browser, "pinned=") == list(reversed(PROMPTS))
    await browser.ask("DELETE", f"/v1/images/{data[0]['id']}")
    assert await prompts(browser) == list(reversed(PROMPTS[:3]))
    # The one that is gone still says where a list goes on.
    assert await prompts(browser, f"after={data[0]['id']}") == list(reversed(PROMPTS[:3]))


async def test_what_is_no_list_is_refused_by_name(house: House) -> None:
    """Another customer's picture is no place to go on from."""
    browser = house.visitor(house.key)
    await draw(house.visitor(house.other_key), "a lamp")
    theirs = (await house.visitor(house.other_key).ask("GET", "/v1/images")).json()["last_id"]
    for query, param in (
        (f"after={theirs}", "after"),
        ("after=none", "after"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=%C2%B2", "limit"),
        ("pinned=maybe", "pinned"),
        (f"search={'x' * 201}", "search"),
        ("search=%00", "search"),
        ("order=asc", "order"),
    ):
        answer = await browser.ask("GET", f"/v1/images?{query}")
        assert (answer.status, answer.json()["error"]["param"]) == (400, param), query


async def test_a_page_reads_the_index_and_sorts_nothing(house: House) -> None:
    """A customer's newest pictures come in order from `image_newest`, however many there are."""
    statements: list[tuple[str, Any]] = []

    class Watched:
        """A transaction that notes what is asked of it."""

        def __init__(self, tx: Transaction) -> None:
            self._tx = tx

        def one(self, sql: str, values: Any) -> Any:
            return self._tx.one(sql, values)

        def all(self, sql: str, values: Any) -> Any:
            statements.append((sql, values))
            return self._tx.all(sql, values)

    _, jobs = await drawn(house)
    assert jobs

    def plans(tx: Transaction) -> list[str]:
        customer = tx.all("SELECT id FROM customer WHERE name = 'team'")[0]["id"]
        wanted = Wanted(customer_id=customer)
        first = image_lists.page(Watched(tx), wanted, after=None, limit=2)  # type: ignore[arg-type]
        image_lists.page(Watched(tx), wanted, after=first.last_id, limit=2)  # type: ignore[arg-type]
        return [
            "; ".join(row["detail"] for row in tx.all(f"EXPLAIN QUERY PLAN {sql}", values))
            for sql, values in statements
        ]

    found = await house.app.db.read(plans)
    assert len(found) == 2
    for plan in found:
        assert "USING INDEX image_newest" in plan, plan
        assert "TEMP B-TREE" not in plan, plan
        assert "SCAN" not in plan, plan
