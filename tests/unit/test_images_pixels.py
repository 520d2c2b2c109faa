"""New pixels: which pictures need them, that they are exact and in place, and how failures end."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pyvips

from safelight import images
from safelight.errors import InvalidImage, StorageError
from safelight.images import BadPicture, PixelWorker, Probe
from safelight.types import IMAGE_FORMATS, BlobRef, ImageFormat, PlanMethod, SizePlan
from safelight.windows import from_disk

AUTO = SizePlan(PlanMethod.AUTO)


@pytest.fixture(scope="module")
def worker() -> Iterator[PixelWorker]:
    worker = PixelWorker()
    yield worker
    worker.close()


def read(path: Path) -> pyvips.Image:
    return pyvips.Image.new_from_file(str(path), revalidate=True)


def raw(image: pyvips.Image) -> bytes:
    return bytes(image.write_to_memory())


def crop_plan(canvas: tuple[int, int], size: tuple[int, int]) -> SizePlan:
    return SizePlan(PlanMethod.CROP, *size, *canvas)


def resample_plan(canvas: tuple[int, int], size: tuple[int, int]) -> SizePlan:
    return SizePlan(PlanMethod.RESAMPLE, *size, *canvas)


def coordinates(width: int, height: int) -> pyvips.Image:
    """Return a picture whose every pixel tells its own place."""
    place = pyvips.Image.xyz(width, height)
    planes = [
        place[0] % 256,
        place[1] % 256,
        (place[0] / 256).floor() + (place[1] / 256).floor() * 16,
    ]
    return planes[0].bandjoin(planes[1:]).cast("uchar").copy(interpretation="srgb")


def flat(values: list[int], size: tuple[int, int] = (40, 30)) -> pyvips.Image:
    kind = {1: "b-w", 2: "b-w", 3: "srgb", 4: "srgb"}[len(values)]
    black = pyvips.Image.black(*size, bands=len(values))
    return (black + values).cast("uchar").copy(interpretation=kind)


def wide(image: pyvips.Image) -> pyvips.Image:
    kind = "grey16" if image.bands < 3 else "rgb16"
    return (image.cast("ushort") * 257).cast("ushort").copy(interpretation=kind)


# --- who needs pixels -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "output_format", "expected"),
    [
        (PlanMethod.NATIVE, "png", False),
        (PlanMethod.AUTO, "png", False),
        (PlanMethod.HINT, "png", False),
        (PlanMethod.NATIVE, "webp", True),
        (PlanMethod.AUTO, "jpeg", True),
        (PlanMethod.HINT, "jpeg", True),
        (PlanMethod.CROP, "png", True),
        (PlanMethod.RESAMPLE, "png", True),
    ],
)
def test_pixels_are_needed_for_another_size_or_format(
    method: PlanMethod, output_format: ImageFormat, expected: bool
) -> None:
    plan = SizePlan(method, 4, 4, 4, 4)
    assert images.needs_pixels(Probe("png", 4, 4), plan, output_format) is expected


async def test_a_native_picture_is_delivered_byte_for_byte(
    worker: PixelWorker, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    coordinates(40, 30).pngsave(str(source))
    plan = SizePlan(PlanMethod.NATIVE, 40, 30, 40, 30)
    blob = await worker.render(source, target, plan, "png", 5)
    assert target.read_bytes() == source.read_bytes()
    assert blob == images.describe(source)


# --- crop -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("canvas", "size", "corner"),
    [
        ((1824, 1024), (1820, 1024), (2, 0)),
        ((1824, 784), (1820, 780), (2, 2)),
        ((64, 48), (61, 47), (1, 0)),
        ((64, 48), (63, 45), (0, 1)),
        ((64, 48), (1, 1), (31, 23)),
        ((64, 48), (64, 48), (0, 0)),
    ],
)
async def test_a_crop_is_the_exact_middle(
    worker: PixelWorker,
    tmp_path: Path,
    canvas: tuple[int, int],
    size: tuple[int, int],
    corner: tuple[int, int],
) -> None:
    """No pixel is changed; of an odd difference the larger part falls away right and below."""
    source, target = tmp_path / "source", tmp_path / "target"
    picture = coordinates(*canvas)
    picture.pngsave(str(source))
    blob = await worker.render(source, target, crop_plan(canvas, size), "png", None)
    assert (blob.width, blob.height, blob.format) == (*size, "png")
    assert raw(read(target)) == raw(picture.crop(*corner, *size))


async def test_a_crop_keeps_sixteen_bits_and_transparency(
    worker: PixelWorker, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    picture = wide(coordinates(20, 10).bandjoin(coordinates(20, 10)[0] * 3 % 256).cast("uchar"))
    picture.pngsave(str(source))
    blob = await worker.render(source, target, crop_plan((20, 10), (15, 6)), "png", None)
    assert blob.has_alpha
    assert raw(read(target)) == raw(picture.crop(2, 2, 15, 6))


# --- resample ---------------------------------------------------------------------------


def lanczos3(row: list[float], length: int) -> list[float]:
    """Enlarge a row as the textbook says: the independent witness."""

    def kernel(x: float) -> float:
        return (
            1.0
            if x == 0
            else 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2
        )

    result = []
    for index in range(length):
        centre = (index + 0.5) * len(row) / length - 0.5
        taps = range(math.floor(centre) - 2, math.floor(centre) + 4)
        weights = [kernel(centre - tap) if abs(centre - tap) < 3 else 0.0 for tap in taps]
        values = [row[min(max(tap, 0), len(row) - 1)] for tap in taps]
        result.append(math.fsum(map(float.__mul__, weights, values)) / math.fsum(weights))
    return result


@pytest.mark.parametrize("length", [173, 200, 287, 340, 800])
@pytest.mark.parametrize("vertical", [False, True])
async def test_an_enlarged_picture_is_lanczos3_and_in_place(
    worker: PixelWorker, tmp_path: Path, length: int, vertical: bool
) -> None:
    """Every sample agrees with the textbook: nothing is shifted, blurred or rung beyond 8 bits."""
    source, target = tmp_path / "source", tmp_path / "target"
    row = [round(128 + 60 * math.sin(x * 0.9) + 40 * math.sin(x * 0.31)) / 1 for x in range(170)]
    picture = pyvips.Image.new_from_array([row] * 170)
    picture = (picture.rot90() if vertical else picture).cast("uchar")
    picture.copy(interpretation="b-w").pngsave(str(source))
    plan = resample_plan((170, 170), (length, length))
    await worker.render(source, target, plan, "png", None)
    result = read(target)
    line = result.crop(100, 0, 1, length) if vertical else result.crop(0, 100, length, 1)
    found = list(bytes(line.write_to_memory()))
    expected = lanczos3(row, length)
    assert len(found) == length
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= 3
    assert sum(a - b for a, b in zip(found, expected, strict=True)) / length == pytest.approx(
        0, abs=0.1
    )


@pytest.mark.parametrize(
    ("canvas", "size"),
    [
        ((245, 326), (288, 384)),
        ((326, 245), (384, 288)),
        ((61, 47), (127, 48)),
        ((64, 64), (63, 300)),
        ((300, 64), (64, 64)),
        ((16, 16), (1, 1)),
        ((1, 1), (7, 5)),
    ],
)
async def test_a_resample_has_exactly_the_pixels_of_the_plan(
    worker: PixelWorker, tmp_path: Path, canvas: tuple[int, int], size: tuple[int, int]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    coordinates(*canvas).pngsave(str(source))
    for output_format in IMAGE_FORMATS:
        plan = resample_plan(canvas, size)
        blob = await worker.render(source, target, plan, output_format, None)
        assert blob == images.describe(target)
        assert (blob.format, blob.width, blob.height) == (output_format, *size)
        assert images.verify(target).format == output_format


@pytest.mark.parametrize("values", [[0, 128, 255], [255, 255, 255, 255], [9, 200, 30, 77], [254]])
async def test_a_flat_colour_stays_what_it_is(
    worker: PixelWorker, tmp_path: Path, values: list[int]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for image, factor in ((flat(values), 1), (wide(flat(values)), 257)):
        image.pngsave(str(source))
        await worker.render(source, target, resample_plan((40, 30), (100, 75)), "png", None)
        result = read(target)
        for band, value in enumerate(values):
            assert (result[band].min(), result[band].max()) == (value * factor, value * factor)


async def test_transparent_pixels_lend_no_colour(worker: PixelWorker, tmp_path: Path) -> None:
    """Between opaque red and fully transparent green no green appears."""
    source, target = tmp_path / "source", tmp_path / "target"
    red, green = flat([255, 0, 0, 255], (20, 20)), flat([0, 255, 0, 0], (20, 20))
    red.join(green, "horizontal").pngsave(str(source))
    await worker.render(source, target, resample_plan((40, 20), (90, 45)), "png", None)
    result = read(target)
    seen = result[3] > 16
    assert (seen & (result[1] > 8)).max() == 0
    assert (seen & (result[0] < 247)).max() == 0


# --- formats ----------------------------------------------------------------------------

SOURCES: dict[str, Callable[[str], None]] = {
    "rgb": lambda path: flat([200, 100, 50]).pngsave(path),
    "rgb 16": lambda path: wide(flat([200, 100, 50])).pngsave(path),
    "rgba": lambda path: flat([200, 100, 50, 254]).pngsave(path),
    "rgba 16": lambda path: wide(flat([200, 100, 50, 254])).pngsave(path),
    "grey": lambda path: flat([150]).pngsave(path),
    "grey 16": lambda path: wide(flat([150])).pngsave(path),
    "grey alpha": lambda path: flat([150, 254]).pngsave(path),
    "one bit": lambda path: flat([255]).pngsave(path, bitdepth=1),
    "palette": lambda path: flat([200, 100, 50]).pngsave(path, palette=True),
    "interlaced": lambda path: flat([200, 100, 50]).pngsave(path, interlace=True),
    "jpeg": lambda path: flat([200, 100, 50]).jpegsave(path, Q=95),
    "jpeg grey": lambda path: flat([150]).jpegsave(path, Q=95),
    "cmyk": lambda path: flat([200, 100, 50]).colourspace("cmyk").jpegsave(path, Q=95),
    "webp": lambda path: flat([200, 100, 50]).webpsave(path, Q=95),
    "webp alpha": lambda path: flat([200, 100, 50, 254]).webpsave(path, lossless=True),
}
COLOURS = {"grey": [150] * 3, "one bit": [255] * 3, "jpeg grey": [150] * 3}


@pytest.mark.parametrize("output_format", IMAGE_FORMATS)
@pytest.mark.parametrize("name", SOURCES)
async def test_every_kind_of_picture_becomes_every_format(
    worker: PixelWorker, tmp_path: Path, name: str, output_format: ImageFormat
) -> None:
    """Depth, palette, grey and CMYK are all taken; colours and pixels stay."""
    source, target = tmp_path / "source", tmp_path / "target"
    SOURCES[name](str(source))
    plan = crop_plan((40, 30), (31, 22))
    blob = await worker.render(source, target, plan, output_format, None)
    found = images.verify(target)
    assert (found.format, found.width, found.height) == (output_format, 31, 22)
    assert found.has_alpha == ("alpha" in name or "rgba" in name) * (output_format != "jpeg")
    assert blob == images.describe(target)
    colour = read(target)
    if colour.hasalpha():
        colour = colour.flatten(background=255)
    colour = colour.colourspace("srgb")
    expected = COLOURS.get(name, COLOURS["grey"] if "grey" in name else [200, 100, 50])
    tolerance = 24 if name == "cmyk" else 4
    assert all(abs(a - b) <= tolerance for a, b in zip(colour(10, 10), expected, strict=True))


@pytest.mark.parametrize("make", [flat, lambda values: wide(flat(values))])
async def test_jpeg_has_transparency_laid_on_white(
    worker: PixelWorker, tmp_path: Path, make: Callable[[list[int]], pyvips.Image]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make([0, 0, 0, 51]).pngsave(str(source))
    blob = await worker.render(source, target, AUTO, "jpeg", 100)
    assert not blob.has_alpha
    assert all(abs(value - 204) <= 2 for value in read(target)(5, 5))


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
async def test_output_compression_is_the_quality(
    worker: PixelWorker, tmp_path: Path, output_format: ImageFormat
) -> None:
    """More is larger; without it the quality is 90; 0 is a value like any other."""
    source, target = tmp_path / "source", tmp_path / "target"
    coordinates(300, 200).pngsave(str(source))

    async def size(quality: int | None) -> int:
        return (await worker.render(source, target, AUTO, output_format, quality)).bytes

    sizes = [await size(quality) for quality in (0, 50, 90, 100)]
    assert sizes == sorted(set(sizes))
    assert await size(None) == sizes[2]


@pytest.mark.parametrize("output_format", IMAGE_FORMATS)
async def test_the_profile_is_kept_and_other_metadata_dropped(
    worker: PixelWorker, tmp_path: Path, output_format: ImageFormat
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    picture = flat([200, 100, 50]).icc_transform("p3").copy()
    picture.set_type(pyvips.GValue.gstr_type, "exif-ifd0-ImageDescription", "secret place")
    picture.jpegsave(str(source))
    assert b"secret place" in source.read_bytes()
    await worker.render(source, target, crop_plan((40, 30), (20, 20)), output_format, None)
    profile = read(target).get("icc-profile-data")
    assert profile == read(source).get("icc-profile-data")
    assert b"secret place" not in target.read_bytes()


# --- failures ---------------------------------------------------------------------------


def broken_png(path: Path) -> None:
    """Write a PNG whose checksums are right and whose compressed pixels are not."""
    data = bytearray(coordinates(40, 30).pngsave_buffer())
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at])
    data[at + 40 : at + 80] = bytes(40)
    end = at + 4 + length
    data[end : end + 4] = zlib.crc32(data[at:end]).to_bytes(4)
    path.write_bytes(data)
    assert images.verify(path) == Probe("png", 40, 30)


def noise() -> pyvips.Image:
    planes = [pyvips.Image.gaussnoise(40, 30, mean=128, sigma=50, seed=seed) for seed in (1, 2, 3)]
    return planes[0].bandjoin(planes[1:]).cast("uchar").copy(interpretation="srgb")


def broken_jpeg(path: Path) -> None:
    """Write a JPEG that ends properly in the middle of its pixels."""
    data = noise().jpegsave_buffer(keep=0)
    path.write_bytes(data[: len(data) * 3 // 4] + b"\x11\xff\xd9")
    assert images.verify(path) == Probe("jpeg", 40, 30)


def broken_webp(path: Path) -> None:
    """Write a WebP of the right length whose second half is gone."""
    data = noise().webpsave_buffer(lossless=True, keep=0)
    path.write_bytes(data[: len(data) // 2] + b"\xff" * (len(data) - len(data) // 2))
    assert images.verify(path) == Probe("webp", 40, 30)


@pytest.mark.parametrize("break_it", [broken_png, broken_jpeg, broken_webp])
@pytest.mark.parametrize("output_format", IMAGE_FORMATS)
async def test_a_picture_that_cannot_be_decoded_is_bad(
    worker: PixelWorker,
    tmp_path: Path,
    break_it: Callable[[Path], None],
    output_format: ImageFormat,
) -> None:
    """Damage that no structure check can see is found by decoding; nothing is left behind."""
    source, target = tmp_path / "source", tmp_path / "target"
    break_it(source)
    with pytest.raises(BadPicture):
        await worker.render(source, target, crop_plan((40, 30), (20, 20)), output_format, None)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    "plan",
    [
        crop_plan((48, 32), (40, 30)),
        crop_plan((40, 30), (41, 30)),
        resample_plan((80, 60), (160, 120)),
        SizePlan(PlanMethod.NATIVE, 40, 31, 40, 31),
    ],
)
async def test_a_picture_of_another_size_is_never_made_to_fit(
    worker: PixelWorker, tmp_path: Path, plan: SizePlan
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    coordinates(40, 30).pngsave(str(source))
    with pytest.raises(BadPicture):
        await worker.render(source, target, plan, "webp", None)
    assert not target.exists()


async def test_what_cannot_be_written_is_not_the_pictures_fault(
    worker: PixelWorker, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    coordinates(40, 30).pngsave(str(source))
    for plan in (crop_plan((40, 30), (20, 20)), AUTO):
        with pytest.raises(StorageError, match="could not be written"):
            await worker.render(source, tmp_path / "no folder" / "target", plan, "png", None)


async def test_the_workers_checks_sort_errors_by_who_sent_the_picture(
    worker: PixelWorker, tmp_path: Path
) -> None:
    """The same damage is BadPicture in an answer and InvalidImage in an upload."""
    path = tmp_path / "picture"
    coordinates(40, 30).pngsave(str(path))
    assert await worker.verify(path) == Probe("png", 40, 30)
    described = await worker.describe_input(path, max_bytes=10**6, param="mask")
    assert described == images.describe(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadPicture, match="incomplete"):
        await worker.verify(path)
    proof = images.InputProof("mask")
    with pytest.raises(InvalidImage) as caught:
        from_disk(path, proof)
    assert caught.value.param == "mask"


async def test_many_pictures_are_made_at_the_same_time(worker: PixelWorker, tmp_path: Path) -> None:
    """Jobs in the pool do not disturb each other, whatever their files are called."""
    plan = crop_plan((60, 40), (50, 30))

    async def one(number: int) -> BlobRef:
        source = tmp_path / f"in[{number}].png"
        flat([number, 2 * number, 3 * number], (60, 40)).pngsave(str(source))
        return await worker.render(source, tmp_path / f"out[{number}]", plan, "png", None)

    blobs = await asyncio.gather(*(one(number) for number in range(24)))
    assert len({blob.digest for blob in blobs}) == 24
    for number in range(24):
        result = pyvips.Image.pngload(str(tmp_path / f"out[{number}]"))
        assert result(0, 0) == [number, 2 * number, 3 * number]


async def test_a_reused_path_is_read_again(worker: PixelWorker, tmp_path: Path) -> None:
    """Two attempts of one job use the same path: the second is not served from a cache."""
    source, target = tmp_path / "source", tmp_path / "target"
    for value in (10, 200):
        flat([value]).pngsave(str(source))
        await worker.render(source, target, crop_plan((40, 30), (20, 20)), "png", None)
        assert read(target)(0, 0) == [value]
