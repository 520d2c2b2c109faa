"""A run played in virtual time takes what the pool's own limits take."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.client.runs.pace import Pace, Piece, concurrency_for, limit_of, play
from safelight.config import PoolConfig
from safelight.pool.meter import Meter


def pieces(count: int, seconds: float = 20.0) -> list[Piece]:
    return [Piece("c", seconds) for _ in range(count)]


@given(count=st.integers(1, 200), rate=st.integers(1, 120), seconds=st.floats(0.1, 60))
@settings(max_examples=60)
def test_it_agrees_with_the_meter_of_the_pool(count: int, rate: int, seconds: float) -> None:
    """The forecast knows what the server's meter does; of its burst it is told whole pictures."""
    meter = Meter(float(rate), PoolConfig())
    pace = Pace(float(rate), int(meter.burst(0.0)), meter.window_s)
    now = 0.0
    for _ in range(count):
        now += meter.free_in(now)
        meter.spend(now)
    told = play(pieces(count, seconds), {"c": pace}, concurrency=10_000)
    assert -0.01 <= told - (now + seconds) <= 60 / rate


def test_without_a_limit_the_concurrency_decides() -> None:
    """Ten at a time, three rounds."""
    assert play(pieces(30), {"c": Pace()}, concurrency=10) == 60.0
    assert limit_of(pieces(30), {"c": Pace()}, concurrency=10) == "concurrency"


def test_what_may_be_in_the_making_decides_where_it_is_less() -> None:
    """Two accounts with one place each, however many orders wait."""
    paces = {"c": Pace(at_once=2)}
    assert play(pieces(6), paces, concurrency=10) == 60.0
    assert limit_of(pieces(6), paces, concurrency=10) == "at_once"


def test_a_reference_comes_first() -> None:
    """What needs another item's picture begins when that is there."""
    found = [Piece("c", 20.0), *[Piece("c", 20.0, after=0)] * 5]
    assert play(found, {"c": Pace()}, concurrency=10) == 40.0


def test_what_waits_already_goes_first() -> None:
    """Ninety others at sixty a minute."""
    alone = play(pieces(30), {"c": Pace(60.0, 1)}, concurrency=30)
    late = play(pieces(30), {"c": Pace(60.0, 1, waiting=90)}, concurrency=30)
    assert late - alone == pytest.approx(90, abs=5)


def test_the_pools_limit_is_named() -> None:
    """The bound whose absence saves most."""
    paces = {"c": Pace(60.0, 12, 61.0)}
    assert limit_of(pieces(300), paces, concurrency=64) == "pool"
    assert limit_of(pieces(1), paces, concurrency=64) == "picture"


def test_the_default_concurrency_uses_the_pool_up() -> None:
    """A sixth more than that many would not make it faster, half as many slower."""
    pace = Pace(60.0, 12, 61.0)
    width = concurrency_for([pace], 20.0)
    best = play(pieces(300), {"c": pace}, concurrency=1000)
    assert play(pieces(300), {"c": pace}, concurrency=width) <= 1.02 * best
    assert play(pieces(300), {"c": pace}, concurrency=width // 3) > 1.3 * best
