"""What a picture says of its making: the XMP packet that new pixels carry.

Owns the packet and how it gets into a PNG; libvips writes it into the other formats. A picture that
is delivered as it came is never touched: the vendor's own, signed statement (C2PA) stays as it is.
New pixels break that signature, so they say themselves what they are.

Sources: IPTC Photo Metadata Standard, property "Digital Source Type", with the NewsCodes vocabulary
http://cv.iptc.org/newscodes/digitalsourcetype/; XMP Specification Part 3, section 1.1.5 (PNG: an
uncompressed iTXt chunk of this keyword).
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Final

VOCABULARY: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
TRAINED: Final = "trainedAlgorithmicMedia"
"""Made by a model that was trained on samples."""
_STATED: Final = re.compile(
    rf"{re.escape(VOCABULARY)}(algorithmicMedia|trainedAlgorithmicMedia"
    r"|compositeWithTrainedAlgorithmicMedia)\b".encode()
)
_KEYWORD: Final = b"XML:com.adobe.xmp"
_END: Final = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def packet(source_xmp: bytes | None) -> bytes:
    """Return the XMP packet of new pixels.

    Args:
        source_xmp: the packet of the picture that they were made of. What it states about a making
            by rule or by model is kept; nothing else of it is.
    """
    stated = _STATED.search(source_xmp or b"")
    kind = stated[1].decode() if stated else TRAINED
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'Iptc4xmpExt:DigitalSourceType="{VOCABULARY}{kind}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def add_to_png(path: Path, xmp: bytes) -> None:
    """Put an XMP packet into a PNG, before its end.

    Raises:
        ValueError: the file does not end as a PNG does.
        OSError: it cannot be written.
    """
    body = b"iTXt" + _KEYWORD + b"\0\0\0\0\0" + xmp
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    with path.open("r+b") as file:
        file.seek(-len(_END), 2)
        if file.read() != _END:
            raise ValueError("the file does not end as a PNG does")
        file.seek(-len(_END), 2)
        file.write(chunk + _END)
