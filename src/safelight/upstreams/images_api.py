"""The course of one call of an images route, for every adapter whose server speaks them.

Owns: send, look at status and type, receive, and fetch the picture where only its address came; and
the free call that tells whether a credential is accepted. Who is asked and how is the adapter's
`Target`. A credential goes to its own server and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from safelight.clock import Clock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Operation, Received, UpstreamCall
from safelight.upstreams import PartialSink
from safelight.upstreams.faults import Setting
from safelight.upstreams.http_transport import Answer, Timers, Transport
from safelight.upstreams.judging import Judge
from safelight.upstreams.limits import limit_notices
from safelight.upstreams.openai_request import Target, opened_request
from safelight.upstreams.receive import Address, Receiver
from safelight.upstreams.scrub import account_secrets
from safelight.upstreams.wire_faults import disk_failed, not_json, redirected

_PORTS: Final = {"http": 80, "https": 443}
_NO_LIST: Final = frozenset({404, 405, 501})


class ImagesApi:
    """Calls of images routes over one pool of connections."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.transport = Transport()
        """The connections, for what else is asked of the same servers."""

    async def generate(
        self,
        target: Target,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None,
    ) -> Received:
        """Make one image with one call; see `Upstream.generate`.

        Partial images, where the call asks for them and somebody looks, are at
        `<spool>.partial<index>`; they belong to the caller, who removes them, also after an error.
        More than were asked for only show that the server is alive (`Target.heartbeat`): they are
        dropped, and silence of `Target.event_timeout_s` between two ends the call.

        Raises:
            UpstreamError: classified by the failure catalogue; `<spool>.part` is gone.
        """
        looked_at = on_partial is not None and target.profile.streams
        wanted = call.partial_images if looked_at else 0
        event_s = target.event_timeout_s if target.heartbeat else None
        timers = Timers(self._clock, target.account, deadline)
        timers.expect_event(event_s)
        partials = max(wanted, target.heartbeat)
        answered = False
        try:
            async with (
                opened_request(target, call, spool=spool, partials=partials) as request,
                self.transport.exchange(
                    "POST", request.url, timers, headers=request.headers, data=request.body
                ) as answer,
            ):
                answered = True
                # Made now: until an answer comes, thousands of calls hold nothing but the wait.
                judge = self._judge(target, edit=call.operation is Operation.EDIT)
                receiver = Receiver(
                    spool, judge, on_partial=on_partial, partials=wanted, event_s=event_s
                )
                outcome = await _take(answer, receiver, judge)
                limits = limit_notices(answer.headers)
            if isinstance(outcome, Address):
                outcome = await self._fetch(target, outcome, receiver, deadline)
        except OSError as error:
            raise disk_failed(sold=answered) from error
        return msgspec.structs.replace(outcome, limits=limits)

    async def probe(self, target: Target, *, deadline: float) -> None:
        """List the models, which is free; see `Upstream.probe`.

        Raises:
            UpstreamError: the server cannot be reached, fails, or refuses the credential.
        """
        try:
            await self._listed(target, deadline)
        except UpstreamError as error:
            error.sold = False  # nothing was ordered
            # A key that may draw but not list is a good one (OpenAI, "restricted" keys).
            if not (error.status == 403 and error.fault is FaultClass.CAPABILITY):
                raise

    async def _listed(self, target: Target, deadline: float) -> None:
        timers = Timers(self._clock, target.account, deadline)
        async with self.transport.exchange(
            "GET", target.models_url, timers, headers=target.headers
        ) as answer:
            if target.profile.listless and answer.status in _NO_LIST:
                return
            if 300 <= answer.status < 400:
                raise redirected(answer.status)
            if answer.status >= 400:
                raise await self._judge(target, edit=False).refusal(answer)
            if answer.content_type == "text/html":
                raise not_json(answer.status)

    def _judge(self, target: Target, *, edit: bool) -> Judge:
        known = account_secrets(target.account)
        return Judge(self._clock, known, _setting(target, edit=edit))

    async def close(self) -> None:
        """Close connections."""
        await self.transport.close()

    async def _fetch(
        self, target: Target, address: Address, receiver: Receiver, deadline: float
    ) -> Received:
        """Download the picture at once, without the key; it has been sold, whatever happens."""
        timers = Timers(self._clock, target.account, deadline)
        headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
        try:
            url = picture_url(target.base, address.url, target.download_origins)
            async with self.transport.exchange("GET", url, timers, headers=headers) as answer:
                if 300 <= answer.status < 400:
                    raise redirected(answer.status)
                return await receiver.download(answer, address)
        except UpstreamError as error:
            error.sold = True
            error.upstream_request_id = address.request_id
            if error.fault is FaultClass.LOCAL:
                error.fault = FaultClass.FAST  # the paid call did leave us
            raise


def _setting(target: Target, *, edit: bool) -> Setting:
    return Setting(
        edit=edit,
        any_size=target.profile.any_size,
        closes_accounts=target.profile.closes_accounts,
    )


async def _take(answer: Answer, receiver: Receiver, judge: Judge) -> Received | Address:
    """Receive an answer by its status and content type."""
    try:
        if 300 <= answer.status < 400:
            raise redirected(answer.status)
        if answer.status >= 400:
            raise await judge.refusal(answer)
        if answer.content_type == "text/html":
            raise not_json(answer.status)
        if answer.content_type == "text/event-stream":
            return await receiver.events(answer)
        return await receiver.json(answer)
    except UpstreamError as error:
        error.status = error.status or answer.status
        error.upstream_request_id = answer.request_id
        error.limits = limit_notices(answer.headers)
        raise


def picture_url(base_url: str, url: str, origins: tuple[str, ...] = ()) -> str:
    """Return the absolute address of a picture that an answer named, if it may be fetched.

    Only the account's own host is asked, over https or at the very origin of `base_url`, and the
    origins that the operator has named: an answer must not make this machine open connections to
    other places, and nobody else can tell which other hosts belong to the server.

    Raises:
        UpstreamError: it may not.
    """
    try:
        base = urlsplit(base_url)
        full = urlsplit(urljoin(base_url, url))
        allowed = {_origin(base), *(_origin(urlsplit(origin)) for origin in origins)}
        named = _origin(full) in allowed
    except ValueError as error:
        raise _refused_address() from error
    same_host = full.scheme == "https" and full.hostname == base.hostname
    if not (named or same_host) or full.username is not None or full.password is not None:
        raise _refused_address()
    return full.geturl()


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)


def _refused_address() -> UpstreamError:
    return UpstreamError(
        FaultClass.BAD_OUTPUT,
        "upstream_bad_url",
        "The upstream named an address for the image that may not be fetched.",
        sold=True,
    )
