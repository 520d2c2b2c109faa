"""Brakes on guessing keys: how many wrong ones an address may try, and all addresses together.

Owns two leaky buckets of wrong keys, in the memory of one process. A right key costs nothing. Keys
have 190 random bits, so this is against noise and load more than against luck. Pure, with an
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
"""The same for all addresses together; it stops only those that have sent a wrong one."""
ADDRESSES_MAX = 10_000


@dataclass
class _Bucket:
    level: float = 0.0
    at: float = 0.0


class Brakes:
    """The wrong keys that one process has seen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._all = _Bucket()
        self._addresses: OrderedDict[str, _Bucket] = OrderedDict()

    def check(self, address: str) -> None:
        """Let a key of an address be looked at.

        Raises:
            RateLimited: too many wrong ones came; says when the next one is looked at.
        """
        bucket = self._addresses.get(_network(address))
        if bucket is None:
            return
        wait_s = self._wait_s(bucket, ADDRESS_TRIES, ADDRESS_EVERY_S)
        if bucket.level > 0:
            # Whoever has sent no wrong key does not wait for what strangers do.
            wait_s = max(wait_s, self._wait_s(self._all, ALL_TRIES, ALL_EVERY_S))
        if wait_s > 0:
            raise RateLimited(
                f"Too many wrong keys came from this address. Try again in {math.ceil(wait_s)} s; "
                "whoever is signed in stays so.",
                code="too_many_sign_ins",
                retry_after_s=wait_s,
                should_retry=False,
            )

    def count(self, address: str) -> bool:
        """Note a wrong key; return whether it is one of those after which the address waits."""
        name = _network(address)
        bucket = self._addresses.setdefault(name, _Bucket())
        self._addresses.move_to_end(name)
        if len(self._addresses) > ADDRESSES_MAX:
            # Whoever uses so many addresses has filled the bucket of all.
            self._addresses.popitem(last=False)
        self._add(bucket, ADDRESS_TRIES, ADDRESS_EVERY_S)
        self._add(self._all, ALL_TRIES, ALL_EVERY_S)
        return bucket.level > ADDRESS_TRIES - 1

    def _add(self, bucket: _Bucket, tries: int, every_s: float) -> None:
        self._leak(bucket, every_s)
        # Never over its brim: many at once do not lock anybody out for days.
        bucket.level = min(bucket.level + 1, float(tries))

    def _wait_s(self, bucket: _Bucket, tries: int, every_s: float) -> float:
        self._leak(bucket, every_s)
        return (bucket.level + 1 - tries) * every_s

    def _leak(self, bucket: _Bucket, every_s: float) -> None:
        now = self._clock.monotonic()
        bucket.level = max(0.0, bucket.level - (now - bucket.at) / every_s)
        bucket.at = now


def _network(address: str) -> str:
    """Return what one household or machine can choose addresses from: of IPv6 the /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network(f"{parsed}/64", strict=False))
