"""POST /v1/chat/completions: pictures through chat, in a form that every chat client survives.

Owns the control flow and the answer's shapes: a markdown link per picture in `content`, and
`images` beside it as OpenRouter and LiteLLM have it. Base64 never goes into `content`. The
reading of messages is `chat_wire`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from safelight.api import later
from safelight.api.answers import (
    ended_jobs,
    first_problem,
    images_of,
    order_headers,
    price_of,
    tell_failure,
    total_usage,
    write_json,
)
from safelight.api.body import json_body
from safelight.api.callers import authenticate, caller_of
from safelight.api.chat_wire import (
    DEFAULT_TIER,
    IMAGE_PARAMETERS,
    ChatBody,
    ChatPicture,
    parse_chat,
    read_conversation,
    size_of,
)
from safelight.api.exchange import Exchange, settled
from safelight.api.images import STAND_IN
from safelight.api.inputs import Staging
from safelight.api.multipart import SpoolFolder
from safelight.api.origin import origin_of, signed_url
from safelight.api.pictures import Segment, Weaver, write_segments
from safelight.api.problems import Problem, error_object
from safelight.api.stream import KEEP_ALIVE, SSE_HEADERS
from safelight.api.strict_json import LENIENT
from safelight.api.timing import Timing
from safelight.api.wire import present
from safelight.channels import Channels
from safelight.errors import InvalidValue, SafelightError
from safelight.gateway.orders import Order, Queued
from safelight.types import MEDIA_TYPES, BlobRef, Identity, ImageRequest, Job, Operation, Usage

_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a conversation orders, and in which form; nothing of its text or pictures."""

    request: ImageRequest
    given: frozenset[str]
    stream: bool
    inline: bool
    """Pictures as data: URLs, for clients that say they take pictures."""
    usage: bool
    """A stream ends with a frame of usage."""
    keep_alive: bool
    """A plain answer may begin with white space."""
    queued: Queued | None
    webhook_url: str | None
    persist: bool


async def completions(exchange: Exchange) -> None:
    """Answer POST /v1/chat/completions."""
    gateway = exchange.services.gateway
    identity = await authenticate(exchange)
    timing = Timing(exchange)
    wish = await _read(exchange, identity, timing)
    caller = caller_of(
        exchange, identity, timing, webhook_url=wish.webhook_url, persist=wish.persist
    )
    later.check_times(caller, wish.queued)
    order = await gateway.submit(wish.request, caller, given=wish.given, queued=wish.queued)
    if wish.queued is not None:
        await later.answer(exchange, order)
        return
    answer = _ChatAnswer(exchange, order, wish, timing)
    async with gateway.attached(order) as attachment, exchange.watched():
        if await (answer.stream() if wish.stream else answer.whole()):
            attachment.delivered()


async def _read(exchange: Exchange, identity: Identity, timing: Timing) -> _Wish:
    """Read the conversation and store its pictures; the body is gone when this returns."""
    services = exchange.services
    limit = services.config.server.max_request_bytes
    async with json_body(exchange, limit, limits=LENIENT) as sent:
        timing.body_read()
        fields = present(sent.fields)
        body = await sent.run(parse_chat, fields)
        services.channels.get(body.model, status=404)
        given = frozenset(fields) & IMAGE_PARAMETERS
        size = _resolve_size(services.channels, body)
        talk = await sent.run(read_conversation, body.messages)
        stand_ins = (STAND_IN,) * len(talk.pictures)
        services.gateway.check(_request(body, size, talk.prompt, stand_ins), given=given)
        with SpoolFolder(services.spool_dir) as spool:
            staging = Staging(services, identity, spool, origin_of(exchange))
            inputs = await _stage(staging, talk.pictures)
        return _Wish(
            request=_request(body, size, talk.prompt, inputs),
            given=given,
            stream=bool(body.stream),
            inline="image" in (body.modalities or ()),
            usage=(body.stream_options or {}).get("include_usage") is True,
            keep_alive=identity.keep_alive,
            queued=later.queued(exchange, body),
            webhook_url=later.webhook_url(body),
            persist=bool(body.persist),
        )


def _resolve_size(channels: Channels, body: ChatBody) -> str:
    """Return the size as the channel calls it.

    Raises:
        InvalidValue: it takes no such size; names what was sent, not what it was read as.
    """
    try:
        return channels.resolve_size(body.model, size_of(body))
    except InvalidValue as error:
        config = body.image_config or {}
        if body.size is not None or error.param != "size":
            raise
        ratio = config.get("aspect_ratio")
        name = "image_size" if ratio is None or _makes(channels, body, ratio) else "aspect_ratio"
        param = f"image_config.{name}"
        raise InvalidValue(
            f"Invalid value for {param!r}: {config.get(name)!r}. "
            f"{channels.allowed_sizes(body.model)}",
            param=param,
        ) from error


def _makes(channels: Channels, body: ChatBody, ratio: str) -> bool:
    try:
        channels.resolve_size(body.model, f"{ratio}@{DEFAULT_TIER}")
    except InvalidValue:
        return False
    return True


