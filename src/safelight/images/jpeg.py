"""The structure of JPEG files: markers, the frame, its scans and their end.

Source of the rules: ITU-T T.81, annex B (compressed data formats). The entropy-coded data is
searched for its end without decoding; JPEG has no checksums, so what is found is truncation and
broken structure, not a flipped bit inside a scan.

Accepted: baseline, extended and progressive Huffman coding with 8-bit samples, which is what
browsers and image APIs take. Bytes after EOI are tolerated: phones append further pictures and
films there.
"""

from __future__ import annotations

import re

from safelight.images.reading import MAX_PARTS, Probe, Reader, damaged, truncated

SIGNATURE = b"\xff\xd8\xff"

_SOI, _EOI, _SOS, _DQT, _DHT, _DNL, _TEM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDC, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PLAYABLE = (0xC0, 0xC1, 0xC2)
_BARE = frozenset((*range(0xD0, 0xD8), _SOI, _TEM))
"""Markers without a length; none of them may stand between segments of a still picture."""

_MAX_FILL = 16
"""Most fill bytes before one marker; real files have one or two."""
_MAX_SCANS = 500
"""Most scans of one picture; the most elaborate progressive files have some dozens, and every scan
costs a decoder a pass over the whole picture."""

# Inside a scan 0xFF is followed by 0x00 (a stuffed data byte), by a restart marker, by another 0xFF
# (fill), or by the marker that ends the scan. One byte of look-ahead keeps the search linear.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def probe(reader: Reader) -> Probe:
    """Return what the frame header says, stepping over the segments before it.

    Raises:
        InvalidImage: there is no frame header, or one of a kind that is not taken.
    """
    _start(reader)
    for _ in range(MAX_PARTS):
        marker = _marker(reader)
        if marker in _FRAMES:
            return _Walk().see_frame(marker, _segment(reader))
        if marker in (_SOS, _EOI):
            raise damaged("its JPEG frame header is missing")
        reader.skip(_length(reader))
    raise damaged(f"it has more than {MAX_PARTS} JPEG segments")


def verify(reader: Reader) -> Probe:
    """Walk all segments and scans up to EOI.

    Raises:
        InvalidImage: the file ends before EOI, or its structure breaks the rules.
    """
    _start(reader)
    walk = _Walk()
    marker = _marker(reader)
    for _ in range(MAX_PARTS):
        if marker == _EOI:
            return walk.end()
        if marker in _FRAMES:
            walk.see_frame(marker, _segment(reader))
        elif marker == _SOS:
            walk.see_scan(_segment(reader))
            marker = _skip_scan(reader)
            continue
        elif marker == _DNL:
            raise damaged("its JPEG height is given after the pixels")
        else:
            walk.tables.add(marker)
            reader.skip(_length(reader))
        marker = _marker(reader)
    raise damaged(f"it has more than {MAX_PARTS} JPEG segments")


def _start(reader: Reader) -> None:
    if reader.take(2) != SIGNATURE[:2]:
        raise damaged("the JPEG signature is wrong")


def _marker(reader: Reader) -> int:
    """Return the next marker's code; fill bytes before it are stepped over."""
    if reader.take(1) != b"\xff":
        raise damaged("a JPEG marker is missing")
    for _ in range(_MAX_FILL):
        code = reader.take(1)[0]
        if code == 0 or code in _BARE:
            raise damaged(f"it has an unexpected JPEG marker 0x{code:02x}")
        if code != 0xFF:
            return code
    raise damaged("it has too many JPEG fill bytes")


def _length(reader: Reader) -> int:
    """Return how many bytes of the segment follow its length field."""
    length = int.from_bytes(reader.take(2))
    if length < 2:
        raise damaged("a JPEG segment has no proper length")
    return length - 2


def _segment(reader: Reader) -> bytes:
    return reader.take(_length(reader))


def _skip_scan(reader: Reader) -> int:
    """Step over entropy-coded data and return the marker that ends it."""
    start = reader.position
    carry = b""
    while reader.left:
        data = carry + reader.take_slice()
        found = _SCAN_END.search(data)
        if found:
            reader.skip(found.end() - len(data))
            if reader.position - start < 3:
                raise damaged("a JPEG scan is empty")
            code = data[found.end() - 1]
            if code in _BARE:
                raise damaged(f"it has an unexpected JPEG marker 0x{code:02x}")
            return code
        carry = b"\xff" if data.endswith(b"\xff") else b""
    raise truncated()


class _Walk:
    """The frame and what of it was seen."""

    def __init__(self) -> None:
        self.tables: set[int] = set()
        self._probe: Probe | None = None
        self._components: set[int] = set()
        self._waiting: set[int] = set()
        self._scans = 0

    def see_frame(self, marker: int, data: bytes) -> Probe:
        """Take in the one frame header."""
        if self._probe is not None:
            raise damaged("it has two JPEG frame headers")
        if marker not in _PLAYABLE:
            raise damaged(f"its JPEG coding process {marker - 0xC0} is not supported")
        if len(data) < 6 or len(data) != 6 + 3 * data[5]:
            raise damaged("its JPEG frame header has a wrong length")
        height, width = int.from_bytes(data[1:3]), int.from_bytes(data[3:5])
        if data[0] != 8 or not width or not height or data[5] not in (1, 3, 4):
            raise damaged(f"its JPEG frame header says {width}x{height}, {data[0]} bits")
        self._components = set(data[6::3])
        if len(self._components) != data[5]:
            raise damaged("its JPEG frame header names a component twice")
        self._waiting = set(self._components)
        self._probe = Probe("jpeg", width, height)
        return self._probe

    def see_scan(self, data: bytes) -> None:
        """Take in a scan header."""
        if self._probe is None:
            raise damaged("its JPEG frame header is missing")
        if not data or not 1 <= data[0] <= 4 or len(data) != 4 + 2 * data[0]:
            raise damaged("a JPEG scan header has a wrong length")
        self._scans += 1
        if self._scans > _MAX_SCANS:
            raise damaged(f"it has more than {_MAX_SCANS} JPEG scans")
        if not self.tables.issuperset((_DQT, _DHT)):
            raise damaged("its JPEG tables are missing")
        named = set(data[1 : 1 + 2 * data[0] : 2])
        if len(named) != data[0] or not named <= self._components:
            raise damaged("a JPEG scan names a component that does not exist")
        self._waiting -= named

    def end(self) -> Probe:
        """Return the probe of a picture whose components were all seen."""
        if self._probe is None or self._waiting:
            raise damaged("the JPEG file ends before all of its scans")
        return self._probe
