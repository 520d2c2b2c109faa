"""One item from its first order to its end: ordered, collected, judged, placed, or rolled again.

Owns the order of the journal's lines around each of these, on which it rests that no picture is
bought twice: a roll is on the disk before its order is sent, and a picture is on the disk before
the journal says so. Knows nothing of other items; `runner` decides who runs.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safelight.client.answers import Job, Picture, Saved
from safelight.client.client import AsyncClient
from safelight.client.errors import (
    BadOrder,
    BrokenPicture,
    ClientError,
    OutOfMoney,
    RateLimited,
    Refused,
    ServiceFailed,
    TimedOut,
    Unreachable,
)
from safelight.client.orders import Order
from safelight.client.runs.books import Books
from safelight.client.runs.faults import DiskFull, GatewayLost, RunStopped
from safelight.client.runs.history import Roll, verdict_lines
from safelight.client.runs.items import Item
from safelight.client.runs.judging import Judge, refusal
from safelight.client.runs.lookup import LookUp
from safelight.client.runs.preparing import Inputs
from safelight.client.runs.settings import Settings
from safelight.client.runs.steps import Budget, Step, next_step
from safelight.client.runs.stopping import Left, Stop

ORDER_NAME = "safelight_order"
"""The entry of an order's metadata that has its key: by it a job is found when the key is old."""
PAUSE_MAX_S = 30.0
GONE = 410
"""What a safelight answers for an order whose picture it keeps no longer."""
NAME_LENGTH = 60


class ItemFailed(Exception):
    """An item ends without a picture in this start; the message says why."""


class CostBound(Exception):
    """The bound on the cost leaves no room for another order."""


class Counts:
    """What is going on in this start."""

    def __init__(self) -> None:
        self.running = 0
        self.judging = 0
        self.orders = 0
        self.rerolls = 0


@dataclass(frozen=True)
class Tools:
    """What items are brought to their ends with.

    Args:
        client: whom to order from.
        books: the run's folder, journal and history.
        budget: the bound on the cost.
        judge: asks gates.
        inputs: what is sent.
        settings: bounds.
        prices: of an order of each item, by id, micro-dollars; None: unknown.
        stop: says when nothing more is to be ordered.
        tell: is called after each change, with a remark or None.
        slots: places for orders under way.
        safelight: whether the gateway keeps jobs and their metadata.
    """

    client: AsyncClient
    books: Books
    budget: Budget
    judge: Judge
    inputs: Inputs
    settings: Settings
    prices: Mapping[str, int | None]
    stop: Stop
    tell: Callable[[str | None], None]
    slots: asyncio.Semaphore
    safelight: bool


