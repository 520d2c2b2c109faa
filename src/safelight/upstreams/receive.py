"""An images answer on its way to the spool: JSON, event stream, or a download.

Owns what each form of a good answer means (OpenAI images API, "create" and "streaming") and which
faults are found in it (failure catalogue U5, U6, U13, U20, U23). Sends nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from safelight.errors import FaultClass, UpstreamError
from safelight.types import Received, Usage
from safelight.upstreams import PartialSink
from safelight.upstreams.event_stream import EventScanner, Frame
from safelight.upstreams.faults import read_error
from safelight.upstreams.http_transport import Answer
from safelight.upstreams.judging import Judge
from safelight.upstreams.reply import ReplyError, ReplyFault, ReplyScanner, Sink
from safelight.upstreams.spool import Spool
from safelight.upstreams.wire_faults import not_json, too_large, truncated

log = logging.getLogger(__name__)

_PARTIALS_MAX = 16


class Address(msgspec.Struct, frozen=True):
    """Where the picture is, from an answer that does not hold it."""

    url: str
    usage: Usage | None
    request_id: str | None


class Receiver:
    """Takes one answer to one spool file.

    Args:
        spool: where the picture ends up.
        judge: of what is no picture.
        on_partial: sink for partial images; None: they are dropped.
        partials: how many of them are given to the sink; more are dropped.
        event_s: how long a stream may go without an event, or None.
    """

    def __init__(
        self,
        spool: Path,
        judge: Judge,
        *,
        on_partial: PartialSink | None = None,
        partials: int = _PARTIALS_MAX,
        event_s: float | None = None,
    ) -> None:
        self._spool = spool
        self._judge = judge
        self._on_partial = on_partial
        self._partials_wanted = partials
        self._event_s = event_s
        self._partials = 0

    async def json(self, answer: Answer) -> Received | Address:
        """Receive one JSON document.

        Raises:
            UpstreamError: it holds no usable picture.
        """
        with Spool(self._spool) as file:
            scanner = ReplyScanner(file.write)
            document = await read_document(answer, scanner, file)
            usage = read_usage(document)
            if scanner.picture_bytes:
                if scanner.images > 1:
                    log.warning("%d images came for one; the first was taken", scanner.images)
                await answer.drain()
                return file.commit(upstream_request_id=answer.request_id, usage=usage)
        if read_error(document) is not None:
            raise self._judge.classified(answer, answer.status, document)
        if scanner.url is not None:
            await answer.drain()
            return Address(scanner.url, usage, answer.request_id)
        raise no_image(answer)

    async def events(self, answer: Answer) -> Received:
        """Receive a stream of events until the completed one.

        Raises:
            UpstreamError: an error event, or no picture at the end.
        """
        slot = Slot(self._spool)
        try:
            scanner = EventScanner(slot.next)
            while piece := await answer.read(flowing=scanner.in_frame):
                for frame in scanner.feed(piece):
                    answer.next_event(self._event_s)
                    received = self._frame(frame, slot, answer)
                    if received is not None:
                        return received
            for frame in scanner.finish():
                received = self._frame(frame, slot, answer)
                if received is not None:
                    return received
            raise truncated()
        except ReplyError as error:
            raise unusable(error, answer, sold=slot.used or self._partials > 0) from error
        except UpstreamError as error:
            # A partial image was made and is billed, whatever ended the stream afterwards.
            if self._partials > 0 and error.fault is FaultClass.SLOW:
                error.sold = True
            raise
        finally:
            slot.clear()

    async def download(self, answer: Answer, address: Address) -> Received:
        """Receive the bytes behind the address that a good answer named.

        Raises:
            UpstreamError: there is no picture behind it.
        """
        if answer.status != 200 or answer.content_type.startswith("text/"):
            raise no_image(answer)
        with Spool(self._spool) as file:
            while piece := await answer.read(flowing=file.size > 0):
                file.write(piece)
            if not file.size:
                raise no_image(answer)
            return file.commit(upstream_request_id=address.request_id, usage=address.usage)

    def _frame(self, frame: Frame, slot: Slot, answer: Answer) -> Received | None:
        """Act on one event; return the picture if this was the completed one."""
        document = frame.document()
        if read_error(document) is not None or frame.event == "error":
            raise self._judge.classified(answer, 200, document)
        if not isinstance(document, dict):
            return None
        kind = document.get("type") or frame.event
        kind = kind if isinstance(kind, str) else ""
        has_picture = frame.scanner.picture_bytes > 0
        if kind.endswith(".partial_image") and has_picture:
            self._partial(document, slot)
        elif kind.endswith(".completed") or "data" in document:
            if not has_picture:
                raise no_image(answer)
            return slot.file().commit(
                upstream_request_id=answer.request_id, usage=read_usage(document)
            )
        return None

    def _partial(self, document: Mapping[str, object], slot: Slot) -> None:
        index = document.get("partial_image_index")
        if not isinstance(index, int) or not 0 <= index < _PARTIALS_MAX:
            index = self._partials
        self._partials += 1
        if self._on_partial is not None and index < self._partials_wanted:
            self._on_partial(index, slot.keep_as_partial(index))


async def read_document(answer: Answer, scanner: ReplyScanner, file: Spool) -> object:
    """Feed an answer's JSON to its scanner, whose picture goes to `file`; return the rest, parsed.

    Raises:
        UpstreamError: it is cut short, or cannot be used.
    """
    try:
        while not scanner.complete:
            if scanner.in_picture:
                await answer.pour(scanner.take)
            piece = await answer.read(flowing=scanner.started)
            if not piece:
                raise truncated()
            scanner.feed(piece)
        return scanner.document()
    except ReplyError as error:
        raise unusable(error, answer, sold=file.size > 0) from error


class Slot:
    """The part file, used anew for each event's picture."""

    def __init__(self, spool: Path) -> None:
        self.used = False
        self._spool = spool
        self._file: Spool | None = None

    def next(self) -> Sink:
        """Return the sink of the next event; the file is made when its first byte comes."""
        self.clear()
        return self._write

    def file(self) -> Spool:
        """Return the file of this event's picture."""
        if self._file is None:
            self._file = Spool(self._spool)
        return self._file

    def keep_as_partial(self, index: int) -> Path:
        """Move this event's picture to `<spool>.partial<index>`."""
        path = self._spool.with_name(f"{self._spool.name}.partial{index}")
        self.file().flush()
        self._spool.with_name(self._spool.name + ".part").rename(path)
        self.clear()
        return path

    def clear(self) -> None:
        """Close the file and remove what was not committed."""
        file, self._file = self._file, None
        if file is not None:
            file.__exit__(None, None, None)

    def _write(self, data: bytes) -> None:
        self.used = True
        self.file().write(data)


