"""Which books a data folder has: the environment's word, the folder's memory, and no password."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from safelight.clock import ManualClock, SystemClock
from safelight.db import Database, Transaction, address
from safelight.errors import ConfigError
from safelight.opening import open_database

PASSWORD = "s3cret"


def env(url: str) -> dict[str, str]:
    return {address.VARIABLE: url}


def close(database: Database) -> None:
    asyncio.run(database.close())


@pytest.mark.parametrize("environ", [{}, env(""), env("  "), env("sqlite:")])
def test_without_a_postgres_the_books_are_in_the_folders_file(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    close(open_database(tmp_path, ManualClock(), environ=environ))
    assert (tmp_path / address.DATABASE_FILE).exists()
    assert not (tmp_path / address.NOTE).exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"mysql://u:{PASSWORD}@h/d", "no address of a database"),
        (f"sqlite:/{PASSWORD}.db", "no address of a database"),
        (f"u:{PASSWORD}@h/d", "no address of a database"),
        (f"postgresql://u:{PASSWORD} x@h:1/d", "cannot be read"),
        (f"postgresql://u:{PASSWORD}@h/d?nonsense=1", "cannot be read"),
        (f"postgresql://u:{PASSWORD}@h:port/d", "cannot be used"),
        (f"postgresql://u:{PASSWORD}@h", "names no database"),
        (f"postgresql://u:{PASSWORD}@127.0.0.1:1/d", "postgresql://127.0.0.1:1/d cannot be used"),
    ],
)
def test_a_bad_address_is_refused_in_words_without_the_password(
    tmp_path: Path, url: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        open_database(tmp_path, ManualClock(), environ=env(url))
    assert PASSWORD not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:s3cret@db.example:6432/books", "postgresql://db.example:6432/books"),
        ("postgres://u:s3c%40ret@db/books?sslmode=require", "postgresql://db:5432/books"),
        ("postgresql://u@[::1]:5433/books", "postgresql://::1:5433/books"),
        (
            "postgresql:///books?host=/run/pg&user=u&password=s3cret",
            "postgresql:///run/pg:5432/books",
        ),
    ],
)
def test_an_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert address.without_password(url) == shown


def test_a_folder_remembers_its_postgres_and_refuses_other_books(
    tmp_path: Path, postgres_url: str
) -> None:
    with_password = postgres_url.replace("safelight@", f"safelight:{PASSWORD}@")
    close(open_database(tmp_path, SystemClock(), environ=env(with_password)))
    noted = (tmp_path / address.NOTE).read_text()
    assert noted == postgres_url.replace("safelight@", "") + "\n"
    assert not (tmp_path / address.DATABASE_FILE).exists()

    with pytest.raises(ConfigError, match=f"are in {noted.strip()}, and .* is not set"):
        open_database(tmp_path, SystemClock(), environ={})
    other = postgres_url.rsplit("/", 1)[0] + "/other"
    with pytest.raises(ConfigError, match="if that is the same database under another address"):
        open_database(tmp_path, SystemClock(), environ=env(other))
    close(open_database(tmp_path, SystemClock(), environ=env(postgres_url)))


def test_a_folder_with_books_of_its_own_is_not_opened_with_a_postgres(
    tmp_path: Path, postgres_url: str
) -> None:
    close(open_database(tmp_path, ManualClock(), environ={}))
    with pytest.raises(ConfigError, match=r"are in its file safelight\.db"):
        open_database(tmp_path, ManualClock(), environ=env(postgres_url))
    assert not (tmp_path / address.NOTE).exists()


def test_a_newer_schema_is_a_word_to_the_operator(tmp_path: Path, database_url: str) -> None:
    def newer(tx: Transaction) -> None:
        tx.execute("INSERT INTO migration (version, name, applied_at) VALUES (999, 'later', 0)")

    async def make() -> None:
        database = open_database(tmp_path, ManualClock(), environ=env(database_url))
        await database.write(newer)
        await database.close()

    asyncio.run(make())
    with pytest.raises(ConfigError, match=r"version 999.*knows up to \d+; upgrade safelight"):
        open_database(tmp_path, ManualClock(), environ=env(database_url))
