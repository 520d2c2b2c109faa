"""Runs against a real gateway: bought once, resumed, bounded, stopped, and accounted for."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path

from runs.house import DIRECT, QUICK, Choosy, House, manifest, manifest_lines, nothing, plan_of
from safelight.client import AsyncClient
from safelight.client.errors import Refused
from safelight.client.orders import Order
from safelight.client.runs import (
    Control,
    Finished,
    GatewayLost,
    Identities,
    Item,
    Plan,
    Preview,
    Stop,
    preview,
    run,
)
from safelight.client.runs.folder import JOURNAL
from safelight.client.runs.steps import KEY_LIFE_S

PRICE = 30_000


async def test_a_run_ends_with_pictures_whose_charges_are_on_the_statement(
    house: House, client: AsyncClient
) -> None:
    """Each accepted picture is one line in both books; the recipe's last step is given them all."""
    out, seen = house.folder / "out", list[Finished]()

    def finish(done: Finished) -> list[Path]:
        seen.append(done)
        product = done.folder / "product.txt"
        product.write_text("made")
        return [product]

    plan = plan_of("a lamp", "a chair", "a lamp", finish=finish)
    result = await run(plan, out, client, QUICK)
    assert result is not None
    assert house.agree(out) == 3
    (done,) = seen
    assert {one.path.name for one in done.accepted.values()} == {"a.png", "b.png", "c.png"}
    assert all(
        hashlib.sha256(one.path.read_bytes()).hexdigest() == one.sha256
        for one in done.accepted.values()
    )
    assert (done.cost_micros, done.failed, done.review) == (3 * PRICE, {}, {})
    told = manifest(out)
    assert told["products"] == ["product.txt"]
    assert told["counts"] == {"items": 3, "accepted": 3, "review": 0, "failed": 0, "left": 0}
    assert told["figures"]["pictures"] == 3
    assert result.preview.forecast.cost_micros == 3 * PRICE


async def test_running_again_orders_only_what_is_missing(house: House, client: AsyncClient) -> None:
    """A gone file is fetched again for nothing, a new row is bought, a dropped one stays."""
    out = house.folder / "out"
    await run(plan_of("a lamp", "a chair"), out, client, QUICK)
    (out / "a.png").unlink()
    (out / "b.png").write_bytes(b"damaged")
    changed = plan_of("a lamp", "a chair", "a table")
    told: list[Preview] = []

    async def agree(now: Preview) -> bool:
        told.append(now)
        return True

    result = await run(changed, out, client, QUICK, agree=agree)
    assert result is not None
    assert (told[0].forecast.pictures, told[0].forecast.cost_micros) == (1, PRICE)
    assert (len(told[0].survey.gone), told[0].survey.new) == (2, 1)
    assert house.agree(out) == 3
    assert house.sold == 3
    smaller = plan_of("a table", "a chair")
    result = await run(smaller, out, client, QUICK)
    assert result is not None
    assert len(result.ended.accepted) == 2
    assert house.agree(out) == 3
    assert (result.preview.survey.dropped, house.sold) == (1, 3)
    # The file of the table was c.png and the plan calls it a.png now, which was the lamp's.
    assert (out / "replaced" / "a.png").exists()


async def test_a_run_that_is_torn_off_anywhere_buys_nothing_twice(
    house: House, client: AsyncClient
) -> None:
    """Cut after each of its journal's lines in turn, it goes on to the same three charges."""
    out, plan = house.folder / "out", plan_of("a lamp", "a chair", "a table")
    await run(plan, out, client, QUICK)
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    for cut in range(2, len(lines)):
        (out / JOURNAL).write_bytes(b"".join(lines[:cut]) + b'{"what":"torn')
        result = await run(plan, out, client, QUICK)
        assert result is not None
        assert len(result.ended.accepted) == 3
        assert house.agree(out) == 3
    assert house.sold == 3


async def test_what_was_under_way_when_its_row_was_dropped_is_accounted_for(
    house: House, client: AsyncClient
) -> None:
    """It was charged; its picture is kept unjudged, and is there when the row comes back."""
    out, plan = house.folder / "out", plan_of("a lamp", "a chair")
    await run(plan, out, client, QUICK)
    lines = (out / JOURNAL).read_bytes().splitlines(keepends=True)
    early = [line for line in lines if json.loads(line)["what"] in ("run", "start", "ordered")]
    (out / JOURNAL).write_bytes(b"".join(early))
    await run(plan_of("a lamp"), out, client, QUICK)
    assert house.agree(out) == 2
    asked = len(house.asked)
    result = await run(plan, out, client, QUICK)
    assert result is not None
    assert len(result.ended.accepted) == 2
    assert (house.agree(out), len(house.asked)) == (2, asked)


