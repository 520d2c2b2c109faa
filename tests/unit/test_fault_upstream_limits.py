"""The fault upstream's limits and timing, by an injected clock: pure, no server."""

from __future__ import annotations

import asyncio
from statistics import quantiles
from typing import Any

import pytest

from safelight.bench.faults.limits import Limit, Limiter, duration
from safelight.bench.faults.timing import Latency, VendorTime, Window
from safelight.clock import ManualClock


def granted(limiter: Limiter, at_s: float, count: int) -> int:
    """Return how many of `count` single pictures pass at one moment."""
    return sum(limiter.ask(at_s, images=1).granted for _ in range(count))


def test_a_sliding_limit_looks_back_sixty_seconds() -> None:
    """What was used leaves the window a minute after it came, one by one."""
    limiter = Limiter(Limit(images_per_minute=3))
    assert granted(limiter, 0, 2) == 2
    assert granted(limiter, 30, 2) == 1
    refused = limiter.ask(59.5, images=1)
    assert (refused.granted, refused.wait_s, refused.used) == (False, 0.5, 3)
    assert granted(limiter, 60, 5) == 2
    assert granted(limiter, 89, 1) == 0
    assert granted(limiter, 90, 1) == 1


def test_a_limit_counts_pictures_not_calls() -> None:
    """`n` counts as n, and a call that does not fit takes nothing."""
    limiter = Limiter(Limit(images_per_minute=5))
    assert limiter.ask(0, images=4).granted
    assert not limiter.ask(1, images=2).granted
    assert limiter.ask(2, images=1).granted
    assert limiter.ask(3, images=4).wait_s == 57
    assert limiter.ask(3, images=6).wait_s == 60


def test_a_bucket_refills_continuously_up_to_its_burst() -> None:
    """Twelve a minute is one every five seconds, and an idle bucket holds its burst alone."""
    limiter = Limiter(Limit(images_per_minute=12, kind="bucket", burst=2))
    assert granted(limiter, 0, 5) == 2
    refused = limiter.ask(2, images=1)
    assert (refused.granted, round(refused.wait_s, 6)) == (False, 3)
    assert granted(limiter, 5, 5) == 1
    assert granted(limiter, 500, 5) == 2


def test_a_fixed_limit_begins_anew_with_each_minute() -> None:
    """Twice the limit fits around the turn of a minute."""
    limiter = Limiter(Limit(images_per_minute=3, kind="fixed"))
    assert granted(limiter, 59, 5) == 3
    assert limiter.ask(59.5, images=1).wait_s == 0.5
    assert granted(limiter, 60, 5) == 3


@pytest.mark.parametrize(
    ("kind", "patient", "pushing"), [("sliding", 5, 0), ("bucket", 5, 0), ("fixed", 5, 5)]
)
def test_refused_calls_may_count(kind: Any, patient: int, pushing: int) -> None:
    """Where refused calls count, knocking once a second keeps the door shut."""
    for counts, expected in ((False, patient), (True, pushing)):
        limiter = Limiter(Limit(images_per_minute=5, kind=kind, count_refused=counts))
        assert granted(limiter, 0, 5) == 5
        for second in range(1, 60):
            limiter.ask(second, images=5)
        assert granted(limiter, 60, 5) == expected


def test_limits_change_when_they_are_due() -> None:
    """A change rules from its second on, up or down."""
    limit = Limit(images_per_minute=2, changes=((100, 5), (200, 1)))
    assert [limit.images_at(at) for at in (0, 99, 100, 200)] == [2, 2, 5, 1]
    assert [limit.most_images(*span) for span in ((0, 60), (40, 100), (150, 210), (200, 260))] == [
        *(2, 5, 5, 1)
    ]
    limiter = Limiter(limit)
    assert [granted(limiter, at, 9) for at in (0, 100, 200)] == [2, 5, 1]


