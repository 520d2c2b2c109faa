"""The vendors in virtual time, with books of their own: the independent witness of every sale.

The market lives outside of all processes: a call goes on here when its caller has died, and may be
billed all the same. `SimulatedUpstream` is one process's adapter to it, in the place of HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safelight.clock import Clock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Account, Received, UpstreamCall, Usage
from safelight.upstreams import PartialSink
from safelight.upstreams.spool import Spool
from simulation.lives import Life, nevermore, outside
from simulation.pictures import damaged, picture
from simulation.trace import Trace
from simulation.weather import Weather

MINUTE_S = 60.0
SPREAD = 0.35
"""Of the latencies' logarithm."""
BUSY = 5
"""Calls in a minute from which a vendor may refuse for reasons of its own. The pool takes each
refusal for a lesson; a group that is taught one picture a minute needs an hour to learn better."""
SELLING = ("ok", "wrong-size", "damaged", "cut-body", "stalled-body")
"""What ends with a picture, or a part of one, on the wire."""


FAULTS = {
    "refused": (FaultClass.LOCAL, "upstream_unreachable"),
    "revoked": (FaultClass.AUTH, "upstream_auth_failed"),
    "quota": (FaultClass.QUOTA, "upstream_no_money"),
    "moderation": (FaultClass.CLIENT, "moderation_blocked"),
}
"""What an adapter makes of an answer; of any other a passing failure."""


@dataclass(eq=False)
class Sale:
    """One call as the vendor knows it."""

    number: int
    account: Account
    job_id: str
    size: tuple[int, int]
    fate: str
    caller: Life
    at: float
    answer: asyncio.Future[bytes] = field(repr=False)
    sold: bool = False
    over: bool = False
    digest: str | None = None


class Market:
    """Sells pictures to whoever holds a key.

    Args:
        weather: what goes wrong.
        limits: by group, pictures in any minute; a group without one has no limit.
        trace: told about every call.
        rng: draws latencies and what else chance decides.
    """

    def __init__(
        self, weather: Weather, limits: dict[str, float], trace: Trace, rng: random.Random
    ) -> None:
        self.sales: list[Sale] = []
        self.unlucky = ""
        """The account that loses its key, with its group and its host, when that is in the air."""
        self._weather = weather
        self._limits = limits
        self._trace = trace
        self._rng = rng
        self._median_s = math.exp(rng.uniform(math.log(4), math.log(40)))
        self._bills_abandoned = rng.random()
        self._granted: defaultdict[str, deque[float]] = defaultdict(deque)

    def call(self, account: Account, call: UpstreamCall, caller: Life) -> Sale:
        """Take a call and begin to work on it."""
        loop = asyncio.get_running_loop()
        width, _, height = (call.size if "x" in call.size else "1024x1024").partition("x")
        size = (int(width), int(height))
        fate = self._fate(account)
        sale = Sale(
            number=len(self.sales) + 1,
            account=account,
            job_id=call.job_id,
            size=size,
            fate=fate,
            caller=caller,
            at=loop.time(),
            answer=loop.create_future(),
        )
        self.sales.append(sale)
        self._trace.note("call", sale.number, account.name, call.job_id, fate)
        with outside():
            if fate != "stall":
                loop.call_later(self._seconds(fate), self._finish, sale)
        return sale

    def hang_up(self, sale: Sale) -> None:
        """End a call from the caller's side; the work may be billed all the same."""
        if sale.over:
            return
        sale.over = True
        if sale.fate in (*SELLING, "stall", "524"):
            sale.sold = self._rng.random() < self._bills_abandoned
        sale.answer.cancel()

    def bury(self, life: Life) -> None:
        """Notice that a caller has died."""
        for sale in self.sales:
            if sale.caller is life:
                self.hang_up(sale)

    def wait_s(self, group: str) -> float:
        """Return when the group may call again, seconds from now."""
        now = asyncio.get_running_loop().time()
        recent = self._granted[group]
        return max(0.0, recent[0] + MINUTE_S - now) if recent else 0.0

    def _fate(self, account: Account) -> str:
        weather, now = self._weather, asyncio.get_running_loop().time()
        host = account.base_url
        mine = self.unlucky in (account.name, account.group, host)
        if weather.lasts("refusing-host") and host.endswith("a.test"):
            return "refused"
        if weather.lasts("outage"):
            return "500"
        if weather.lasts("revoked-key") and mine:
            return "revoked"
        if weather.lasts("no-money") and account.group == "g0":
            return "quota"
        fate = weather.answer()
        recent = self._granted[account.group]
        while recent and recent[0] <= now - MINUTE_S:
            recent.popleft()
        if fate != "refused" and len(recent) >= self._limits.get(account.group, math.inf):
            return "429"
        if fate in ("429", "429-blind") and len(recent) < BUSY:
            fate = "ok"
        if fate not in ("refused", "429", "429-blind"):
            recent.append(now)
        return fate

    def _seconds(self, fate: str) -> float:
        if fate in SELLING or fate == "524":
            seconds = self._median_s * math.exp(self._rng.gauss(0, SPREAD))
            return min(seconds, 200.0) + (60 if fate == "524" else 0)
        return self._rng.uniform(0.02, 2.0)

    def _finish(self, sale: Sale) -> None:
        if sale.over:
            return
        sale.over = True
        if sale.fate not in SELLING:
            sale.sold = sale.fate == "524" and self._rng.random() < self._bills_abandoned
            sale.answer.set_result(b"")
            return
        sale.sold = True
        size = (512, 512) if sale.fate == "wrong-size" else sale.size
        data = picture(*size, sale.number, coloured=size not in ((1024, 1024), (512, 512)))
        if sale.fate == "damaged":
            data = damaged(data)
        sale.digest = hashlib.sha256(data).hexdigest()
        self._trace.note("sale", sale.number, sale.digest)
        sale.answer.set_result(data)


