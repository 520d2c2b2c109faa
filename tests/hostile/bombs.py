"""Sixty image bombs and forty polyglots, made by rule: the same bytes at every run.

Owns the making of the files. A bomb says that it is far larger, longer or deeper than it may be, or
costs a decoder far more than its bytes; a polyglot is a picture and something else at once.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache

import pyvips

PNG = b"\x89PNG\r\n\x1a\n"
Named = dict[str, bytes]


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


IEND = chunk(b"IEND", b"")


def png(*chunks: bytes) -> bytes:
    return PNG + b"".join(chunks) + IEND


def segment(marker: int, data: bytes) -> bytes:
    """Return a JPEG segment."""
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def riff(*parts: tuple[bytes, bytes]) -> bytes:
    """Return a WebP container of chunks."""
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in parts
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@cache
def sample(kind: str, *, side: int = 48, progressive: bool = False) -> bytes:
    """Return an innocent picture of a format."""
    ramp = pyvips.Image.xyz(side, side).linear(3, 7)
    image = ramp.bandjoin(ramp[0]).cast("uchar").copy(interpretation="srgb")
    if kind == "jpeg":
        return bytes(image.jpegsave_buffer(Q=90, interlace=progressive))
    return bytes(image.write_to_buffer(f".{kind}"))


# ---- bombs --------------------------------------------------------------------------------------

SIZES = [
    (8193, 1),
    (1, 8193),
    (8192, 8192),
    (65_535, 65_535),
    (100_000, 100_000),
    (2**31 - 1, 1),
    (1, 2**31 - 1),
    (2**31 - 1, 2**31 - 1),
    (0, 1),
    (1, 0),
]


@cache
def bombs() -> Named:
    """Return sixty files that no gateway may take in."""
    return dict(
        [*_large_headers(), *_deflate_bombs(), *_animations(), *_scans(), *_parts(), *_lies()]
    )


def _large_headers() -> Iterator[tuple[str, bytes]]:
    for width, height in SIZES:
        yield (
            f"png of {width}x{height}",
            png(ihdr(width, height), chunk(b"IDAT", zlib.compress(b"\0" * 100))),
        )
    for width, height in ((65_535, 65_535), (8193, 4), (4, 8193), (0, 4), (4, 0)):
        data = bytearray(sample("jpeg"))
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", height, width)
        yield f"jpeg of {width}x{height}", bytes(data)
    for width, height in ((16_384, 16_384), (16_777_216, 256), (256, 16_777_216), (8193, 1)):
        head = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        yield f"webp of {width}x{height}", riff((b"VP8X", head), (b"VP8 ", _vp8(16, 16)))
    for width, height in ((16_383, 16_383), (8193, 1)):
        yield f"vp8 of {width}x{height}", riff((b"VP8 ", _vp8(width, height)))
        bits = (width - 1) | (height - 1) << 14
        yield (
            f"vp8l of {width}x{height}",
            riff((b"VP8L", b"\x2f" + struct.pack("<I", bits) + b"\0")),
        )


def _vp8(width: int, height: int) -> bytes:
    return b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(32)


def _deflate_bombs() -> Iterator[tuple[str, bytes]]:
    """Pixels that inflate to something else than the header says."""
    zeros = zlib.compress(bytes(30_000_000), 9)
    yield "idat far longer than its pixels", png(ihdr(64, 64), chunk(b"IDAT", zeros[:-9]))
    yield (
        "idat far shorter than its pixels",
        png(ihdr(8000, 6000), chunk(b"IDAT", zlib.compress(b"\0"))),
    )
    yield (
        "idat of noise",
        png(ihdr(4000, 4000), chunk(b"IDAT", zlib.compress(b"x")[:2] + bytes(64))),
    )
    yield "idat without an end", png(ihdr(6000, 6000), chunk(b"IDAT", zeros[: len(zeros) // 2]))
    yield "idat with a preset dictionary", png(ihdr(4, 4), chunk(b"IDAT", b"\x78\x20" + bytes(40)))
    for colour, depth in ((6, 16), (0, 16), (3, 8)):
        palette = [chunk(b"PLTE", b"\0\0\0")] if colour == 3 else []
        yield (
            f"interlaced, colour {colour} of {depth} bits, no pixels",
            png(
                ihdr(7000, 7000, depth, colour, 1),
                *palette,
                chunk(b"IDAT", zlib.compress(b"\0" * 7)),
            ),
        )
    yield (
        "palette with holes",
        png(ihdr(4, 4, 8, 3), chunk(b"PLTE", bytes(4)), chunk(b"IDAT", zlib.compress(bytes(20)))),
    )


def _animations() -> Iterator[tuple[str, bytes]]:
    for frames in (2, 10_000, 2**31 - 1):
        yield (
            f"png of {frames} frames",
            png(
                ihdr(4, 4),
                chunk(b"acTL", struct.pack(">II", frames, 0)),
                chunk(b"IDAT", zlib.compress(bytes(52))),
            ),
        )
    for frames in (2, 10_000, 60_000):
        yield (
            f"webp of {frames} frames",
            riff(
                (b"VP8X", b"\x02" + bytes(9)), (b"ANIM", bytes(6)), *[(b"ANMF", bytes(16))] * frames
            ),
        )
    yield "gif of 10,000 frames", b"GIF89a" + bytes(7) + (b"\x2c" + bytes(12)) * 10_000 + b";"


def _scans() -> Iterator[tuple[str, bytes]]:
    """JPEGs whose every scan costs a decoder a pass over the whole picture."""
    data = sample("jpeg", progressive=True)
    first = data.index(b"\xff\xda")
    scan = b"\xff\xda" + struct.pack(">H", 8) + bytes([1, 1, 0, 0, 0, 0]) + b"\xff\0" * 2
    for count in (501, 5_000, 70_000):
        yield f"jpeg of {count} scans", data[:first] + scan * count + b"\xff\xd9"
    yield "jpeg of arithmetic coding", data.replace(b"\xff\xc2", b"\xff\xca", 1)
    yield "jpeg lossless", data.replace(b"\xff\xc2", b"\xff\xc3", 1)
    yield "jpeg of 12 bits", _patched(data, b"\xff\xc2", 4, b"\x0c")
    yield (
        "jpeg with its height behind the pixels",
        _patched(data[:-2] + segment(0xDC, b"\0\x10") + data[-2:], b"\xff\xc2", 5, b"\0\0"),
    )


def _patched(data: bytes, marker: bytes, offset: int, new: bytes) -> bytes:
    at = data.index(marker) + offset
    return data[:at] + new + data[at + len(new) :]


def _parts() -> Iterator[tuple[str, bytes]]:
    """Files of countless parts."""
    pixels = chunk(b"IDAT", zlib.compress(bytes(52)))
    yield "png of 70,000 chunks", png(ihdr(4, 4), chunk(b"tEXt", b"a\0b") * 70_000, pixels)
    yield "png of 70,000 empty pixels", png(ihdr(4, 4), chunk(b"IDAT", b"") * 70_000, pixels)
    jpeg = sample("jpeg")
    yield "jpeg of 70,000 comments", jpeg[:2] + segment(0xFE, b"") * 70_000 + jpeg[2:]
    yield "jpeg of endless fill", jpeg[:2] + b"\xff" * 100_000 + jpeg[2:]
    yield "webp of 70,000 chunks", riff((b"VP8 ", _vp8(16, 16)), *[(b"junk", b"")] * 70_000)


def _lies() -> Iterator[tuple[str, bytes]]:
    """Lengths that are not true."""
    whole = png(ihdr(4, 4), chunk(b"IDAT", zlib.compress(bytes(52))))
    yield "png chunk of 2 GB", whole[:33] + b"\x7f\xff\xff\xff" + whole[37:]
    yield "png chunk of 4 GB", whole[:33] + b"\xff\xff\xff\xff" + whole[37:]
    yield (
        "png of another second header",
        png(ihdr(4, 4), ihdr(9000, 9000), chunk(b"IDAT", zlib.compress(bytes(52)))),
    )
    webp = sample("webp")
    yield "webp longer than its file", webp[:4] + b"\xff\xff\xff\x7f" + webp[8:]
    yield "webp chunk longer than its file", webp[:16] + b"\xff\xff\xff\x7f" + webp[20:]
    jpeg = sample("jpeg")
    yield "jpeg segment of no length", jpeg[:4] + b"\0\0" + jpeg[6:]
    yield "jpeg without an end", jpeg[:-2]
    yield "jpeg whose frame has 255 components", _patched(jpeg, b"\xff\xc0", 9, b"\xff")
    yield "webp of two bitstreams", riff((b"VP8 ", _vp8(16, 16)), (b"VP8 ", _vp8(8192, 8192)))


# ---- polyglots ----------------------------------------------------------------------------------

SCRIPT = b"<script>alert(document.domain)</script>"
PHP = b"<?php system($_GET['c']); ?>"
HTML = b"<html><body>hello</body></html>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF"


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(zipfile.ZipInfo("run.py"), "print('hello')")
    return made.getvalue()


PAYLOADS: Named = {
    "script": SCRIPT,
    "php": PHP,
    "html": HTML,
    "svg": SVG,
    "pdf": PDF,
    "zip": archive(),
}


@cache
def polyglots() -> Named:
    """Return forty files that are a picture and something else."""
    found: Named = {}
    for name, payload in PAYLOADS.items():
        for kind in ("png", "jpeg", "webp"):
            found[f"{kind} with {name} behind it"] = sample(kind) + payload
        jpeg, image = sample("jpeg"), sample("png")
        if name != "zip":
            found[f"jpeg with {name} as its comment"] = jpeg[:2] + segment(0xFE, payload) + jpeg[2:]
            text = chunk(b"tEXt", b"Comment\0" + payload)
            found[f"png with {name} as its text"] = image[:33] + text + image[33:]
    found |= {
        "gif with script": b"GIF89a/*" + SCRIPT + b"*/=1;",
        "bmp with script": b"BM" + bytes(60) + SCRIPT,
        "svg": SVG,
        "eps with a preview": b"\xc5\xd0\xd3\xc6" + bytes(28) + b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "tiff": b"II*\0" + bytes(64),
        "photoshop": b"8BPS\0\x01" + bytes(64),
        "fits": b"SIMPLE  =                    T" + bytes(64),
        "elf behind a jpeg": sample("jpeg") + b"\x7fELF" + bytes(64),
        "exe behind a jpeg": sample("jpeg") + b"MZ\0This program cannot be run in DOS mode.",
        "rar behind a jpeg": sample("jpeg") + b"Rar!\x1a\x07\x01\0" + bytes(32),
        "7z behind a jpeg": sample("jpeg") + b"7z\xbc\xaf\x27\x1c" + bytes(32),
        "png in the name of a pdf": PDF + sample("png"),
    }
    return found
