"""Pictures are kept and let go: expiry, pins, deletion, inputs, strays, equal bytes meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.house import PEPPER, House, picture
from safelight import customers, installations, ledger, lifetimes, removals
from safelight.clock import ManualClock
from safelight.config import RetentionConfig
from safelight.db import Database, Transaction
from safelight.db.postgres import PostgresDatabase
from safelight.errors import Gone, NotFound, StorageError, Unavailable
from safelight.gateway.removing import Removing, blobs_in_use
from safelight.gateway.retention import Retention
from safelight.storage import Proof
from safelight.storage.disk import DiskStore
from safelight.types import ImageRecord, Operation

DAY_S = 86_400


class FickleStore(DiskStore):
    """A store where something happens just after a blob was kept, and that may refuse to delete."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.then: Callable[[str], Awaitable[None]] | None = None
        self.refuses = False

    async def put(
        self, source: Path, digest: str, *, given: bool = False, proof: Proof | None = None
    ) -> None:
        await super().put(source, digest, given=given, proof=proof)
        then, self.then = self.then, None
        if then is not None:
            await then(digest)

    async def delete(self, digest: str) -> None:
        if self.refuses:
            raise StorageError(f"No access to {digest}.")
        await super().delete(digest)


class Keeper(House):
    """A gateway process that keeps pictures for a day."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: ManualClock | None = None,
        db: Database | None = None,
        owner: str = "test",
    ) -> None:
        self.time = clock or ManualClock()
        self.fickle = FickleStore(folder / "blobs")
        super().__init__(folder, clock=self.time, db=db, owner=owner, store=self.fickle)
        self.retention = Retention(self.parts, RetentionConfig(), Removing(self.parts))

    async def image(self, prompt: str = "a lamp", **more: object) -> ImageRecord:
        (job,) = await self.buy(prompt, **more)
        assert job.image is not None
        return job.image

    async def is_stored(self, record: ImageRecord) -> bool:
        return await self.store.exists(record.blob.digest)


@asynccontextmanager
async def opened(folder: Path, url: str = "") -> AsyncIterator[Keeper]:
    clock = ManualClock()
    db = PostgresDatabase(url, clock) if url else None
    house = Keeper(folder, clock=clock, db=db)
    await house.open()
    yield house
    assert await house.audit() == []
    await house.close()


@pytest.fixture
async def house(database_url_seldom: str, tmp_path: Path) -> AsyncIterator[Keeper]:
    async with opened(tmp_path, database_url_seldom) as house:
        yield house


@pytest.fixture
async def any_house(database_url: str, tmp_path: Path) -> AsyncIterator[Keeper]:
    """The same, with Postgres always: where the SQL is what matters."""
    async with opened(tmp_path, database_url) as house:
        yield house


async def test_a_picture_goes_when_its_time_is_over_and_its_line_stays(any_house: Keeper) -> None:
    """Its bytes are removed, the job says so, and statement and books are as they were."""
    house = any_house
    image = await house.image()
    before = await house.statement()
    house.time.advance(DAY_S - 1)
    assert await house.retention.sweep() == 0
    assert await house.is_stored(image)
    house.time.advance(1)
    assert await house.retention.sweep() == 1
    assert not await house.is_stored(image)
    job = await house.gateway.job("cus_1", image.job_id)
    assert job.image is not None
    assert job.image.deleted_at is not None
    assert job.image.blob == image.blob
    assert await house.statement() == before
    assert before[-1].image_sha256 == image.blob.digest
    with pytest.raises(NotFound):
        await house.gateway.image(image.id)
    with pytest.raises(Gone):
        await house.retention.image("cus_1", image.id)


async def test_a_pinned_picture_stays_until_it_is_unpinned(any_house: Keeper) -> None:
    """After that it is kept as long as a new one: links that were just given out live on."""
    house = any_house
    image = await house.image()
    assert (await house.retention.pin("cus_1", image.id)).pinned
    house.time.advance(10 * DAY_S)
    assert await house.retention.sweep() == 0
    assert not (await house.retention.unpin("cus_1", image.id)).pinned
    house.time.advance(DAY_S - 1)
    assert await house.retention.sweep() == 0
    assert await house.is_stored(image)
    house.time.advance(1)
    assert await house.retention.sweep() == 1


async def test_a_picture_is_deleted_on_request_at_once(house: Keeper) -> None:
    """Pinned or not; to delete it again changes nothing; another customer has none of that id."""
    image = await house.image()
    await house.retention.pin("cus_1", image.id)
    for verb in (house.retention.delete, house.retention.pin, house.retention.unpin):
        with pytest.raises(NotFound) as caught:
            await verb("cus_2", image.id)
        assert caught.value.status == 404
    assert await house.is_stored(image)
    await house.retention.delete("cus_1", image.id)
    assert not await house.is_stored(image)
    await house.retention.delete("cus_1", image.id)
    for verb in (house.retention.pin, house.retention.unpin):
        with pytest.raises(Gone):
            await verb("cus_1", image.id)


async def test_bytes_that_another_picture_has_too_stay(house: Keeper) -> None:
    """Two orders whose pictures are equal: the second keeps its bytes."""
    first = await house.image("one")
    house.upstream.calls.clear()  # the next picture is drawn like the first
    second = await house.image("two")
    assert first.blob.digest == second.blob.digest
    await house.retention.delete("cus_1", first.id)
    assert await house.is_stored(second)
    await house.retention.delete("cus_1", second.id)
    assert not await house.is_stored(second)


async def test_the_replay_of_an_order_whose_picture_is_gone_says_so(house: Keeper) -> None:
    """410, and nothing is bought or charged again."""
    image = await house.image(key="once")
    await house.retention.delete("cus_1", image.id)
    before = await house.balance()
    with pytest.raises(Gone) as caught:
        await house.submit(key="once")
    assert (caught.value.status, caught.value.code) == (410, "image_deleted")
    assert await house.balance() == before
    assert house.upstream.sold == 1


async def edit(house: Keeper, path: Path, prompt: str = "bluer") -> str:
    """Edit an upload; return the digest under which its pixels are kept."""
    blob = await house.gateway.stage_input(path, param="image")
    await house.image(prompt, operation=Operation.EDIT, inputs=(blob,))
    return blob.digest


def sent(folder: Path, seed: int) -> Path:
    path = folder / f"sent-{seed}.png"
    path.write_bytes(picture("64x64", "png", seed))
    return path


async def test_inputs_go_a_day_after_the_end_of_their_order(
    any_house: Keeper, tmp_path: Path
) -> None:
    house = any_house
    digest = await edit(house, sent(tmp_path, 77))
    house.time.advance(DAY_S - 10)
    await house.retention.sweep()
    assert await house.store.exists(digest)
    house.time.advance(20)
    assert await house.retention.sweep() == 2  # the picture and its input
    assert not await house.store.exists(digest)


async def test_inputs_of_an_open_order_stay_however_old_they_are(
    house: Keeper, tmp_path: Path
) -> None:
    house.upstream.gate.clear()
    blob = await house.gateway.stage_input(sent(tmp_path, 78), param="image")
    digest = blob.digest
    order = await house.submit(operation=Operation.EDIT, inputs=(blob,))
    house.time.advance(3 * DAY_S)
    await house.retention.sweep()
    assert await house.store.exists(digest)
    house.upstream.gate.set()
    await house.gateway.wait(order)


async def test_an_input_that_was_removed_before_its_order_is_kept_again_by_the_retry(
    house: Keeper, tmp_path: Path
) -> None:
    """Nothing is accepted on bytes that are gone: 503, free, and the same request again works."""
    path = sent(tmp_path, 79)
    blob = await house.gateway.stage_input(path, param="image")
    digest = blob.digest
    await house.db.write(lambda tx: removals.want(tx, [digest]))
    await Removing(house.parts).work()
    assert not await house.store.exists(digest)
    before = await house.balance()
    with pytest.raises(Unavailable) as caught:
        await house.submit(operation=Operation.EDIT, inputs=(blob,))
    assert (caught.value.code, caught.value.should_retry) == ("input_deleted", True)
    assert await house.balance() == before
    await edit(house, path)
    assert await house.store.exists(digest)


async def test_a_picture_whose_bytes_go_between_keeping_and_settling_is_kept_again(
    house: Keeper, tmp_path: Path
) -> None:
    """Equal bytes of an older picture go at that very moment: nothing is charged without them."""
    older = await house.image("one")
    house.upstream.calls.clear()

    async def goes(digest: str) -> None:
        assert digest == older.blob.digest
        await house.retention.delete("cus_1", older.id)
        assert not await house.store.exists(digest)

    house.fickle.then = goes
    newer = await house.image("two")
    assert newer.blob.digest == older.blob.digest
    assert await house.is_stored(newer)
    assert house.upstream.sold == 2


async def test_nobody_relies_on_bytes_while_they_are_being_removed(any_house: Keeper) -> None:
    """A removal that was begun, and whose process died, is finished by another; then it is kept."""
    house = any_house
    image = await house.image("one")
    digest = image.blob.digest
    await house.db.write(lambda tx: lifetimes.delete(tx, "cus_1", image.id, "requested"))
    await house.db.write(lambda tx: removals.want(tx, [digest]))

    def condemn(tx: Transaction) -> list[str]:
        return removals.condemn(tx, [digest], mark="rm_dead", in_use=blobs_in_use)

    assert await house.db.write(condemn) == [digest]

    def claim(tx: Transaction) -> None:
        removals.claim(tx, digest, mark="rm_dead", in_use=blobs_in_use)

    with pytest.raises(removals.Going):
        await house.db.write(claim)
    assert await Removing(house.parts).work() == 0, "the other may still be at work"
    house.time.advance(removals.STUCK_MS / 1000)
    assert await Removing(house.parts).work() == 1
    with pytest.raises(removals.Going):
        await house.db.write(claim)  # they were removed since that mark was read
    mark = await house.db.read(lambda tx: removals.mark_of(tx, digest))
    await house.db.write(lambda tx: removals.claim(tx, digest, mark=mark, in_use=blobs_in_use))


async def test_what_the_store_does_not_remove_now_goes_later(house: Keeper) -> None:
    """To its owner the picture is gone at once; the bytes follow."""
    image = await house.image()
    house.fickle.refuses = True
    await house.retention.delete("cus_1", image.id)
    assert await house.is_stored(image)
    with pytest.raises(NotFound):
        await house.gateway.image(image.id)
    house.fickle.refuses = False
    house.time.advance(removals.STUCK_MS / 1000)
    assert await house.retention.sweep() == 1
    assert not await house.is_stored(image)


async def stray(house: Keeper, folder: Path, *, age_s: float) -> str:
    path = sent(folder, 200 + int(age_s))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    await house.store.put(path, digest)
    stored = await house.store.local_path(digest)
    at = house.time.now_ms() / 1000 - age_s
    os.utime(stored, (at, at))
    return digest


async def test_bytes_that_no_row_names_go_once_a_day(house: Keeper, tmp_path: Path) -> None:
    """Young ones stay: an order may be about to name them."""
    image = await house.image()
    os.utime(await house.store.local_path(image.blob.digest), (0, 0))
    old = await stray(house, tmp_path, age_s=2 * DAY_S)
    young = await stray(house, tmp_path, age_s=3600)
    await house.db.write(lambda tx: installations.identify(tx, new_id="ins_1", store=""))
    assert await house.retention.sweep() == 1
    assert not await house.store.exists(old)
    assert await house.store.exists(young)
    assert await house.is_stored(image)
    other = await stray(house, tmp_path, age_s=2 * DAY_S + 1)
    assert await house.retention.sweep() == 0, "one look a day over all processes"
    assert await house.store.exists(other)


async def test_a_store_of_another_installation_is_left_alone(house: Keeper, tmp_path: Path) -> None:
    old = await stray(house, tmp_path, age_s=2 * DAY_S)
    await house.store.claim("ins_other")
    await house.db.write(lambda tx: installations.identify(tx, new_id="ins_1", store=""))
    assert await house.retention.sweep_strays() == 0
    assert await house.store.exists(old)


async def test_a_lost_picture_is_still_found_and_a_deleted_one_is_not(tmp_path: Path) -> None:
    house = Keeper(tmp_path)
    await house.open()
    kept, deleted, pinned = [await house.image(name) for name in ("one", "two", "three")]
    await house.retention.delete("cus_1", deleted.id)
    await house.retention.pin("cus_1", pinned.id)
    assert await house.audit() == []
    for image in (kept, pinned):
        await house.store.delete(image.blob.digest)
    assert len(await house.audit()) == 2
    house.time.advance(DAY_S)
    (only,) = await house.audit()
    assert pinned.id in only
    await house.close()


async def test_many_processes_delete_and_order_equal_pictures_and_none_is_charged_without_bytes(
    database_url: str, tmp_path: Path
) -> None:
    """Every completed, undeleted picture is there, whoever deleted equal bytes meanwhile."""
    clock = ManualClock()
    houses = []
    for number in range(3):
        db = PostgresDatabase(database_url, clock) if database_url else None
        house = Keeper(tmp_path, clock=clock, db=db, owner=f"process-{number}")
        await house.open(50_000_000)
        houses.append(house)

    async def churn(house: Keeper) -> None:
        for turn in range(12):
            del house.upstream.calls[:]  # all draw one picture
            image = await house.image(f"{house.processes.owner} {turn}")
            if turn % 3:
                await house.retention.delete("cus_1", image.id)
            await house.retention.sweep()

    await asyncio.gather(*(churn(house) for house in houses))
    assert await houses[0].audit() == []
    for house in houses:
        await house.close()


async def test_a_customers_pictures_are_purged_and_others_stay(house: Keeper) -> None:
    def second(tx: Transaction) -> None:
        customers.create_customer(tx, customer_id="cus_2", name="two")
        ledger.open_balance(tx, "cus_2")
        key, key_id = customers.new_key()
        customers.add_key(
            tx, key=key, key_id=key_id, customer_id="cus_2", name="two", pepper=PEPPER
        )

    await house.db.write(second)
    images = [await house.image(name) for name in ("one", "two")]
    await house.retention.pin("cus_1", images[0].id)
    assert await house.db.write(lambda tx: lifetimes.purge(tx, "cus_2", limit=10)) == []
    gone = await house.db.write(lambda tx: lifetimes.purge(tx, "cus_1", limit=10))
    assert sorted(gone) == sorted(image.blob.digest for image in images)
