"""Brakes on guessing keys: how many wrong ones an address may try, and all addresses together.

Owns two leaky buckets of wrong attempts, in the memory of one process. A right key costs nothing.
Keys have 190 random bits, so this is against noise and load more than against luck. Pure, with an
injected clock.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass

from safelight.clock import Clock
from safelight.errors import RateLimited

ADDRESS_TRIES, ADDRESS_EVERY_S = 10, 30.0
"""Wrong keys of one address at once, and how often one more is allowed after that."""
ALL_TRIES, ALL_EVERY_S = 200, 1.0
ADDRESSES_MAX = 10_000


@dataclass
class _Bucket:
    level: float = 0.0
    at: float = 0.0


class Brakes:
    """The attempts that one process has seen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all = _Bucket()
        self._addresses: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str) -> None:
        """Count an attempt before it is looked at; `give_back` where it was right.

        Raises:
            RateLimited: there were too many wrong ones.
        """
        bucket = self._bucket(address)
        waits = (
            self._wait_s(bucket, ADDRESS_TRIES, ADDRESS_EVERY_S),
            self._wait_s(self._all, ALL_TRIES, ALL_EVERY_S),
        )
        if max(waits) > 0:
            raise RateLimited(
                f"Too many wrong keys. Try again in {math.ceil(max(waits))} s; whoever is signed in "
                "stays so.",
                code="too_many_sign_ins",
                retry_after_s=max(waits),
                should_retry=False,
            )
        bucket.level += 1
        self._all.level += 1

    def give_back(self, address: str) -> None:
        """Take back an attempt that was right."""
        bucket = self._bucket(address)
        bucket.level = max(0.0, bucket.level - 1)
        self._all.level = max(0.0, self._all.level - 1)

    def _bucket(self, address: str) -> _Bucket:
        name = _network(address)
        bucket = self._addresses.setdefault(name, _Bucket())
        self._addresses.move_to_end(name)
        if len(self._addresses) > ADDRESSES_MAX:
            # Whoever uses so many addresses meets the bucket of all.
            self._addresses.popitem(last=False)
        return bucket

    def _wait_s(self, bucket: _Bucket, tries: int, every_s: float) -> float:
        now = self._clock.monotonic()
        bucket.level = max(0.0, bucket.level - (now - bucket.at) / every_s)
        bucket.at = now
        return (bucket.level + 1 - tries) * every_s


def _network(address: str) -> str:
    """Return what one household or machine can choose addresses from: of IPv6 the /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False))
