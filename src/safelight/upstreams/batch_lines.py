"""The lines of a batch's output as they arrive: pictures to disk, the rest parsed.

Owns the form of a line (OpenAI Batch API, "the request output object": `custom_id`, `response` with
`status_code`, `request_id` and `body`, `error`). A line is as long as its picture: its base64 is
decoded piece by piece into a file, and never in memory as a whole. Asks nobody.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from safelight.errors import FaultClass, UpstreamError
from safelight.types import Received
from safelight.upstreams.batches import BatchLine
from safelight.upstreams.receive import read_usage
from safelight.upstreams.reply import Places, ReplyError, ReplyFault, ReplyScanner, Role
from safelight.upstreams.spool import Spool

log = logging.getLogger(__name__)

LINE_PLACES: Final[Places] = {("response", "body", "data", None, "b64_json"): Role.PICTURE}

_NAME: Final = re.compile(rb'"custom_id"\s*:\s*"([\w.-]{1,200})"')

Classify = Callable[[int, object], UpstreamError]
"""Says what the answer to one line means, from its status and body."""


class LineReader:
    """Reads one file of lines; as a context manager it removes a picture that was not given out.

    Args:
        scratch: where each line's picture goes.
        classify: of answers without a picture.
    """

    def __init__(self, scratch: Path, classify: Classify) -> None:
        self._scratch = scratch
        self._classify = classify
        self._file: Spool | None = None
        self._scanner: ReplyScanner | None = None
        self._broken: ReplyError | None = None

    def __enter__(self) -> LineReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._scratch.unlink(missing_ok=True)

    @property
    def buffered(self) -> int:
        """Bytes of a line that are kept between two pieces."""
        return 0 if self._scanner is None else self._scanner.buffered

    def feed(self, piece: bytes) -> Iterator[BatchLine]:
        """Read the next bytes, cut anywhere; yield the lines that end in them."""
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            self._scan(piece[start:end])
            line = self.end()
            if line is not None:
                yield line
            start = end + 1
        self._scan(piece[start:] if start else piece)

    def end(self) -> BatchLine | None:
        """Take the end of a line, or of the file; None: there was none, or it cannot be read."""
        scanner, broken = self._scanner, self._broken
        self._scanner = self._broken = None
        try:
            if broken is not None:
                return self._unreadable(scanner, broken)
            return None if scanner is None or not scanner.started else self._line(scanner)
        except ReplyError as error:
            return self._unreadable(scanner, error)
        finally:
            self._close()

    def _scan(self, text: bytes) -> None:
        if not text or self._broken is not None:
            return
        if self._scanner is None:
            self._scanner = ReplyScanner(self._write, LINE_PLACES)
        try:
            self._scanner.feed(text)
        except ReplyError as error:
            self._broken = error

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = Spool(self._scratch)
        self._file.write(data)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.__exit__(None, None, None)

    def _line(self, scanner: ReplyScanner) -> BatchLine | None:
        document = scanner.document()
        if not isinstance(document, dict) or not isinstance(document.get("custom_id"), str):
            log.warning("a line of a vendor batch has no custom_id")
            return None
        custom_id = document["custom_id"]
        response = document.get("response")
        if not isinstance(response, dict):
            return BatchLine(custom_id=custom_id, error=self._own_error(document.get("error")))
        status, body = response.get("status_code"), response.get("body")
        request_id = response.get("request_id")
        request_id = request_id if isinstance(request_id, str) else None
        if status == 200 and scanner.picture_bytes and self._file is not None:
            return BatchLine(custom_id=custom_id, received=self._received(request_id, body))
        error = self._classify(status if isinstance(status, int) else 200, body)
        error.upstream_request_id = request_id
        return BatchLine(custom_id=custom_id, error=error)

    def _received(self, request_id: str | None, body: object) -> Received:
        assert self._file is not None
        return self._file.commit(upstream_request_id=request_id, usage=read_usage(body))

    def _own_error(self, error: object) -> UpstreamError | None:
        """Return what the batch itself says of a line that has no answer; None: not executed."""
        code = error.get("code") if isinstance(error, dict) else None
        if error is None or code in ("batch_expired", "batch_cancelled"):
            return None
        return self._classify(200, {"error": error})

    def _unreadable(self, scanner: ReplyScanner | None, error: ReplyError) -> BatchLine | None:
        """Return a line whose answer is of no use, by the name that stands before the damage."""
        text = b"" if scanner is None else scanner.skeleton
        name = _NAME.search(text)
        if name is None:
            log.warning("a line of a vendor batch cannot be read: %s", error)
            return None
        sold = error.fault is ReplyFault.BAD_BASE64
        return BatchLine(
            custom_id=name[1].decode(),
            error=UpstreamError(
                FaultClass.BAD_OUTPUT,
                "upstream_bad_image",
                "The upstream's image could not be decoded.",
                sold=True if sold else None,
            ),
        )