def test_requests_and_input_images_have_limits_of_their_own() -> None:
    """The refusal names the allowance that is missing; text alone needs no input images."""
    limiter = Limiter(Limit(images_per_minute=10, input_images_per_minute=2, requests_per_minute=3))
    assert limiter.ask(0, images=1, inputs=2).granted
    assert limiter.ask(1, images=1, inputs=1).what == "input-images"
    assert limiter.ask(2, images=1).granted
    assert limiter.ask(3, images=1).granted
    refused = limiter.ask(4, images=1)
    assert (refused.what, refused.limit, refused.used) == ("requests", 3, 3)
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"] == "56s"
    assert refused.headers["x-ratelimit-remaining-images"] == "7"


def test_headers_are_told_or_not() -> None:
    """Each of the two kinds of headers can be left out; an allowance left is told on success."""
    silent = Limiter(Limit(images_per_minute=1, tell_headers=False, tell_retry_after=False))
    assert [dict(silent.ask(0, images=1).headers) for _ in range(2)] == [{}, {}]
    shy = Limiter(Limit(images_per_minute=1, tell_headers=False))
    assert shy.ask(0, images=1).headers == {}
    assert shy.ask(47.5, images=1).headers == {"retry-after": "13", "retry-after-ms": "12500"}
    open_ = Limiter(Limit(images_per_minute=2, tell_retry_after=False, reset="full"))
    assert open_.ask(0, images=1).headers == {
        "x-ratelimit-limit-images": "2",
        "x-ratelimit-remaining-images": "1",
        "x-ratelimit-reset-images": "1m0s",
    }


def test_durations_are_written_as_the_vendor_does() -> None:
    """Milliseconds, seconds, or minutes and seconds."""
    assert [duration(s) for s in (0, 0.534, 1, 12.5, 60, 360)] == [
        *("0ms", "534ms", "1s", "12.5s", "1m0s", "6m0s")
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"images_per_minute": -1},
        {"changes": ((1, 5),)},
        {"images_per_minute": 1, "changes": ((2, 5), (1, 5))},
        {"images_per_minute": 1, "burst": 2},
    ],
)
def test_impossible_limits_are_refused(wrong: dict[str, Any]) -> None:
    """A plan that cannot be carried out is an error, not a surprise."""
    with pytest.raises(ValueError, match=r"."):
        Limit(**wrong)


def test_latencies_follow_their_distribution() -> None:
    """Median and 99th percentile come out as given, and a seed always draws the same."""
    latency = Latency(p50_s=80, p99_s=200)
    drawn = [latency.draw_s(1, number) for number in range(5000)]
    assert drawn[:9] == [latency.draw_s(1, number) for number in range(9)]
    assert drawn[:9] != [latency.draw_s(2, number) for number in range(9)]
    cuts = quantiles(drawn, n=100)
    assert cuts[49] == pytest.approx(80, rel=0.03)
    assert cuts[98] == pytest.approx(200, rel=0.1)


def test_windows_cover_their_time_and_keys() -> None:
    """The end is not part of the window; no keys mean all."""
    window = Window(act=503, from_s=10, to_s=20, keys=("a",))
    assert [window.covers(at, "a") for at in (9.9, 10, 19.9, 20)] == [False, True, True, False]
    assert not window.covers(15, "b")
    assert Window(act=401, from_s=10).covers(1e9, "b")


async def test_vendor_time_runs_at_its_speed() -> None:
    """Fifty vendor seconds pass in one real second, and waits are as much shorter."""
    clock = ManualClock()
    vendor = VendorTime(50, monotonic=clock.monotonic)
    clock.advance(2)
    assert vendor.now_s() == 100
    loop = asyncio.get_running_loop()
    began = loop.time()
    await vendor.wait(2.5)
    assert 0.049 <= loop.time() - began < 1


async def test_waits_end_with_the_client_or_the_server() -> None:
    """A stall lasts until its client goes, or until the server closes."""
    vendor = VendorTime()
    left = asyncio.Event()
    stall = asyncio.create_task(vendor.wait(None, left.is_set))
    other = asyncio.create_task(vendor.wait(None))
    left.set()
    await stall
    assert not other.done()
    vendor.close()
    await other
    await vendor.wait(3600)
