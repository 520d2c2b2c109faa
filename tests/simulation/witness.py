"""The judge of a run: money, pictures, sales and clients must tell the same story.

Owns every rule that holds whatever has failed. Reads the tables, the shelf and the market's own
books; changes nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from safelight import attempts
from safelight.db import Row, Transaction
from safelight.gateway.verification import verify_all
from safelight.types import Account
from simulation.buyers import Delivery, Wish
from simulation.house import World
from simulation.market import Market

MINUTE_MS = 60_000


def audit(world: World) -> list[str]:
    """Return what the product's own witness finds, but for what a coming look may mend."""
    found = world.tables.look(verify_all, world.clock.now_ms())
    return [str(one) for one in found if not one.passing]


def open_jobs(world: World) -> int:
    """Return how many jobs have not ended."""
    return len(_rows(world, "SELECT 1 FROM job WHERE state IN ('queued', 'in_progress')"))


def judge(
    world: World,
    market: Market,
    wishes: Sequence[Wish],
    accounts: Sequence[Account],
    jumps: Sequence[float],
) -> None:
    """Blame the run for every rule that it breaks."""
    judged = _Judged(world, market, wishes, jumps)
    rules: tuple[Callable[[], list[str]], ...] = (
        lambda: [f"audit: {fault}" for fault in audit(world)],
        judged.money,
        judged.charges,
        judged.sales,
        judged.clients,
        judged.orders,
        judged.late_failures,
        judged.cancelled,
        judged.twice,
        lambda: judged.limits(accounts),
    )
    for rule in rules:
        for fault in rule():
            world.trace.blame(fault)
    world.trace.note("end", len(judged.jobs), sum(sale.sold for sale in market.sales))


