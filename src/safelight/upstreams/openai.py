"""The `openai` upstream: one call of the documented Images API for one image.

Owns the course of a call: send, look at status and type, receive, and fetch the picture where only
its address came. The account's key goes to the account's base_url and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

from safelight.clock import Clock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Account, Received, UpstreamCall
from safelight.upstreams import PartialSink
from safelight.upstreams.openai_receive import Address, Receiver
from safelight.upstreams.openai_request import opened_request
from safelight.upstreams.openai_transport import Answer, Timers, Transport, not_json

_PORTS = {"http": 80, "https": 443}


class OpenAIUpstream:
    """The Images API of OpenAI and of servers that speak it (the `Upstream` seam)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._transport = Transport()

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

        Raises:
            UpstreamError: classified by the failure catalogue; `<spool>.part` is gone.
        """
        stream = call.partial_images > 0 and on_partial is not None
        receiver = Receiver(
            spool, now_ms=self._clock.now_ms, known=_secrets(account), on_partial=on_partial
        )
        timers = Timers(self._clock, account, deadline)
        answered = False
        try:
            with opened_request(account, call, stream=stream) as request:
                async with self._transport.exchange(
                    "POST", request.url, timers, headers=request.headers, data=request.body
                ) as answer:
                    answered = True
                    outcome = await _take(answer, receiver)
            if isinstance(outcome, Address):
                return await self._fetch(account, outcome, receiver, deadline)
        except OSError as error:
            raise _disk_failed(sold=answered) from error
        return outcome

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    async def _fetch(
        self, account: Account, address: Address, receiver: Receiver, deadline: float
    ) -> Received:
        """Download the picture at once, without the key; it has been sold, whatever happens."""
        url = picture_url(account.base_url, address.url)
        timers = Timers(self._clock, account, deadline)
        headers = {"Accept": "image/*", "Accept-Encoding": "identity"}
        try:
            async with self._transport.exchange("GET", url, timers, headers=headers) as answer:
                if 300 <= answer.status < 400:
                    raise _redirected(answer)
                return await receiver.download(answer, address)
        except UpstreamError as error:
            error.sold = True
            error.upstream_request_id = address.request_id
            if error.fault is FaultClass.LOCAL:
                error.fault = FaultClass.FAST  # the paid call did leave us
            raise


async def _take(answer: Answer, receiver: Receiver) -> Received | Address:
    """Receive an answer by its status and content type."""
    try:
        if 300 <= answer.status < 400:
            raise _redirected(answer)
        if answer.status >= 400:
            raise await receiver.refusal(answer)
        if answer.content_type == "text/html":
            raise not_json(answer.status)
        if answer.content_type == "text/event-stream":
            return await receiver.events(answer)
        return await receiver.json(answer)
    except UpstreamError as error:
        error.status = error.status or answer.status
        error.upstream_request_id = answer.request_id
        raise


def picture_url(base_url: str, url: str) -> str:
    """Return the absolute address of a picture that an answer named, if it may be fetched.

    Only the account's own host is asked, over https or at the very origin of `base_url`: an answer
    must not make this machine open connections to other places, and nobody has told us which other
    hosts belong to the vendor.

    Raises:
        UpstreamError: it may not.
    """
    try:
        base = urlsplit(base_url)
        full = urlsplit(urljoin(base_url, url))
        same_origin = _origin(full) == _origin(base)
    except ValueError as error:
        raise _refused_address() from error
    same_host = full.scheme == "https" and full.hostname == base.hostname
    if not (same_origin or same_host) or full.username is not None or full.password is not None:
        raise _refused_address()
    return full.geturl()


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)


def _secrets(account: Account) -> tuple[str, ...]:
    """Return what no message may show."""
    key = account.api_key.reveal() if account.api_key is not None else ""
    _, _, rest = account.base_url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    return tuple(filter(None, (key, host, host.partition(":")[0])))


def _redirected(answer: Answer) -> UpstreamError:
    """A redirect (U22): following it would carry the key, or the request, to another place."""
    return UpstreamError(
        FaultClass.FAST,
        "upstream_redirect",
        "The upstream redirected the request.",
        status=answer.status,
    )


def _refused_address() -> UpstreamError:
    return UpstreamError(
        FaultClass.BAD_OUTPUT,
        "upstream_bad_url",
        "The upstream named an address for the image that may not be fetched.",
        sold=True,
    )


def _disk_failed(*, sold: bool) -> UpstreamError:
    """An input could not be read or the picture not be kept: our own disk, nobody else's fault."""
    return UpstreamError(
        FaultClass.LOCAL,
        "storage_failed",
        "The image could not be read or kept.",
        sold=sold,
        final_status=503,
    )
