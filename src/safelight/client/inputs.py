"""Pictures made right for upload: small enough, upright, in sRGB, transparency kept.

Owns what is done to an input before it is sent, and says what that saved. Models read references
at 1024 to 2048 pixels on the long edge; more pixels cost upload time and input tokens and show
nothing more. A file that is right already is sent byte for byte.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from safelight.client.errors import BadOrder, UnreadableInput
from safelight.client.orders import Source
from safelight.client.pictures import mime_of

LONGEST_MIN, LONGEST_MAX = 1024, 2048
MAX_BYTES = 1_500_000
PIXELS_MAX = 268_435_456
"""16384 x 16384: more is no reference, and takes gigabytes to decode."""
_QUALITIES = (75, 80, 85, 90, 95)
_EDGE_STEPS = (1.0, 0.875, 0.75, 0.625, 0.5)
"""Where the least quality does not fit, fewer pixels do; never below `LONGEST_MIN`."""
_HEAD_BYTES = 4096
# No vector formats, whose files may name other files.
_MAGIC = (
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"\xff\xd8\xff"),
    (8, b"WEBP"),
    (0, b"GIF8"),
    (0, b"II*\0"),
    (0, b"MM\0*"),
    (4, b"ftyp"),
)
_MIMES = {"jpegload": "image/jpeg", "pngload": "image/png", "webpload": "image/webp"}
"""What may be sent as it is, by what reads it."""
_PLAIN_SPACES = frozenset({"srgb", "b-w"})


class Shape(NamedTuple):
    """Pixels and bytes of a picture; upright."""

    width: int
    height: int
    bytes: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}, {_amount(self.bytes)}"


@dataclass(frozen=True)
class Prepared:
    """A picture that can be sent.

    Args:
        name: of the file, or `picture` for bytes.
        source: what is sent: the file itself, or new bytes.
        before: what it was.
        after: what it is now; equal to `before` where nothing was done.
        mime: of what is sent.
    """

    name: str
    source: Source
    before: Shape
    after: Shape
    mime: str

    @property
    def changed(self) -> bool:
        """Whether other bytes are sent than were given."""
        return self.before != self.after

    @property
    def saved_bytes(self) -> int:
        """How many bytes need not be sent."""
        return self.before.bytes - self.after.bytes

    def __str__(self) -> str:
        if self.before == self.after:
            return f"{self.name}: {self.before}, sent as it is"
        less = self.saved_bytes / self.before.bytes
        told = f", {less:.0%} less" if less >= 0.01 else ""
        return f"{self.name}: {self.before} -> {self.after}{told}"


def prepare(
    source: Path | str | bytes,
    *,
    longest: int = LONGEST_MAX,
    max_bytes: int = MAX_BYTES,
    untouched: bool = False,
) -> Prepared:
    """Return a picture as it should be uploaded. Blocks: call it in a thread.

    It is turned upright, scaled down to `longest` (never up), converted to sRGB if it has another
    profile, and stripped of metadata. With transparency it stays PNG, or becomes WebP where that is
    too large; without, what was lossless stays so if it fits, and the rest becomes JPEG at the best
    quality that fits. The file itself is never changed.

    Args:
        source: a file, or its bytes.
        longest: pixels of the long edge, 1024 to 2048.
        max_bytes: of what is sent.
        untouched: send it as it is; only that it can be read is checked.

    Raises:
        UnreadableInput: naming the file: not there, no picture, damaged, animated, too large.
        BadOrder: `longest` is out of its bounds.
    """
    if not LONGEST_MIN <= longest <= LONGEST_MAX:
        raise BadOrder(f"longest is {longest}; it goes from {LONGEST_MIN} to {LONGEST_MAX}")
    given: Source = Path(source) if isinstance(source, str) else source
    name = given.name if isinstance(given, Path) else "picture"
    image, loader = _opened(given, name)
    before = Shape(*_upright(image), _length(given))
    fine = loader in _MIMES and (untouched or _is_right(image, before, longest))
    if fine and (untouched or before.bytes <= max_bytes):
        _check_whole(image, name)
        return Prepared(name, given, before, before, _MIMES[loader])
    if untouched:
        raise UnreadableInput(name, "only PNG, JPEG and WebP can be sent untouched")
    data, width, height = _made_right(given, name, longest, max_bytes)
    after = Shape(width, height, len(data))
    return Prepared(name, data, before, after, mime_of(data[:16]) or "image/jpeg")


@functools.cache
def _vips() -> Any:
    import pyvips  # noqa: PLC0415 - libvips takes a tenth of a second, and many need none of it

    return pyvips


def _opened(source: Source, name: str) -> tuple[Any, str]:
    """Return a picture whose pixels are not read yet, and what reads it."""
    vips = _vips()
    head = _head(source, name)
    if not any(head[at : at + len(magic)] == magic for at, magic in _MAGIC):
        raise UnreadableInput(name, "it is no picture that can be sent: use PNG, JPEG or WebP")
    options = {"access": "sequential", "fail_on": "truncated"}
    try:
        image = (
            vips.Image.new_from_file(str(source), **options)
            if isinstance(source, Path)
            else vips.Image.new_from_buffer(source, "", **options)
        )
    except vips.Error as error:
        raise UnreadableInput(name, f"it is damaged: {_reason(error)}") from error
    if image.width * image.height > PIXELS_MAX:
        raise UnreadableInput(
            name, f"{image.width}x{image.height} pixels are too many: scale it down first"
        )
    if _is_animated(image, head):
        raise UnreadableInput(name, "it is an animation or has several pages: save one of them")
    return image, _loader_name(image)


def _head(source: Source, name: str) -> bytes:
    """Return the first bytes of a picture."""
    if isinstance(source, bytes):
        return source[:_HEAD_BYTES]
    try:
        with source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UnreadableInput(name, error.strerror or "it cannot be read") from error
    if not head:
        raise UnreadableInput(name, "the file is empty")
    return head


def _loader_name(image: Any) -> str:
    """Return the kind of loader: `jpegload` for `jpegload_buffer`, too."""
    return str(image.get("vips-loader")).partition("_")[0]


def _is_animated(image: Any, head: bytes) -> bool:
    pages = image.get("n-pages") if "n-pages" in image.get_fields() else 1
    # An animated PNG says so before its pixels (PNG specification, third edition, 11.3.6.1).
    return pages > 1 or (head.startswith(b"\x89PNG") and b"acTL" in head.partition(b"IDAT")[0])


def _upright(image: Any) -> tuple[int, int]:
    """Return width and height as people see the picture (EXIF orientations 5 to 8 lie)."""
    lies = _orientation(image) >= 5
    return (image.height, image.width) if lies else (image.width, image.height)


def _orientation(image: Any) -> int:
    return int(image.get("orientation")) if "orientation" in image.get_fields() else 1


def _length(source: Source) -> int:
    return source.stat().st_size if isinstance(source, Path) else len(source)


def _is_right(image: Any, shape: Shape, longest: int) -> bool:
    plain = image.interpretation in _PLAIN_SPACES and image.format == "uchar"
    upright = _orientation(image) == 1
    return plain and upright and not _foreign(image) and max(shape[:2]) <= longest


def _foreign(image: Any) -> bool:
    """Whether it has a colour profile that is not sRGB."""
    if "icc-profile-data" not in image.get_fields():
        return False
    profile = bytes(image.get("icc-profile-data"))
    # The description is ASCII in version 2 of the format and UTF-16 in version 4.
    return b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile


def _check_whole(image: Any, name: str) -> None:
    """Read all pixels: a cut file shall be named now, not after others have been paid for."""
    try:
        image.avg()
    except _vips().Error as error:
        raise UnreadableInput(name, f"it is damaged: {_reason(error)}") from error


def _made_right(source: Source, name: str, longest: int, max_bytes: int) -> tuple[bytes, int, int]:
    """Return new bytes, and their pixels."""
    vips = _vips()
    try:
        for share in _EDGE_STEPS:
            edge = max(LONGEST_MIN, round(longest * share))
            image = _scaled(source, edge)
            data = _encoded(image, max_bytes, lossless=_was_lossless(image))
            if data is not None:
                return data, image.width, image.height
    except vips.Error as error:
        raise UnreadableInput(name, f"it is damaged: {_reason(error)}") from error
    raise UnreadableInput(name, f"it does not fit into {_amount(max_bytes)}: simplify it")


def _scaled(source: Source, edge: int) -> Any:
    """Return the picture upright, at most `edge` long, in sRGB, eight bits, in memory."""
    vips = _vips()
    options = {
        "height": edge,
        "size": "down",
        "export_profile": "srgb",
        "fail_on": "truncated",
    }
    image = (
        vips.Image.thumbnail(str(source), edge, **options)
        if isinstance(source, Path)
        else vips.Image.thumbnail_buffer(source, edge, **options)
    )
    if image.interpretation != "b-w" or image.format != "uchar":
        image = image.colourspace("srgb").cast("uchar")
    image = image.copy_memory()  # it is read once, and looked at several times
    if image.hasalpha() and image[image.bands - 1].min() == 255:
        image = image[: image.bands - 1]  # transparent nowhere
    return image


def _was_lossless(image: Any) -> bool:
    return _loader_name(image) in ("pngload", "gifload", "tiffload")


def _encoded(image: Any, max_bytes: int, *, lossless: bool) -> bytes | None:
    """Return the best file of at most `max_bytes`, or None: not even the least quality fits."""
    if image.hasalpha() or lossless:
        data = bytes(image.pngsave_buffer(compression=6, keep="none"))
        if len(data) <= max_bytes:
            return data
    # The best that fits, by halving: three encodings at the most.
    best, worse, better = None, 0, len(_QUALITIES) - 1
    while worse <= better:
        middle = (worse + better + 1) // 2
        data = _lossy(image, _QUALITIES[middle])
        if len(data) <= max_bytes:
            best, worse = data, middle + 1
        else:
            better = middle - 1
    return best


def _lossy(image: Any, quality: int) -> bytes:
    if image.hasalpha():
        return bytes(image.webpsave_buffer(Q=quality, alpha_q=100, keep="none"))
    # Colour at full resolution: red letters on white would smear otherwise.
    return bytes(
        image.jpegsave_buffer(
            Q=quality, subsample_mode="off", optimize_coding=True, interlace=True, keep="none"
        )
    )


def _amount(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _reason(error: Any) -> str:
    """Return the first line of libvips' words."""
    words = str(getattr(error, "detail", "") or error).strip().splitlines()
    return words[0] if words else "its pixels cannot be read"
