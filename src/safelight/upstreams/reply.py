"""A picture inside JSON, read as a stream: base64 goes out as bytes while it arrives.

Owns the incremental scanner of one reply. Where pictures are is said by
the adapter, as paths (`Places`); those of the Images API are here. Keeps everything that is no
picture, up to 1 MB, for a full parse at the end. Does no I/O, knows no HTTP and judges no answer.

How it works: a scanner that knows only JSON's brackets and strings (RFC 8259), and so the path of
each string. The picture's string is cut out and decoded piece by piece; the rest, the *skeleton*,
is parsed by msgspec when the document is complete, which is also where its grammar is checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from typing import Final

import msgspec

from safelight.upstreams.base64_text import Base64Stream, ReplyError, ReplyFault, Sink

SKELETON_MAX: Final = 1024 * 1024
"""Bytes of JSON that are kept beside the picture."""
URL_MAX: Final = 8192
"""Characters of a picture's address."""


__all__ = [
    "IMAGES_PLACES",
    "SKELETON_MAX",
    "URL_MAX",
    "Base64Stream",
    "Place",
    "Places",
    "ReplyError",
    "ReplyFault",
    "ReplyScanner",
    "Role",
    "Sink",
]


class Role(Enum):
    """What a string at a known path is."""

    PICTURE = auto()
    """Base64, or a data URL."""
    ADDRESS = auto()
    """Where the picture is, or a data URL."""
    IGNORED = auto()
    """Something long that nobody needs, such as our own input sent back; not kept."""


Place = tuple[str | None, ...]
"""Keys from the document's top down to a string; None is any position of a list."""
Places = Mapping[Place, Role]
"""Which strings of a reply are no ordinary text."""

IMAGES_PLACES: Final[Places] = {
    ("b64_json",): Role.PICTURE,
    ("data", None, "b64_json"): Role.PICTURE,
    ("data", None, "url"): Role.ADDRESS,
}
"""OpenAI images API: `data[]` of a reply, and `b64_json` at the top of a stream event."""

_TAIL_MAX: Final = 64 * 1024
"""Bytes behind a picture that are parsed at once."""
_DEPTH_MAX: Final = 64

_USUAL_HEAD = re.compile(
    # A few short members that nobody needs before the picture, then the first one of `data`.
    rb'\{\s*(?:"(?!data"|b64_json")\w{1,40}"\s*:\s*(?:-?\d{1,20}|"[\w.:/ -]{0,80}"|null|true|false)'
    rb'\s*,\s*){0,12}"data"\s*:\s*\[\s*\{\s*"b64_json"\s*:\s*"'
)
"""How replies of the images API begin. The walk would come to the same, in twenty steps."""

_SPACE = b" \t\r\n\xef\xbb\xbf"  # whitespace and a byte-order mark before the document
_STRUCTURE = re.compile(rb'["{}\[\]:,]')
_STRING_STOP = re.compile(rb'["\\]')
_ASCII_ESCAPE = re.compile(rb"\\u00([0-7][0-9a-fA-F])")
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class _Mode(IntEnum):
    """What the next byte belongs to."""

    BEFORE = auto()  # whitespace before the document (some servers keep a connection alive with it)
    BETWEEN = auto()  # brackets, commas, numbers, words
    KEY = auto()
    TEXT = auto()
    SNIFF = auto()  # the first bytes of a "url": an address or a data URL?
    ADDRESS = auto()
    PICTURE = auto()
    SKIPPED = auto()  # a second picture, or a string that nobody needs
    AFTER = auto()


class _Level:
    """One open bracket."""

    __slots__ = ("index", "is_object", "key", "wants_key")

    def __init__(self, *, is_object: bool) -> None:
        self.is_object = is_object
        self.wants_key = is_object
        self.key = ""
        self.index = 0


