"""Work beside the orders goes on after its own faults and ends when told."""

from __future__ import annotations

import asyncio
import logging

import pytest

from safelight.gateway.background import Background


async def test_work_is_done_again_and_again_until_it_is_stopped() -> None:
    done, thrice = 0, asyncio.Event()

    async def work() -> None:
        nonlocal done
        done += 1
        if done == 3:
            thrice.set()

    background = Background()
    background.run("count", work, pause_s=0)
    await thrice.wait()
    await background.stop()
    seen = done
    await asyncio.sleep(0)
    assert done == seen


async def test_a_fault_is_logged_and_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    again = asyncio.Event()

    async def work() -> None:
        if caplog.records:
            again.set()
        raise OSError("the disk is gone")

    background = Background()
    with caplog.at_level(logging.ERROR, "safelight.background"):
        background.run("fail", work, pause_s=0)
        await again.wait()
    await background.stop()
    assert "background work failed" in caplog.text


async def test_stopping_ends_work_in_its_midst() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    background = Background()
    background.run("hang", work, pause_s=0)
    await begun.wait()
    await background.stop()
    assert ended.is_set()
