"""`AsyncClient`: pictures and jobs of one address, as one customer.

Owns the verbs. How they travel is `transport`'s business, what comes back `answers`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent
from urllib.parse import urlencode

import msgspec

from safelight.client import ordering, saving, watching
from safelight.client.answers import (
    Balance,
    ChannelSizes,
    Job,
    JobChange,
    JobEvent,
    Picture,
    Quote,
    Saved,
    StatementLine,
)
from safelight.client.connection import Connection
from safelight.client.errors import BadOrder, ClientError
from safelight.client.inputs import Prepared, prepare
from safelight.client.orders import DEFAULT_MODEL, Order, Source
from safelight.client.transport import Deadline

PictureSource = Path | str | bytes | Prepared
OnChange = Callable[[JobChange], object]


class _Jobs(msgspec.Struct):
    data: list[Job]
    has_more: bool


class _Sizes(msgspec.Struct):
    data: list[ChannelSizes]


class _Lines(msgspec.Struct):
    data: list[StatementLine]
    has_more: bool


class AsyncClient(Connection):
    """Orders pictures from one address. Use it as a context manager, or call `close`.

    Args:
        base_url: with or without `/v1`; else SAFELIGHT_URL, else OPENAI_BASE_URL.
        api_key: else SAFELIGHT_API_KEY, else OPENAI_API_KEY.
        timeout_s: for one try of a request, seconds.
        retries: further tries after connection failures, 408, 429 and 5xx, after about 1, 2 and
            4 seconds, or when the server says.
        patience: all of that in detail, instead of the two above.

    Raises:
        Misconfigured: no address or key, or one that cannot be right.
    """

    # --- orders ---

    async def generate(
        self,
        prompt: str,
        *,
        model: str = DEFAULT_MODEL,
        size: str | None = None,
        idempotency_key: str | None = None,
        deadline_s: float | None = None,
        **parameters: Any,
    ) -> Picture:
        """Return one new picture.

        Args:
            prompt: what it shall show.
            model: the channel.
            size: `2048x1152`, `16:9@2K`, `auto`; None leaves it to the server.
            idempotency_key: of an earlier order, to collect its picture without paying twice.
            deadline_s: until when the picture is of use, seconds from now, all tries included.
            parameters: further fields: `quality`, `output_format`, `background`, `metadata`, ...

        Raises:
            BadOrder: nothing was sent.
            ClientError: there is no picture; nothing was charged unless it says that the order
                may go on (`TimedOut`).
        """
        order = Order(
            prompt=prompt,
            model=model,
            size=size,
            parameters=parameters,
            idempotency_key=idempotency_key,
        )
        return await self.order(order, deadline_s=deadline_s)

    async def edit(
        self,
        prompt: str,
        images: Sequence[PictureSource],
        *,
        mask: PictureSource | None = None,
        model: str = DEFAULT_MODEL,
        size: str | None = None,
        idempotency_key: str | None = None,
        deadline_s: float | None = None,
        untouched: bool = False,
        **parameters: Any,
    ) -> Picture:
        """Return one picture made from others.

        The pictures are made right for upload first (`inputs.prepare`); with a mask, which must
        keep the pixels of its picture, or with `untouched`, they are sent as they are.

        Raises:
            UnreadableInput: one cannot be uploaded; nothing was sent.
            ClientError: as `generate`.
        """
        if not images:
            raise BadOrder("an edit needs at least one picture")
        as_they_are = untouched or mask is not None
        inputs = [await _made_right(image, untouched=as_they_are) for image in images]
        order = Order(
            prompt=prompt,
            model=model,
            size=size,
            inputs=tuple(inputs),
            mask=None if mask is None else await _made_right(mask, untouched=True),
            parameters=parameters,
            idempotency_key=idempotency_key,
        )
        return await self.order(order, deadline_s=deadline_s)

    async def order(self, order: Order, *, deadline_s: float | None = None) -> Picture:
        """Place an order and return its picture; what `generate` and `edit` do.

        Raises:
            ClientError: as `generate`.
        """
        order = order.with_key()
        safelight = (await self.capabilities()).safelight
        extra = {"response_format": "url"} if safelight else {}
        extra = {name: extra[name] for name in extra if name not in order.parameters}
        answer = await ordering.place(self._transport, order, extra=extra, deadline_s=deadline_s)
        picture = ordering.picture_of(self._transport, order, answer)
        if picture.job_id is not None and (picture.sha256 is None or picture.replayed):
            picture = await self._with_facts(picture)
        self._transport.tally.made(picture.generation_s)
        return picture

    async def _with_facts(self, picture: Picture) -> Picture:
        """Add what only the job knows: the digest, and the time an earlier answer took."""
        try:
            known = (await self.job(picture.job_id or "")).picture()
        except ClientError:
            # The picture is paid for and its link is good: the digest is checked where it is known.
            return picture
        facts: dict[str, Any] = {"sha256": known.sha256, "size": known.size, "mime": known.mime}
        if picture.replayed:
            facts["generation_s"] = known.generation_s
        return msgspec.structs.replace(picture, **facts)

    async def save(self, picture: Picture, path: Path | str) -> Saved:
        """Write a picture to a file: streamed, checked against its digest, whole or not at all.

        Args:
            picture: what `order`, `generate`, `edit` or a job gave.
            path: the file. Without `.png`, `.jpg`, `.jpeg` or `.webp` at its end it gets the
                ending of the picture's format.

        Raises:
            BrokenPicture: what came is not the picture, after all tries.
            ClientError: it could not be fetched.
            OSError: the file could not be written; nothing is left behind.
        """
        return await saving.save(self._transport, picture, Path(path), renew=self._renewed)

    async def _renewed(self, picture: Picture) -> Picture:
        if picture.job_id is None:
            return picture
        return saving.renewed(picture, (await self.job(picture.job_id)).picture())

    # --- jobs ---

    async def submit(self, order: Order, *, deadline_s: float | None = None) -> Job:
        """Place an order that nobody waits for, and return its job at once.

        `priority`, `not_before`, `delay_s`, `webhook_url`, `metadata` and `partial_images` may
        stand in the order's parameters.

        Raises:
            NotSupported: the address is no safelight.
            ClientError: it was not accepted; nothing was charged.
        """
        await self._must_be_safelight("a job")
        extra: dict[str, Any] = {"async": True}
        answer = await ordering.place(
            self._transport, order.with_key(), extra=extra, deadline_s=deadline_s
        )
        return ordering.job_of(answer)

    async def job(self, job_id: str) -> Job:
        """Return a job as it stands now, with a fresh link to its picture.

        Raises:
            Refused: there is no such job of this customer (404).
            NotSupported: the address is no safelight.
        """
        await self._must_be_safelight("a job")
        return await self._transport.get(f"/jobs/{_part(job_id)}", Job)

    async def wait(
        self,
        job: Job | str,
        *,
        timeout_s: float | None = None,
        on_change: OnChange | None = None,
    ) -> Job:
        """Wait until a job has ended, and return it; `Job.picture()` has its picture or its error.

        Args:
            job: or its id.
            timeout_s: how long, seconds; None: to its end.
            on_change: is called with each change: state, place in the queue, expected finish,
                partial pictures.

        Raises:
            TimedOut: it has not ended by then; it goes on.
            NotSupported: the address is no safelight.
        """
        await self._must_be_safelight("a job")
        job_id = _part(job.id if isinstance(job, Job) else job)
        found = await self._ended(job_id, timeout_s, on_change)
        if found.status == "completed":
            self._transport.tally.made(found.generation_s, job_id=found.id)
        return found

    async def _ended(self, job_id: str, timeout_s: float | None, on_change: OnChange | None) -> Job:
        deadline = Deadline(self._transport.patience, timeout_s)
        if on_change is not None:
            async with aclosing(self.watch(job_id, timeout_s=timeout_s)) as changes:
                async for change in changes:
                    on_change(change)
                    if change.job.ended:
                        return change.job
        return await watching.ended(self._transport, job_id, timeout_s=deadline.left_s())

    async def watch(
        self, job: Job | str, *, timeout_s: float | None = None
    ) -> AsyncGenerator[JobChange, None]:
        """Yield a job as it stands after each of its events, until it has ended.

        Raises:
            TimedOut, NotSupported: as `wait`.
        """
        await self._must_be_safelight("a job")
        job_id = _part(job.id if isinstance(job, Job) else job)
        changes = watching.changes(self._transport, job_id, timeout_s=timeout_s)
        async with aclosing(changes) as told:
            async for change in told:
                yield change

    async def events(
        self, job: Job | str, *, after: str | None = None
    ) -> AsyncGenerator[JobEvent, None]:
        """Yield a job's events from its beginning, or after the one of that id, to the last.

        Raises:
            NotSupported: the address is no safelight.
            ClientError: they cannot be had.
        """
        await self._must_be_safelight("a job")
        job_id = _part(job.id if isinstance(job, Job) else job)
        async with aclosing(watching.events(self._transport, job_id, after=after)) as told:
            async for event in told:
                yield event

    async def jobs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        model: str | None = None,
        request_id: str | None = None,
        batch_id: str | None = None,
        created_after: int | None = None,
        created_before: int | None = None,
        newest_first: bool = True,
    ) -> AsyncGenerator[Job, None]:
        """Yield the customer's jobs, all pages of them; times in unix seconds, both included.

        Raises:
            NotSupported: the address is no safelight.
        """
        await self._must_be_safelight("a list of jobs")
        query = {
            "status": status if status is None or isinstance(status, str) else ",".join(status),
            "model": model,
            "request_id": request_id,
            "batch_id": batch_id,
            "created_after": created_after,
            "created_before": created_before,
            "order": "desc" if newest_first else "asc",
            "limit": 100,
        }
        after: str | None = None
        while True:
            page = await self._transport.get(_target("/jobs", {**query, "after": after}), _Jobs)
            for job in page.data:
                yield job
            if not page.has_more or not page.data:
                return
            after = page.data[-1].id

    async def cancel(self, job: Job | str) -> Job:
        """Cancel a job, and return it as it stands then.

        One whose call is under way may still end with a picture, which is charged.

        Raises:
            Refused: it has ended otherwise (409), or there is none (404).
        """
        await self._must_be_safelight("a job")
        job_id = _part(job.id if isinstance(job, Job) else job)

        async def attempt(limit_s: float) -> Job:
            path = f"/jobs/{job_id}/cancel"
            return (await self._transport.ask("POST", path, timeout_s=limit_s)).as_(Job)

        return await self._transport.again(attempt)

    # --- money ---

    async def quote(self, order: Order, n: int = 1) -> Quote:
        """Return what `n` such pictures will cost and how their size is made; nothing is reserved.

        Raises:
            NotSupported: the address is no safelight.
            Refused: the order would be refused; nothing was spent.
        """
        await self._must_be_safelight("a quote")
        fields = order.fields()
        fields.pop("async", None)
        if order.inputs:
            fields["inputs"] = len(order.inputs)
        body = msgspec.json.encode(fields)
        headers = {"Content-Type": "application/json"}

        async def attempt(limit_s: float) -> Quote:
            answer = await self._transport.ask(
                "POST", "/quote", timeout_s=limit_s, headers=headers, data=body
            )
            return answer.as_(Quote)

        one = await self._transport.again(attempt)
        return msgspec.structs.replace(one, n=n, total_micros=one.price_micros * n)

    async def sizes(self, model: str | None = None) -> tuple[ChannelSizes, ...]:
        """Return the sizes that have a name, with plan and price, of one channel or of all.

        Raises:
            NotSupported: the address is no safelight.
        """
        await self._must_be_safelight("a list of sizes")
        found = await self._transport.get(_target("/sizes", {"model": model}), _Sizes)
        return tuple(found.data)

    async def balance(self) -> Balance:
        """Return the customer's money.

        Raises:
            NotSupported: the address is no safelight.
        """
        await self._must_be_safelight("a balance")
        return await self._transport.get("/billing/balance", Balance)

    async def statement(
        self,
        *,
        after: str | None = None,
        since: int | str | None = None,
        until: int | str | None = None,
        month: str | None = None,
    ) -> AsyncGenerator[StatementLine, None]:
        """Yield the lines of the statement, oldest first, all pages of them.

        Args:
            after: only those after the line of that id.
            since: from then on: unix seconds or an ISO date.
            until: before then.
            month: `2026-11`, instead of both.

        Raises:
            NotSupported: the address is no safelight.
        """
        await self._must_be_safelight("a statement")
        query = {"from": since, "to": until, "month": month, "limit": 1000}
        while True:
            target = _target("/billing/statement", {**query, "after": after})
            page = await self._transport.get(target, _Lines)
            for line in page.data:
                yield line
            if not page.has_more or not page.data:
                return
            after = page.data[-1].id

    async def save_statement(
        self,
        path: Path | str,
        *,
        since: int | str | None = None,
        until: int | str | None = None,
        month: str | None = None,
    ) -> Path:
        """Write the statement to a CSV file, whole or not at all, and return where it lies.

        Raises:
            NotSupported: the address is no safelight.
            OSError: it could not be written.
        """
        await self._must_be_safelight("a statement")
        query: Mapping[str, Any] = {"format": "csv", "from": since, "to": until, "month": month}
        target = _target("/billing/statement", query)
        return await saving.download(self._transport, target, Path(path))


async def _made_right(image: PictureSource, *, untouched: bool) -> Source:
    """Return a picture as it is uploaded."""
    if isinstance(image, Prepared):
        return image.source
    source = Path(image) if isinstance(image, str) else image
    return (await asyncio.to_thread(prepare, source, untouched=untouched)).source


def _target(path: str, query: Mapping[str, Any]) -> str:
    present = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(present)}" if present else path


def _part(job_id: str) -> str:
    """Return an id as one part of a path.

    Raises:
        BadOrder: it is empty.
    """
    if not job_id.strip():
        raise BadOrder("the job's id is empty")
    return percent(job_id, safe="")
