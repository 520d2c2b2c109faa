"""The auditor: one alarm for each finding, its customer stopped, nobody else, no race of ours."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fresh_books import sqlite_books
from gateway.house import House
from gateway.mixed_books import PRICE, MixedBooks, accept
from safelight import heartbeats, ledger
from safelight.clock import ManualClock
from safelight.db import Database
from safelight.db.postgres import PostgresDatabase
from safelight.errors import CustomerFrozen, StorageError
from safelight.gateway.verification import Verification, known
from safelight.gateway.verification.auditor import Auditor
from safelight.keyring import Keyring
from safelight.office import Office
from safelight.storage import BlobStore
from safelight.storage.disk import DiskStore


class Scene:
    """Two customers' books, and the auditors that watch them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.db: Database = (
            PostgresDatabase(url, self.clock) if url else sqlite_books(folder / "t.db", self.clock)
        )
        self.store = DiskStore(folder / "blobs")
        self.office = Office(self.db, Keyring.load_or_create(folder), self.store)

    def auditor(self, store: BlobStore | None = None, *, blobs: float = 1.0) -> Auditor:
        looking = Verification(self.db, store or self.store, self.clock, random.Random(1))
        return Auditor(self.db, looking, self.clock, every_s=300, blobs=blobs)

    async def sql(self, sql: str) -> None:
        assert await self.db.write(lambda tx: tx.execute(sql))

    async def frozen(self) -> dict[str, str]:
        rows = await self.db.read(
            lambda tx: tx.all("SELECT * FROM balance WHERE frozen_at IS NOT NULL")
        )
        return {row["customer_id"]: row["frozen_reason"] for row in rows}


@pytest.fixture
async def scene(tmp_path: Path, database_url: str) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, database_url)
    books = MixedBooks(made.db, made.store, tmp_path)
    await books.customer("acme")
    await books.customer("other")
    yield made
    made.store.close()
    await made.db.close()


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.__dict__["check"] for record in caplog.records if record.levelno == logging.ERROR
    ]