async def test_nobody_agrees_and_nothing_is_there(house: House, client: AsyncClient) -> None:
    """Neither an order nor a folder; a preview makes none either."""

    async def no(_told: Preview) -> bool:
        return False

    plan = plan_of("a lamp")
    assert await run(plan, house.folder / "out", client, QUICK, agree=no) is None
    told = await preview(plan, house.folder / "out", client, QUICK)
    assert told.forecast.cost_micros == PRICE
    assert not (house.folder / "out").exists()
    assert house.asked == []


async def test_rejected_pictures_are_rolled_again_and_then_left_for_review(
    house: House, client: AsyncClient
) -> None:
    """Within the re-rolls; all rejected pictures are kept, and all are paid for."""
    out = house.folder / "out"
    result = await run(
        plan_of("a lamp", gates=[Choosy(99)]), out, client, replace(QUICK, rerolls=1)
    )
    assert result is not None
    assert len(result.ended.review) == 1
    (review,) = result.finished.review.values()
    assert [path.name for path in review.paths] == ["a-1.png", "a-2.png"]
    assert review.reason == "choosy: number 2"
    assert result.finished.cost_micros == 2 * PRICE
    assert house.agree(out) == 2
    more = await run(plan_of("a lamp", gates=[Choosy(0)]), out, client, replace(QUICK, rerolls=2))
    assert more is not None
    (accepted,) = more.finished.accepted.values()
    assert (accepted.rolls, accepted.cost_micros) == (3, 3 * PRICE)


