"""Batches from their file to their two files: every line once, charged for what was delivered."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.batch_house import EDITS, GENERATIONS, ME, BatchHouse, batch_house, line
from gateway.house import VIP, picture
from safelight import ledger, lifetimes, webhooks
from safelight.batches import BatchRow
from safelight.clock import ManualClock
from safelight.config_batches import BatchesConfig, FilesConfig
from safelight.db import Row, Transaction
from safelight.errors import (
    FaultClass,
    IdempotencyKeyReused,
    InvalidRequest,
    NotFound,
    RateLimited,
    UpstreamError,
)
from safelight.gateway.batching import NewBatch

DAY_S = 24 * 3600


def codes(batch: BatchRow) -> list[tuple[str, int | None]]:
    return [(fault.code, fault.line) for fault in batch.errors]


async def test_sixty_lines_with_three_bad_ones(tmp_path: Path) -> None:
    """Counts, files and line errors are right; charged is what the output file holds."""
    bad = {7, 23, 41}
    lines = [line(f"item-{n}", **({"quality": "high"} if n in bad else {})) for n in range(1, 61)]
    async with batch_house(tmp_path) as shop:
        batch = await shop.submit(lines)
        assert batch.status == "validating"
        done = await shop.finish(batch.id)
        assert (done.status, done.total, done.completed, done.failed) == ("completed", 60, 57, 3)
        assert (done.model, done.errors) == (VIP, ())
        output = await shop.content(done.output_file_id)
        errors = await shop.content(done.error_file_id)
        assert {one["custom_id"] for one in errors} == {f"item-{n}" for n in bad}
        assert len({one["custom_id"] for one in output}) == len(output) == 57
        assert await shop.charged() == shop.house.upstream.sold == 57
        for one in errors:
            assert one["error"] is None
            assert one["response"]["status_code"] == 400
            assert one["response"]["body"]["error"]["param"] == "quality"
        for one in output:
            assert one["response"]["status_code"] == 200
            assert one["response"]["body"]["data"][0]["url"].startswith("http://gateway.test/i/")
        assert (await shop.house.balance()).held_micros == 0


async def test_base64_comes_where_it_is_asked_for(tmp_path: Path) -> None:
    """The bytes in the output file are the stored picture's; beyond the limit it is a link."""
    config = BatchesConfig(inline_bytes=len(picture("1024x1024", "png", 1)) * 2)
    async with batch_house(tmp_path, config=config) as shop:
        names = ("one", "two", "three")
        batch = await shop.submit([line(name, response_format="b64_json") for name in names])
        done = await shop.finish(batch.id)
        data = [
            one["response"]["body"]["data"][0] for one in await shop.content(done.output_file_id)
        ]
        assert base64.b64decode(data[0]["b64_json"], validate=True).startswith(b"\x89PNG")
        assert [sorted(one) for one in data[1:]] == [["url"], ["url"]]
        assert done.error_file_id is None


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([line("a"), b"{not json"], [("invalid_json_line", 2)]),
        ([line("a"), b"", line("b"), line("a")], [("duplicate_custom_id", 4)]),
        ([{**line("a"), "url": EDITS}], [("url_mismatch", 1)]),
        ([{**line("a"), "method": "GET"}], [("invalid_method", 1)]),
        ([{"custom_id": "a", "method": "POST", "url": "x"}], [("missing_required_parameter", 1)]),
        ([{**line("a"), "custom_id": 7}], [("invalid_type", 1)]),
        ([{**line("a"), "body": [1]}], [("invalid_type", 1)]),
        ([b"[]"], [("invalid_type", 1)]),
        ([line("a"), line("b", model="gpt-image-2")], [("model_mismatch", 2)]),
        ([line("a", model="no-such")], [("model_not_found", None)]),
        ([b"", b"  "], [("empty_file", None)]),
        ([line(str(n)) for n in range(6)], [("too_many_tasks", None)]),
        ([line("a", prompt="x" * 3000)], [("line_too_long", 1)]),
    ],
    ids=lambda value: value[0][0] if isinstance(value[0], tuple) else "lines",
)
async def test_a_file_that_is_no_batch_fails_whole(
    tmp_path: Path, lines: list[Any], found: list[tuple[str, int | None]]
) -> None:
    """Nothing is bought; the batch says what is wrong in which line."""
    config = BatchesConfig(max_lines=5, max_line_bytes=2000)
    async with batch_house(tmp_path, config=config) as shop:
        batch = await shop.submit(lines)
        done = await shop.finish(batch.id)
        assert (done.status, codes(done)) == ("failed", found)
        assert (done.total, done.output_file_id, done.error_file_id) == (0, None, None)
        assert shop.house.upstream.calls == []


