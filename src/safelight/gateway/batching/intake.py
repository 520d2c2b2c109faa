"""The input of a batch: a file of JSON lines, read once from one end to the other.

Owns the rules of the whole file, as OpenAI's Batch API has them: a line that is no JSON, names
another route or model, or repeats a custom_id fails the batch before anything is bought. What is
wrong with a line's body alone fails that line alone, later. Keeps one line in memory at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from safelight.batches import LineFault
from safelight.storage import Chunk

CUSTOM_ID_MAX = 512
FAULTS_MAX = 100
"""Most faults that a batch lists: of a file of another kind every line is one."""
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BOM = b"\xef\xbb\xbf"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A line as it stands in the file: counted from 1, its place in bytes without the line feed.

    `data` is None for one that is longer than a line may be.
    """

    line: int
    start: int
    length: int
    data: bytes | None


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A line around its body."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct, frozen=True):
    model: str | msgspec.UnsetType = msgspec.UNSET


async def lines_of(chunks: AsyncIterator[Chunk], max_bytes: int) -> AsyncGenerator[Found, None]:
    """Yield the lines of a file that are not blank.

    Args:
        chunks: its bytes.
        max_bytes: what is longer is passed over, and told as such.
    """
    line, start, length = 1, 0, 0
    held = bytearray()
    async for chunk in chunks:
        at = 0
        while (end := chunk.find(b"\n", at)) >= 0:
            found = _found(line, start, length + end - at, held, bytes(chunk[at:end]), max_bytes)
            if found is not None:
                yield found
            start += length + end - at + 1
            line, length, at = line + 1, 0, end + 1
            held.clear()
        length += len(chunk) - at
        if length <= max_bytes:
            held += chunk[at:]
        else:
            held.clear()
    found = _found(line, start, length, held, b"", max_bytes)
    if found is not None:
        yield found


def _found(
    line: int, start: int, length: int, held: bytearray, rest: bytes, max_bytes: int
) -> Found | None:
    if length > max_bytes:
        return Found(line=line, start=start, length=length, data=None)
    data = bytes(held) + rest if held else rest
    if line == 1:
        data = data.removeprefix(_BOM)
    skipped = length - len(data)
    if not data or data.isspace():
        return None
    return Found(line=line, start=start + skipped, length=len(data), data=data)


class Intake:
    """Looks at the lines of one file, in their order.

    Args:
        endpoint: the route that every line must name.
        max_lines: most lines.
        max_line_bytes: longest line.
    """

    def __init__(self, endpoint: str, *, max_lines: int, max_line_bytes: int) -> None:
        self.faults: list[LineFault] = []
        self.model: str | None = None
        self.total = 0
        self._endpoint = endpoint
        self._max_lines = max_lines
        self._max_line_bytes = max_line_bytes
        self._seen: set[bytes] = set()

    @property
    def full(self) -> bool:
        """True when nothing that follows could change the verdict."""
        return len(self.faults) >= FAULTS_MAX or self.total > self._max_lines

    def take(self, found: Found) -> str | None:
        """Look at a line; return its custom_id, or None when it has a fault."""
        self.total += 1
        if self.total > self._max_lines:
            self.fault(
                "too_many_tasks",
                f"The file has more than {self._max_lines:,} requests; send several batches.",
            )
            return None
        envelope = self._envelope(found)
        if envelope is None or not self._fits(found.line, envelope):
            return None
        return envelope.custom_id

    def end(self) -> None:
        """Look at the file as a whole, after its last line."""
        if not self.total:
            self.fault("empty_file", "The file has no requests; write one JSON object per line.")

    def _envelope(self, found: Found) -> Envelope | None:
        if found.data is None:
            self.fault(
                "line_too_long",
                f"The line is longer than {self._max_line_bytes:,} bytes. Upload its pictures to "
                "/v1/files and name them by file_id.",
                line=found.line,
            )
            return None
        try:
            return msgspec.json.decode(found.data, type=Envelope)
        except msgspec.ValidationError as error:
            if _is_json(found.data):
                self._misshapen(found.line, str(error))
                return None
        except _NO_JSON:
            pass
        self.fault(
            "invalid_json_line", "The line is not one JSON object in UTF-8.", line=found.line
        )
        return None

    def _misshapen(self, line: int, problem: str) -> None:
        for name in Envelope.__struct_fields__:
            if f"missing required field `{name}`" in problem:
                words = f"Missing required parameter: {name!r}."
                self.fault("missing_required_parameter", words, param=name, line=line)
                return
        _, _, path = problem.partition(" - at `$")
        param = path.strip(".`") or None
        words = f"Invalid type for {param!r}." if param else "The line is no JSON object."
        self.fault("invalid_type", words, param=param, line=line)

    def _fits(self, line: int, envelope: Envelope) -> bool:
        before = len(self.faults)
        if envelope.method != "POST":
            self.fault("invalid_method", "'method' is POST.", param="method", line=line)
        if envelope.url != self._endpoint:
            words = f"'url' is the batch's endpoint, {self._endpoint}."
            self.fault("url_mismatch", words, param="url", line=line)
        self._look_at_custom_id(line, envelope.custom_id)
        self._look_at_body(line, envelope.body)
        return len(self.faults) == before

    def _look_at_custom_id(self, line: int, custom_id: str) -> None:
        if not 1 <= len(custom_id) <= CUSTOM_ID_MAX or "\0" in custom_id:
            words = f"'custom_id' has 1 to {CUSTOM_ID_MAX} characters, and no NUL."
            self.fault("invalid_value", words, param="custom_id", line=line)
            return
        mark = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
        if mark in self._seen:
            words = "Another line of the batch has the same 'custom_id'; make it unique."
            self.fault("duplicate_custom_id", words, param="custom_id", line=line)
        self._seen.add(mark)

    def _look_at_body(self, line: int, raw: msgspec.Raw) -> None:
        try:
            body = msgspec.json.decode(raw, type=_Body)
        except _NO_JSON:
            # Whatever else is wrong in it, the line hears when it is read as the route reads it.
            if not bytes(raw).lstrip().startswith(b"{"):
                words = "'body' is a JSON object, the body of the request."
                self.fault("invalid_type", words, param="body", line=line)
            return
        if not isinstance(body.model, str):
            return
        self.model = self.model or body.model
        if body.model != self.model:
            words = "All requests of a batch are for one model; send a batch for each."
            self.fault("model_mismatch", words, param="body.model", line=line)

    def fault(
        self, code: str, message: str, *, param: str | None = None, line: int | None = None
    ) -> None:
        """Note what is wrong; `line` None: with the file as a whole."""
        self.faults.append(LineFault(code=code, message=message, param=param, line=line))


def _is_json(data: bytes) -> bool:
    """Return whether it is JSON to its end: a shape that is wrong is told at its first fault."""
    try:
        msgspec.json.decode(data)
    except _NO_JSON:
        return False
    return True
