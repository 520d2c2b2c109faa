"""Orders whose pictures are kept in a bucket, and carried to customers' own, while it fails."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from engines import MemoryEngine, Queues
from gateway.house import House
from s3 import FaultProxy, S3Server, open_objects
from safelight import destinations
from safelight.clock import ManualClock
from safelight.config import RetentionConfig
from safelight.destinations import Destination
from safelight.errors import ConfigError, InvalidRequest
from safelight.gateway.orders import Caller
from safelight.gateway.persisting import GIVE_UP_MS, Persisting, check_template, credentials_in
from safelight.gateway.removing import Removing
from safelight.gateway.retention import Retention
from safelight.storage import address
from safelight.storage.bucket import Bucket, Patience
from safelight.types import ImageRecord, ImageRequest, JobState, Operation


async def order_many(house: House, count: int, *, at_once: int) -> tuple[int, int]:
    """Order pictures; return how many were delivered and how many of those can be read."""
    delivered = readable = 0
    left = iter(range(count))

    async def some() -> None:
        nonlocal delivered, readable
        for number in left:
            (job,) = await house.buy(f"picture {number}")
            if job.image is None:
                assert job.state is JobState.FAILED
                continue
            delivered += 1
            chunks = [chunk async for chunk in house.store.read(job.image.blob.digest)]
            found = hashlib.sha256(b"".join(chunks)).hexdigest()
            readable += found == job.image.blob.digest

    await asyncio.gather(*(some() for _ in range(at_once)))
    return delivered, readable


@pytest.mark.parametrize(
    "count", [pytest.param(24), pytest.param(1000, marks=pytest.mark.campaign)]
)
async def test_a_failing_bucket_loses_no_picture_and_none_is_charged_without_its_object(
    s3_server: S3Server, tmp_path: Path, count: int
) -> None:
    """20 % of the requests are answered 5xx and 10 % never: 99.9 % of the pictures are kept."""
    bucket = s3_server.bucket()
    proxy = FaultProxy(s3_server.url, seed=11, errors=0.15, lost=0.05, stalls=0.10)
    async with proxy.open():
        store = open_objects(s3_server.url_of(bucket, endpoint=proxy.url), tmp_path)
        house = await House(tmp_path, store=store).open(10_000_000_000)
        delivered, readable = await order_many(house, count, at_once=12)
        line = house.config.channels["gpt-image-2-vip"].price_micros
        assert line is not None
        charged = 10_000_000_000 - (await house.balance()).posted_micros
        await house.close()
    assert proxy.seen["error"] > 0 < proxy.seen["stall"]
    assert readable == delivered >= count * 0.999
    assert charged == delivered * line
    # Asked of the bucket itself, past the faults: each charge has its object.
    objects = [key for key in s3_server.keys_in(bucket) if "owner" not in key]
    assert len(objects) == min(delivered, 1000)


async def test_a_bucket_that_is_away_costs_nothing_and_comes_back(
    s3_server: S3Server, tmp_path: Path
) -> None:
    """While it is away jobs wait; the picture that was bought before is kept when it is back."""
    proxy = FaultProxy(s3_server.url, seed=1)
    async with proxy.open():
        store = open_objects(
            s3_server.url_of(s3_server.bucket(), endpoint=proxy.url),
            tmp_path,
            patience=Patience(request_s=0.5, connect_s=0.5, total_s=0.3),
        )
        house = await House(tmp_path, store=store).open()
        proxy.down = True
        order = await house.submit()
        await proxy.refused.wait()
        assert (await house.balance()).posted_micros == 1_000_000
        proxy.down = False
        (job,) = await house.gateway.wait(order)
        assert job.state is JobState.COMPLETED
        assert house.upstream.sold == 1
        assert await house.audit() == []
        await house.close()


class Carrier(House):
    """A gateway process that carries pictures to customers' buckets."""

    def __init__(self, folder: Path) -> None:
        self.time = ManualClock()
        super().__init__(folder, clock=self.time)
        self.engine = MemoryEngine(Queues(), "test", {"storage": self._run})
        self.done = asyncio.Semaphore(0)
        self.environ = {"ACME_S3": "id:secret"}
        self.persisting = Persisting(
            self.parts,
            self.engine,
            environ=self.environ,
            patience=Patience(request_s=0.5, connect_s=0.5, total_s=0.2),
        )
        self.retention = Retention(self.parts, RetentionConfig(), Removing(self.parts))

    async def _run(self, image_id: str) -> None:
        await self.persisting.run(image_id)
        self.done.release()

    async def carry(self) -> int:
        """Look for what is due and wait until the engine has done it."""
        found = await self.persisting.sweep()
        for _ in range(found):
            await self.done.acquire()
        return found

    async def send_to(self, url: str, *, every: bool = True) -> None:
        destination = Destination(
            customer_id="cus_1", url=url, credentials_env="ACME_S3", every_picture=every
        )
        await self.db.write(lambda tx: destinations.put(tx, destination))

    async def image(self, prompt: str = "a lamp") -> ImageRecord:
        (job,) = await self.buy(prompt)
        assert job.image is not None
        return job.image

    async def state(self, record: ImageRecord) -> ImageRecord:
        return await self.gateway.image(record.id)