async def test_a_failed_picture_is_a_free_line_of_the_error_file(tmp_path: Path) -> None:
    """The error is what the synchronous call would have said."""
    async with batch_house(tmp_path) as shop:
        refused = UpstreamError(FaultClass.CLIENT, "moderation_blocked", "No.", final_status=400)
        shop.house.upstream.steps = [refused]
        batch = await shop.submit([line("bad")])
        done = await shop.finish(batch.id)
        (error,) = await shop.content(done.error_file_id)
        assert (done.completed, done.failed, done.output_file_id) == (0, 1, None)
        assert error["response"]["status_code"] == 400
        assert error["response"]["body"]["error"]["code"] == "moderation_blocked"
        assert await shop.charged() == 0


async def test_a_line_with_two_pictures_is_one_answer(tmp_path: Path) -> None:
    async with batch_house(tmp_path) as shop:
        batch = await shop.submit([line("pair", model="gpt-image-2-all", n=2)])
        done = await shop.finish(batch.id)
        (output,) = await shop.content(done.output_file_id)
        assert len(output["response"]["body"]["data"]) == 2
        assert (done.total, done.completed) == (1, 1)
        assert await shop.charged() == 2


async def test_lines_that_cannot_be_streamed_or_put_off_are_refused(tmp_path: Path) -> None:
    async with batch_house(tmp_path) as shop:
        batch = await shop.submit([line("s", stream=True), line("d", delay_s=5), line("fine")])
        done = await shop.finish(batch.id)
        errors = await shop.content(done.error_file_id)
        params = [one["response"]["body"]["error"]["param"] for one in errors]
        assert params == ["stream", "delay_s"]
        assert (done.completed, done.failed) == (1, 2)


async def test_edits_name_their_pictures_by_file(tmp_path: Path) -> None:
    """A file of the customer is an input; another's, or none, fails that line alone."""
    async with batch_house(tmp_path) as shop:
        source = await shop.upload(picture("64x64", "png", 5), purpose="user_data")
        inline = base64.b64encode(picture("64x64", "png", 6)).decode()
        lines = [
            line("file", EDITS, images=[{"file_id": source.id}]),
            line("data", EDITS, image=f"data:image/png;base64,{inline}"),
            line("none", EDITS, images=[{"file_id": "file-of-somebody-else"}]),
            line("bare", EDITS),
        ]
        done = await shop.finish((await shop.submit(lines, EDITS)).id)
        assert (done.completed, done.failed) == (2, 2)
        errors = await shop.content(done.error_file_id)
        found = [one["response"]["status_code"] for one in errors]
        assert found == [404, 400]
        assert [len(call.inputs) for _, call in shop.house.upstream.calls] == [1, 1]


# --- money ------------------------------------------------------------------------------------


async def test_a_batch_waits_for_money_and_goes_on(tmp_path: Path) -> None:
    """It says so meanwhile; a top-up lets it go on by itself."""
    async with batch_house(tmp_path, credit=60_000) as shop:
        batch = await shop.submit([line(f"i{n}") for n in range(4)])
        for _ in range(3):
            await shop.batching.feed(batch.id)
            await shop.settle()
        waiting = await shop.look(batch.id)
        assert (waiting.status, waiting.completed, waiting.failed) == ("in_progress", 2, 0)
        assert codes(waiting) == [("insufficient_balance", 3)]
        await top_up(shop, 60_000)
        done = await shop.finish(batch.id)
        assert (done.status, done.completed, codes(done)) == ("completed", 4, [])


