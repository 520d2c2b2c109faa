"""Each account: whether its vendor takes the credential, by calls that cost nothing.

Owns the words for what a probe finds. That there is money left no free call says.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Collection

from safelight.clock import Clock
from safelight.config import Config
from safelight.doctor import Check, failed, ok, unchecked, warning
from safelight.doctor.chain.wire import BadAddress, Origin, Request, ask
from safelight.doctor.machine import offset_check, offset_s
from safelight.errors import ConfigError, FaultClass, UpstreamError
from safelight.types import Account
from safelight.upstreams import Upstream, load_upstream

GROUP = "accounts"
PROBE_S = 15.0
_AT_ONCE = 8
_ADVICE = {
    FaultClass.AUTH: "Put the right key into the account's variable, and start again.",
    FaultClass.QUOTA: "Pay the vendor's bill, or raise its budget.",
    FaultClass.THROTTLED: "Its limit is used up now; give keys of one organisation one group.",
    FaultClass.CAPABILITY: "Look at model and base_url: it serves something else.",
    FaultClass.LOCAL: "Look at base_url, DNS, the firewall and TLS.",
    FaultClass.SLOW: "The vendor hangs; look at its status page.",
    FaultClass.FAST: "The vendor fails; look at base_url and its status page.",
}


async def check(config: Config, without_key: Collection[str], clock: Clock) -> AsyncIterator[Check]:
    """Yield a check for each account; those in `without_key` are not asked."""
    adapters: dict[str, Upstream] = {}
    try:
        for name in {account.upstream for account in config.accounts}:
            adapters[name] = load_upstream(name, clock)
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(account: Account) -> Check:
            if account.name in without_key:
                return unchecked(GROUP, account.name, "not asked: it has no key")
            async with room:
                return await _probe(adapters[account.upstream], account, clock)

        for found in asyncio.as_completed([one(account) for account in config.accounts]):
            yield await found
        skew = await _skew(config, adapters, clock)
        if skew is not None:
            yield skew
    finally:
        for adapter in adapters.values():
            await adapter.close()


async def _probe(adapter: Upstream, account: Account, clock: Clock) -> Check:
    try:
        checked = adapter.check(account)
    except ConfigError as error:
        return failed(GROUP, account.name, str(error), "See docs/configuration.md.")
    if checked.upstream == "proof":
        return ok(GROUP, account.name, "the built-in proof upstream; its pictures are proofs")
    began = clock.monotonic()
    try:
        await adapter.probe(checked, deadline=began + PROBE_S)
    except UpstreamError as error:
        said = f"{error.code}: {error.message}"
        advice = _ADVICE.get(error.fault, "Look at the account's settings.")
        judge = warning if error.fault is FaultClass.THROTTLED else failed
        return judge(GROUP, account.name, said, advice, code=error.code, status=error.status)
    took_s = clock.monotonic() - began
    said = f"{account.upstream} takes the credential ({took_s * 1000:.0f} ms)"
    return ok(GROUP, account.name, said, took_ms=round(took_s * 1000))


async def _skew(config: Config, adapters: dict[str, Upstream], clock: Clock) -> Check | None:
    """Compare this clock with the vendors' headers Date; no key is sent."""
    bases = set()
    for account in config.accounts:
        try:
            bases.add(adapters[account.upstream].check(account).base_url)
        except ConfigError:  # said above
            continue
    found = []
    for base in sorted(filter(None, bases))[:_AT_ONCE]:
        try:
            answer = await ask(Origin.parse(base), Request(path="/"), timeout_s=PROBE_S)
        except BadAddress:
            continue
        ahead_s = offset_s(answer.headers, clock.now_ms())
        if ahead_s is not None:
            found.append(ahead_s)
    return offset_check(GROUP, "the vendors", statistics.median(found)) if found else None
