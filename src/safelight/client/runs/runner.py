"""A run carried out: items side by side, within bounds, from where the last start stopped.

Owns who runs when, what waits for whom, and how a run ends. One item's way is `rolling`'s; what
comes of the whole is `outcome`'s.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safelight.client.client import AsyncClient
from safelight.client.destinations import destination
from safelight.client.errors import ClientError
from safelight.client.figures import Figures
from safelight.client.runs.books import Books
from safelight.client.runs.carrying import Carrying
from safelight.client.runs.forecast import Forecast
from safelight.client.runs.history import RollState, figures_line
from safelight.client.runs.items import Item, Plan
from safelight.client.runs.judging import Judge
from safelight.client.runs.preparing import Inputs
from safelight.client.runs.rolling import CostBound, ItemFailed, Rolling, Tools, stops_all
from safelight.client.runs.settings import NobodyWatches, Settings, Snapshot, Watcher
from safelight.client.runs.speed import Speed
from safelight.client.runs.steps import Budget, Step, next_step
from safelight.client.runs.stopping import Left, Stop

FIGURES_S = 1.0
"""How old the journal's figures may be: a killed start loses no more than that."""


@dataclass
class Ended:
    """How a start ended. Each item is in one of the four, by id; reasons in words."""

    accepted: list[str] = field(default_factory=list)
    review: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    #: Not ordered, or under way: the run was stopped before.
    left: dict[str, str] = field(default_factory=dict)
    #: Why it was stopped; None: it came to its end.
    stopped: ClientError | None = None
    #: Whether the bound on the cost kept it from ordering more.
    at_bound: bool = False
    figures: Figures = field(default_factory=Figures)
    rerolls: int = 0
    put: int = 0
    not_put: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Control:
    """Who is told how a start goes, and who may stop it."""

    watcher: Watcher = field(default_factory=NobodyWatches)
    stop: Stop = field(default_factory=Stop)


