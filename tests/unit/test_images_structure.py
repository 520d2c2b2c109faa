"""Structure checks: whole pictures pass; what is cut, changed or odd is refused; nothing hangs."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight import images
from safelight.errors import InvalidImage
from safelight.images import Probe
from safelight.types import IMAGE_FORMATS, BlobRef, ImageFormat
from safelight.windows import from_disk

SIGNATURE = b"\x89PNG\r\n\x1a\n"
WIDTH, HEIGHT = 23, 17


def _colours(bands: int = 3) -> pyvips.Image:
    ramp = pyvips.Image.xyz(WIDTH, HEIGHT)
    planes = [ramp[0] * 11, ramp[1] * 15, ramp[0] * ramp[1] % 251, ramp[0] * 7 + 40][:bands]
    joined = planes[0].bandjoin(planes[1:]) if bands > 1 else planes[0]
    return joined.cast("uchar").copy(interpretation="srgb" if bands > 2 else "b-w")


def _deep() -> pyvips.Image:
    return (_colours().cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")


MAKERS: dict[str, Callable[[], bytes]] = {
    "png rgb": lambda: _colours().pngsave_buffer(),
    "png rgba": lambda: _colours(4).pngsave_buffer(),
    "png grey": lambda: _colours(1).pngsave_buffer(),
    "png grey alpha": lambda: _colours(2).pngsave_buffer(),
    "png 16 bit": lambda: _deep().pngsave_buffer(),
    "png 1 bit": lambda: _colours(1).pngsave_buffer(bitdepth=1),
    "png interlaced": lambda: _colours().pngsave_buffer(interlace=True),
    "png palette": lambda: _colours().pngsave_buffer(palette=True),
    "png profile": lambda: _colours().pngsave_buffer(profile="srgb"),
    "jpeg": lambda: _colours().jpegsave_buffer(),
    "jpeg progressive": lambda: _colours().jpegsave_buffer(interlace=True),
    "jpeg grey": lambda: _colours(1).jpegsave_buffer(),
    "jpeg restarts": lambda: _colours().jpegsave_buffer(restart_interval=1),
    "jpeg cmyk": lambda: _colours().colourspace("cmyk").jpegsave_buffer(keep=0),
    "webp": lambda: _colours().webpsave_buffer(keep=0),
    "webp alpha": lambda: _colours(4).webpsave_buffer(),
    "webp lossless": lambda: _colours().webpsave_buffer(lossless=True),
    "webp lossless alpha": lambda: _colours(4).webpsave_buffer(lossless=True),
    "webp profile": lambda: _colours().webpsave_buffer(profile="srgb"),
}
WITH_ALPHA = {"png rgba", "png grey alpha", "webp alpha", "webp lossless alpha"}


def format_of(name: str) -> ImageFormat:
    return next(known for known in IMAGE_FORMATS if name.startswith(known))


@pytest.fixture(scope="module")
def samples() -> dict[str, bytes]:
    return {name: bytes(make()) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("structure") / "picture"


def verified(scratch: Path, data: bytes) -> Probe:
    scratch.write_bytes(data)
    return images.verify(scratch)


def refused(scratch: Path, data: bytes) -> str:
    """Verify what must not pass and return the message."""
    with pytest.raises(InvalidImage) as caught:
        verified(scratch, data)
    return caught.value.message


# --- whole pictures ---------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_a_whole_picture_passes(samples: dict[str, bytes], scratch: Path, name: str) -> None:
    """Every kind of picture that libvips writes is verified and measured right."""
    expected = Probe(format_of(name), WIDTH, HEIGHT, name in WITH_ALPHA)
    found = verified(scratch, samples[name])
    if name == "png palette":  # whether the palette carries transparency is the encoder's choice
        expected = Probe("png", WIDTH, HEIGHT, b"tRNS" in samples[name])
    assert found == expected
    assert images.probe(scratch) == expected


@pytest.mark.parametrize("name", ["png rgb", "jpeg", "webp"])
def test_probe_needs_only_the_header(samples: dict[str, bytes], scratch: Path, name: str) -> None:
    """A picture whose end is missing is still measured."""
    scratch.write_bytes(samples[name][:-10])
    assert images.probe(scratch) == Probe(format_of(name), WIDTH, HEIGHT)


def test_describe_gives_digest_length_and_pixels(samples: dict[str, bytes], scratch: Path) -> None:
    data = samples["png rgba"]
    scratch.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    assert images.describe(scratch) == BlobRef(digest, len(data), "png", WIDTH, HEIGHT, True)


# --- cut, changed, foreign --------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_a_picture_cut_anywhere_is_refused(
    samples: dict[str, bytes], scratch: Path, name: str
) -> None:
    """Every shorter prefix of a picture is refused, whatever its length."""
    data = samples[name]
    for length in range(len(data)):
        refused(scratch, data[:length])


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_changed_byte_of_a_png_is_found(
    samples: dict[str, bytes], scratch: Path, data: st.DataObject
) -> None:
    """Every byte of a PNG is under its signature or a checksum."""
    name = data.draw(st.sampled_from([name for name in MAKERS if name.startswith("png")]))
    picture = bytearray(samples[name])
    picture[data.draw(st.integers(0, len(picture) - 1))] ^= data.draw(st.integers(1, 255))
    refused(scratch, bytes(picture))


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_garbled_pictures_never_raise_anything_else(
    samples: dict[str, bytes], scratch: Path, data: st.DataObject
) -> None:
    """Whatever was done to a file, the answer is a probe or InvalidImage."""
    picture = bytearray(samples[data.draw(st.sampled_from(sorted(MAKERS)))])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(picture) - 1))
        picture[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
        picture = picture or bytearray(b"?")
    scratch.write_bytes(picture)
    for check in (images.verify, images.probe):
        with contextlib.suppress(InvalidImage):
            assert isinstance(check(scratch), Probe)


@pytest.mark.parametrize(
    "data",
    [b"GIF89a\x01\x00\x01\x00", b"<svg/>", b"%PDF-1.7", b"II*\x00", b"x", b"RIFF\0\0\0\0WAVEfmt "],
)
def test_other_files_are_no_pictures(scratch: Path, data: bytes) -> None:
    assert "Send PNG, JPEG or WebP" in refused(scratch, data)


def test_an_empty_file_is_no_picture(scratch: Path) -> None:
    assert "0 bytes" in refused(scratch, b"")


# --- PNG --------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(
    width: int = 4, height: int = 4, depth: int = 8, colour: int = 2, rest: str = "000000"
) -> bytes:
    fields = struct.pack(">IIBB", width, height, depth, colour) + bytes.fromhex(rest)
    return chunk(b"IHDR", fields)


PIXELS = zlib.compress(bytes(4 * 13))
IDAT, IEND = chunk(b"IDAT", PIXELS), chunk(b"IEND")
PALETTE = chunk(b"PLTE", bytes(12))


def test_a_hand_made_png_passes(scratch: Path) -> None:
    """Split pixel chunks, an empty one and unknown ancillary chunks are all legal."""
    parts = [header(), chunk(b"teXt", b"a"), chunk(b"IDAT", PIXELS[:3]), chunk(b"IDAT")]
    parts += [chunk(b"IDAT", PIXELS[3:]), chunk(b"tIME", bytes(7)), IEND]
    assert verified(scratch, SIGNATURE + b"".join(parts)) == Probe("png", 4, 4)


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([header(), IDAT, IEND, b"\0"], "1 bytes follow the end"),
        ([header(), IDAT], "incomplete"),
        ([header(), IEND], "no pixels"),
        ([header(), chunk(b"IDAT"), IEND], "no pixels"),
        ([IDAT, IEND], "does not begin with its header"),
        ([header(), header(), IDAT, IEND], "unexpected IHDR"),
        ([header(), IDAT, chunk(b"teXt"), IDAT, IEND], "not in one piece"),
        ([header(), chunk(b"NEWX"), IDAT, IEND], "unexpected NEWX"),
        ([header(), IDAT, chunk(b"IEND", b"x")], "end chunk is not empty"),
        ([header(), chunk(b"IDAT", b"\0\0\0\0"), IEND], "not a zlib stream"),
        ([header(width=0), IDAT, IEND], "0x4 pixels"),
        ([header(height=2**31), IDAT, IEND], "4x2147483648 pixels"),
        ([header(depth=3), IDAT, IEND], "bit depth 3"),
        ([header(colour=5), IDAT, IEND], "colour type 5"),
        ([header(rest="010000"), IDAT, IEND], "unknown compression"),
        ([header(rest="000002"), IDAT, IEND], "unknown compression"),
        ([header(colour=3), IDAT, IEND], "palette is missing"),
        ([header(colour=3, depth=1), PALETTE, IDAT, IEND], "palette has 12 bytes"),
        ([header(), chunk(b"PLTE", bytes(4)), IDAT, IEND], "palette has 4 bytes"),
        ([header(colour=0), PALETTE, IDAT, IEND], "not allowed there"),
        ([header(), IDAT, PALETTE, IEND], "not allowed there"),
        ([header(), chunk(b"acTL", struct.pack(">II", 3, 0)), IDAT, IEND], "3 frames"),
        ([header(), struct.pack(">I", 2**31) + b"IDAT"], "no proper header"),
        ([header(), b"\0\0\0\0ID T\0\0\0\0"], "no proper header"),
    ],
)
def test_a_png_that_breaks_a_rule_is_refused(scratch: Path, parts: list[bytes], word: str) -> None:
    assert word in refused(scratch, SIGNATURE + b"".join(parts))


def test_probe_tells_transparency_and_frames_of_a_png(scratch: Path) -> None:
    parts = [header(), chunk(b"tRNS", bytes(6)), chunk(b"acTL", struct.pack(">II", 9, 0)), IDAT]
    scratch.write_bytes(SIGNATURE + b"".join(parts))
    assert images.probe(scratch) == Probe("png", 4, 4, has_alpha=True, frames=9)


def test_a_png_of_countless_chunks_is_refused(scratch: Path) -> None:
    """A file of empty chunks is given up after a bounded number of them."""
    flood = chunk(b"teXt") * 66_000
    assert "more than" in refused(scratch, SIGNATURE + header() + flood + IDAT + IEND)
    with pytest.raises(InvalidImage, match="more than"):
        images.probe(scratch)


# --- JPEG -------------------------------------------------------------------------------


def segment(marker: int, data: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def frame(marker: int = 0xC0, *, bits: int = 8, height: int = 4, parts: bytes = b"\1\2\3") -> bytes:
    components = b"".join(bytes([part, 0x11, 0]) for part in parts)
    return segment(marker, struct.pack(">BHHB", bits, height, 4, len(parts)) + components)


def scan(parts: bytes = b"\1\2\3", data: bytes = b"\x12\xff\x00\x34\xff\xd0\x56") -> bytes:
    selectors = b"".join(bytes([part, 0]) for part in parts)
    return segment(0xDA, bytes([len(parts)]) + selectors + b"\0\x3f\0") + data


SOI, EOI = b"\xff\xd8", b"\xff\xd9"
TABLES = segment(0xDB, bytes(65)) + segment(0xC4, bytes(20))


@pytest.mark.parametrize(
    "parts",
    [
        [TABLES, frame(), scan(), EOI],
        [TABLES, frame(), scan(), EOI, b"a phone's film"],
        [b"\xff\xff\xff", segment(0xE1, b"\xff\xd9")[1:], TABLES, frame(), scan(), EOI],
        [TABLES, frame(0xC2), scan(b"\1\2"), scan(b"\3"), TABLES, scan(b"\1"), EOI],
        [TABLES, frame(), scan(data=b"\xff" * 9 + b"\xff\x00" * 200_000 + b"\xff\xff"), EOI],
    ],
)
def test_a_hand_made_jpeg_passes(scratch: Path, parts: list[bytes]) -> None:
    """Trailing bytes, fill bytes, end markers inside segments and several scans are all legal."""
    assert verified(scratch, SOI + b"".join(parts)) == Probe("jpeg", 4, 4)


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([TABLES, frame(), scan()], "incomplete"),
        ([TABLES, frame(), EOI], "before all of its scans"),
        ([TABLES, frame(), scan(b"\1"), EOI], "before all of its scans"),
        ([TABLES, frame(), scan(data=b""), EOI], "scan is empty"),
        ([frame(), scan(), EOI], "tables are missing"),
        ([TABLES, scan(), EOI], "frame header is missing"),
        ([TABLES, frame(), frame(), scan(), EOI], "two JPEG frame headers"),
        ([TABLES, frame(0xC3), scan(), EOI], "process 3 is not supported"),
        ([TABLES, frame(bits=12), scan(), EOI], "12 bits"),
        ([TABLES, frame(height=0), scan(), EOI], "4x0"),
        ([TABLES, frame(parts=b"\1\1\2"), scan(), EOI], "component twice"),
        ([TABLES, frame(parts=b"\1\2"), scan(), EOI], "frame header says"),
        ([TABLES, frame(), scan(b"\1\4"), EOI], "does not exist"),
        ([TABLES, segment(0xC0, b"\x08"), EOI], "wrong length"),
        ([TABLES, frame(), segment(0xDA, b"\3"), EOI], "wrong length"),
        ([TABLES, frame(), scan(), segment(0xDC, b"\0\4"), EOI], "height is given after"),
        ([TABLES, frame(), scan(), SOI, EOI], "unexpected JPEG marker 0xd8"),
        ([TABLES, b"\xff\xd0", frame(), scan(), EOI], "unexpected JPEG marker 0xd0"),
        ([TABLES, b"\0", frame(), scan(), EOI], "marker is missing"),
        ([b"\xff\xe0\0\1"], "no proper length"),
        ([b"\xff" * 100], "fill bytes"),
        ([TABLES, frame(), scan() * 501, EOI], "more than 500 JPEG scans"),
        ([segment(0xFE) * 66_000], "more than"),
    ],
)
def test_a_jpeg_that_breaks_a_rule_is_refused(scratch: Path, parts: list[bytes], word: str) -> None:
    assert word in refused(scratch, SOI + b"".join(parts))


def test_the_end_of_a_scan_is_found_across_slices(scratch: Path) -> None:
    """The end marker is seen wherever it lies relative to the slices that are read."""
    head = SOI + TABLES + frame() + scan(data=b"")
    for shift in range(-3, 4):
        data = b"\x11" * (256 * 1024 + shift)
        assert verified(scratch, head + data + EOI) == Probe("jpeg", 4, 4)
        assert "incomplete" in refused(scratch, head + data + EOI[:1])


# --- WebP -------------------------------------------------------------------------------


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def part(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def lossy(width: int = 4, *, tag: int = 0x10, start: bytes = b"\x9d\x01\x2a") -> bytes:
    return part(b"VP8 ", struct.pack("<I", tag)[:3] + start + struct.pack("<HH", width, 4) + b"\0")


def extended(flags: int = 0, width: int = 4) -> bytes:
    return part(b"VP8X", bytes([flags, 0, 0, 0, width - 1, 0, 0, 3, 0, 0]))


LOSSLESS = part(b"VP8L", b"\x2f" + struct.pack("<I", 3 | 3 << 14 | 1 << 28) + b"\0\0")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (riff(lossy()), Probe("webp", 4, 4)),
        (riff(LOSSLESS), Probe("webp", 4, 4, has_alpha=True)),
        (riff(extended(0x10), part(b"ALPH", b"\0"), lossy()), Probe("webp", 4, 4, has_alpha=True)),
        (riff(extended(), lossy(), part(b"EXIF", b"x")), Probe("webp", 4, 4)),
    ],
)
def test_a_hand_made_webp_passes(scratch: Path, data: bytes, expected: Probe) -> None:
    assert verified(scratch, data) == expected
    assert images.probe(scratch) == expected


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (riff(lossy()) + b"\0\0", "2 bytes follow the end"),
        (riff(lossy())[:-1], "incomplete"),
        (riff(), "incomplete|no pixels"),
        (riff(extended()), "no pixels"),
        (riff(part(b"EXIF", b"x"), lossy()), "header is missing"),
        (riff(lossy(), lossy()), "two WebP bitstreams"),
        (riff(lossy(), extended()), "not at the beginning"),
        (riff(extended(width=5), lossy()), "differ in size"),
        (riff(part(b"VP8X", b"\0"), lossy()), "wrong length"),
        (riff(lossy(tag=0x11)), "frame header is wrong"),
        (riff(lossy(tag=0x00)), "frame header is wrong"),
        (riff(lossy(tag=0x10 | 2 << 5)), "frame header is wrong"),
        (riff(lossy(start=b"abc")), "frame header is wrong"),
        (riff(lossy(width=0)), "frame header is wrong"),
        (riff(part(b"VP8 ", b"\0")), "too short"),
        (riff(part(b"VP8L", b"\x2f\0\0\0\0")), "too short"),
        (riff(part(b"VP8L", b"\x2f\0\0\0\xe0\0")), "VP8L header is wrong"),
        (riff(extended(2), part(b"ANIM", bytes(6)), *[part(b"ANMF", bytes(16))] * 3), "3 frames"),
        (riff(extended(), lossy(), *[part(b"none", b"")] * 66_000), "more than"),
    ],
)
def test_a_webp_that_breaks_a_rule_is_refused(scratch: Path, data: bytes, word: str) -> None:
    message = refused(scratch, data)
    assert any(choice in message for choice in word.split("|")), message


def test_probe_counts_the_frames_of_an_animation(scratch: Path) -> None:
    scratch.write_bytes(riff(extended(2), part(b"ANIM", bytes(6)), *[part(b"ANMF", b"")] * 5))
    assert images.probe(scratch).frames == 5


# --- limits on inputs -------------------------------------------------------------------


def checked(path: Path, max_bytes: int) -> None:
    images.describe_input(path, max_bytes=max_bytes, param="image[2]")
    from_disk(path, images.InputProof("image[2]"))


def input_error(path: Path, data: bytes, max_bytes: int = 100_000) -> InvalidImage:
    path.write_bytes(data)
    with pytest.raises(InvalidImage) as caught:
        checked(path, max_bytes)
    assert caught.value.param == "image[2]"
    return caught.value


def png_of(width: int, height: int) -> bytes:
    return SIGNATURE + header(width, height) + IDAT + IEND


@pytest.mark.parametrize(("width", "height"), [(8193, 1), (1, 8193), (8192, 6104)])
def test_an_input_with_too_many_pixels_is_too_large(
    tmp_path: Path, width: int, height: int
) -> None:
    error = input_error(tmp_path / "upload", png_of(width, height))
    assert error.code == "image_too_large"
    assert f"{width}x{height}" in error.message


def test_the_largest_input_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(png_of(8192, 6103))
    size = path.stat().st_size
    found = images.describe_input(path, max_bytes=size, param="image")
    assert from_disk(path, images.InputProof("image"))
    assert (found.width, found.height) == (8192, 6103)


def test_an_input_of_too_many_bytes_is_too_large(tmp_path: Path) -> None:
    error = input_error(tmp_path / "upload", png_of(4, 4), max_bytes=20)
    assert error.code == "image_too_large"


def test_an_empty_input_says_what_to_do(tmp_path: Path) -> None:
    """The usual cause is a file object that was read before: the message says so."""
    error = input_error(tmp_path / "upload", b"")
    assert error.code == "invalid_image"
    assert "reopen" in error.message


@pytest.mark.parametrize("data", [b"hello", png_of(4, 4)[:-1], riff(extended(2), lossy())])
def test_an_input_that_is_no_still_picture_is_invalid(tmp_path: Path, data: bytes) -> None:
    assert input_error(tmp_path / "upload", data).code == "invalid_image"
