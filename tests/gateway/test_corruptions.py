"""Clean books give no finding; whatever is spoilt in them is found, in the right customer."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import postgres
from fresh_books import sqlite_books
from gateway.corruptions import CASES, Case
from gateway.mixed_books import MixedBooks
from gateway.spoiling import Hand, hand_in_file, hand_in_postgres
from safelight.clock import ManualClock
from safelight.db import Database
from safelight.db.postgres import PostgresDatabase
from safelight.gateway.audit import audit
from safelight.gateway.verification import Report, Verification
from safelight.storage.disk import DiskStore


@dataclass
class Installation:
    """A database and a store with two customers' books in them."""

    db: Database
    store: DiskStore
    url: str
    folder: Path

    async def verify(self, **options: object) -> Report:
        looking = Verification(self.db, self.store, ManualClock(), random.Random(1))
        return await looking.run(**options)  # type: ignore[arg-type]

    def hand(self) -> Hand:
        blobs = self.folder / "blobs"
        return (
            hand_in_postgres(self.url, blobs)
            if self.url
            else hand_in_file(self.folder / "t.db", blobs)
        )


async def _write_books(db: Database, folder: Path) -> None:
    store = DiskStore(folder / "blobs")
    books = MixedBooks(db, store, folder)
    await books.customer("acme")
    await books.customer("other")
    store.close()
    await db.close()


@pytest.fixture(scope="module")
def clean_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a SQLite file and blobs, to be copied."""
    folder = tmp_path_factory.mktemp("clean")
    asyncio.run(_write_books(sqlite_books(folder / "t.db", ManualClock()), folder))
    return folder


@pytest.fixture(scope="module")
def clean_postgres(
    postgres_server_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """The name of a Postgres database with the same books, to be copied, and their folder."""
    folder = tmp_path_factory.mktemp("clean")
    url = postgres.create_database(postgres_server_url, postgres_template)
    asyncio.run(_write_books(PostgresDatabase(url, ManualClock()), folder))
    return url.partition("?")[0].rsplit("/", 1)[1], folder


@pytest.fixture(params=["sqlite", "postgresql"])
def copy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A fresh copy of the clean books: the address of a Postgres if it is one, and a folder."""
    folder, url = tmp_path_factory.mktemp("copy") / "data", ""
    if request.param == "sqlite":
        shutil.copytree(request.getfixturevalue("clean_file"), folder)
        yield url, folder
        return
    server = request.getfixturevalue("postgres_server_url")
    name, source = request.getfixturevalue("clean_postgres")
    shutil.copytree(source, folder)
    url = postgres.create_database(server, name)
    yield url, folder
    postgres.drop_database(url, server)


@pytest.fixture
async def installation(copy: tuple[str, Path]) -> AsyncIterator[Installation]:
    """Clean books, open, on each database."""
    url, folder = copy
    db: Database = (
        PostgresDatabase(url, ManualClock(), connections=1, readers=1)
        if url
        else sqlite_books(folder / "t.db", ManualClock())
    )
    store = DiskStore(folder / "blobs")
    yield Installation(db, store, url, folder)
    store.close()
    await db.close()


async def test_clean_books_give_no_finding(installation: Installation) -> None:
    report = await installation.verify(blobs=1.0)
    assert report.findings == []
    assert (report.customers, report.transfers, report.jobs, report.images) == (2, 46, 20, 10)
    assert (report.blobs, report.blobs_hashed, report.blobs_unread) == (12, 12, 0)
    assert await installation.db.read(audit) == []


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_is_spoilt_is_found_in_its_customer_and_nowhere_else(
    installation: Installation, case: Case
) -> None:
    hand = installation.hand()
    case.spoil(hand)
    hand.close()
    report = await installation.verify(blobs=1.0)
    assert {one.check for one in report.findings} == case.found
    assert {one.customer for one in report.findings} == {case.whose}
    # The same, looking at that customer alone.
    alone = await installation.verify(customer_id=f"cus-{case.whose}")
    assert {one.mark for one in alone.findings} == {one.mark for one in report.findings}