def _request(body: ChatBody, size: str, prompt: str, inputs: tuple[BlobRef, ...]) -> ImageRequest:
    return ImageRequest(
        operation=Operation.EDIT if inputs else Operation.GENERATION,
        channel=body.model,
        prompt=prompt,
        size=size,
        quality=body.quality,
        background=body.background,
        output_format=body.output_format or "png",
        output_compression=body.output_compression,
        moderation=body.moderation,
        inputs=inputs,
        n=1 if body.n is None else body.n,
        user=body.safety_identifier or body.user,
    )


async def _stage(staging: Staging, pictures: tuple[ChatPicture, ...]) -> tuple[BlobRef, ...]:
    """Store the pictures; one that is there twice (as a link and inline) counts once."""
    found: dict[str, BlobRef] = {}
    for picture in pictures:
        take = staging.url if picture.required else staging.mentioned
        blob = await take(picture.url, picture.param)
        if blob is not None:
            found.setdefault(blob.digest, blob)
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _ChatAnswer:
    """The answer to one chat order. Its methods tell whether they told how the order ended."""

    exchange: Exchange
    order: Order
    wish: _Wish
    timing: Timing

    async def whole(self) -> bool:
        """Answer with one chat.completion."""
        exchange = self.exchange
        keep_alive = self.wish.keep_alive
        jobs = await ended_jobs(exchange, self.order, self.timing, keep_alive=keep_alive)
        if jobs is None:
            return False
        if not images_of(jobs):
            await tell_failure(exchange, self.order, jobs, first_problem(jobs, self.timing))
            return True
        weaver = Weaver()
        message = {
            "role": "assistant",
            "content": self._content(jobs),
            "refusal": None,
            "images": self._images(jobs, weaver),
        }
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        payload = {**self._envelope("chat.completion", [choice]), "usage": _chat_usage(jobs)}
        headers = order_headers(self.order, jobs, price_micros=price_of(jobs))
        await write_json(exchange, weaver.weave(payload), headers)
        return True

    async def stream(self) -> bool:
        """Answer with chat.completion.chunk frames; the role comes at once."""
        price = sum(job.price_micros for job in self.order.jobs)
        headers = order_headers(self.order, self.order.jobs, price_micros=price)
        await self.exchange.start(200, SSE_HEADERS + headers)
        await self._chunk({"role": "assistant", "content": ""})
        try:
            jobs = await self._wait()
        except SafelightError as error:
            await self._error(error)
            return False
        if not images_of(jobs):
            await self._error(first_problem(jobs, self.timing))
            return True
        weaver = Weaver()
        await self._chunk({"content": self._content(jobs)})
        await self._chunk({"images": self._images(jobs, weaver)}, weaver=weaver)
        await self._chunk({}, finish_reason="stop")
        if self.wish.usage:
            envelope = self._envelope("chat.completion.chunk", [])
            await self._frame([msgspec.json.encode({**envelope, "usage": _chat_usage(jobs)})])
        await self.exchange.write(_DONE)
        await self.exchange.finish()
        return True

    async def _wait(self) -> tuple[Job, ...]:
        """Return the ended jobs; a comment now and then keeps proxies from cutting the stream."""
        services = self.exchange.services
        every_s = min(services.keep_alive_s, self.timing.silence_s())
        task = asyncio.ensure_future(services.gateway.wait(self.order))
        try:
            while True:
                await self.exchange.either(task, timeout_s=every_s)
                if task.done():
                    return task.result()
                await self.exchange.write(KEEP_ALIVE)
        finally:
            await settled(task)

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.order.request_id.removeprefix('req_')}",
            "object": kind,
            "created": self.order.jobs[0].created_at // 1000,
            "model": self.wish.request.channel,
            "choices": choices,
        }

    def _content(self, jobs: Sequence[Job]) -> str:
        links = (signed_url(self.exchange, image) for image in images_of(jobs))
        return "\n\n".join(f"![image]({link})" for link in links)

    def _images(self, jobs: Sequence[Job], weaver: Weaver) -> list[dict[str, Any]]:
        items = []
        for index, image in enumerate(images_of(jobs)):
            if self.wish.inline:
                kind = MEDIA_TYPES[image.blob.format]
                url = f"data:{kind};base64,{weaver.place(image.blob)}"
            else:
                url = signed_url(self.exchange, image)
            items.append({"type": "image_url", "index": index, "image_url": {"url": url}})
        return items

    async def _chunk(
        self,
        delta: dict[str, Any],
        *,
        finish_reason: str | None = None,
        weaver: Weaver | None = None,
    ) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        payload = self._envelope("chat.completion.chunk", [choice])
        await self._frame((weaver or Weaver()).weave(payload))

    async def _error(self, problem: Problem) -> None:
        self.exchange.failed_late(problem)
        error = error_object(problem, job_id=self.order.jobs[0].id)
        await self._frame([msgspec.json.encode({"error": error})])
        await self.exchange.finish()

    async def _frame(self, segments: list[Segment]) -> None:
        await write_segments(self.exchange, [b"data: ", *segments, b"\n\n"])


def _chat_usage(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the tokens as chat counts them."""
    usage: Usage = total_usage(jobs)
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "text_tokens": usage.input_text_tokens,
            "image_tokens": usage.input_image_tokens,
        },
        "completion_tokens_details": {
            "text_tokens": usage.output_text_tokens,
            "image_tokens": usage.output_image_tokens,
        },
    }