class Runner:
    """One start of a run.

    Args:
        plan: what is to be made.
        books: the run's folder, in which `Books.begin` has been called.
        client: whom to order from.
        inputs: made right already.
        judge: asks gates.
        settings: bounds.
        told: the forecast: prices, and how many orders may be under way.
        control: who watches, and who may stop it.
    """

    def __init__(
        self,
        plan: Plan,
        books: Books,
        client: AsyncClient,
        inputs: Inputs,
        judge: Judge,
        settings: Settings,
        told: Forecast,
        control: Control,
    ) -> None:
        self._plan = plan
        self._books = books
        self._client = client
        self._inputs = inputs
        self._judge = judge
        self._settings = settings
        self._told = told
        self._watcher = control.watcher
        self.stop = control.stop
        self._ended = Ended()
        self._speed = Speed(told.seconds, trusted=told.measured)
        self._before = client.figures
        """What the client had seen before this start."""
        self._figures_at = time.monotonic()
        self._waiting: dict[str, list[Item]] = {}
        """Items that wait for the picture of another one, by its id."""
        self._ready: deque[Item] = deque()
        self._tasks: dict[asyncio.Task[None], Item] = {}

    async def run(self) -> Ended:
        """Bring every item as far as it comes, and say how each ended.

        Cancelling it leaves what is under way to the next start.

        Raises:
            OSError: the journal cannot be written.
        """
        history = self._books.history
        self._budget = Budget(self._settings.max_cost_micros, history.cost_micros)
        for _, roll in history.open_rolls():
            self._budget.hold_known(roll.key, roll.at_risk_micros)
        tools = Tools(
            client=self._client,
            books=self._books,
            budget=self._budget,
            judge=self._judge,
            inputs=self._inputs,
            settings=self._settings,
            prices=self._told.prices,
            stop=self.stop,
            tell=self._tell,
            slots=asyncio.Semaphore(self._told.concurrency),
            safelight=(await self._client.capabilities()).safelight,
        )
        self._rolling = Rolling(tools)
        self._carrying = self._destination()
        try:
            await self._recall()
            await self._look_after_dropped(safelight=tools.safelight)
            self._line_up()
            await self._work()
            if self._carrying is not None:
                await self._carrying.finish()
        finally:
            await self._leave()
        return self._sum_up()

    def _destination(self) -> Carrying | None:
        to = self._settings.to
        if to is None:
            return None
        return Carrying(destination(to), to, self._books, pause_s=self._settings.pause_s)

    # --- lining up ---------------------------------------------------------------------------

    async def _recall(self) -> None:
        """Let gates know, and the destination have, what earlier starts accepted."""
        known = []
        for item in self._plan.items:
            roll = self._books.history.story(item.id).accepted
            if roll is not None:
                known.append((item.gates, self._books.folder.path / roll.path))
                if self._carrying is not None:
                    self._carrying.begin(item.id, roll)
        await self._judge.recall(known)

    async def _look_after_dropped(self, *, safelight: bool) -> None:
        """Bring the books of items that left the plan while they were under way to an end."""
        ids = {item.id for item in self._plan.items}
        dropped = [pair for pair in self._books.history.open_rolls() if pair[0] not in ids]
        for item_id, roll in dropped if safelight else ():
            await self._rolling.look_after(item_id, roll)

    def _line_up(self) -> None:
        """Put items that can begin in a row, those that are under way first; book those done."""
        now = time.time()
        open_: list[Item] = []
        fresh: list[Item] = []
        for item in self._plan.items:
            story = self._books.history.story(item.id)
            step = next_step(story, rerolls=self._settings.rerolls, now=now)
            if step in (Step.DONE, Step.REVIEW):
                self._finished(item)
            elif item.reference is not None and not self._picture_of(item.reference):
                self._waiting.setdefault(item.reference, []).append(item)
            else:
                (fresh if step is Step.ORDER else open_).append(item)
        self._ready.extend(open_ + fresh)
        unaccepted = {*self._ended.review}
        for item in self._plan.items:
            if item.id in unaccepted:
                self._begin_followers(item)

    def _picture_of(self, item_id: str | None) -> Path | None:
        if item_id is None:
            return None
        roll = self._books.history.story(item_id).accepted
        return None if roll is None else self._books.folder.path / roll.path

    # --- working -----------------------------------------------------------------------------

    async def _work(self) -> None:
        # More than may order: pictures that are judged need no place among the orders.
        width = self._told.concurrency + 2 * self._settings.threads
        asked = asyncio.create_task(self.stop.wait())
        try:
            while True:
                while self._ready and len(self._tasks) < width and not self.stop.asked:
                    self._begin(self._ready.popleft())
                if not self._tasks:
                    return
                watched = {*self._tasks} | (set() if self.stop.asked else {asked})
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                if self.stop.asked:
                    await self._budget.give_up_waiting()
                for task in done - {asked}:
                    await self._over(task)
        finally:
            asked.cancel()

    def _begin(self, item: Item) -> None:
        task = asyncio.create_task(
            self._rolling.finish(item, self._picture_of(item.reference)), name=item.id
        )
        self._tasks[task] = item

    async def _over(self, task: asyncio.Task[None]) -> None:
        """Learn how an item's task ended."""
        item = self._tasks.pop(task)
        try:
            await task
        except ItemFailed as failed:
            self._ended.failed[item.id] = str(failed)
            self._watcher.said(f"{item.out}: failed, {failed}")
        except CostBound:
            self._ended.at_bound = True
            self._ended.left[item.id] = "not ordered: the bound on the cost is reached"
        except Left:
            self._ended.left[item.id] = "the run was stopped before"
        except ClientError as error:
            if stops_all(error):
                self._ended.left[item.id] = "the run was stopped before"
                self.stop.ask(error)
            else:
                self._ended.failed[item.id] = error.message
        else:
            self._finished(item)
        self._begin_followers(item)
        await self._keep_figures()
        self._tell(None)

    def _finished(self, item: Item) -> None:
        roll = self._books.history.story(item.id).accepted
        if roll is None:
            self._ended.review.append(item.id)
            return
        self._ended.accepted.append(item.id)
        if self._carrying is not None:
            self._carrying.begin(item.id, roll)

    def _begin_followers(self, item: Item) -> None:
        followers = self._waiting.pop(item.id, ())
        if not followers:
            return
        if item.id in self._ended.accepted:
            self._ready.extendleft(reversed(followers))
            return
        for follower in followers:
            words = f"it needs the picture of {item.out}, and there is none"
            where = self._ended.left if item.id in self._ended.left else self._ended.failed
            where[follower.id] = words
            self._begin_followers(follower)

    async def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._carrying is not None:
            await self._carrying.leave()
        await self._keep_figures(now=True)

    async def _keep_figures(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._figures_at < FIGURES_S:
            return
        self._figures_at = time.monotonic()
        try:
            await self._books.note_of_run("figures", figures=figures_line(self.figures))
        except OSError as error:
            self.stop.ask(self._books.trouble(error))

    @property
    def figures(self) -> Figures:
        """What the client has seen in this start."""
        now, before = asdict(self._client.figures), asdict(self._before)
        return Figures(**{name: now[name] - before[name] for name in now})

    # --- telling -----------------------------------------------------------------------------

    def _tell(self, remark: str | None) -> None:
        if remark is not None:
            self._watcher.said(remark)
        self._watcher.changed(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return how far the run is."""
        counts, figures = self._rolling.counts, self.figures
        pictures = figures.pictures
        done = len(self._ended.accepted) + len(self._ended.review) + len(self._ended.failed)
        per_minute, left_s = self._speed.of(pictures, len(self._plan.items) - done)
        return Snapshot(
            total=len(self._plan.items),
            accepted=len(self._ended.accepted),
            review=len(self._ended.review),
            failed=len(self._ended.failed),
            running=counts.running,
            judging=counts.judging,
            cost_micros=self._budget.spent_micros,
            rerolls=counts.rerolls,
            retries=max(0, figures.tries - counts.orders),
            per_minute=per_minute,
            left_s=left_s,
            stopping=self.stop.asked,
        )

    def _sum_up(self) -> Ended:
        ended = self._ended
        known = {*ended.accepted, *ended.review, *ended.failed, *ended.left}
        for item in self._plan.items:
            if item.id not in known:
                roll = self._books.history.story(item.id).last
                under_way = roll is not None and roll.state is RollState.ORDERED
                ended.left[item.id] = "under way" if under_way else "the run was stopped before"
        ended.stopped = self.stop.reason
        ended.figures = self._books.history.earlier_figures + self.figures
        ended.rerolls = self._rolling.counts.rerolls
        if self._carrying is not None:
            ended.put, ended.not_put = self._carrying.put, dict(self._carrying.failed)
        return ended
