"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from contracts.openai_bench import Bench
from safelight.bench.faults.server import FaultUpstream
from safelight.clock import SystemClock
from safelight.upstreams.openai import OpenAIUpstream


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    adapter = OpenAIUpstream(SystemClock())
    async with FaultUpstream() as upstream:
        yield Bench(upstream, adapter, tmp_path)
        await adapter.close()
