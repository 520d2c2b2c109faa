"""multipart/form-data, streamed: pictures into spool files, text into memory, everything capped.

Owns the form as a form (RFC 7578) with the limits of the failure catalogue, C16; file names that
callers send never touch the disk. What the fields mean is `wire`'s business.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from safelight.errors import InvalidRequest, InvalidValue, RequestTooLarge

MAX_PARTS = 64
MAX_FILES = 17
"""Sixteen inputs and a mask."""
_MAX_HEADERS = 16
_MAX_HEADER_BYTES = 4096
_MAX_NAME = 128
_MAX_TEXT_BYTES = 256 * 1024
_MAX_TEXTS_BYTES = 1024 * 1024
"""All texts of a form together."""
_MAX_PREAMBLE = 16 * 1024
_MAX_BOUNDARY = 200
_FIRST_BYTES = 8 * 1024
"""Of a file, held in memory before it gets one on the disk: who only begins to send makes none."""


FieldTest = Callable[[str], bool]
"""Tells whether a field of that name holds a picture."""


class SpoolFolder:
    """Hands out names of our own for temporary files and removes them all when it is left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Path] = []

    def new(self) -> Path:
        """Return a path that nobody uses."""
        path = self._folder / f"input-{secrets.token_hex(16)}"
        self._made.append(path)
        return path

    def __enter__(self) -> SpoolFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for path in self._made:
            with contextlib.suppress(OSError):  # what stays is swept when this process has ended
                path.unlink(missing_ok=True)


@dataclass(slots=True)
class FilePart:
    """A part that went to disk; `is_text` when the caller sent a string where a file belongs."""

    name: str
    path: Path
    is_text: bool
    size: int = 0
    filename: str = ""
    """As its sender calls it: for people, never for the disk."""


@dataclass(slots=True)
class Form:
    """A form's parts, files and texts each in order of appearance."""

    files: list[FilePart] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a multipart Content-Type names.

    Raises:
        InvalidRequest: there is none, or it is far too long.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY:
        raise _malformed("its Content-Type has no usable boundary")
    return boundary


class FormReader:
    """Takes a form's bytes with `feed` and gives the form with `finish`.

    As a context manager it closes the file it is writing. Spool files belong to `spool`.
    """

    def __init__(
        self, boundary: bytes, *, spool: SpoolFolder, picture_fields: FieldTest, max_file_bytes: int
    ) -> None:
        self._form = Form()
        self._spool = spool
        self._is_picture = picture_fields
        self._max_file_bytes = max_file_bytes
        self._parts = 0
        self._ended = False
        self._headers: dict[bytes, bytes] = {}
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._file: BinaryIO | None = None
        self._part: FilePart | None = None
        self._first = bytearray()
        self._text_name = ""
        self._text = bytearray()
        self._texts_bytes = 0
        self._delimiter = b"--" + boundary
        self._preamble: bytearray | None = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_end": self._on_end,
            },
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> None:
        """Read more of the form; blocks for as long as a write to the page cache takes.

        Raises:
            InvalidRequest: it is no well-formed form, or has too many parts, files or headers.
            RequestTooLarge: a file or a text is too long.
        """
        if self._preamble is not None:
            data = self._after_preamble(self._preamble, data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed("a boundary or a part's header is broken") from error

    def _after_preamble(self, preamble: bytearray, data: bytes) -> bytes:
        """Return what of `data` and before belongs to the form; the parser knows no preamble.

        What stands before the first boundary is for readers without MIME (RFC 2046 section 5.1.1).
        """
        preamble += data
        if preamble.startswith(self._delimiter):
            start = 0
        elif (line_end := preamble.find(b"\r\n" + self._delimiter)) >= 0:
            start = line_end + 2
        elif len(preamble) > _MAX_PREAMBLE:
            raise _malformed(f"its boundary does not come within {_MAX_PREAMBLE} bytes")
        else:
            return b""
        self._preamble = None
        return bytes(preamble[start:])

    def finish(self) -> Form:
        """Return the form.

        Raises:
            InvalidRequest: the body stopped before its closing boundary.
        """
        if not self._ended:
            raise _malformed("it ends before its closing boundary")
        return self._form

    def __enter__(self) -> FormReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk has been met already
                self._file.close()

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} parts")
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        name = bytes(self._header_name).lower()
        if name in self._headers:
            raise _malformed("a part has the same header twice")
        self._headers[name] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._headers.get(b"content-disposition"))
        raw_name = options.get(b"name", b"")
        if kind != b"form-data" or not 1 <= len(raw_name) <= _MAX_NAME:
            raise _malformed("a part has no name")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"8bit", b"7bit"):
            raise _malformed("a part has a Content-Transfer-Encoding; send its bytes as they are")
        name = _text_of(raw_name)
        declared = self._headers.get(b"content-type", b"text/plain").lower()
        is_text = b"filename" not in options and declared.startswith(b"text/")
        if self._is_picture(name) or not is_text:
            filename = _text_of(options.get(b"filename", b""))
            self._begin_file(name, is_text=is_text, filename=filename)
        else:
            self._text_name = name

    def _begin_file(self, name: str, *, is_text: bool, filename: str) -> None:
        if len(self._form.files) >= MAX_FILES:
            raise InvalidValue(
                f"There are more than {MAX_FILES} files; an edit takes at most {MAX_FILES - 1} "
                "pictures and a mask.",
                param="image",
            )
        path = self._spool.new()
        self._part = FilePart(name=name, path=path, is_text=is_text, filename=filename)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._on_file_data(self._part, memoryview(data)[start:end])
            return
        self._text += data[start:end]
        self._texts_bytes += end - start
        if len(self._text) > _MAX_TEXT_BYTES:
            raise RequestTooLarge(f"A form field is larger than {_MAX_TEXT_BYTES} bytes.")
        if self._texts_bytes > _MAX_TEXTS_BYTES:
            raise RequestTooLarge(f"The form fields are larger than {_MAX_TEXTS_BYTES} bytes.")

    def _on_file_data(self, part: FilePart, data: memoryview) -> None:
        part.size += len(data)
        # A string may be a data: URL, whose base64 is a third longer than its file.
        if part.size > self._max_file_bytes * (2 if part.is_text else 1):
            raise RequestTooLarge(
                f"A file is larger than {self._max_file_bytes} bytes.", param=part.name
            )
        if self._file is not None:
            self._file.write(data)
            return
        self._first += data
        if len(self._first) > _FIRST_BYTES:
            self._open(part)

    def _open(self, part: FilePart) -> BinaryIO:
        """Open the part's file, and write what has come of it."""
        self._file = part.path.open("xb")
        self._file.write(self._first)
        self._first.clear()
        return self._file

    def _on_part_end(self) -> None:
        if self._part is not None:
            (self._file or self._open(self._part)).close()
            self._form.files.append(self._part)
            self._file = self._part = None
            return
        self._form.texts.append((self._text_name, _text_of(bytes(self._text))))
        self._text.clear()

    def _on_end(self) -> None:
        self._ended = True


def _text_of(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _malformed("a field is not UTF-8") from error
    if "\x00" in text:
        raise _malformed("a field holds the character U+0000")
    return text


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"The multipart body cannot be read: {what}.", code="invalid_multipart")