async def test_the_bound_on_the_cost_is_never_passed(house: House, client: AsyncClient) -> None:
    """All starts together, re-rolls included; what was not ordered is told."""
    out = house.folder / "out"
    settings = replace(QUICK, rerolls=5, max_cost_micros=4 * PRICE + PRICE // 2)
    plan = plan_of("a", "b", "c", gates=[Choosy(3)])
    result = await run(plan, out, client, settings)
    assert result is not None
    assert result.ended.at_bound
    assert len(result.ended.accepted) == 1
    assert set(result.ended.left.values()) == {"not ordered: the bound on the cost is reached"}
    assert house.sold == 4
    again = await run(plan, out, client, settings)
    assert again is not None
    assert again.ended.at_bound
    assert house.sold == 4


async def test_a_refused_item_is_free_and_does_not_stop_the_others(
    house: House, client: AsyncClient
) -> None:
    """It is listed with the reason; another start asks for it again."""
    house.upstream.play("moderation")
    out, plan = house.folder / "out", plan_of("a lamp")
    result = await run(plan, out, client, QUICK)
    assert result is not None
    (reason,) = result.ended.failed.values()
    assert "moderation" in reason
    assert (house.charges(), result.finished.cost_micros) == ({}, 0)
    result = await run(plan, out, client, QUICK)
    assert result is not None
    assert len(result.ended.accepted) == 1
    assert manifest(out)["items"][0]["rolls"][0]["state"] == "failed"


async def test_a_reference_goes_in_as_first_input(house: House, client: AsyncClient) -> None:
    """The second item waits for the first one's accepted picture, and is not made without it."""
    ids = Identities()
    first = Order("the first", size="1024x1024")
    own = house.folder / "own.png"
    lead = Item(ids.of(first), first, "lead")
    made = await run(Plan("p", (lead,), nothing), house.folder / "one", client, QUICK)
    assert made is not None
    own.write_bytes((house.folder / "one" / "lead.png").read_bytes())
    second = Order("the second", size="1024x1024", inputs=(own,))
    follower = Item(ids.of(second, reference=lead.id), second, "follower", reference=lead.id)
    plan = Plan("p", (lead, follower), nothing)
    result = await run(plan, house.folder / "out", client, QUICK)
    assert result is not None
    assert len(result.ended.accepted) == 2
    edit = house.asked[-1]
    assert (edit.operation, len(edit.files)) == ("edits", 2)
    house.upstream.play("moderation", then="moderation")
    refused = await run(plan_of("x", gates=[Choosy(0)]), house.folder / "alone", client, QUICK)
    assert refused is not None
    assert refused.ended.failed
    fresh = replace(lead, id="0" * 12, order=Order("another", size="1024x1024"))
    orphan = replace(follower, reference=fresh.id)
    result = await run(Plan("p", (fresh, orphan), nothing), house.folder / "none", client, QUICK)
    assert result is not None
    assert result.ended.failed[orphan.id] == "it needs the picture of lead, and there is none"


async def test_an_order_that_failed_for_now_is_asked_for_again_under_its_key(house: House) -> None:
    """Whatever became of it: one picture, one charge."""
    out, plan = house.folder / "out", plan_of("a lamp", model=DIRECT)
    house.upstream.play("500")
    async with AsyncClient(house.url, house.key, retries=0) as hasty:
        failed = await run(plan, out, hasty, replace(QUICK, tries=1))
        assert failed is not None
        assert len(failed.ended.failed) == 1
        result = await run(plan, out, hasty, QUICK)
    assert result is not None
    assert len(result.ended.accepted) == 1
    assert len(manifest(out)["items"][0]["rolls"]) == 1
    assert house.agree(out) == 1


async def test_an_old_order_is_looked_up_among_the_jobs(house: House, client: AsyncClient) -> None:
    """Its key may be forgotten: to send it again could buy it twice."""
    out, plan = house.folder / "out", plan_of("a lamp", "a chair")
    await run(plan, out, client, QUICK)
    kept = []
    for line in map(json.loads, (out / JOURNAL).read_text().splitlines()):
        if line["what"] == "ordered":
            line["at"] -= KEY_LIFE_S
        if line["what"] in ("run", "start", "ordered"):
            kept.append(json.dumps(line) + "\n")
    (out / JOURNAL).write_text("".join(kept))
    asked = len(house.asked)
    result = await run(plan, out, client, QUICK)
    assert result is not None
    assert len(result.ended.accepted) == 2
    assert (house.agree(out), len(house.asked)) == (2, asked)


async def test_a_picture_that_is_kept_no_longer_is_made_anew_and_both_are_told(
    house: House, client: AsyncClient
) -> None:
    """The charge of the lost one stays in the books: it was delivered once."""
    out, plan = house.folder / "out", plan_of("a lamp")
    await run(plan, out, client, QUICK)
    (job_id,) = house.charges()
    image = (await client.job(job_id)).image
    assert image is not None
    house.delete(f"/images/{image.id}")
    (out / "a.png").unlink()
    result = await run(plan, out, client, QUICK)
    assert result is not None
    assert len(result.ended.accepted) == 1
    assert house.agree(out) == 2
    assert [row["state"] for row in manifest_lines(out)] == ["lost", "accepted"]


async def test_a_gateway_that_gives_nothing_for_long_stops_the_run(house: House) -> None:
    """What is under way is collected by the next start."""
    out, plan = house.folder / "out", plan_of("a lamp", model=DIRECT)
    house.upstream.play("500")
    async with AsyncClient(house.url, house.key, retries=0) as hasty:
        lost = await run(plan, out, hasty, replace(QUICK, patience_s=0.0))
        assert lost is not None
        assert isinstance(lost.ended.stopped, GatewayLost)
        assert len(lost.ended.left) == 1
        found = await run(plan, out, hasty, QUICK)
    assert found is not None
    assert house.agree(out) == 1


async def test_accepted_pictures_are_carried_to_a_second_place(
    house: House, client: AsyncClient
) -> None:
    """With the manifest; what is there already is not carried again."""
    place = house.folder / "place"
    settings = replace(QUICK, to=str(place))
    plan = plan_of("a lamp", "a chair")
    result = await run(plan, house.folder / "out", client, settings)
    assert result is not None
    assert (result.ended.put, result.ended.not_put) == (2, {})
    names = {path.name for path in place.iterdir()}
    assert names == {"a.png", "b.png", "manifest.json", "manifest.csv"}
    again = await run(plan, house.folder / "out", client, settings)
    assert again is not None
    assert again.ended.put == 0


async def test_a_stop_waits_for_what_is_under_way(house: House, client: AsyncClient) -> None:
    """Nothing more is ordered, nothing that was paid for is lost."""
    house.upstream.latency_s = 0.5
    out, stop = house.folder / "out", Stop()
    plan = plan_of(*(f"lamp {n}" for n in range(6)))
    settings = replace(QUICK, concurrency=2)
    task = asyncio.create_task(run(plan, out, client, settings, control=Control(stop=stop)))
    await asyncio.to_thread(house.wait_for_requests, 2)
    stop.ask(Refused("enough", status=400))
    result = await task
    assert result is not None
    assert (len(result.ended.accepted), len(result.ended.left)) == (2, 4)
    assert result.ended.stopped is stop.reason
    assert house.agree(out) == 2
