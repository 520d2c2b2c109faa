"""A gateway whose books are audited after each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await House(tmp_path).open()
    yield made
    await made.close()
    # Every test ends with books that a stranger would sign.
    second = House(tmp_path, owner="witness")
    assert await second.audit() == []
    await second.close(0)
