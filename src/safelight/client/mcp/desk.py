"""What the tools do: order, wait, fetch, ask; within the folders and the purse of one server.

Owns the course of an order here: price held, job accepted, waited for as long as a tool call may
take, picture saved and shown small. Knows no protocol: `server` turns reports into answers.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from safelight.client.answers import ChannelSizes, Job, JobChange, Picture, Quote, Saved
from safelight.client.client import AsyncClient
from safelight.client.errors import (
    BadOrder,
    ClientError,
    NotSupported,
    RateLimited,
    Refused,
    ServiceFailed,
    TimedOut,
)
from safelight.client.inputs import prepare
from safelight.client.mcp.faults import ToolFault, explained
from safelight.client.mcp.folders import Folders
from safelight.client.mcp.previews import Preview, preview
from safelight.client.mcp.purse import Purse, dollars
from safelight.client.orders import Order, Source

_FREE = (Refused, RateLimited, ServiceFailed, BadOrder, NotSupported)
"""Errors after which nothing is under way; after any other the order may go on."""

Told = Callable[[str], Awaitable[None]]
"""Told in words where an order stands."""


_TELL_EVERY_S = 5.0
"""Hosts that give a silent tool up go on waiting while they are told something."""
_REPORTS_MAX = 64
"""Collected again, a picture is shown from memory, and not saved a second time."""


@dataclass(frozen=True)
class Settings:
    """How one server works.

    Args:
        model: the channel where a call names none.
        wait_s: how long a tool call waits for a picture; a longer one is collected by its job.
        preview: longest side of the pictures shown to the model, pixels; 0 shows none.
        price_micros: what a picture costs where the address gives no quotes; None: not known.
    """

    model: str
    wait_s: float
    preview: int
    price_micros: int | None = None


@dataclass(frozen=True)
class Report:
    """What a tool says: facts in order, a line on what to do next, a picture."""

    facts: Mapping[str, str]
    next: str = ""
    shown: Preview | None = None

    def text(self) -> str:
        """Return it as text, one fact a line."""
        lines = [f"{name}: {value}" for name, value in self.facts.items() if value]
        return "\n".join([*lines, *([self.next] if self.next else [])])


@dataclass(frozen=True)
class Wish:
    """A picture as a tool call asks for it; None leaves it to the server."""

    prompt: str
    size: str | None = None
    model: str | None = None
    name: str | None = None
    images: Sequence[str] = ()
    mask: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None


@dataclass(frozen=True)
class _Placed:
    """An order under way that somebody may come back for."""

    key: str
    name: str | None


class Desk:
    """The tools of one server.

    Args:
        client: open, to one gateway with one key.
        folders: what may be read and written.
        purse: what may be spent.
        settings: how it works.
    """

    def __init__(
        self, client: AsyncClient, folders: Folders, purse: Purse, settings: Settings
    ) -> None:
        self._client = client
        self._folders = folders
        self._purse = purse
        self._settings = settings
        self._placed: dict[str, _Placed] = {}
        self._reports: dict[str, Report] = {}

    async def make(self, wish: Wish, told: Told) -> Report:
        """Order a picture, and return it, or the job when it takes longer than a call may.

        Raises:
            ToolFault: with what to do next.
        """
        key = wish.idempotency_key or f"mcp-{secrets.token_hex(8)}"
        try:
            inputs, mask, prepared = await asyncio.to_thread(self._inputs, wish)
            order = Order(
                wish.prompt,
                model=wish.model or self._settings.model,
                size=wish.size,
                inputs=inputs,
                mask=mask,
                parameters=wish.parameters,
                idempotency_key=key,
            )
            report = await self._ordered(order, wish.name, told)
        except ClientError as error:
            raise explained(error, key) from error
        return Report({**report.facts, "inputs": prepared}, report.next, report.shown)

    async def job(self, job_id: str, told: Told, wait_s: float | None = None) -> Report:
        """Wait for a job and return its picture, or how it stands.

        A job of another server or program of the same customer is collected, too, and counts for
        nothing here.

        Raises:
            ToolFault: it failed, or is not to be had.
        """
        limit_s = self._settings.wait_s if wait_s is None else min(wait_s, self._settings.wait_s)
        placed = self._placed.get(job_id)
        try:
            job = await self._waited(await self._client.job(job_id), told, limit_s)
            return await self._come_of(job)
        except ClientError as error:
            raise explained(error, placed.key if placed else None) from error

    async def cancel(self, job_id: str) -> Report:
        """Cancel a job; one that was already sent may still come, and is charged then.

        Raises:
            ToolFault: it has ended, or is not to be had.
        """
        try:
            job = await self._client.cancel(job_id)
        except ClientError as error:
            raise explained(error) from error
        placed = self._placed.get(job_id)
        if placed is not None and job.ended:
            self._purse.release(placed.key)
        return Report({"job": job.id, "status": job.status, "money": self._purse.told()})

    async def quote(self, wish: Wish, images: int) -> Report:
        """Say what a picture would cost and how its size is made; nothing is ordered.

        Raises:
            ToolFault: the gateway would refuse it, or gives no quotes.
        """
        try:
            order = Order(
                wish.prompt,
                model=wish.model or self._settings.model,
                size=wish.size,
                inputs=(b"",) * images,
                parameters=wish.parameters,
            )
            found = await self._client.quote(order)
        except ClientError as error:
            raise explained(error) from error
        return Report(
            {
                "model": found.model,
                "size": f"{found.size} ({found.size_plan})",
                "price": f"{dollars(found.price_micros)} dollars",
                "time": _time_of(found),
                "money": self._purse.told(),
            }
        )

    async def sizes(self, model: str | None) -> Report:
        """Say which sizes a channel takes, or all channels.

        Raises:
            ToolFault: the channel or the list is not to be had.
        """
        try:
            channels = await self._client.sizes(model)
        except ClientError as error:
            raise explained(error) from error
        return Report({one.model: _sizes_of(one) for one in channels})

    async def balance(self) -> Report:
        """Say what the customer has, and what this server has spent and may spend.

        Raises:
            ToolFault: the gateway does not tell.
        """
        try:
            money = await self._client.balance()
        except ClientError as error:
            raise explained(error) from error
        return Report(
            {
                "available": f"{dollars(money.spendable_micros)} dollars",
                "held for open jobs": f"{dollars(money.held_micros)} dollars",
                "money": self._purse.told(),
            }
        )

    def _inputs(self, wish: Wish) -> tuple[tuple[Source, ...], Source | None, str]:
        """Read and shrink the pictures of an edit. Blocking.

        A mask lies over its picture pixel by pixel, so with one everything goes up as it is.
        """
        if not wish.images:
            return (), None, ""
        ready = [
            prepare(self._folders.readable_file(name), untouched=wish.mask is not None)
            for name in wish.images
        ]
        mask = None
        if wish.mask is not None:
            mask = prepare(self._folders.readable_file(wish.mask), untouched=True).source
        before, after = (
            sum(one.before.bytes for one in ready),
            sum(one.after.bytes for one in ready),
        )
        said = f"{len(ready)}, {before >> 10} kB"
        if after < before:
            said += f", sent as {after >> 10} kB"
        return tuple(one.source for one in ready), mask, said

    async def _price(self, order: Order) -> int:
        try:
            return (await self._client.quote(order)).price_micros
        except NotSupported:
            pass
        if self._settings.price_micros is not None:
            return self._settings.price_micros
        if self._purse.limit_micros is None:
            return 0
        raise ToolFault(
            "The address names no prices, so the spending limit cannot be kept. A person starts "
            "this server with --price, what a picture costs, or with --max-cost none."
        )

    async def _ordered(self, order: Order, name: str | None, told: Told) -> Report:
        """Hold the price and place the order; wait for what comes of it."""
        key, price = order.idempotency_key or "", await self._price(order)
        if not (await self._client.capabilities()).safelight:
            with self._purse.holding(key, price, _FREE):
                picture = await self._client.order(order)
            # What does not say its charge costs what was held for it.
            self._purse.settle(key, picture.job_id or key, picture.charge_micros or price)
            return await self._shown(picture, _Placed(key, name))
        with self._purse.holding(key, price, _FREE):
            job = await self._client.submit(order)
        # From here on only the job's own end says what it cost.
        self._placed[job.id] = _Placed(key, name)
        return await self._come_of(await self._waited(job, told, self._settings.wait_s))

    async def _waited(self, job: Job, told: Told, limit_s: float) -> Job:
        """Return the job when it has ended, or as it stands after `limit_s`."""
        last = job

        def changed(change: JobChange) -> None:
            nonlocal last
            last = change.job

        async def tell() -> None:
            while True:
                await told(_standing(last))
                await asyncio.sleep(_TELL_EVERY_S)

        telling = asyncio.create_task(tell())
        try:
            return await self._client.wait(job, timeout_s=limit_s, on_change=changed)
        except TimedOut:
            return last
        finally:
            telling.cancel()
            # A host that has gone needs no word, and nobody else wants to hear that it has.
            await asyncio.gather(telling, return_exceptions=True)

    async def _come_of(self, job: Job) -> Report:
        """Say how a job stands; of a completed one save and show the picture."""
        if job.id in self._reports:
            known = self._reports[job.id]
            if job.id in self._placed:  # charged the first time: what this call held is free again
                self._purse.release(self._placed[job.id].key)
            return Report({**known.facts, "money": self._purse.told()}, known.next, known.shown)
        placed = self._placed.get(job.id, _Placed(f"job-{job.id}", None))
        if not job.ended:
            facts = {
                "job": job.id,
                "status": _standing(job),
                "idempotency key": placed.key,
                "money": self._purse.told(),
            }
            return Report(facts, f'It is still being made: call job with job_id="{job.id}".')
        if job.status != "completed":
            self._purse.release(placed.key)
        picture = job.picture()
        if job.id in self._placed:
            self._purse.settle(placed.key, job.id, picture.charge_micros or 0)
        report = await self._shown(picture, placed)
        self._reports[job.id] = report
        if len(self._reports) > _REPORTS_MAX:
            del self._reports[next(iter(self._reports))]
        return report

    async def _shown(self, picture: Picture, placed: _Placed) -> Report:
        """Save a picture and make its report."""
        saved = await self._saved(picture, placed)
        longest = self._settings.preview
        shown = await asyncio.to_thread(preview, saved.path, longest) if longest else None
        cost = picture.charge_micros
        facts = {
            "file": str(saved.path),
            "pixels": f"{saved.width}x{saved.height} {saved.mime.removeprefix('image/')}, "
            f"{saved.bytes >> 10} kB",
            "size plan": picture.size_plan or "",
            "link": picture.link or "",
            "cost": "not told" if cost is None else f"{dollars(cost)} dollars",
            "money": self._purse.told(),
            "job": picture.job_id or "",
            "idempotency key": placed.key,
        }
        said = ""
        if shown is not None:
            said = f"Shown is a preview of {shown.width}x{shown.height}; the file has all pixels."
        return Report(facts, said, shown)

    async def _saved(self, picture: Picture, placed: _Placed) -> Saved:
        """Bring a picture to a new file in the folder; its name is taken only when it is whole."""
        folder = self._folders.pictures
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            part = folder / f".incoming-{secrets.token_hex(4)}"
            saved = await self._client.save(picture, part)
            fallback = picture.job_id or time.strftime("picture-%Y%m%d-%H%M%S")
            place = self._folders.place(placed.name, fallback, saved.path.suffix)
            saved.path.replace(place)
        except OSError as error:
            raise ToolFault(
                f"{folder}: {error.strerror}. The picture was made; make room and call again "
                f'with idempotency_key="{placed.key}" to collect it.'
            ) from error
        return Saved(
            path=place,
            sha256=saved.sha256,
            bytes=saved.bytes,
            mime=saved.mime,
            width=saved.width,
            height=saved.height,
        )


def _standing(job: Job) -> str:
    """Return in words where a job stands."""
    if job.ended:
        return job.status
    parts = [job.status if job.stage is None else f"{job.status}, {job.stage}"]
    if job.queue_position is not None:
        parts.append(f"{job.queue_position} before it")
    if job.expected_finish_at is not None:
        left_s = max(1, round(job.expected_finish_at - time.time()))
        parts.append(f"expected in {left_s} s")
    return ", ".join(parts)


def _sizes_of(channel: ChannelSizes) -> str:
    named = [f"{size.name} ({size.ratio} {size.tier})" for size in channel.sizes]
    return ", ".join(named) or channel.allowed


def _time_of(quote: Quote) -> str:
    if quote.serves is False:
        return "no account can make it now"
    if quote.expected_finish_at is None:
        return ""
    return f"about {max(1, round(quote.expected_finish_at - time.time()))} s"
