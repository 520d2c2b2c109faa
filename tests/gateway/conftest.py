"""A gateway whose books are audited after each test, on SQLite and on Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.house import House, books_file

ON_BOTH = {"test_takeover", "test_shared_limits", "test_series"}
"""Modules whose every test runs on Postgres too; the others do so in the campaign."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of a House twice, unless it chooses its databases itself."""
    if "books" not in metafunc.fixturenames or "database_url" in metafunc.fixturenames:
        return
    if not {"house", "tmp_path"} & set(metafunc.fixturenames):
        return
    if any(mark.args[0] == "books" for mark in metafunc.definition.iter_markers("parametrize")):
        return
    module = metafunc.module.__name__.rsplit(".", 1)[-1]
    marks = () if module in ON_BOTH else (pytest.mark.campaign,)
    metafunc.parametrize(
        "books", ["sqlite", pytest.param("postgresql", marks=marks)], indirect=True
    )


@pytest.fixture(autouse=True)
def books(request: pytest.FixtureRequest) -> None:
    """Let every House on the test's folder keep its books in Postgres, where the test says so."""
    if getattr(request, "param", "sqlite") == "postgresql":
        folder: Path = request.getfixturevalue("tmp_path")
        books_file(folder).write_text(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path).open()
    yield made
    await made.close()
    # Every test ends with books that a stranger would sign.
    second = House(tmp_path, owner="witness")
    assert await second.audit() == []
    await second.close(0)