async def test_a_finding_raises_one_alarm_and_stops_its_customer_alone(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    auditor = scene.auditor()
    assert (await auditor.round()) is not None
    assert (alarms(caplog), await scene.frozen()) == ([], {})

    await scene.sql(
        "UPDATE balance SET posted_micros = posted_micros + 1 WHERE customer_id = 'cus-acme'"
    )
    scene.clock.advance(300)
    await auditor.round()
    assert alarms(caplog) == ["running", "posted"]
    reasons = await scene.frozen()
    assert list(reasons) == ["cus-acme"]
    assert reasons["cus-acme"].startswith("verify: customer acme: adjust-acme-1: what follows")

    with pytest.raises(CustomerFrozen):
        await scene.db.write(lambda tx: accept(tx, "acme", "new"))
    await scene.db.write(lambda tx: accept(tx, "other", "new"))

    # Neither the next round nor another process says it again.
    scene.clock.advance(300)
    await auditor.round()
    await scene.auditor().round()
    assert alarms(caplog) == ["running", "posted"]


async def test_jobs_of_a_frozen_customer_end_as_ever(scene: Scene) -> None:
    await scene.office.freeze("acme", "look")
    for verb, job in ((ledger.settle, "acme-running"), (ledger.release, "acme-queued")):
        await scene.db.write(
            lambda tx, verb=verb, job=job: verb(  # type: ignore[misc]
                tx, transfer_id=f"end-{job}", reserve_id=f"hold-{job}", actor="t", reason="end"
            )
        )
    balance = await scene.db.read(lambda tx: ledger.balance(tx, "cus-acme"))
    assert balance.held_micros == 0


async def test_what_an_operator_accepted_stops_nobody_again_but_anything_new_does(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    auditor = scene.auditor()
    await scene.sql(
        "UPDATE balance SET posted_micros = posted_micros + 1 WHERE customer_id = 'cus-acme'"
    )
    await auditor.round()
    was_frozen, accepted = await scene.office.unfreeze("acme", "one micro-dollar, looked into")
    assert was_frozen
    assert len(accepted) == 2
    assert all(words.startswith("customer acme: ") for words in accepted)

    # Money moves on, one line after the other; the difference stays, and is the same finding.
    await scene.db.write(lambda tx: accept(tx, "acme", "new"))
    await scene.office.credit("acme", 5 * PRICE, "paid")
    scene.clock.advance(300)
    await auditor.round()
    assert (alarms(caplog), await scene.frozen()) == (["running", "posted"], {})
    report = await scene.office.verify()
    assert report.findings == []
    assert [one.check for one in report.accepted] == ["running", "posted"]

    await scene.sql(
        "UPDATE balance SET posted_micros = posted_micros + 1 WHERE customer_id = 'cus-acme'"
    )
    scene.clock.advance(300)
    await auditor.round()
    assert list(await scene.frozen()) == ["cus-acme"]


async def test_unfreezing_accepts_what_is_found_now_even_where_nobody_had_looked(
    scene: Scene,
) -> None:
    await scene.sql(
        "UPDATE balance SET held_micros = held_micros + 1 WHERE customer_id = 'cus-acme'"
    )
    words = (
        "customer acme: balance: what is held is not the sum of the open reserves "
        "(stored: 60001; should be: 60000)"
    )
    assert await scene.office.unfreeze("acme", "known") == (False, (words,))
    await scene.auditor().round()
    assert await scene.frozen() == {}


class ForgetfulStore(DiskStore):
    """A store that says once of each blob that it is not there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: set[str] = set()

    async def exists(self, digest: str) -> bool:
        first = digest not in self.asked
        self.asked.add(digest)
        return not first and await super().exists(digest)


async def test_what_is_not_there_at_the_second_look_stops_nobody(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    store = ForgetfulStore(scene.folder / "blobs")
    report = await scene.auditor(store).round()
    store.close()
    assert report is not None
    assert {one.check for one in report.findings} == {"blob_missing", "original_missing"}
    assert (alarms(caplog), await scene.frozen()) == ([], {})


class BrokenStore(DiskStore):
    """A store that cannot be read just now."""

    async def exists(self, digest: str) -> bool:
        raise StorageError(f"no access to {digest}")


async def test_a_store_that_cannot_be_read_contradicts_nothing(scene: Scene) -> None:
    store = BrokenStore(scene.folder / "blobs")
    report = await scene.auditor(store).round()
    store.close()
    assert report is not None
    assert (report.findings, report.blobs_unread) == ([], report.blobs)
    assert await scene.frozen() == {}


async def test_a_late_job_counts_only_when_it_is_still_late_a_round_later(scene: Scene) -> None:
    auditor = scene.auditor()
    await scene.db.write(lambda tx: heartbeats.beat(tx, "process", "host", 1))
    scene.clock.advance(3600)  # nobody runs the open jobs here, and nobody ends them
    await scene.db.write(lambda tx: heartbeats.beat(tx, "process", "host", 2))
    await auditor.round()
    assert await scene.frozen() == {}
    scene.clock.advance(300)
    await scene.db.write(lambda tx: heartbeats.beat(tx, "process", "host", 3))
    await auditor.round()
    assert set(await scene.frozen()) == {"cus-acme", "cus-other"}


async def test_a_job_that_no_server_could_end_is_not_late(scene: Scene) -> None:
    """Neither while none runs, nor when one has just started after a long time."""
    await scene.db.write(lambda tx: heartbeats.beat(tx, "gone", "host", 1))
    scene.clock.advance(86_400)
    assert (await scene.office.verify()).findings == []
    await scene.db.write(lambda tx: heartbeats.beat(tx, "new", "host", 1))
    scene.clock.advance(60)
    assert (await scene.office.verify()).findings == []


async def test_of_several_processes_one_verifies_at_a_time(scene: Scene) -> None:
    first, second = scene.auditor(), scene.auditor()
    assert await first.round() is not None
    assert await second.round() is not None, "every process verifies once at its start"
    assert await first.round() is None
    scene.clock.advance(300)
    assert await second.round() is not None
    assert await first.round() is None


async def test_only_a_share_of_the_pictures_is_read(scene: Scene) -> None:
    report = await scene.auditor(blobs=0.5).round()
    assert report is not None
    assert (report.images, report.blobs) == (10, 12)
    assert 0 < report.blobs_hashed < 12


async def test_verifying_beside_a_busy_gateway_finds_nothing(
    tmp_path: Path, database_url: str
) -> None:
    """Jobs are accepted, sent, stored and settled all the while; none is ever out of step."""
    db = PostgresDatabase(database_url) if database_url else None
    house = await House(tmp_path, db=db).open(credit=10_000_000)
    looking = Verification(house.db, house.store, house.clock)
    buying = asyncio.gather(*(house.buy(f"lamp {number}") for number in range(40)))
    looks = 0
    while not buying.done():
        report = await looking.run(blobs=1.0)
        assert report.findings == []
        looks += 1
    await buying
    report = await looking.run(blobs=1.0)
    assert (report.findings, report.blobs_hashed) == ([], 40)
    assert looks > 1
    await house.close()


async def test_a_mark_survives_what_moves_and_tells_what_differs(scene: Scene) -> None:
    """The accepted difference is one of an amount: another amount is another finding."""
    await scene.sql(
        "UPDATE balance SET held_micros = held_micros + 1 WHERE customer_id = 'cus-acme'"
    )
    await scene.office.unfreeze("acme", "known")
    await scene.sql(
        "UPDATE balance SET held_micros = held_micros + 1 WHERE customer_id = 'cus-acme'"
    )
    await scene.auditor().round()
    assert set(await scene.frozen()) == {"cus-acme"}
    kept = await scene.db.read(known.read)
    assert sorted(mark for _, mark in kept) == ["held:balance:1", "held:balance:2"]