async def test_what_cannot_be_paid_for_long_fails_line_by_line(tmp_path: Path) -> None:
    """After an hour of waiting each line that is not covered ends as 402."""
    clock = ManualClock()
    async with batch_house(tmp_path, credit=30_000, clock=clock) as shop:
        batch = await shop.submit([line(f"i{n}") for n in range(3)])
        await shop.batching.feed(batch.id)
        await shop.settle()
        await shop.batching.feed(batch.id)
        clock.advance(3601)
        done = await shop.finish(batch.id)
        assert (done.status, done.completed, done.failed) == ("completed", 1, 2)
        for error in await shop.content(done.error_file_id):
            assert error["response"]["status_code"] == 402
            assert error["response"]["body"]["error"]["code"] == "insufficient_balance"


async def top_up(shop: BatchHouse, amount_micros: int) -> None:
    def work(tx: Transaction) -> None:
        ledger.topup(
            tx,
            transfer_id="tr_more",
            customer_id="cus_1",
            amount_micros=amount_micros,
            actor="test",
            reason="credit",
        )

    await shop.house.db.write(work)


# --- the ends ---------------------------------------------------------------------------------


async def test_only_so_many_lines_are_under_way(tmp_path: Path) -> None:
    """Only their prices are held."""
    config = BatchesConfig(lines_under_way=2)
    async with batch_house(tmp_path, config=config) as shop:
        shop.house.upstream.gate.clear()
        batch = await shop.submit([line(f"i{n}") for n in range(5)])
        await shop.batching.feed(batch.id)
        await shop.batching.feed(batch.id)
        assert (await shop.house.balance()).held_micros == 60_000
        shop.house.upstream.gate.set()
        done = await shop.finish(batch.id)
        assert (done.completed, await shop.charged()) == (5, 5)


async def test_a_cancelled_batch_keeps_what_was_finished(tmp_path: Path) -> None:
    """What runs still ends and is delivered; what waits is free, and says why."""
    config = BatchesConfig(lines_under_way=2)
    async with batch_house(tmp_path, config=config) as shop:
        shop.house.upstream.gate.clear()
        batch = await shop.submit([line(f"i{n}") for n in range(5)])
        await shop.batching.feed(batch.id)
        async with asyncio.timeout(10):
            while len(shop.house.upstream.calls) < 2:
                shop.house.upstream.called.clear()
                await shop.house.upstream.called.wait()
        cancelling, _ = await shop.batching.cancel("cus_1", batch.id)
        assert cancelling.status == "cancelling"
        await shop.batching.feed(batch.id)
        assert (await shop.look(batch.id)).status == "cancelling"
        shop.house.upstream.gate.set()
        await shop.settle()
        done = await shop.finish(batch.id)
        assert (done.status, done.total, done.completed, done.failed) == ("cancelled", 5, 2, 3)
        assert len(await shop.content(done.output_file_id)) == await shop.charged() == 2
        errors = await shop.content(done.error_file_id)
        assert [one["error"]["code"] for one in errors] == ["batch_cancelled"] * 3
        assert [one["response"] for one in errors] == [None] * 3
        with pytest.raises(NotFound):
            await shop.batching.cancel("cus_2", batch.id)


async def test_a_batch_cancelled_before_it_was_read_buys_nothing(tmp_path: Path) -> None:
    async with batch_house(tmp_path) as shop:
        batch = await shop.submit([line("one")])
        await shop.batching.cancel("cus_1", batch.id)
        done = await shop.finish(batch.id)
        assert (done.status, done.total, done.output_file_id) == ("cancelled", 0, None)
        assert (done.cancelled_at, done.error_file_id) != (None, None)
        assert shop.house.upstream.calls == []


