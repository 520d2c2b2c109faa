"""A group's limit holds over all processes on one folder, and over a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.house import House, account
from safelight.clock import ManualClock
from safelight.types import Account, JobState

FIVE = (account("a", "org", images_per_minute=5),)


async def settle(*houses: House) -> None:
    """Return when every job that runs waits for a turn."""
    async with asyncio.timeout(20):
        # Nothing tells this: it is neither an end nor a turn.
        while any(  # noqa: ASYNC110
            house.gateway.running != house.gateway._turns.waiting for house in houses
        ):
            await asyncio.sleep(0)


async def pass_time(clock: ManualClock, seconds: int, *houses: House) -> None:
    """Let time pass, second by second; whoever may go on then does."""
    for _ in range(seconds):
        clock.advance(1)
        for house in houses:
            house.gateway._turns.look_again()
        await settle(*houses)


async def sent_s(house: House, group: str = "org") -> list[float]:
    """Return when attempts of a group were sent, seconds since 1970."""
    rows = await house.db.read(
        lambda tx: tx.all(
            "SELECT sent_at FROM attempt WHERE limiter_group = :name ORDER BY sent_at",
            {"name": group},
        )
    )
    return [row["sent_at"] / 1000 for row in rows]


def worst_minute(times: list[float]) -> int:
    return max(sum(at <= other < at + 60 for other in times) for at in times)


async def open_houses(
    folder: Path, clock: ManualClock, accounts: tuple[Account, ...], count: int
) -> list[House]:
    return [
        await House(folder, clock=clock, accounts=accounts, owner=f"process {n}").open()
        for n in range(count)
    ]


async def test_processes_on_one_folder_never_exceed_a_groups_limit_together(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    houses = await open_houses(tmp_path, clock, FIVE, 3)
    orders = [
        await house.submit(f"{n} of {house.processes.owner}") for house in houses for n in range(6)
    ]
    await settle(*houses)
    await pass_time(clock, 250, *houses)
    times = await sent_s(houses[0])
    assert worst_minute(times) == 5
    assert len(times) == len(orders) == sum(len(house.upstream.calls) for house in houses)
    # The last of 18 pictures goes out in the fourth minute: sharing costs hardly any of the limit.
    assert times[-1] - times[0] <= 3 * 61 + 36
    for number, order in enumerate(orders):
        (job,) = await houses[number // 6].gateway.wait(order)
        assert job.state is JobState.COMPLETED
        assert job.attempts == 1
    for house in houses:
        await house.close()


async def test_calls_are_limited_over_all_processes_too(tmp_path: Path) -> None:
    clock = ManualClock()
    three = (account("a", "org", requests_per_minute=3),)
    houses = await open_houses(tmp_path, clock, three, 2)
    for house in houses:
        for number in range(3):
            await house.submit(f"{number} of {house.processes.owner}")
    await settle(*houses)
    await pass_time(clock, 130, *houses)
    times = await sent_s(houses[0])
    assert (worst_minute(times), len(times)) == (3, 6)
    for house in houses:
        await house.close()


async def test_a_restarted_process_remembers_the_last_minute(tmp_path: Path) -> None:
    clock = ManualClock()
    first = await House(tmp_path, clock=clock, accounts=FIVE, owner="first").open()
    for number in range(5):
        await first.submit(f"lamp {number}")
    await settle(first)
    await pass_time(clock, 50, first)
    assert len(first.upstream.calls) == 5
    await first.kill()
    second = await House(tmp_path, clock=clock, accounts=FIVE, owner="second").open()
    order = await second.submit("after the restart")
    await settle(second)
    await pass_time(clock, 10, second)
    assert second.upstream.calls == []
    await pass_time(clock, 2, second)
    (job,) = await second.gateway.wait(order)
    assert (job.state, job.attempts) == (JobState.COMPLETED, 1)
    assert worst_minute(await sent_s(second)) == 5
    await second.close()


async def test_a_group_that_others_have_used_up_does_not_hold_up_another(tmp_path: Path) -> None:
    clock = ManualClock()
    one = (account("a", "org", images_per_minute=1),)
    greedy = await House(tmp_path, clock=clock, accounts=one, owner="one").open()
    await greedy.buy("first")
    both = (*one, account("b", tier=2))
    other = await House(tmp_path, clock=clock, accounts=both, owner="two").open()
    (job,) = await other.buy("second")
    assert job.state is JobState.COMPLETED
    assert [name for name, _ in other.upstream.calls] == ["b"]
    for house in (greedy, other):
        await house.close()