def no_image(answer: Answer) -> UpstreamError:
    """A good answer without a picture (U6)."""
    return UpstreamError(
        FaultClass.BAD_OUTPUT,
        "upstream_no_image",
        "The upstream answered without an image.",
        status=answer.status,
    )


def read_usage(document: object) -> Usage | None:
    """Return the tokens of an images body, or None where it names none.

    Takes OpenAI's names and the `prompt_tokens`, `completion_tokens` of some compatible servers.
    """
    usage = document.get("usage") if isinstance(document, dict) else None
    if not isinstance(usage, dict) or not usage:
        return None
    into, out = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    tokens_in = _count(usage, "input_tokens") or _count(usage, "prompt_tokens")
    tokens_out = _count(usage, "output_tokens") or _count(usage, "completion_tokens")
    return Usage(
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        total_tokens=_count(usage, "total_tokens") or tokens_in + tokens_out,
        input_text_tokens=_count(into, "text_tokens"),
        input_image_tokens=_count(into, "image_tokens"),
        output_text_tokens=_count(out, "text_tokens"),
        output_image_tokens=_count(out, "image_tokens"),
    )


def _count(table: object, name: str) -> int:
    value = table.get(name) if isinstance(table, dict) else None
    fine = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if isinstance(value, int) and fine else 0


def unusable(error: ReplyError, answer: Answer, *, sold: bool) -> UpstreamError:
    """Return the error for an answer that cannot be read (U5, U20, U21)."""
    match error.fault:
        case ReplyFault.TOO_LARGE:
            return too_large()
        case ReplyFault.BAD_BASE64:
            return UpstreamError(
                FaultClass.BAD_OUTPUT,
                "upstream_bad_image",
                "The upstream's image could not be decoded.",
                status=answer.status,
                sold=True,
            )
        case ReplyFault.NOT_JSON:
            return not_json(answer.status, sold=sold)