class SimulatedUpstream:
    """One process's adapter (see `safelight.upstreams.Upstream`).

    Args:
        market: whom it calls.
        clock: of deadlines.
        life: the process.
        die: ends it, and says where.
        weather: what goes wrong.
    """

    def __init__(
        self,
        market: Market,
        clock: Clock,
        life: Life,
        die: Callable[[str], None],
        weather: Weather,
    ) -> None:
        self._market = market
        self._clock = clock
        self._life = life
        self._die = die
        self._weather = weather

    def check(self, account: Account) -> Account:
        return account

    async def generate(
        self,
        account: Account,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Received:
        left = deadline - self._clock.monotonic()
        sale = self._market.call(account, call, self._life)
        try:
            async with asyncio.timeout(max(0.0, min(left, account.first_byte_timeout_s))):
                data = await sale.answer
        except TimeoutError:
            raise UpstreamError(
                FaultClass.SLOW, "upstream_timeout", "No answer.", sold=None
            ) from None
        finally:
            self._market.hang_up(sale)
        if sale.fate not in SELLING:
            raise self._fault(sale)
        if on_partial is not None:
            for index in range(call.partial_images):
                path = spool.with_name(f"{spool.name}.partial{index}")
                path.write_bytes(data[:100])
                on_partial(index, path)
        return await self._receive(sale, data, spool, account)

    async def _receive(self, sale: Sale, data: bytes, spool: Path, account: Account) -> Received:
        with Spool(spool) as file:
            file.write(data[: len(data) // 2])
            if sale.fate == "stalled-body":
                await asyncio.sleep(account.idle_timeout_s)
                raise UpstreamError(FaultClass.SLOW, "upstream_stalled", "It stopped.", sold=True)
            await asyncio.sleep(0.2 + 0.01 * (sale.number % 7))
            if sale.fate == "cut-body":
                raise UpstreamError(FaultClass.SLOW, "upstream_truncated", "It is cut.", sold=True)
            file.write(data[len(data) // 2 :])
            usage = Usage(output_tokens=1000 + sale.number % 7, total_tokens=1100)
            received = file.commit(upstream_request_id=f"sale_{sale.number}", usage=usage)
        if self._weather.strikes("die-after-answer"):
            self._die("after an answer")
            await nevermore()
        return received

    def _fault(self, sale: Sale) -> UpstreamError:
        if sale.fate in ("429", "429-blind"):
            told = None if sale.fate == "429-blind" else self._market.wait_s(sale.account.group) + 1
            return UpstreamError(
                FaultClass.THROTTLED, "rate_limit_exceeded", "Wait.", retry_after_s=told
            )
        if sale.fate == "524":
            return UpstreamError(FaultClass.SLOW, "upstream_timeout", "Cut.", sold=None)
        fault, code = FAULTS.get(sale.fate, (FaultClass.FAST, "upstream_error"))
        return UpstreamError(fault, code, "It failed.")

    async def probe(self, account: Account, *, deadline: float) -> None:
        assert deadline > self._clock.monotonic()
        await asyncio.sleep(0.2)
        if self._weather.lasts("revoked-key") and self._market.unlucky == account.name:
            raise UpstreamError(FaultClass.AUTH, "upstream_auth_failed", "No such key.")

    async def close(self) -> None:
        return None