@pytest.fixture
async def carrier(tmp_path: Path) -> object:
    house = Carrier(tmp_path)
    await house.open()
    await house.engine.start()
    return house


async def test_pictures_are_carried_to_the_customers_bucket(
    s3_server: S3Server, carrier: Carrier
) -> None:
    """Under a name of date and job; the job says where. A picture made before is not carried."""
    earlier = await carrier.image("earlier")
    bucket = s3_server.bucket()
    await carrier.send_to(s3_server.url_of(bucket, "from/gateway"))
    image = await carrier.image()
    assert (await carrier.state(image)).persist_state == "waiting"
    assert await carrier.carry() == 1
    found = await carrier.state(image)
    (key,) = s3_server.keys_in(bucket)
    assert key.startswith("from/gateway/20")
    assert key.endswith(f"/{image.job_id}.png")
    assert found.persisted_url == f"{s3_server.url}/{bucket}/{key}"
    assert found.persisted_at is not None
    assert await Bucket(address.parse(s3_server.url_of(bucket))).digest_of(key) == image.blob.digest
    assert (await carrier.state(earlier)).persist_state is None
    assert await carrier.carry() == 0
    await carrier.close()


async def test_only_pinned_and_wished_pictures_are_carried_on_request(
    s3_server: S3Server, carrier: Carrier
) -> None:
    bucket = s3_server.bucket()
    await carrier.send_to(s3_server.url_of(bucket), every=False)
    plain, pinned = await carrier.image("one"), await carrier.image("two")
    await carrier.retention.pin("cus_1", pinned.id)
    request = ImageRequest(
        operation=Operation.GENERATION, channel="gpt-image-2-vip", prompt="three"
    )
    caller = Caller(
        customer_id="cus_1", key_id="key_1", route="/v1/images/generations", persist=True
    )
    order = await carrier.gateway.submit(request, caller, given=frozenset({"prompt"}))
    (wished,) = await carrier.gateway.wait(order)
    assert await carrier.carry() == 2
    keys = " ".join(s3_server.keys_in(bucket))
    assert pinned.job_id in keys
    assert wished.id in keys
    assert plain.job_id not in keys
    await carrier.close()


async def test_who_has_no_bucket_cannot_wish_for_it(carrier: Carrier) -> None:
    """400 before anything is held."""
    request = ImageRequest(operation=Operation.GENERATION, channel="gpt-image-2-vip", prompt="x")
    caller = Caller(
        customer_id="cus_1", key_id="key_1", route="/v1/images/generations", persist=True
    )
    with pytest.raises(InvalidRequest) as caught:
        await carrier.gateway.submit(request, caller, given=frozenset({"prompt"}))
    assert (caught.value.param, caught.value.code) == ("persist", "no_destination")
    assert (await carrier.balance()).held_micros == 0
    await carrier.close()


async def test_carrying_is_tried_again_for_a_day(s3_server: S3Server, carrier: Carrier) -> None:
    """With growing pauses; then it is given up, and to pin the picture begins anew."""
    proxy = FaultProxy(s3_server.url, seed=1)
    async with proxy.open():
        bucket = s3_server.bucket()
        await carrier.send_to(s3_server.url_of(bucket, endpoint=proxy.url))
        image = await carrier.image()
        proxy.down = True
        tries, passed = 0, 0
        while (await carrier.state(image)).persist_state == "waiting":
            tries += await carrier.carry()
            carrier.time.advance(600)
            passed += 600
        assert GIVE_UP_MS / 1000 - 7200 <= passed <= GIVE_UP_MS / 1000 + 7200
        assert 12 <= tries <= 25
        proxy.down = False
        await carrier.retention.pin("cus_1", image.id)
        assert await carrier.carry() == 1
        assert (await carrier.state(image)).persist_state == "done"
    await carrier.close()


async def test_credentials_that_are_not_there_are_a_failed_try(
    s3_server: S3Server, carrier: Carrier
) -> None:
    del carrier.environ["ACME_S3"]
    await carrier.send_to(s3_server.url_of(s3_server.bucket()))
    image = await carrier.image()
    assert await carrier.carry() == 1
    assert (await carrier.state(image)).persist_state == "waiting"
    carrier.environ["ACME_S3"] = "id:secret:token"
    carrier.time.advance(120)
    assert await carrier.carry() == 1
    assert (await carrier.state(image)).persist_state == "done"
    await carrier.close()


@pytest.mark.parametrize(
    "template",
    ["", "{date}/picture.png", "{job_id", "{nothing}/{job_id}", "../{job_id}", "a//{job_id}",
     "{job_id!r}", "{job_id:>9}", "{job_id.x}", "/{job_id}", "{0}"],
)  # fmt: skip
def test_templates_that_make_no_name_of_its_own_are_refused(template: str) -> None:
    with pytest.raises(ConfigError):
        check_template(template)


@pytest.mark.parametrize("value", [None, "", "id", "id:", ":secret"])
def test_credentials_are_an_id_and_a_secret(value: str | None) -> None:
    """What the variable holds is in no message."""
    environ = {} if value is None else {"ACME_S3": value}
    with pytest.raises(ConfigError, match="ACME_S3") as caught:
        credentials_in(environ, "ACME_S3")
    assert "secret" not in str(caught.value).replace("id:secret", "")
