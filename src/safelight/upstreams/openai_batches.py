"""OpenAI's Files and Batch APIs, as far as lines of pictures need them.

Owns the wire: `POST /files` (multipart, purpose `batch`), `POST /batches` with our tag as metadata,
`GET /batches`, `GET /batches/{id}`, `POST /batches/{id}/cancel`, `GET /files/{id}/content` and
`DELETE /files/{id}`. Source: OpenAI API reference, "Batch" and "Files". How a server is addressed
is the adapter's `Target`, how a line's answer is read is in `batch_lines.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from safelight.clock import Clock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Account, UpstreamCall
from safelight.upstreams.batch_lines import LineReader
from safelight.upstreams.batches import BatchLine, Remote
from safelight.upstreams.faults import Setting, classify
from safelight.upstreams.http_transport import Answer, Body, Timers, Transport
from safelight.upstreams.judging import Judge
from safelight.upstreams.openai_request import Target, image_fields
from safelight.upstreams.scrub import account_secrets, scrub
from safelight.upstreams.uploading import FilePayload
from safelight.upstreams.wire_faults import disk_failed, not_json, redirected, truncated

TAG: Final = "safelight"
"""The metadata key under which the vendor keeps our name of a batch."""
GENERATIONS: Final = "/v1/images/generations"
_WINDOW: Final = "24h"
_UPLOAD_S: Final = 1800.0
"""How long an input file of 200 MB may take: 1 Mbit/s."""
_CONTENT_S: Final = 6 * 3600.0
"""How long an output file may take, with all that is done with its pictures."""
_CONTENT_MAX: Final = 2**50
_PAGE: Final = 100
_PAGES_MAX: Final = 50


class OpenAIBatches:
    """The `VendorBatches` seam over one pool of connections.

    Args:
        clock: for timers.
        transport: shared with the adapter's calls.
        target: says how an account is addressed.
    """

    def __init__(
        self, clock: Clock, transport: Transport, target: Callable[[Account], Target]
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._target = target

    def line(self, account: Account, call: UpstreamCall, custom_id: str) -> bytes:
        """Return a call as one line of an input file; see `VendorBatches.line`."""
        body = image_fields(self._target(account), call)
        line = {"custom_id": custom_id, "method": "POST", "url": GENERATIONS, "body": body}
        return msgspec.json.encode(line) + b"\n"

    async def send_file(self, account: Account, path: Path, *, name: str, deadline: float) -> str:
        """Send an input file; see `VendorBatches.send_file`."""
        slow = msgspec.structs.replace(account, first_byte_timeout_s=_UPLOAD_S)
        try:
            with path.open("rb") as file:
                form = aiohttp.FormData()
                form.add_field("purpose", "batch")
                payload = FilePayload(file, content_type="application/jsonl")
                form.add_field("file", payload, filename=name)
                document = await self._ask(slow, "POST", "files", deadline, data=form)
        except OSError as error:
            raise disk_failed(sold=False) from error
        return _text(document, "id")

    async def create(self, account: Account, file_id: str, *, tag: str, deadline: float) -> Remote:
        """Make a batch of an input file; see `VendorBatches.create`."""
        body = {
            "input_file_id": file_id,
            "endpoint": GENERATIONS,
            "completion_window": _WINDOW,
            "metadata": {TAG: tag},
        }
        return _remote(
            await self._ask(account, "POST", "batches", deadline, data=msgspec.json.encode(body))
        )

    async def find(
        self, account: Account, *, tag: str, since_s: int, deadline: float
    ) -> Remote | None:
        """Look through the newest batches for our tag; see `VendorBatches.find`."""
        after = ""
        for _ in range(_PAGES_MAX):
            page = await self._ask(account, "GET", f"batches?limit={_PAGE}{after}", deadline)
            found = page.get("data")
            if not isinstance(found, list):
                raise not_json(200)
            for one in found:
                metadata = one.get("metadata") if isinstance(one, dict) else None
                if isinstance(metadata, dict) and metadata.get(TAG) == tag:
                    return _remote(one)
            last = found[-1] if found and isinstance(found[-1], dict) else {}
            made_at = last.get("created_at")
            if not page.get("has_more") or (isinstance(made_at, int) and made_at < since_s):
                return None
            after = f"&after={_text(last, 'id')}"
        return None

    async def look(self, account: Account, remote_id: str, *, deadline: float) -> Remote:
        """Ask for a batch; see `VendorBatches.look`."""
        return _remote(await self._ask(account, "GET", f"batches/{remote_id}", deadline))

    async def cancel(self, account: Account, remote_id: str, *, deadline: float) -> Remote:
        """Cancel a batch; see `VendorBatches.cancel`."""
        return _remote(await self._ask(account, "POST", f"batches/{remote_id}/cancel", deadline))

    async def forget(self, account: Account, file_id: str, *, deadline: float) -> None:
        """Delete a file; see `VendorBatches.forget`."""
        await self._ask(account, "DELETE", f"files/{file_id}", deadline)

    async def lines(
        self, account: Account, file_id: str, *, scratch: Path
    ) -> AsyncIterator[BatchLine]:
        """Read a file line by line; see `VendorBatches.lines`."""
        target, clock = self._target(account), self._clock
        patient = msgspec.structs.replace(account, first_byte_timeout_s=_CONTENT_S)
        timers = Timers(clock, patient, clock.monotonic() + _CONTENT_S)
        timers.expect_event(account.first_byte_timeout_s)
        headers = {**target.headers, "Accept": "*/*"}
        url = target.url(f"files/{file_id}/content")
        judge = self._judge(account)

        def judged(status: int, document: object) -> UpstreamError:
            return _of_line(account, status, document, now_ms=clock.now_ms())

        try:
            with LineReader(scratch, judged) as reader:
                async with self._transport.exchange(
                    "GET", url, timers, headers=headers, body_max=_CONTENT_MAX
                ) as answer:
                    await _refuse_no_content(answer, judge)
                    while True:
                        # What is done with a picture counts for nobody: silence is the vendor's.
                        timers.expect_event(account.idle_timeout_s)
                        piece = await answer.read(flowing=False)
                        if not piece:
                            break
                        for line in reader.feed(piece):
                            yield line
                last = reader.end()
                if last is not None:
                    yield last
        except OSError as error:
            raise disk_failed(sold=True) from error

    async def _ask(
        self, account: Account, method: str, path: str, deadline: float, data: Body | None = None
    ) -> dict[str, object]:
        """Ask for a small JSON document.

        Raises:
            UpstreamError: refused, or no answer that can be read; `status` is that of an answer.
        """
        target = self._target(account)
        timers = Timers(self._clock, account, deadline)
        headers = {**target.headers}
        if isinstance(data, bytes):
            headers["Content-Type"] = "application/json"
        async with self._transport.exchange(
            method, target.url(path), timers, headers=headers, data=data
        ) as answer:
            if 300 <= answer.status < 400:
                raise redirected(answer.status)
            if answer.status >= 400:
                error = await self._judge(account).refusal(answer)
                error.status = answer.status
                raise error
            text = bytearray()
            while piece := await answer.read(flowing=bool(text)):
                text += piece
        try:
            return msgspec.json.decode(text, type=dict[str, object])
        except (msgspec.MsgspecError, ValueError) as error:
            raise (truncated() if not text else not_json(None)) from error

    def _judge(self, account: Account) -> Judge:
        return Judge(self._clock, account_secrets(account), Setting())


async def _refuse_no_content(answer: Answer, judge: Judge) -> None:
    if 300 <= answer.status < 400:
        raise redirected(answer.status)
    if answer.status >= 400:
        error = await judge.refusal(answer)
        error.status = answer.status
        raise error
    if answer.content_type == "text/html":
        raise not_json(answer.status)


def _of_line(account: Account, status: int, document: object, *, now_ms: int) -> UpstreamError:
    """Return what one line's answer means, as the same answer to a call would."""
    if status == 200 and not (isinstance(document, dict) and document.get("error")):
        return UpstreamError(
            FaultClass.BAD_OUTPUT,
            "upstream_no_image",
            "The upstream answered without an image.",
            sold=True,
        )
    return classify(status, {}, document, now_ms=now_ms, known=account_secrets(account))


def _remote(document: object) -> Remote:
    """Return the vendor's batch object as far as we need it.

    Raises:
        UpstreamError: it is none.
    """
    assert isinstance(document, dict)
    errors = document.get("errors")
    faults = errors.get("data") if isinstance(errors, dict) else None
    first = faults[0] if isinstance(faults, list) and faults else None
    return Remote(
        id=_text(document, "id"),
        status=_text(document, "status"),
        output_file_id=_optional(document, "output_file_id"),
        error_file_id=_optional(document, "error_file_id"),
        problem=scrub(str(first.get("message", "")))[:300] if isinstance(first, dict) else None,
    )


def _text(document: dict[str, object], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise not_json(None)
    return value


def _optional(document: dict[str, object], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and value else None
