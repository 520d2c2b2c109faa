"""Image bombs and polyglots end as a 400, and the process that decodes ends before the gateway."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pyvips

from hostile.bombs import SCRIPT, bombs, chunk, polyglots, sample, segment
from safelight.errors import InvalidImage
from safelight.images import PixelWorker, describe
from safelight.images.sandbox import Sandbox
from safelight.types import BlobRef, ImageFormat

LONGEST_S = 2.0
PROFILE = pyvips.Image.black(8, 8, bands=3).copy(interpretation="srgb")


@pytest.fixture(scope="module")
def worker() -> Iterator[PixelWorker]:
    worker = PixelWorker()
    yield worker
    worker.close()


async def taken_in(worker: PixelWorker, folder: Path, data: bytes) -> tuple[BlobRef, bytes]:
    """Take a file in as the gateway does; return what is kept of it."""
    path, clean = folder / "upload", folder / "upload.clean"
    path.write_bytes(data)
    clean.unlink(missing_ok=True)
    found = await worker.describe_input(path, max_bytes=25 * 2**20, param="image")
    blob = await worker.clean_input(path, clean, found, param="image")
    return blob, clean.read_bytes()


def test_there_are_sixty_bombs_and_forty_polyglots() -> None:
    assert (len(bombs()), len(polyglots())) == (60, 40)


@pytest.mark.parametrize("name", [*bombs(), *polyglots()])
async def test_no_bomb_and_no_polyglot_is_taken_in(
    worker: PixelWorker, tmp_path: Path, name: str
) -> None:
    """Each is a 400 that names its parameter, within two seconds of processor time here."""
    data = {**bombs(), **polyglots()}[name]
    began = time.process_time()
    with pytest.raises(InvalidImage) as caught:
        await taken_in(worker, tmp_path, data)
    assert time.process_time() - began < LONGEST_S
    assert caught.value.param == "image"
    assert caught.value.code in ("invalid_image", "image_too_large")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_a_picture_comes_through_the_same_decoder(
    worker: PixelWorker, tmp_path: Path, kind: str
) -> None:
    """What made the bombs makes pictures that are taken: the tests above refuse for a reason."""
    blob, _ = await taken_in(worker, tmp_path, sample(kind))
    assert (blob.width, blob.height) == (48, 48)


def marked() -> dict[str, bytes]:
    """Return pictures with something private in every place that a format has for it."""
    secret = b"PRIVATE-" + b"51.5007N 0.1246W"
    jpeg, image = sample("jpeg"), sample("png")
    return {
        "jpeg comment": jpeg[:2] + segment(0xFE, secret) + jpeg[2:],
        "jpeg exif": jpeg[:2] + segment(0xE1, b"Exif\0\0" + b"II*\0" + secret) + jpeg[2:],
        "jpeg xmp": jpeg[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + secret) + jpeg[2:],
        "jpeg profile": jpeg[:2] + segment(0xE2, b"ICC_PROFILE\0\x01\x01" + secret) + jpeg[2:],
        "jpeg second picture": jpeg + b"\xff\xd8\xff\xe0" + secret,
        "jpeg film": jpeg + b"\0\0\0\x18ftypmp42" + secret,
        "png text": image[:33] + chunk(b"tEXt", b"Comment\0" + secret) + image[33:],
        "png exif": image[:33] + chunk(b"eXIf", b"II*\0" + secret) + image[33:],
        "png private chunk": image[:33] + chunk(b"prVt", secret) + image[33:],
    }


@pytest.mark.parametrize("name", list(marked()))
async def test_nothing_but_pixels_comes_through(
    worker: PixelWorker, tmp_path: Path, name: str
) -> None:
    """No comment, position, profile, thumbnail or second picture is kept or sent on."""
    data = marked()[name]
    blob, kept = await taken_in(worker, tmp_path, data)
    assert b"PRIVATE" in data
    assert b"PRIVATE" not in kept
    assert (blob.width, blob.height) == (48, 48)
    fields = pyvips.Image.new_from_buffer(kept, "").get_fields()
    assert not [one for one in fields if one.startswith(("exif", "xmp", "icc", "iptc", "png-comm"))]


async def test_the_pixels_of_a_png_stay_what_they_are(worker: PixelWorker, tmp_path: Path) -> None:
    """Transparency and sixteen bits included."""
    for image in (
        pyvips.Image.xyz(40, 30).bandjoin([7, 200]).cast("uchar").copy(interpretation="srgb"),
        pyvips.Image.xyz(40, 30).bandjoin(900).cast("ushort").copy(interpretation="rgb16"),
    ):
        _, kept = await taken_in(worker, tmp_path, image.pngsave_buffer())
        after = pyvips.Image.new_from_buffer(kept, "")
        assert (after.bands, after.format) == (image.bands, image.format)
        assert (after - image).abs().max() == 0


async def test_a_photo_is_turned_upright(worker: PixelWorker, tmp_path: Path) -> None:
    """The note that told viewers how to turn it is dropped, so the pixels are turned."""
    image = pyvips.Image.black(40, 20, bands=3).copy(interpretation="srgb")
    image = image.draw_rect([255, 0, 0], 0, 0, 10, 20, fill=True).copy()
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    blob, kept = await taken_in(worker, tmp_path, image.jpegsave_buffer(Q=95))
    assert (blob.width, blob.height) == (20, 40)
    turned = pyvips.Image.new_from_buffer(kept, "")
    assert (turned(10, 3)[0] > 200, turned(10, 35)[0] < 50) == (True, True)


@pytest.mark.parametrize(
    ("lossless", "alpha", "kind"), [(1, 0, "png"), (0, 1, "png"), (0, 0, "jpeg")]
)
async def test_a_webp_becomes_what_every_vendor_reads(
    worker: PixelWorker, tmp_path: Path, lossless: int, alpha: int, kind: str
) -> None:
    image = pyvips.Image.xyz(40, 30).bandjoin([9, 80][: 1 + alpha]).cast("uchar")
    data = image.copy(interpretation="srgb").webpsave_buffer(lossless=bool(lossless))
    blob, _ = await taken_in(worker, tmp_path, data)
    assert (blob.format, blob.has_alpha) == (kind, bool(alpha))


# ---- the processes ------------------------------------------------------------------------------


def clean(sandbox: Sandbox, folder: Path, data: bytes, kind: ImageFormat = "png") -> BlobRef:
    source, target = folder / "source", folder / "target"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    sandbox.clean(source, target, kind)
    return describe(target)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    sandbox = Sandbox(wall_s=1.0)
    yield sandbox
    sandbox.close()


def test_a_process_is_used_again_and_bounded(sandbox: Sandbox, tmp_path: Path) -> None:
    """Memory, open files and core dumps; and it knows no secret of ours."""
    os.environ["UPSTREAM_KEY_OF_TEST"] = "sk-not-for-decoders"
    try:
        clean(sandbox, tmp_path, sample("png"))
    finally:
        del os.environ["UPSTREAM_KEY_OF_TEST"]
    (pid,) = sandbox.processes
    clean(sandbox, tmp_path, sample("jpeg"), "jpeg")
    assert sandbox.processes == [pid]
    folder = Path(f"/proc/{pid}")
    if not folder.exists():
        pytest.skip("no /proc here")
    assert b"UPSTREAM" not in (folder / "environ").read_bytes()
    limits = (folder / "limits").read_text()
    bounds = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert int(bounds["Max address space"]) < 2 * 2**30
    assert int(bounds["Max cpu time"]) < 60
    assert (bounds["Max core file size"], bounds["Max open files"]) == ("0", "32")
    assert len(list((folder / "fd").iterdir())) < 10


def test_a_decoder_that_hangs_or_dies_costs_its_picture_alone(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Its caller has a 400; the next picture finds another process."""
    clean(sandbox, tmp_path, sample("png"))
    (pid,) = sandbox.processes
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(InvalidImage, match="within its limits"):
        clean(sandbox, tmp_path, sample("png"))
    assert sandbox.processes == []
    clean(sandbox, tmp_path, sample("png"))
    (second,) = sandbox.processes
    assert second != pid
    os.kill(second, signal.SIGSTOP)
    killer = threading.Timer(0.1, os.kill, (second, signal.SIGKILL))
    killer.start()
    with pytest.raises(InvalidImage, match="within its limits"):
        clean(sandbox, tmp_path, sample("png"))
    killer.join()
    assert clean(sandbox, tmp_path, sample("png")).width == 48


def test_a_process_that_was_ended_while_it_had_nothing_to_do_is_replaced(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    clean(sandbox, tmp_path, sample("png"))
    (pid,) = sandbox.processes
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert clean(sandbox, tmp_path, sample("png")).width == 48
    assert sandbox.processes != [pid]


def test_pixels_that_take_too_long_are_cut_by_the_kernel(tmp_path: Path) -> None:
    """A second of processor time, whatever the clock on the wall says; then the process is gone."""
    patient = Sandbox(cpu_s=0, wall_s=30.0)
    wide = pyvips.Image.black(8192, 6100, bands=4).cast("ushort").copy(interpretation="rgb16")
    try:
        with pytest.raises(InvalidImage, match="within its limits"):
            clean(patient, tmp_path, wide.pngsave_buffer(compression=1, interlace=True))
        assert patient.processes == []
    finally:
        patient.close()


def test_scripts_are_what_the_polyglots_hold() -> None:
    """The payload stands in the files as it is: what refuses them found it, or broke structure."""
    with_script = [name for name, data in polyglots().items() if SCRIPT in data]
    assert len(with_script) >= 7