class ReplyScanner:
    """Scans one JSON document; the first picture in it goes to `sink`.

    Memory stays below SKELETON_MAX and a few hundred bytes, whatever the picture's size. What comes
    after the document's last bracket is ignored.

    Args:
        sink: takes the first picture.
        places: where pictures can be.
    """

    def __init__(self, sink: Sink, places: Places = IMAGES_PLACES) -> None:
        self.images = 0
        """How many pictures the reply holds, as far as it was read."""
        self.picture_bytes = 0
        """Decoded bytes of the first picture; 0: there was none."""
        self.url: str | None = None
        """The address given instead of a picture."""
        self._sink = sink
        self._places = places
        self._deepest = max(map(len, places), default=0)
        self._names = {b'"%s"' % str(place[-1]).encode() for place in places}
        self._image_at: tuple[int, ...] | None = None
        self._mode = _Mode.BEFORE
        self._levels: list[_Level] = []
        self._skeleton = bytearray()
        self._string_at = 0
        self._escaped = False
        self._held = b""
        self._base64 = Base64Stream(sink)
        self._document: object = None
        self._steps = {
            _Mode.BEFORE: self._before,
            _Mode.BETWEEN: self._between,
            _Mode.KEY: self._string,
            _Mode.TEXT: self._string,
            _Mode.SNIFF: self._sniff,
            _Mode.ADDRESS: self._string,
            _Mode.PICTURE: self._picture,
            _Mode.SKIPPED: self._string,
        }

    @property
    def started(self) -> bool:
        """True from the document's first bracket on."""
        return self._mode is not _Mode.BEFORE

    @property
    def complete(self) -> bool:
        """True when the document's last bracket was seen."""
        return self._mode is _Mode.AFTER

    @property
    def in_picture(self) -> bool:
        """True while the next bytes are of a picture that is wanted."""
        return self._mode is _Mode.PICTURE

    @property
    def buffered(self) -> int:
        """Bytes kept between calls."""
        return len(self._skeleton) + len(self._held) + self._base64.buffered

    def feed(self, chunk: bytes) -> None:
        """Scan the next bytes, cut anywhere.

        Raises:
            ReplyError: no JSON, too much of it beside the picture, or the picture is no base64.
        """
        position = 0
        while position < len(chunk) and self._mode is not _Mode.AFTER:
            position = self._steps[self._mode](chunk, position)

    def take(self, text: bytes | memoryview) -> bool:
        """Scan the next bytes if they are a picture's base64 alone; else False, nothing happened.

        Unlike `feed` it needs no copy of them.
        """
        if self._mode is not _Mode.PICTURE or self._held:
            return False
        return self._base64.take(text)

    def document(self) -> object:
        """Return the complete document; the picture's string is empty in it.

        Raises:
            ReplyError: it is no JSON after all, or not complete.
        """
        if not self.complete:
            raise ReplyError(ReplyFault.NOT_JSON, "the document is not complete")
        if self._document is None:
            self._document = _parse(bytes(self._skeleton))
        return self._document

    @property
    def skeleton(self) -> bytes:
        """The text kept so far, the picture's base64 left out."""
        return bytes(self._skeleton)

    def _keep(self, piece: bytes) -> None:
        if len(self._skeleton) + len(piece) > SKELETON_MAX:
            raise ReplyError(ReplyFault.TOO_LARGE, "too much JSON beside the picture")
        self._skeleton += piece

    def _before(self, chunk: bytes, position: int) -> int:
        rest = chunk[position:].lstrip(_SPACE)
        if rest:
            if rest[:1] not in (b"{", b"["):
                raise ReplyError(ReplyFault.NOT_JSON, "the body is no JSON document")
            self._mode = _Mode.BETWEEN
            if self._places is IMAGES_PLACES and (head := _USUAL_HEAD.match(rest)) is not None:
                return len(chunk) - len(rest) + self._take_head(head.group())
        return len(chunk) - len(rest)

    def _take_head(self, head: bytes) -> int:
        """Take the document up to its first picture in one step; return how long that is."""
        self._keep(head)
        for is_object, key in ((True, "data"), (False, ""), (True, "b64_json")):
            level = _Level(is_object=is_object)
            level.wants_key, level.key = False, key
            self._levels.append(level)
        self._string_at = len(head) - 1
        self._open_picture()
        return len(head)

    def _between(self, chunk: bytes, position: int) -> int:
        found = _STRUCTURE.search(chunk, position)
        if found is None:
            self._keep(chunk[position:])
            return len(chunk)
        self._keep(chunk[position : found.end()])
        match found.group():
            case b'"':
                self._open_string()
            case b"{" | b"[" as bracket:
                if len(self._levels) == _DEPTH_MAX:
                    raise ReplyError(ReplyFault.NOT_JSON, "JSON nested too deeply")
                self._levels.append(_Level(is_object=bracket == b"{"))
            case b"}" | b"]" as bracket:
                if not self._levels or self._levels.pop().is_object != (bracket == b"}"):
                    raise ReplyError(ReplyFault.NOT_JSON, "a bracket that closes nothing")
                if not self._levels:
                    self._mode = _Mode.AFTER
            case b",":
                level = self._levels[-1]
                level.wants_key = level.is_object
                level.index += 1
            case _:
                self._levels[-1].wants_key = False
        return found.end()

    def _open_string(self) -> None:
        self._string_at = len(self._skeleton) - 1
        self._escaped = False
        if self._levels[-1].wants_key:
            self._mode = _Mode.KEY
            return
        role = self._role()
        if role is Role.PICTURE:
            self._open_picture()
        elif role is Role.ADDRESS and self.url is None:
            self._held = b""
            self._mode = _Mode.SNIFF
        else:
            self._mode = _Mode.SKIPPED if role is Role.IGNORED else _Mode.TEXT

    def _open_picture(self) -> None:
        # Two forms of one picture stand side by side; pictures differ by their position in a list.
        at = tuple(level.index for level in self._levels if not level.is_object)
        if at != self._image_at:
            self._image_at = at
            self.images += 1
        if self.picture_bytes:
            self._mode = _Mode.SKIPPED
            return
        self._base64 = Base64Stream(self._sink)
        self._held = b""
        self._mode = _Mode.PICTURE

    def _role(self) -> Role | None:
        """Return what the string that begins is by its path, None for text."""
        if len(self._levels) > self._deepest:
            return None
        return self._places.get(
            tuple([level.key if level.is_object else None for level in self._levels])
        )

    def _string(self, chunk: bytes, position: int) -> int:
        keep = self._mode is not _Mode.SKIPPED
        if self._escaped:
            found, end = None, position + 1
            self._escaped = False
        else:
            found = _STRING_STOP.search(chunk, position)
            end = len(chunk) if found is None else found.end()
        closing = found is not None and found.group() == b'"'
        self._escaped = found is not None and not closing
        if keep or closing:
            self._keep(chunk[position:end] if keep else b'"')
        if closing:
            self._close_string()
        return end

    def _close_string(self) -> None:
        if self._mode is _Mode.KEY:
            key = _parse(bytes(self._skeleton[self._string_at :]))
            self._levels[-1].key = str(key)
        elif self._mode is _Mode.ADDRESS:
            if len(self._skeleton) - self._string_at > URL_MAX:
                raise ReplyError(ReplyFault.TOO_LARGE, "the picture's address is too long")
            self.url = str(_parse(bytes(self._skeleton[self._string_at :]))) or None
        self._mode = _Mode.BETWEEN

    def _sniff(self, chunk: bytes, position: int) -> int:
        taken = chunk[position : position + 5 - len(self._held)]
        self._held += taken
        if len(self._held) == 5 and self._held.lower() == b"data:":
            self._open_picture()
            if self._mode is _Mode.PICTURE:
                self._base64.feed(b"data:")
        elif len(self._held) == 5 or b'"' in self._held:
            held, self._held = self._held, b""
            self._mode = _Mode.ADDRESS
            self.feed(held)
        return position + len(taken)

    def _picture(self, chunk: bytes, position: int) -> int:
        if not position and self.take(chunk):
            return len(chunk)
        end = chunk.find(b'"', position)
        piece = chunk[position:] if end < 0 else chunk[position:end]
        if self._held:
            piece, self._held = self._held + piece, b""
        if b"\\" in piece:
            piece = self._unescape(piece, last=end >= 0)
        self._base64.feed(piece)
        if end < 0:
            return len(chunk)
        self._base64.finish()
        self.picture_bytes = self._base64.bytes_out
        self._keep(b'"')
        self._mode = _Mode.BETWEEN
        return len(chunk) if self._take_tail(chunk[end + 1 :]) else end + 1

    def _take_tail(self, rest: bytes) -> bool:
        """Take the rest of the document in one step, if it is all here and has no more pictures.

        It is short, as a rule, but of many words: a whole parse costs less than a walk through it.
        """
        if len(rest) > _TAIL_MAX or any(name in rest for name in self._names):
            return False
        try:
            document = _parse(bytes(self._skeleton) + rest)
        except ReplyError:
            return False  # the walk will tell whether more of it comes, or what is wrong
        self._keep(rest)
        self._document = document
        self._mode = _Mode.AFTER
        return True

    def _unescape(self, piece: bytes, *, last: bool) -> bytes:
        r"""Undo the escapes that base64 may carry (`\/`, `\u002b`); others stay and are refused."""
        if not last:
            cut = _CUT_ESCAPE.search(piece)
            if cut is not None:
                self._held = cut.group()
                piece = piece[: cut.start()]
        piece = piece.replace(b"\\/", b"/")
        return _ASCII_ESCAPE.sub(lambda found: bytes([int(found.group(1), 16)]), piece)


def _parse(text: bytes) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ReplyError(ReplyFault.NOT_JSON, "the body is no JSON document") from error
