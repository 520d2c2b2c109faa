"""Databases for every test that asks for one: a file, or a real Postgres with one server a session.

Args of the fixtures: `postgres_url` is a fresh database with the newest schema and no rows;
`any_db` is an open Database, once on SQLite and once on Postgres.
Beside them, what makes a run of all tests quick: their order, and a collector that looks seldom.
"""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import postgres
import s3
from fresh_books import sqlite_books
from safelight.clock import ManualClock
from safelight.db import Database, address
from safelight.db.postgres import PostgresDatabase
from safelight.db.postgres_opening import prepare
from safelight.storage import address as storage_address
from sharing import in_order

# No test may meet the books that the developer's environment names.
os.environ.pop(address.VARIABLE, None)
os.environ.pop(storage_address.VARIABLE, None)

NEW_OBJECTS = 20_000
"""So many more objects, and the collector looks at them; 700 by default."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of a run by several workers; each of them does, and gets the same."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        items[:] = in_order(items, lambda item: item.nodeid, workers)


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Let nothing look for garbage where none is made: a quarter of the time to collect tests."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep the collector from half a million objects that stay: a tenth of all time."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(NEW_OBJECTS, 20, 20)


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """The server's database `postgres`; the server does not fsync."""
    with postgres.any_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server_url: str) -> str:
    """Name of a database with the newest schema, to copy from."""
    url = postgres.create_database(postgres_server_url)
    prepare(url)
    return url.partition("?")[0].rsplit("/", 1)[1]


@pytest.fixture
def postgres_url(postgres_server_url: str, postgres_template: str) -> Iterator[str]:
    """A fresh database with the newest schema and no rows."""
    url = postgres.create_database(postgres_server_url, postgres_template)
    yield url
    postgres.drop_database(url, postgres_server_url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.S3Server]:
    """A real S3 API, and credentials for it in the environment."""
    with s3.any_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Empty for the file in the data folder, or a fresh Postgres: run the test on both."""
    url: str = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.campaign)])
def database_url_seldom(request: pytest.FixtureRequest) -> str:
    """The same, with Postgres in the campaign alone: for many tests of one kind."""
    url: str = "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def any_db(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database of each kind, with a ManualClock of its own."""
    db: Database = (
        PostgresDatabase(database_url, ManualClock())
        if database_url
        else sqlite_books(tmp_path / "any.db", ManualClock())
    )
    yield db
    await db.close()
