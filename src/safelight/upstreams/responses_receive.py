"""A response on its way to the spool: one JSON document, or a stream of events.

Owns what each form of a good answer means (OpenAI Responses API, "the response object" and
"streaming events") and where its picture and its tokens are. Sends nothing.

A stream gives the picture with its output item, and the tokens only with the response's end, which
repeats the picture. The picture is made durable at once; what follows it is heard for a moment, and
nothing in it can lose the picture.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from safelight.clock import Clock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Received, Usage
from safelight.upstreams import PartialSink
from safelight.upstreams.event_stream import EventScanner, Frame
from safelight.upstreams.faults import Setting, read_error
from safelight.upstreams.http_transport import Answer
from safelight.upstreams.judging import Judge
from safelight.upstreams.receive import (
    Slot,
    no_image,
    read_document,
    read_usage,
    unusable,
)
from safelight.upstreams.reply import (
    Places,
    ReplyError,
    ReplyScanner,
    Role,
    Sink,
)
from safelight.upstreams.responses_faults import images_error, stated_error
from safelight.upstreams.spool import Spool
from safelight.upstreams.wire_faults import not_json, truncated

log = logging.getLogger(__name__)

PLACES: Final[Places] = {
    ("output", None, "result"): Role.PICTURE,
    ("item", "result"): Role.PICTURE,
    ("response", "output", None, "result"): Role.PICTURE,
    ("partial_image_b64",): Role.PICTURE,
    # A response repeats its request's tools; a mask may be larger than all that we keep.
    ("tools", None, "input_image_mask", "image_url"): Role.IGNORED,
    ("response", "tools", None, "input_image_mask", "image_url"): Role.IGNORED,
}
"""Where a response and its stream events hold pictures."""

USAGE_WAIT_S: Final = 5.0
"""Seconds that a received picture waits for the count of its tokens."""
_LIST_MAX: Final = 1024 * 1024
"""Bytes of a list that are looked through for an error."""
_PARTIALS_MAX: Final = 16
_ITEMS_MAX: Final = 64
_ENDS: Final = frozenset({"response.completed", "response.failed", "response.incomplete"})


def judge_of(clock: Clock, known: Sequence[str], setting: Setting) -> Judge:
    """Return the judge of responses without a picture."""
    return Judge(clock, known, setting, places=PLACES, translated=images_error)


async def check_listing(answer: Answer, judge: Judge) -> None:
    """Read a good answer that shall hold a list and no error.

    Raises:
        UpstreamError: it states an error, or is no JSON.
    """
    body = bytearray()
    while piece := await answer.read(flowing=True):
        body += piece
        if len(body) > _LIST_MAX:
            return  # whatever it is, it is no error
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise not_json(answer.status) from error
    if read_error(document) is not None:
        raise judge.classified(answer, answer.status, images_error(document))


class Receiver:
    """Takes one answer to one spool file.

    Args:
        spool: where the picture ends up.
        prompt: what was asked for, to notice when the text model has changed it.
        judge: of what is no picture.
        on_partial: sink for partial images; None: they are dropped.
        event_s: how long a stream may go without an event, or None.
    """

    def __init__(
        self,
        spool: Path,
        prompt: str,
        judge: Judge,
        *,
        on_partial: PartialSink | None,
        event_s: float | None,
    ) -> None:
        self._spool = spool
        self._prompt = prompt
        self._judge = judge
        self._on_partial = on_partial
        self._event_s = event_s
        self._partials = 0
        self._items: list[object] = []
        self._received: Received | None = None

    async def json(self, answer: Answer) -> Received:
        """Receive one response object.

        Raises:
            UpstreamError: it holds no usable picture.
        """
        with Spool(self._spool) as file:
            scanner = ReplyScanner(file.write, PLACES)
            document = await read_document(answer, scanner, file)
            response = _table(document)
            call = _image_call(_items(response))
            if scanner.picture_bytes and call is not None:
                if scanner.images > 1:
                    log.warning("%d images came for one; the first was taken", scanner.images)
                self._compare_prompt(call)
                await answer.drain()
                return file.commit(
                    upstream_request_id=answer.request_id, usage=image_usage(response)
                )
        raise self._without_picture(answer, response)

    async def events(self, answer: Answer) -> Received:
        """Receive a stream of events until the response's end.

        Raises:
            UpstreamError: an error event, or no picture at the end.
        """
        slot = Slot(self._spool)
        try:
            await self._take_frames(answer, slot)
        except ReplyError as error:
            if self._received is None:
                sold = slot.used or self._partials > 0
                raise unusable(error, answer, sold=sold) from error
        except UpstreamError as error:
            if self._received is None:
                if self._partials and error.fault is FaultClass.SLOW:
                    error.sold = True  # a partial image was made, and is billed
                raise
            log.info("the stream broke behind the image (%s); the image stays", error.code)
        finally:
            slot.clear()
        if self._received is None:
            raise truncated()
        return self._received

    async def _take_frames(self, answer: Answer, slot: Slot) -> None:
        def open_sink() -> Sink:
            return slot.next() if self._received is None else _drop

        scanner = EventScanner(open_sink, PLACES)
        answer.timers.expect_event(self._event_s)
        while piece := await answer.read(flowing=scanner.in_frame or self._received is not None):
            for frame in scanner.feed(piece):
                answer.next_event(self._event_s)
                if self._ended(frame, slot, answer):
                    return
        for frame in scanner.finish():
            if self._ended(frame, slot, answer):
                return

    def _ended(self, frame: Frame, slot: Slot, answer: Answer) -> bool:
        """Act on one event; return whether it was the response's last."""
        document = frame.document()
        event = _table(document)
        if frame.event == "error" or read_error(document) is not None:
            error = event if event.get("error") else {**event, "type": "error"}
            raise self._judge.classified(answer, 200, images_error(error))
        kind = event.get("type") or frame.event
        has_picture = frame.scanner.picture_bytes > 0 and self._received is None
        if kind == "response.image_generation_call.partial_image" and has_picture:
            self._partial(event, slot)
        elif kind == "response.output_item.done":
            self._item(_table(event.get("item")), slot if has_picture else None, answer)
        elif kind in _ENDS:
            response = _table(event.get("response"))
            self._end(response, slot if has_picture else None, answer)
            return True
        return False

    def _item(self, item: dict[str, object], slot: Slot | None, answer: Answer) -> None:
        """Take an output item, with its picture if `slot` is given."""
        if len(self._items) < _ITEMS_MAX:
            self._items.append(item)
        if item.get("type") != "image_generation_call" or self._received is not None:
            return
        if slot is None:
            error = stated_error({}, [item])
            if error is not None and item.get("error"):
                raise self._judge.classified(answer, 200, error)
            return
        self._compare_prompt(item)
        self._received = slot.file().commit(upstream_request_id=answer.request_id)
        timers = answer.timers
        timers.deadline = min(timers.deadline, timers.clock.monotonic() + USAGE_WAIT_S)

    def _end(self, response: dict[str, object], slot: Slot | None, answer: Answer) -> None:
        """Take the response itself, with its picture if `slot` is given."""
        usage = image_usage(response)
        if self._received is not None:
            self._received = msgspec.structs.replace(self._received, usage=usage)
            return
        call = _image_call(_items(response))
        if slot is None or call is None:
            raise self._without_picture(answer, response)
        self._compare_prompt(call)
        self._received = slot.file().commit(upstream_request_id=answer.request_id, usage=usage)

    def _partial(self, event: Mapping[str, object], slot: Slot) -> None:
        index = event.get("partial_image_index")
        if not isinstance(index, int) or not 0 <= index < _PARTIALS_MAX:
            index = self._partials
        self._partials += 1
        if self._on_partial is not None:
            self._on_partial(index, slot.keep_as_partial(index))

    def _compare_prompt(self, call: Mapping[str, object]) -> None:
        revised = call.get("revised_prompt")
        if isinstance(revised, str) and revised.split() != self._prompt.split():
            log.warning("the text model changed the prompt of an image")

    def _without_picture(self, answer: Answer, response: Mapping[str, object]) -> UpstreamError:
        error = stated_error(response, [*_items(response), *self._items])
        if error is None:
            error = images_error(response)
        if read_error(error) is None:
            return no_image(answer)
        return self._judge.classified(answer, 200, error)


def image_usage(response: Mapping[str, object]) -> Usage | None:
    """Return the image model's tokens, or None where the response does not count them.

    `usage` of a response counts the text model's tokens, which have other prices; only
    `tool_usage.image_gen` is in the Images API's words (zeros mean that nothing was recorded).
    """
    tools = _table(response.get("tool_usage"))
    usage = read_usage({"usage": tools.get("image_gen")})
    return usage if usage is not None and usage.total_tokens else None


def _table(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _items(response: Mapping[str, object]) -> list[object]:
    output = response.get("output")
    return output if isinstance(output, list) else []


def _image_call(items: Sequence[object]) -> dict[str, object] | None:
    """Return the image call whose result was taken (its text is empty now); its status may lag."""
    for item in items:
        call = _table(item)
        if call.get("type") == "image_generation_call" and isinstance(call.get("result"), str):
            return call
    return None


def _drop(data: bytes) -> None:
    """Take a picture that came again."""
    del data