class Rolling:
    """Brings items to their ends."""

    def __init__(self, tools: Tools) -> None:
        self.counts = Counts()
        self._client = tools.client
        self._books = tools.books
        self._budget = tools.budget
        self._judge = tools.judge
        self._inputs = tools.inputs
        self._settings = tools.settings
        self._prices = tools.prices
        self._stop = tools.stop
        self._tell = tools.tell
        self._slots = tools.slots
        self._safelight = tools.safelight
        self._look_up = LookUp(tools.client, ORDER_NAME)
        self._well_at = time.monotonic()
        """When the gateway last gave a picture or a verdict on an order."""

    async def finish(self, item: Item, reference: Path | None) -> None:
        """Bring an item as far as it comes: accepted, or for review.

        Args:
            item: of the plan.
            reference: the accepted picture of the item it refers to.

        Raises:
            ItemFailed: there is no picture.
            CostBound: the bound on the cost came first.
            Left: the run stops.
            RunStopped: the run must stop: a full disk, a gateway that is away.
            OutOfMoney: the balance does not cover another order.
        """
        try:
            await self._finish(item, reference)
        except OSError as error:
            raise self._books.trouble(error) from error
        finally:
            last = self._books.history.story(item.id).last
            if last is not None:
                await self._budget.doubt(last.key)

    async def _finish(self, item: Item, reference: Path | None) -> None:
        story = self._books.history.story(item.id)
        while True:
            roll = story.last
            match next_step(story, rerolls=self._settings.rerolls, now=time.time()):
                case Step.DONE | Step.REVIEW:
                    return
                case Step.JUDGE if roll is not None:
                    await self._judged(item, roll)
                case Step.COLLECT if roll is not None:
                    async with self._slots:
                        await self._obtained(item, roll, reference)
                case Step.LOOK_UP if roll is not None:
                    async with self._slots:
                        await self._looked_up(item, roll)
                case _:
                    async with self._slots:
                        await self._obtained(item, await self._placed(item), reference)

    # --- ordering ----------------------------------------------------------------------------

    async def _placed(self, item: Item) -> Roll:
        """Write a new roll into the journal, once there is room for its price."""
        story = self._books.history.story(item.id)
        number = len(story.rolls) + 1
        key = f"{self._books.history.run_id}.{item.id}.{number}"
        price = self._prices.get(item.id)
        self._check_stop()
        if not await self._budget.hold(key, price or 0):
            self._check_stop()
            raise CostBound
        try:
            self._check_stop()
            self._check_room()
            await self._books.note(
                "ordered", item.id, number, durable=True, key=key, price_micros=price
            )
        except BaseException:
            # Nothing was sent. A line that was written after all is an order that nobody placed:
            # the next start places it.
            await self._budget.settle(key, 0)
            raise
        if story.pictures:
            self.counts.rerolls += 1
        return story.rolls[-1]

    def _check_stop(self) -> None:
        if self._stop.asked:
            raise Left

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._books.folder.path).free
        if free < self._settings.least_free_bytes:
            raise DiskFull(
                f"only {free // 1_000_000} MB are free in {self._books.folder.path}: nothing more "
                "is ordered"
            )

    async def _obtained(self, item: Item, roll: Roll, reference: Path | None) -> None:
        """Ask for a roll's picture until it is here, or it is known that none comes."""
        self._check_stop()
        await self._budget.hold(roll.key, roll.at_risk_micros)
        order = await self._sent(item, roll, reference)
        self.counts.orders += 1
        failures = pauses = 0
        while True:
            try:
                return await self._brought(item, roll, order)
            except Refused as refused:
                return await self._refused(item, roll, refused)
            except BadOrder as error:
                await self._failed(item, roll, error.message)
            except (RateLimited, Unreachable) as problem:
                pauses += 1
                await self._pause(problem, pauses)
            except (ServiceFailed, TimedOut, BrokenPicture) as problem:
                failures += 1
                if failures >= self._settings.tries:
                    raise ItemFailed(_words(problem)) from problem
                await self._pause(problem, failures)

    async def _sent(self, item: Item, roll: Roll, reference: Path | None) -> Order:
        """Return the order as it is sent, the same in every start."""
        try:
            order = await self._inputs.order(item.order, reference)
        except BadOrder as error:
            raise ItemFailed(error.message) from error
        parameters = dict(order.parameters)
        if self._safelight:
            own = parameters.get("metadata")
            named = dict(own) if isinstance(own, Mapping) else {}
            parameters["metadata"] = {**named, ORDER_NAME: roll.key}
        return replace(order, parameters=parameters, idempotency_key=roll.key)

    async def _brought(self, item: Item, roll: Roll, order: Order) -> None:
        self.counts.running += 1
        self._tell(None)
        try:
            picture = await self._client.order(order)
            saved = await self._saved(item, roll, picture)
        finally:
            self.counts.running -= 1
        if saved is not None:
            await self._received(item, roll, picture, saved)

    async def _saved(self, item: Item, roll: Roll, picture: Picture) -> Saved | None:
        """Bring a picture home; None, noted, where the gateway keeps it no longer."""
        try:
            return await self._client.save(picture, self._place_of(item, roll))
        except BrokenPicture:
            if picture.job_id is None or not self._safelight:
                raise
            job = await self._client.job(picture.job_id)
            if job.status != "completed" or (job.image is not None and job.image.url is not None):
                raise
        await self._lost(item, roll, job)
        return None

    async def _lost(self, item: Item, roll: Roll, job: Job) -> None:
        """Book a picture that was delivered and charged, and is no longer to be had."""
        before = roll.cost_micros
        await self._books.note(
            "lost",
            item.id,
            roll.number,
            durable=True,
            job_id=job.id,
            charge_micros=job.price_micros,
            reason="it was delivered, and is not kept any more",
        )
        await self._budget.settle(roll.key, roll.cost_micros - before)
        self._tell(f"{item.out}: the picture of {job.id} is not kept any more; it is made anew")

    def _place_of(self, item: Item, roll: Roll) -> Path:
        # The name is what gates show of a picture that another one resembles.
        name = item.out.rpartition("/")[2][:NAME_LENGTH]
        own = self._books.folder.incoming / item.id
        own.mkdir(exist_ok=True)
        return own / f"{name}-{roll.number}"

    async def _received(self, item: Item, roll: Roll, picture: Picture, saved: Saved) -> None:
        self._well_at = time.monotonic()
        before = roll.cost_micros
        await self._books.note(
            "received",
            item.id,
            roll.number,
            durable=True,
            path=self._books.folder.relative(saved.path),
            sha256=saved.sha256,
            bytes=saved.bytes,
            width=saved.width,
            height=saved.height,
            mime=saved.mime,
            job_id=picture.job_id,
            request_id=picture.request_id,
            charge_micros=picture.charge_micros,
            generation_s=picture.generation_s,
        )
        await self._budget.settle(roll.key, roll.cost_micros - before)
        self._tell(None)

    async def _refused(self, item: Item, roll: Roll, refused: Refused) -> None:
        """Book an order that the gateway will not take, however often it is sent: it was free.

        Or one whose picture it has deleted since: that was charged.
        """
        self._well_at = time.monotonic()
        if refused.status == GONE and self._safelight:
            job_id = refused.job_id or roll.job_id
            if job_id is None:
                job = await self._look_up.find(roll.key, roll.ordered_at)
            else:
                job = await self._client.job(job_id)
            if job is not None:
                await self._lost(item, roll, job)
                return
        if stops_all(refused):
            await self._noted_failed(item, roll, _words(refused))
            raise refused
        await self._failed(item, roll, _words(refused))

    async def _failed(self, item: Item, roll: Roll, reason: str) -> None:
        await self._noted_failed(item, roll, reason)
        raise ItemFailed(reason)

    async def _noted_failed(self, item: Item, roll: Roll, reason: str) -> None:
        await self._books.note("failed", item.id, roll.number, reason=reason)
        await self._budget.settle(roll.key, 0)

    async def _pause(self, problem: ClientError, times: int) -> None:
        """Wait before the same order is asked for again; leave if the run stops meanwhile."""
        away_s = time.monotonic() - self._well_at
        if away_s > self._settings.patience_s:
            raise GatewayLost(
                f"no picture came for {away_s / 60:.0f} minutes; the last answer was: "
                f"{problem.message}"
            ) from problem
        named_s = getattr(problem, "retry_after_s", None)
        grown_s = self._settings.pause_s * 2.0 ** (min(times, 10) - 1)
        wait_s = min(PAUSE_MAX_S, grown_s if named_s is None else max(named_s, 0.0))
        self._tell(f"{_words(problem)}; asking again in {wait_s:.0f} s")
        await self._stop.sleep(wait_s)

    # --- judging -----------------------------------------------------------------------------

    async def _judged(self, item: Item, roll: Roll) -> None:
        folder = self._books.folder
        if not await asyncio.to_thread(folder.holds, roll.path, roll.sha256):
            await self._found_again(item, roll)
            return
        self.counts.judging += 1
        try:
            verdicts = roll.verdicts
            if not roll.kept:
                verdicts = await self._judge.judge(item.gates, folder.path / roll.path)
        finally:
            self.counts.judging -= 1
        refused = None if roll.kept else refusal(verdicts)
        facts: dict[str, Any] = {"verdicts": verdict_lines(verdicts)}
        if refused is None:
            name = folder.accepted_name(item.out, roll.mime)
            await self._books.put_in_place(roll.path, name, roll.sha256)
            await self._books.note("accepted", item.id, roll.number, path=name, **facts)
            self._tell(None)
            return
        name = folder.review_name(item.out, roll.number, roll.mime)
        await asyncio.to_thread(folder.move, roll.path, name)
        reason = f"{refused.gate}: {refused.reason}"
        await self._books.note("rejected", item.id, roll.number, path=name, reason=reason, **facts)
        self._tell(f"{item.out}: rejected, {reason}")

    async def _found_again(self, item: Item, roll: Roll) -> None:
        """Go on with a picture that is not where the journal has it: it was placed before the
        journal could say so, or it is gone and is fetched again under its key.
        """
        name = self._books.folder.accepted_name(item.out, roll.mime)
        if await asyncio.to_thread(self._books.folder.holds, name, roll.sha256):
            await self._books.note("accepted", item.id, roll.number, path=name)
            return
        await self._books.ask_again(item.id, roll)

    # --- old orders --------------------------------------------------------------------------

    async def look_after(self, item_id: str, roll: Roll) -> None:
        """Find out what became of an order whose item has left the plan: it may have been charged.

        Its picture is kept unjudged, in case the item comes back.

        Raises:
            OSError: it cannot be kept, or written down.
        """
        try:
            job = await self._look_up.find(roll.key, roll.ordered_at)
            if job is None or job.ended:
                await self._looked_up(Item(item_id, Order("left the plan"), item_id), roll)
        except (ItemFailed, ClientError) as error:
            self._tell(f"{item_id}, which left the plan: {error}")

    async def _looked_up(self, item: Item, roll: Roll) -> None:
        """Find out what became of an order that is too old to be asked for under its key."""
        job = await self._look_up.find(roll.key, roll.ordered_at)
        if job is None:
            await self._noted_failed(item, roll, "the gateway knows nothing of this order")
            return
        try:
            job = await self._client.wait(job)
        except ClientError as error:
            raise ItemFailed(_words(error)) from error
        try:
            picture = job.picture()
        except BrokenPicture:
            await self._lost(item, roll, job)
        except (Refused, ServiceFailed) as error:
            await self._noted_failed(item, roll, _words(error))
        else:
            try:
                saved = await self._saved(item, roll, picture)
            except ClientError as error:
                raise ItemFailed(_words(error)) from error
            if saved is not None:
                await self._received(item, roll, picture, saved)


def stops_all(error: ClientError) -> bool:
    """Whether what stopped one item stops all of them: the disk, the money, the key."""
    if isinstance(error, RunStopped | OutOfMoney):
        return True
    return isinstance(error, Refused) and error.status in (401, 403)


def _words(problem: ClientError) -> str:
    code = getattr(problem, "code", None)
    return f"{problem.message} ({code})" if code else problem.message
