"""Who lives: by the file lock in one data folder, by watched heartbeats everywhere else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.replicas import Cable
from safelight import heartbeats
from safelight.clock import ManualClock
from safelight.db import Database
from safelight.errors import Unavailable
from safelight.gateway.processes import BEAT_S, LEASE_S, Processes


class Replica:
    """A process with a data folder and clocks of its own, on a database that all share."""

    def __init__(self, folder: Path, owner: str, db: Database) -> None:
        self.clock = ManualClock()
        self.owner = owner
        self.db = db
        self.processes = Processes(folder / owner, owner, clock=self.clock)

    async def beat(self) -> None:
        await self.processes.beat(self.db)

    async def sees(self, other: Replica) -> bool:
        return await self.db.read(lambda tx: self.processes.alive(tx, other.owner))

    async def watch(self, seconds: float, *others: Replica) -> None:
        """Let time pass at the usual pace; `others` give signs of life too."""
        for _ in range(round(seconds / BEAT_S)):
            for one in (*others, self):
                one.clock.advance(BEAT_S)
                await one.beat()


@pytest.fixture
def replicas(tmp_path: Path, any_db: Database) -> Iterator[list[Replica]]:
    made = [Replica(tmp_path, name, any_db) for name in ("one", "two", "three")]
    yield made
    for one in made:
        one.processes.leave()


async def test_a_process_lives_from_its_first_beat_until_it_retires(
    replicas: list[Replica],
) -> None:
    one, two, _ = replicas
    assert not await one.sees(two)
    await two.beat()
    assert await one.sees(two)
    await two.processes.retire(two.db)
    assert not await one.sees(two)


async def test_a_process_is_dead_when_its_silence_was_watched_for_a_whole_lease(
    replicas: list[Replica],
) -> None:
    one, two, _ = replicas
    await two.beat()
    await one.beat()
    await one.watch(LEASE_S - 5)
    assert await one.sees(two)
    await one.watch(BEAT_S)
    assert not await one.sees(two)
    # A zombie that wakes is seen at once.
    await two.beat()
    assert await one.sees(two)


async def test_a_process_that_beats_lives_for_ever(replicas: list[Replica]) -> None:
    one, two, _ = replicas
    await one.watch(600, two)
    assert await one.sees(two)
    assert await two.sees(one)


async def test_a_start_gives_everybody_a_whole_lease(replicas: list[Replica]) -> None:
    one, two, three = replicas
    await two.beat()
    await one.beat()
    await one.watch(LEASE_S + BEAT_S)
    assert not await one.sees(two)
    await three.beat()
    assert await three.sees(two)


@pytest.mark.parametrize("jump_s", [-86_400, -60, 60, 86_400])
async def test_no_wall_clock_that_jumps_ends_a_lease(
    replicas: list[Replica], jump_s: float
) -> None:
    one, two, _ = replicas
    await one.watch(30, two)
    for other in (one, two):
        other.clock.jump(jump_s)
    await one.watch(BEAT_S, two)
    assert await one.sees(two)
    assert await two.sees(one)
    # Nor does it keep a dead one alive.
    await one.watch(LEASE_S + BEAT_S)
    assert not await one.sees(two)


async def test_an_observer_that_was_paused_does_not_take_its_pause_for_silence(
    replicas: list[Replica],
) -> None:
    one, two, _ = replicas
    await one.watch(30, two)
    one.clock.advance(3600)
    await one.beat()
    assert await one.sees(two)
    # The hour counts as one long look; only finding the count unchanged again and again tells.
    await one.watch(4 * BEAT_S)
    assert await one.sees(two)
    await one.watch(2 * BEAT_S)
    assert not await one.sees(two)


async def test_a_pause_in_the_midst_of_a_look_is_no_silence(replicas: list[Replica]) -> None:
    one, two, _ = replicas
    await two.beat()
    await one.beat()
    await one.watch(30)
    # The rows are read now, and looked at 20 s later.
    rows = await one.db.read(heartbeats.all_beats)
    asked_at = one.clock.monotonic()
    one.clock.advance(20)
    one.processes._observe(rows, asked_at)
    assert await one.sees(two)


async def test_who_had_no_database_does_not_judge_those_who_had_none_either(
    replicas: list[Replica],
) -> None:
    one, two, _ = replicas
    await one.watch(30, two)
    for other in (one, two):
        other.clock.advance(300)
    await one.beat()
    assert await one.sees(two)
    await one.watch(30, two)
    assert await one.sees(two)


async def test_a_beat_without_a_database_says_so_and_the_next_one_counts(
    replicas: list[Replica],
) -> None:
    one, two, _ = replicas
    cable = Cable(two.db)
    cable.out = True
    with pytest.raises(Unavailable):
        await two.processes.beat(cable)  # type: ignore[arg-type]
    await two.beat()
    assert await one.sees(two)


async def test_a_process_of_this_folder_is_judged_by_its_lock_whatever_the_beats_say(
    tmp_path: Path, any_db: Database
) -> None:
    clock = ManualClock()
    mine, other = (Processes(tmp_path, name, clock=clock) for name in ("mine", "other"))

    async def sees() -> bool:
        return await any_db.read(lambda tx: mine.alive(tx, "other"))

    # No row at all, and then one that stands still: its file is locked.
    assert await sees()
    await other.beat(any_db)
    for _ in range(20):
        clock.advance(BEAT_S)
        await mine.beat(any_db)
    assert await sees()
    await other.beat(any_db)
    other.files.die()
    assert not await sees()
    mine.leave()


async def test_who_leaves_without_the_database_is_dead_at_once_for_his_neighbours(
    tmp_path: Path, any_db: Database
) -> None:
    """His row stays, and alone it would have him live for a lease: his unlocked file tells."""
    mine, other = (Processes(tmp_path / "processes", name) for name in ("mine", "other"))
    await other.beat(any_db)
    await mine.beat(any_db)
    other.leave()
    assert not await any_db.read(lambda tx: mine.alive(tx, "other"))
    assert mine.files.dead() == {"other"}
    mine.leave()


async def test_nobody_is_alive_without_a_name_or_a_row(replicas: list[Replica]) -> None:
    one = replicas[0]
    for name in ("", "never"):
        assert not await one.db.read(partial(one.processes.alive, owner=name))


class Story:
    """Random beats, pauses, deaths and jumps, and what one observer may and must think of them."""

    def __init__(self, replicas: list[Replica], seed: int) -> None:
        self.rng = random.Random(seed)
        self.observer, *self.others = replicas
        self.replicas = replicas
        self.dead: set[str] = set()
        self.silent_s = {one.owner: 0.0 for one in replicas}
        self.watched_s = dict(self.silent_s)

    async def step(self) -> None:
        pause_s = self.rng.choice([BEAT_S] * 20 + [1.0, 30.0, 600.0])
        for one in self.replicas:
            one.clock.advance(pause_s)
            if self.rng.random() < 0.05:
                one.clock.jump(self.rng.uniform(-1e5, 1e5))
        for one in self.others:
            await self._beat_or_not(one, pause_s)
        await self.observer.beat()

    async def _beat_or_not(self, one: Replica, pause_s: float) -> None:
        if self.rng.random() < 0.01:
            self.dead.add(one.owner)
        if one.owner in self.dead or self.rng.random() < 0.1:
            self.silent_s[one.owner] += pause_s
            self.watched_s[one.owner] += min(pause_s, BEAT_S)
        else:
            await one.beat()
            self.silent_s[one.owner] = self.watched_s[one.owner] = 0.0

    async def check(self) -> None:
        for one in self.others:
            alive = await self.observer.sees(one)
            if self.silent_s[one.owner] == 0.0:
                assert alive
            if not alive:
                assert self.silent_s[one.owner] >= LEASE_S
            if self.watched_s[one.owner] >= LEASE_S + 2 * BEAT_S:
                assert not alive


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_nobody_who_beats_is_dead_and_nobody_silent_lives_on(
    replicas: list[Replica], seed: int
) -> None:
    story = Story(replicas, seed)
    for one in replicas:
        await one.beat()
    for _ in range(120):
        await story.step()
        await story.check()