class _Judged:
    def __init__(
        self, world: World, market: Market, wishes: Sequence[Wish], jumps: Sequence[float]
    ) -> None:
        self.world = world
        self.jumps = jumps
        self.market = market
        self.wishes = wishes
        self.jobs = _rows(
            world,
            "SELECT j.*, i.digest, a.digest AS bought, a.account, r.idempotency_key, r.retry_of "
            "FROM job j JOIN request r ON r.id = j.request_id "
            "LEFT JOIN image i ON i.id = j.image_id "
            "LEFT JOIN attempt a ON a.job_id = j.id AND a.settled = 1 ORDER BY j.id",
        )
        self.sold_as = {sale.digest: sale for sale in market.sales if sale.digest is not None}

    def money(self) -> list[str]:
        """Nothing is held, and what was paid is the price of the pictures."""
        wrong = []
        spent: Counter[str] = Counter()
        for job in self.jobs:
            if job["state"] == "completed":
                spent[job["customer_id"]] += job["price_micros"]
            elif job["state"] in ("queued", "in_progress"):
                wrong.append(f"job {job['id']} never ends: {dict(job)}")
        for row in _rows(
            self.world,
            "SELECT b.*, (SELECT SUM(amount_micros) FROM transfer t WHERE t.kind = 'topup' "
            "AND t.customer_id = b.customer_id) AS paid_in FROM balance b ORDER BY customer_id",
        ):
            name, posted = row["customer_id"], row["posted_micros"]
            if row["held_micros"]:
                wrong.append(f"{name} still has {row['held_micros']} held")
            if posted != row["paid_in"] - spent[name]:
                wrong.append(f"{name} has {posted}, not {row['paid_in']} - {spent[name]}")
            if posted < 0:
                wrong.append(f"{name} has overspent: {posted}")
        return wrong

    def charges(self) -> list[str]:
        """Every charge has one stored picture, which the vendor has sold for that job alone."""
        wrong = []
        seen: dict[str, str] = {}
        for job in self.jobs:
            if job["state"] != "completed":
                continue
            name, bought = job["id"], job["bought"]
            sale = self.sold_as.get(bought)
            if sale is None or not sale.sold or sale.job_id != name:
                wrong.append(f"job {name} is charged for {bought}, which is {sale}")
            if bought in seen:
                wrong.append(f"jobs {seen[bought]} and {name} are charged for one sale")
            seen[bought] = name
            if job["digest"] not in self.world.shelf.blobs:
                wrong.append(f"job {name} is charged for a picture that is not kept")
            hint = '"hint"' in job["size_plan"]
            if sale is not None and sale.fate in (
                ("damaged",) if hint else ("damaged", "wrong-size")
            ):
                wrong.append(f"job {name} is charged for a picture that is {sale.fate}")
        return wrong

    def sales(self) -> list[str]:
        """The vendor's books, account by account: settled + waste <= sold <= ... + unknown."""
        sold = Counter(sale.account.name for sale in self.market.sales if sale.sold)
        settled = Counter(job["account"] for job in self.jobs if job["state"] == "completed")
        waste = self.world.tables.look(attempts.waste, self.world.clock.now_ms())
        wrong = []
        for name in sorted({*sold, *settled, *waste}):
            known = settled[name] + (waste[name].sold if name in waste else 0)
            most = known + (waste[name].unknown if name in waste else 0)
            if not known <= sold[name] <= most:
                wrong.append(f"{name} has sold {sold[name]}, our books say {known} to {most}")
        return wrong

    def clients(self) -> list[str]:
        """Each client has what it ordered, whole, and no two the same picture.

        But for equal orders without keys whose retries could not be told apart (see `twice`).
        """
        wrong = []
        owners: dict[str, Wish] = {}
        by_request: defaultdict[str, set[str]] = defaultdict(set)
        for job in self.jobs:
            by_request[job["request_id"]].add(job["digest"])
        for wish in self.wishes:
            if not isinstance(wish.outcome, Delivery):
                continue
            if len(wish.outcome.digests) > wish.n:
                wrong.append(f"wish {wish.number} has more than it ordered")
            for digest in wish.outcome.digests:
                if digest not in by_request[wish.outcome.request_id]:
                    wrong.append(f"wish {wish.number} has a picture of another order")
                if digest in owners and not (self._missed(wish) or self._missed(owners[digest])):
                    wrong.append(f"wishes {owners[digest].number} and {wish.number} have {digest}")
                owners[digest] = wish
        return wrong

    def orders(self) -> list[str]:
        """Who repeats for long enough has its picture or a final word."""
        return [
            f"wish {wish.number} has no last word after {wish.calls} calls: {wish.outcome}"
            for wish in self.wishes
            if wish.stubborn
            and wish.deadline_s is None
            and not wish.gives_up
            and not isinstance(wish.outcome, Delivery)
            and (wish.outcome is None or wish.outcome.should_retry)
        ]

    def late_failures(self) -> list[str]:
        """No process that has lost a job ends it while its new owner is still to get a picture."""
        rows = _rows(
            self.world,
            "SELECT j.id, j.failure FROM job j JOIN attempt a ON a.job_id = j.id "
            "AND a.epoch = j.epoch WHERE j.state = 'failed' AND j.epoch > 1 "
            "AND a.outcome = 'ok' AND a.sent_at <= j.completed_at AND a.ended_at > j.completed_at",
        )
        return [
            f"job {row['id']} was ended by a process that had lost it: {row['failure']}"
            for row in rows
            if "deadline_exceeded" not in row["failure"]  # that is the reaper's, at any time
        ]

    def cancelled(self) -> list[str]:
        """No call leaves for a job that its customer has cancelled."""
        if self.jumps:
            return []  # the times are of the wall clock
        rows = _rows(
            self.world,
            "SELECT j.id FROM job j JOIN attempt a ON a.job_id = j.id "
            "WHERE a.sent_at > j.cancel_requested_at",
        )
        return [f"job {row['id']} was cancelled, and a call left for it" for row in rows]

    def twice(self) -> list[str]:
        """No order is charged twice; of those without a key none that its retry could find."""
        wrong = []
        charged: defaultdict[int, int] = defaultdict(int)
        for job in self.jobs:
            charged[_body(job)] += job["state"] == "completed"
        wanted: defaultdict[int, int] = defaultdict(int)
        excused: set[int] = set()
        for wish in self.wishes:
            wanted[wish.body] += wish.n
            if self._missed(wish):
                excused.add(wish.body)
        for body, count in charged.items():
            if count > wanted[body] and body not in excused:
                wrong.append(f"orders of body {body} want {wanted[body]}, are charged {count}")
        return wrong

    def _missed(self, wish: Wish) -> bool:
        """Return whether a retry without a key could not know its order.

        It overtook the first call; it could not be written that the first caller had left or had
        its answer; the wall clock leapt between them; a process on another machine holds the first
        call, and nobody can know yet that it is dead; or the process that holds it stood still when
        the caller left, and is alive for all others.
        """
        if wish.idempotency_key is not None:
            return False
        leapt = any(wish.began <= at <= wish.ended for at in self.jumps)
        lapsed = any(
            wish.began <= until and since <= wish.ended for since, until in self.world.lapses
        )
        unwritten = self.world.unnoted | {request_id for request_id, _ in self.world.answering}
        unseen = wish.left_early or wish.left_unseen
        return leapt or lapsed or unseen or not unwritten.isdisjoint(wish.request_ids)

    def limits(self, accounts: Sequence[Account]) -> list[str]:
        """No group sends more in a minute of our own count than its limit, over all processes."""
        if self.jumps:
            return []  # our count is by the wall clock
        wrong = []
        limits = {one.group: one.images_per_minute for one in accounts}
        for group, limit in limits.items():
            if limit is None:
                continue
            times = [
                row["sent_at"]
                for row in _rows(
                    self.world,
                    "SELECT sent_at FROM attempt WHERE limiter_group = :group "
                    "AND COALESCE(outcome, '') <> 'local' ORDER BY sent_at",
                    group=group,
                )
            ]
            most, first = max(1, int(limit)), 0
            for last, at in enumerate(times):
                while times[first] <= at - MINUTE_MS:
                    first += 1
                if last - first + 1 > most:
                    wrong.append(f"{group} sent {last - first + 1} in a minute, may {most}")
                    break
        return wrong


def _body(job: Row) -> int:
    return int(str(job["request"]).partition("number ")[2].partition('"')[0])


def _rows(world: World, sql: str, **params: object) -> list[Row]:
    def work(tx: Transaction) -> list[Row]:
        return tx.all(sql, params)

    return world.tables.look(work, world.clock.now_ms())