async def test_a_finished_batch_is_not_cancelled(tmp_path: Path) -> None:
    async with batch_house(tmp_path) as shop:
        done = await shop.finish((await shop.submit([line("one")])).id)
        with pytest.raises(InvalidRequest, match="completed"):
            await shop.batching.cancel("cus_1", done.id)


async def test_an_expired_batch_answers_what_it_did_not_do(tmp_path: Path) -> None:
    """Finished lines are kept and charged, the others are free."""
    clock = ManualClock()
    config = BatchesConfig(lines_under_way=2)
    async with batch_house(tmp_path, config=config, clock=clock) as shop:
        batch = await shop.submit([line(f"i{n}") for n in range(5)])
        await shop.batching.feed(batch.id)
        await shop.settle()
        clock.advance(DAY_S)
        done = await shop.finish(batch.id)
        assert (done.status, done.completed, done.failed) == ("expired", 2, 3)
        assert done.expired_at is not None
        assert len(await shop.content(done.output_file_id)) == await shop.charged() == 2
        errors = await shop.content(done.error_file_id)
        assert {one["error"]["code"] for one in errors} == {"batch_expired"}
        assert (await shop.house.balance()).held_micros == 0


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "48h"}, "completion_window"),
        ({"input_file_id": "file-none"}, "input_file_id"),
    ],
)
async def test_a_batch_that_cannot_begin_is_refused(
    tmp_path: Path, change: dict[str, str], param: str
) -> None:
    async with batch_house(tmp_path) as shop:
        with pytest.raises(InvalidRequest) as refused:
            await shop.submit([line("one")], **change)
        assert refused.value.param == param


async def test_a_file_for_something_else_is_no_input(tmp_path: Path) -> None:
    async with batch_house(tmp_path) as shop:
        file = await shop.upload(b"x", purpose="user_data")
        new = NewBatch(
            input_file_id=file.id,
            endpoint=EDITS,
            completion_window="24h",
            metadata=None,
            keep_output_s=None,
            origin="",
        )
        with pytest.raises(InvalidRequest, match="user_data"):
            await shop.batching.create(ME, new)


# --- retries and retention --------------------------------------------------------------------


async def test_a_retry_gets_the_batch_that_was_made(tmp_path: Path) -> None:
    """By its key, or by the SDK's count; a second call without either is a second batch."""
    async with batch_house(tmp_path) as shop:
        made = await shop.submit([line("one")], idempotency_key="k1")
        new = NewBatch(
            input_file_id=made.input_file_id,
            endpoint=GENERATIONS,
            completion_window="24h",
            metadata=None,
            keep_output_s=None,
            origin="",
        )

        async def again(**more: Any) -> str:
            batch, _ = await shop.batching.create(ME, msgspec.structs.replace(new, **more))
            return batch.id

        assert await again(idempotency_key="k1") == made.id
        assert await again(retry_count=1) == made.id
        assert await again(retry_count=1, metadata={"a": "b"}) != made.id
        assert await again() != made.id
        with pytest.raises(IdempotencyKeyReused):
            await again(idempotency_key="k1", metadata={"a": "b"})


async def test_pictures_of_a_batch_outlive_its_links(tmp_path: Path) -> None:
    """However long the batch takes, what its output file links to is kept as long as the links."""
    clock = ManualClock()
    config = BatchesConfig(lines_under_way=1)
    async with batch_house(tmp_path, config=config, clock=clock) as shop:

        async def expired() -> int:
            return len(await shop.house.db.write(lambda tx: lifetimes.expire(tx, limit=10)))

        batch = await shop.submit([line("one"), line("two")])
        await shop.batching.feed(batch.id)
        await shop.settle()
        clock.advance(DAY_S - 60)
        assert await expired() == 0
        await shop.batching.feed(batch.id)
        await shop.settle()
        clock.advance(60)
        done = await shop.finish(batch.id)
        assert done.completed == 2
        assert await expired() == 0
        clock.advance(DAY_S + 1)
        assert await expired() == 2


