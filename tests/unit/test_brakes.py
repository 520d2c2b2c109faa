"""Brakes on guessing keys: by address and for all, on a clock that moves when told."""

from __future__ import annotations

import pytest

from safelight.administration import brakes
from safelight.administration.brakes import (
    ADDRESS_EVERY_S,
    ADDRESS_TRIES,
    ADDRESSES_MAX,
    ALL_TRIES,
    Brakes,
)
from safelight.clock import ManualClock
from safelight.errors import RateLimited

ADDRESS = "203.0.113.7"


def guess(found: Brakes, address: str, times: int) -> int:
    """Try wrong keys; return how many were looked at."""
    looked = 0
    for _ in range(times):
        try:
            found.check(address)
        except RateLimited:
            continue
        found.count(address)
        looked += 1
    return looked


def test_an_address_gets_ten_wrong_keys_and_then_one_every_thirty_seconds() -> None:
    clock = ManualClock()
    found = Brakes(clock)
    assert guess(found, ADDRESS, 100) == ADDRESS_TRIES
    with pytest.raises(RateLimited) as refused:
        found.check(ADDRESS)
    assert refused.value.retry_after_s == ADDRESS_EVERY_S
    assert refused.value.code == "too_many_sign_ins"
    clock.advance(ADDRESS_EVERY_S - 1)
    assert guess(found, ADDRESS, 5) == 0
    clock.advance(1)
    assert guess(found, ADDRESS, 5) == 1
    clock.advance(3 * ADDRESS_EVERY_S)
    assert guess(found, ADDRESS, 5) == 3


def test_many_at_once_lock_an_address_out_no_longer_than_few() -> None:
    """A thousand that were in flight together count as a full bucket, not as hours of waiting."""
    clock = ManualClock()
    found = Brakes(clock)
    told = [found.count(ADDRESS) for _ in range(1000)]
    assert told.index(True) == ADDRESS_TRIES - 1
    clock.advance(ADDRESS_EVERY_S)
    assert guess(found, ADDRESS, 5) == 1


def test_another_address_is_not_stopped_by_a_strangers_wrong_keys() -> None:
    """Not by those of one address, and not by those of hundreds."""
    found = Brakes(ManualClock())
    for number in range(ALL_TRIES * 2):
        guess(found, f"198.51.{number // 250}.{number % 250}", 2)
    found.check(ADDRESS)


def test_all_addresses_together_get_so_many_wrong_keys() -> None:
    """Beyond those of all, an address that has sent a wrong one gets no second try."""
    clock = ManualClock()
    found = Brakes(clock)
    addresses = [f"198.51.{number // 250}.{number % 250}" for number in range(400)]
    assert sum(guess(found, one, 1) for one in addresses) == len(addresses)
    assert sum(guess(found, one, 1) for one in addresses) == 0
    clock.advance(5)
    assert sum(guess(found, one, 1) for one in addresses) == 5


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "192.0.2.2", False),
    ],
)
def test_who_can_choose_addresses_counts_as_one(first: str, second: str, same: bool) -> None:
    """A household has a whole /64 of IPv6."""
    found = Brakes(ManualClock())
    guess(found, first, ADDRESS_TRIES)
    assert guess(found, second, 1) == (0 if same else 1)


def test_no_number_of_addresses_fills_the_memory() -> None:
    found = Brakes(ManualClock())
    for number in range(ADDRESSES_MAX + 500):
        found.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(found._addresses) == brakes.ADDRESSES_MAX
