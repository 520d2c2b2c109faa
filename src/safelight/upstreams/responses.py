"""The `responses` upstream: one image by the image_generation tool of the OpenAI Responses API.

Owns the course of a call and what an account of this kind needs. For accounts that have no Images
API: a text model stands before the image model, costs tokens of its own and must be told to leave
the prompt alone, so where both APIs are there, `openai` is the better upstream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from safelight.clock import Clock
from safelight.config_file import Seconds
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Account, Operation, Received, UpstreamCall
from safelight.upstreams import PartialSink
from safelight.upstreams.faults import Setting
from safelight.upstreams.http_transport import Answer, Timers, Transport
from safelight.upstreams.judging import Judge
from safelight.upstreams.limits import limit_notices
from safelight.upstreams.openai import BASE_URL, Heartbeat
from safelight.upstreams.options import bad_account, bad_option, read_options
from safelight.upstreams.responses_receive import Receiver, check_listing, judge_of
from safelight.upstreams.responses_request import Request, opened_request, request_headers
from safelight.upstreams.scrub import account_secrets
from safelight.upstreams.wire_faults import disk_failed, not_json, redirected

_IMAGE_MODELS: Final = ("gpt-image", "chatgpt-image", "dall-e")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of an account of this upstream."""

    mainline_model: str = "gpt-5"
    """The text model that makes the tool's call."""
    heartbeat: Heartbeat = 0
    """Partial images asked for though nobody looks, so that a stall shows early."""
    event_timeout_s: Seconds = 60.0
    """How long a stream may go without an event."""


class ResponsesUpstream:
    """The Responses API of OpenAI and of servers that speak it (the `Upstream` seam)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._transport = Transport()

    def check(self, account: Account) -> Account:
        """Return the account with its address; see `Upstream.check`.

        Raises:
            ConfigError: a wrong option, or no key for the vendor's own address.
        """
        options = read_options(account, Options)
        if not options.mainline_model or options.mainline_model.startswith(_IMAGE_MODELS):
            told = "must name a text model such as 'gpt-5'; the image model is the account's model"
            raise bad_option(account, "mainline_model", told)
        base_url = account.base_url.rstrip("/") or BASE_URL
        if base_url == BASE_URL and account.api_key is None:
            raise bad_account(account, "needs a key: name its variable with api_key_env")
        return msgspec.structs.replace(account, base_url=base_url)

    async def probe(self, account: Account, *, deadline: float) -> None:
        """List the models, which is free; see `Upstream.probe`.

        Raises:
            UpstreamError: the server cannot be reached, fails, or refuses the credential.
        """
        timers = Timers(self._clock, account, deadline)
        judge = judge_of(self._clock, account_secrets(account), Setting())
        url = f"{account.base_url.rstrip('/')}/models"
        headers = request_headers(account)
        try:
            async with self._transport.exchange("GET", url, timers, headers=headers) as answer:
                await _checked(answer, judge)
                await check_listing(answer, judge)
        except UpstreamError as error:
            error.sold = False  # nothing was ordered
            # A key that may draw but not list is a good one (OpenAI, "restricted" keys).
            if not (error.status == 403 and error.fault is FaultClass.CAPABILITY):
                raise

    async def generate(
        self,
        account: Account,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Received:
        """Make one image with one call; see `Upstream.generate`.

        Partial images, where the call asks for them and somebody looks, are at
        `<spool>.partial<index>`; they belong to the caller, who removes them, also after an error.
        Those that only show that the server is alive (`Options.heartbeat`) are dropped.

        Raises:
            UpstreamError: classified by the failure catalogue; `<spool>.part` is gone.
        """
        options = read_options(account, Options)
        looked_at = on_partial is not None and call.partial_images > 0
        partials = call.partial_images if looked_at else options.heartbeat
        timers = Timers(self._clock, account, deadline)
        setting = Setting(edit=call.operation is Operation.EDIT)
        judge = judge_of(self._clock, account_secrets(account), setting)
        receiver = Receiver(
            spool,
            call.prompt,
            judge,
            on_partial=on_partial if looked_at else None,
            event_s=options.event_timeout_s if partials else None,
        )
        answered = False
        try:
            with opened_request(
                account, call, mainline_model=options.mainline_model, partials=partials
            ) as request:
                async with self._sent(request, timers) as answer:
                    answered = True
                    return await _take(answer, receiver, judge)
        except OSError as error:
            raise disk_failed(sold=answered) from error

    @asynccontextmanager
    async def _sent(self, request: Request, timers: Timers) -> AsyncIterator[Answer]:
        """Send the request and give its answer.

        Raises:
            UpstreamError: no answer came.
            OSError: an input file broke off while it was sent.
        """
        try:
            async with self._transport.exchange(
                "POST",
                request.url,
                timers,
                headers=request.headers,
                data=request.body,
            ) as answer:
                yield answer
        except UpstreamError:
            if request.body.failure is not None:
                raise request.body.failure from None
            raise

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()


async def _take(answer: Answer, receiver: Receiver, judge: Judge) -> Received:
    """Receive an answer by its status and content type."""
    try:
        await _checked(answer, judge)
        if answer.content_type == "text/event-stream":
            received = await receiver.events(answer)
        else:
            received = await receiver.json(answer)
    except UpstreamError as error:
        error.status = error.status or answer.status
        error.upstream_request_id = answer.request_id
        error.limits = limit_notices(answer.headers)
        raise
    return msgspec.structs.replace(received, limits=limit_notices(answer.headers))


async def _checked(answer: Answer, judge: Judge) -> None:
    """Look at an answer's status and type.

    Raises:
        UpstreamError: it cannot be a good one.
    """
    if 300 <= answer.status < 400:
        raise redirected(answer.status)
    if answer.status >= 400:
        raise await judge.refusal(answer)
    if answer.content_type == "text/html":
        raise not_json(answer.status)