async def test_webhooks_hear_of_each_end_once(tmp_path: Path) -> None:
    """The batch is told as a whole; a line with an address of its own tells that one, too."""
    async with batch_house(tmp_path) as shop:
        hook = webhooks.Webhook(
            id="wh_1",
            customer_id="cus_1",
            key_id=None,
            url="https://example.com/all",
            events=("*",),
            description="",
            created_at=0,
        )
        await shop.house.db.write(lambda tx: webhooks.insert(tx, hook))
        lines = [line("one"), line("two", webhook_url="https://example.com/two")]
        done = await shop.finish((await shop.submit(lines)).id)
        failed = await shop.finish((await shop.submit([b"{"])).id)
        inside = line("in", webhook_url="http://127.0.0.1:9/")
        refused = await shop.finish((await shop.submit([inside])).id)
        assert (refused.completed, refused.failed) == (0, 1)
        told = await shop.house.db.read(
            lambda tx: tx.all("SELECT event, subject, url FROM webhook_delivery ORDER BY event")
        )
        events = [(one["event"], one["subject"]) for one in told if one["url"] is None]
        assert sorted(events) == sorted(
            [
                ("batch.completed", done.id),
                ("batch.failed", failed.id),
                ("batch.completed", refused.id),
            ]
        )
        assert [one["url"] for one in told if one["url"]] == ["https://example.com/two"]


@pytest.mark.parametrize(
    "spoilt",
    [
        "UPDATE batch_line SET state = 'failed' WHERE line = 1",
        "UPDATE batch_line SET state = 'completed' WHERE line = 2",
        "UPDATE batch_line SET state = 'under_way' WHERE line = 1",
        "UPDATE batch_line SET request_id = NULL WHERE line = 1",
        "DELETE FROM batch_line WHERE line = 1",
    ],
)
async def test_the_witness_sees_a_line_that_tells_something_else(
    tmp_path: Path, spoilt: str
) -> None:
    async with batch_house(tmp_path) as shop:
        await shop.finish((await shop.submit([line("good"), line("bad", size="7x7")])).id)
        assert await shop.house.audit() == []
        kept = await shop.house.db.read(lambda tx: tx.all("SELECT * FROM batch_line"))
        await shop.house.db.write(lambda tx: tx.execute(spoilt))
        found = await shop.house.audit()
        assert found
        assert all("does not say what became of its order" in one for one in found)
        await shop.house.db.write(lambda tx: restore(tx, kept))


def restore(tx: Transaction, rows: list[Row]) -> None:
    tx.execute("DELETE FROM batch_line")
    for row in map(dict, rows):
        names = ", ".join(f":{name}" for name in row)
        tx.execute(f"INSERT INTO batch_line ({', '.join(row)}) VALUES ({names})", row)


async def test_at_most_so_many_batches_are_open(tmp_path: Path) -> None:
    async with batch_house(tmp_path, config=BatchesConfig(max_open=1)) as shop:
        first = await shop.submit([line("one")])
        with pytest.raises(RateLimited, match="as many as may be"):
            await shop.submit([line("two")])
        await shop.finish(first.id)
        await shop.finish((await shop.submit([line("two")])).id)


async def test_files_have_a_quota_and_an_end(tmp_path: Path) -> None:
    """Beyond the quota nothing is kept; the input of an open batch is not deleted."""
    async with batch_house(tmp_path, files=FilesConfig(customer_bytes=3000)) as shop:
        large = await shop.upload(b"x" * 2900, purpose="user_data")
        with pytest.raises(InvalidRequest, match="DELETE"):
            await shop.upload(b"y" * 101)
        await shop.filing.delete("cus_1", large.id)
        batch = await shop.submit([line("one")])
        with pytest.raises(InvalidRequest, match="Cancel the batch"):
            await shop.filing.delete("cus_1", batch.input_file_id)
        done = await shop.finish(batch.id)
        await shop.filing.delete("cus_1", batch.input_file_id)
        with pytest.raises(NotFound):
            await shop.filing.file("cus_1", batch.input_file_id)
        assert await shop.content(done.output_file_id)
