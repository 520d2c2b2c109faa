"""Hours of the pool's life against a vendor with bad days, in virtual time.

The gateway's own pool, turns and buying decide; the bars are those of docs/pool.md. More seeds
belong to the campaign.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable

import pytest

from safelight.config import PoolConfig
from safelight.types import JobFailure
from simulation.vendor import Fate, Shop, Vendor, account, later
from simulation.virtual import run

START = 1000.0
TRUE = (5, 8, 12, 20, 30, 40, 50, 60)
CHANGED = (12, 5, 20, 60, 10, 55, 30, 25)
CONFIGURED = (10, 10, 10, 30, 30, 30, 60, 60)
SEEDS = (1, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(2, 5)))


def weather(failing: float, stalling: float, seed: int) -> Fate:
    """Return a fate that fails and stalls at random."""
    rng = random.Random(seed)

    def fate(_lease: object, _now: float) -> str:
        drawn = rng.random()
        return "500" if drawn < failing else "stall" if drawn < failing + stalling else "ok"

    return fate


def unlimited(_group: str, _now: float) -> float:
    return 1e9


def ten_accounts(seed: int, fate: Fate) -> tuple[Vendor, Shop]:
    vendor = Vendor(unlimited, fate, seed=seed)
    return vendor, Shop(vendor, [account(f"k{at}") for at in range(10)], seed=seed)


def good(ends: Iterable[tuple[float, float, JobFailure | None, str]]) -> float:
    failures = [failure for _, _, failure, _ in ends]
    return sum(failure is None for failure in failures) / len(failures)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "told",
    [True, pytest.param(False, marks=pytest.mark.campaign)],
    ids=["retry-after", "no-header"],
)
def test_hidden_limits_that_change_are_learnt_and_used_up(seed: int, told: bool) -> None:
    async def day() -> tuple[Vendor, Shop, float]:
        change = START + 2400

        def limit(group: str, now: float) -> float:
            return (TRUE if now < change else CHANGED)[int(group)]

        vendor = Vendor(limit, seed=seed, retry_after=told)
        accounts = [
            account(f"k{at}", str(at % 8), images_per_minute=float(CONFIGURED[at % 8]))
            for at in range(24)
        ]
        shop = Shop(vendor, accounts, PoolConfig(learn_above_configured=True), seed=seed)
        await shop.arrivals(1.3 * sum(TRUE), change + 3000, shop.order)
        return vendor, shop, change

    vendor, shop, change = run(day())
    for since, until, limits in (
        (change - 900, change, TRUE),
        (change + 2100, change + 3000, CHANGED),
    ):
        outcomes = vendor.outcomes(since, until)
        assert outcomes["ok"] >= 0.95 * sum(limits) * (until - since) / 60
        assert outcomes["429"] <= 0.02 * outcomes.total()
        ends = [end for end in shop.ends if since <= end[1] < until]
        delivered = sum(failure is None for _, _, failure, _ in ends)
        assert outcomes.total() <= 1.05 * delivered
        late = [end for end in ends if end[2] is not None and end[2].code == "deadline_exceeded"]
        assert len(late) <= 0.02 * len(ends)  # who is taken in is served
    settled = {name: limiter.images_per_minute or 0 for name, limiter in shop.pool.limiters.items()}
    assert all(
        0.8 * true <= settled[str(at)] <= true + max(2, 0.2 * true)
        for at, true in enumerate(CHANGED)
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("failing", "stalling", "deadline_s", "success", "attempts"),
    [(0.05, 0.01, 300, 0.999, 1.10), (0.3, 0.1, 300, 0.995, 1.75), (0.3, 0.1, 900, 0.999, 1.75)],
)
def test_failures_and_stalls_are_hidden(
    seed: int, failing: float, stalling: float, deadline_s: float, success: float, attempts: float
) -> None:
    async def day() -> tuple[Vendor, Shop]:
        vendor, shop = ten_accounts(seed, weather(failing, stalling, seed))
        # Whoever has 900 s is a job: nobody waits at the line, and an outage is waited out.
        called = deadline_s <= 300
        await shop.arrivals(
            60, START + 3600, lambda: shop.order(deadline_s=deadline_s, interactive=called)
        )
        await shop.finish()
        return vendor, shop

    vendor, shop = run(day())
    assert good(shop.ends) >= success
    assert len(vendor.calls) <= attempts * len(shop.ends)


@pytest.mark.parametrize("act", ["500", "refused"])
@pytest.mark.parametrize("accounts", [1, 10])
def test_an_outage_is_met_with_quick_refusals_and_left_within_seconds(
    act: str, accounts: int
) -> None:
    began, healed = START + 900, START + 1500

    async def day() -> tuple[Vendor, list[tuple[float, float, JobFailure | None]]]:
        vendor = Vendor(unlimited, lambda _, now: act if began <= now < healed else "ok")
        shop = Shop(vendor, [account(f"k{at}") for at in range(accounts)])
        calls: list[tuple[float, float, JobFailure | None]] = []
        clients: set[asyncio.Task[None]] = set()

        async def client() -> None:
            for _ in range(3):  # as the SDK does
                at = asyncio.get_running_loop().time()
                failure = await shop.order()
                calls.append((at, asyncio.get_running_loop().time(), failure))
                if failure is None or not failure.should_retry:
                    return
                await later(min(failure.retry_after_s or 1, 60))

        def begin() -> None:
            task = asyncio.ensure_future(client())
            clients.add(task)
            task.add_done_callback(clients.discard)

        await shop.arrivals(60, healed + 900, begin)
        while clients:
            await asyncio.gather(*clients)
        return vendor, calls

    vendor, calls = run(day())
    during = [call for call in calls if began <= call[0] < healed]
    attempts = sum(began <= at < healed for at, *_ in vendor.calls)
    assert attempts <= 1.2 * len(during)
    open_calls = [call for call in during if call[0] >= began + 60 and call[2] is not None]
    quick = sum(end - at <= 2 for at, end, _ in open_calls)
    assert quick >= 0.99 * len(open_calls)
    afterwards = [failure for at, _, failure in calls if at >= healed + 30]
    assert sum(failure is None for failure in afterwards) >= 0.95 * len(afterwards)


@pytest.mark.parametrize(("act", "known"), [("500", 5), ("stall", 3)])
def test_a_dead_account_is_out_soon_and_back_soon(act: str, known: int) -> None:
    died, healed = START + 900, START + 2100

    async def day() -> tuple[Vendor, Shop]:
        def fate(lease: object, now: float) -> str:
            ill = getattr(lease, "account").name == "k3" and died <= now < healed  # noqa: B009
            return act if ill else "ok"

        vendor, shop = ten_accounts(1, fate)
        await shop.arrivals(60, healed + 900, shop.order)
        await shop.finish()
        return vendor, shop

    vendor, shop = run(day())
    assert good(shop.ends) == 1
    calls = [at for at, _, name, _ in vendor.calls if name == "k3"]
    # Trials come every 50 s at most; stalls are known when they are slower than nearly all others.
    notice_s = 60 if act == "500" else 240
    first = [at for at in calls if died <= at < died + notice_s]
    assert len(first) <= known + 3 + notice_s / 40
    trials = [at for at in calls if died + notice_s <= at < healed]
    assert len(trials) <= (healed - died - notice_s) / 38
    assert min(at for at in calls if at >= healed) <= healed + 60
    assert sum(at >= healed + 300 for at in calls) >= 45  # its full share again: 60 of 600


def test_a_revoked_key_is_out_after_one_answer() -> None:
    revoked = START + 300

    async def day() -> tuple[Vendor, Shop]:
        def fate(lease: object, now: float) -> str:
            ours = getattr(lease, "account").name == "k3"  # noqa: B009
            return "revoked" if ours and now >= revoked else "ok"

        vendor, shop = ten_accounts(1, fate)
        await shop.arrivals(60, START + 1200, shop.order)
        await shop.finish()
        return vendor, shop

    vendor, shop = run(day())
    assert good(shop.ends) == 1
    assert vendor.outcomes()["revoked"] == 1


def test_refusals_of_prompts_cost_one_attempt_each_and_no_account_its_name() -> None:
    async def day() -> tuple[Vendor, Shop, set[str]]:
        vendor, shop = ten_accounts(1, lambda _lease, _now: "moderation")
        await shop.arrivals(60, START + 990, shop.order)
        await shop.finish()
        return vendor, shop, {view.state for view in shop.pool.views()}

    vendor, shop, states = run(day())
    assert len(vendor.calls) == len(shop.ends)
    codes = {failure.code for _, _, failure, _ in shop.ends if failure is not None}
    assert codes == {"moderation_blocked"}
    assert states == {"ready"}


def test_a_small_customer_hardly_notices_a_big_one() -> None:
    async def day(*, loaded: bool) -> list[float]:
        vendor = Vendor(lambda _group, _now: 30, median_s=20)
        shop = Shop(vendor, [account(f"k{at}", images_per_minute=30.0) for at in range(4)])
        if loaded:
            for _ in range(1000):
                shop.order("big", deadline_s=3600)
        for _ in range(8):
            shop.order("small")
            await later(60)
        return sorted(end - at for at, end, _, customer in shop.ends if customer == "small")

    alone, beside = run(day(loaded=False)), run(day(loaded=True))
    assert len(beside) >= 7
    assert beside[-1] <= 2 * alone[-1]


def test_equal_backlogs_get_equal_shares() -> None:
    async def day() -> Counter[str]:
        vendor = Vendor(lambda _group, _now: 30, median_s=20)
        shop = Shop(vendor, [account(f"k{at}", images_per_minute=30.0) for at in range(4)])
        for customer in "abcde":
            for _ in range(300):
                shop.order(customer, deadline_s=7200)
        await later(600)
        return Counter(customer for _, _, failure, customer in shop.ends if failure is None)

    served = list(run(day()).values())
    jain = sum(served) ** 2 / (len(served) * sum(share * share for share in served))
    assert jain >= 0.95
