"""The proof upstream as an adapter: spool, partials, deadline, cancellation, bare processes."""

import asyncio
import hashlib
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import pyvips

import safelight
from safelight.clock import ManualClock, SystemClock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Account, ImageFormat, Operation, UpstreamCall
from safelight.upstreams.proof import ProofUpstream
from safelight.upstreams.proof.studio import Rendering

ACCOUNT = Account(name="proof", upstream="proof", group="proof", channels=())


def make_call(
    prompt: str, size: str = "320x320", output_format: ImageFormat = "png", partial_images: int = 0
) -> UpstreamCall:
    return UpstreamCall(
        job_id="job-1",
        operation=Operation.GENERATION,
        prompt=prompt,
        size=size,
        output_format=output_format,
        partial_images=partial_images,
    )


def draw_bytes(call: UpstreamCall) -> bytes:
    return Rendering(call, lambda: None).run(Path("unused"), None)


def _detail(image: Any) -> float:
    """Return how much of an image is fine detail: its mean distance from its own blur."""
    grey = image.colourspace("b-w")[0].cast("float")
    return float((grey - grey.gaussblur(2)).abs().avg())


async def test_partials_come_coarse_to_fine_before_the_picture(tmp_path: Path) -> None:
    upstream = ProofUpstream(SystemClock())
    clock = SystemClock()
    seen: list[tuple[int, Path]] = []
    call = make_call('city "Hello"', "512x384", "webp", partial_images=3)
    received = await upstream.generate(
        ACCOUNT,
        call,
        spool=tmp_path / "spool",
        deadline=clock.monotonic() + 60,
        on_partial=lambda index, path: seen.append((index, path)),
    )
    await upstream.close()
    assert [index for index, _ in seen] == [0, 1, 2]
    assert [path.name for _, path in seen] == [f"spool.partial{at}" for at in range(3)]
    images = [pyvips.Image.webpload_buffer(path.read_bytes()) for _, path in seen]
    images.append(pyvips.Image.webpload_buffer(received.path.read_bytes()))
    assert {(image.width, image.height) for image in images} == {(512, 384)}
    details = [_detail(image) for image in images]
    assert details == sorted(details)
    assert details[-1] > details[0] * 2
    # Each is the same picture, so far: the mean colour hardly moves.
    assert max(image.avg() for image in images) - min(image.avg() for image in images) < 12


@pytest.mark.parametrize("wanted", [0, 1, 2])
async def test_as_many_partials_as_asked_for(tmp_path: Path, wanted: int) -> None:
    upstream = ProofUpstream(SystemClock())
    seen: list[int] = []
    await upstream.generate(
        ACCOUNT,
        make_call("sea", "256x256", partial_images=wanted),
        spool=tmp_path / "spool",
        deadline=SystemClock().monotonic() + 60,
        on_partial=lambda index, _: seen.append(index),
    )
    await upstream.close()
    assert seen == list(range(wanted))


async def test_the_spool_holds_the_bytes_that_were_hashed(tmp_path: Path) -> None:
    upstream = ProofUpstream(SystemClock())
    spool = tmp_path / "spool"
    deadline = SystemClock().monotonic() + 60
    received = await upstream.generate(
        ACCOUNT, make_call("sea", "256x256"), spool=spool, deadline=deadline
    )
    await upstream.close()
    data = spool.read_bytes()
    assert received.path == spool
    assert received.bytes == len(data)
    assert received.digest == hashlib.sha256(data).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]


async def test_past_the_deadline_nothing_is_drawn(tmp_path: Path) -> None:
    clock = ManualClock()
    upstream = ProofUpstream(clock)
    with pytest.raises(UpstreamError) as caught:
        await upstream.generate(
            ACCOUNT, make_call("sea"), spool=tmp_path / "spool", deadline=clock.monotonic()
        )
    await upstream.close()
    assert (caught.value.fault, caught.value.code) == (FaultClass.SLOW, "upstream_timeout")
    assert list(tmp_path.iterdir()) == []


async def test_a_deadline_that_passes_while_drawing_stops_it(tmp_path: Path) -> None:
    """The first partial moves the clock past the deadline; the picture is not finished."""
    clock = ManualClock()
    upstream = ProofUpstream(clock)
    with pytest.raises(UpstreamError) as caught:
        await upstream.generate(
            ACCOUNT,
            make_call("sea", "1024x1024", partial_images=3),
            spool=tmp_path / "spool",
            deadline=clock.monotonic() + 30,
            on_partial=lambda _index, _path: clock.advance(60),
        )
    await upstream.close()
    assert caught.value.fault is FaultClass.SLOW
    assert not (tmp_path / "spool").exists()
    assert not (tmp_path / "spool.part").exists()


async def test_a_cancelled_call_leaves_no_spool_file(tmp_path: Path) -> None:
    upstream = ProofUpstream(SystemClock())
    started = asyncio.Event()
    call = make_call("sea", "2048x2048", partial_images=1)
    task = asyncio.create_task(
        upstream.generate(
            ACCOUNT,
            call,
            spool=tmp_path / "spool",
            deadline=SystemClock().monotonic() + 60,
            on_partial=lambda _index, _path: started.set(),
        )
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await upstream.close()
    assert [path.name for path in tmp_path.iterdir()] == ["spool.partial0"]


async def test_a_disk_that_cannot_be_written_is_a_local_fault(tmp_path: Path) -> None:
    upstream = ProofUpstream(SystemClock())
    with pytest.raises(UpstreamError) as caught:
        await upstream.generate(
            ACCOUNT,
            make_call("sea", "64x64"),
            spool=tmp_path / "no such folder" / "spool",
            deadline=SystemClock().monotonic() + 60,
        )
    await upstream.close()
    assert caught.value.fault is FaultClass.LOCAL


async def test_a_bad_size_leaves_the_adapter_as_a_client_fault(tmp_path: Path) -> None:
    upstream = ProofUpstream(SystemClock())
    with pytest.raises(UpstreamError) as caught:
        await upstream.generate(
            ACCOUNT,
            make_call("sea", "huge"),
            spool=tmp_path / "spool",
            deadline=SystemClock().monotonic() + 60,
        )
    await upstream.close()
    assert (caught.value.fault, caught.value.param) == (FaultClass.CLIENT, "size")


def test_many_at_once_share_the_workers(tmp_path: Path) -> None:
    """Concurrent calls for one prompt give one and the same picture."""

    async def run() -> set[str]:
        upstream = ProofUpstream(SystemClock())
        deadline = SystemClock().monotonic() + 60
        calls = (
            upstream.generate(
                ACCOUNT,
                make_call('space "Saturn"', "384x256"),
                spool=tmp_path / f"spool{at}",
                deadline=deadline,
            )
            for at in range(6)
        )
        found = {received.digest for received in await asyncio.gather(*calls)}
        await upstream.close()
        return found

    assert len(asyncio.run(run())) == 1


# -- a process of its own ---------------------------------------------------

_ALONE = """
import logging, sys
logging.basicConfig(level=logging.WARNING)
from pathlib import Path
from safelight.types import Operation, UpstreamCall
from safelight.upstreams.proof.studio import Rendering
call = UpstreamCall(job_id="j", operation=Operation.GENERATION, prompt='city "Hello 東京"',
                    size="320x240", output_format="png")
for _ in range(2):
    data = Rendering(call, lambda: None).run(Path("unused"), None)
sys.stdout.buffer.write(data)
"""


def _alone(packages: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    source = str(Path(safelight.__file__).parent.parent)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("FONTCONFIG")}
    return subprocess.run(
        [sys.executable, "-S", "-c", _ALONE],
        env={**clean, "PYTHONPATH": f"{source}{os.pathsep}{packages}", **environment},
        capture_output=True,
        check=True,
    )


def test_without_the_font_packages_it_warns_once_and_draws(tmp_path: Path) -> None:
    site = Path(sysconfig.get_paths()["purelib"])
    for entry in site.iterdir():
        if not entry.name.startswith("manimgx"):
            (tmp_path / entry.name).symlink_to(entry)
    config = tmp_path / "no-fonts.conf"
    config.write_text("<?xml version='1.0'?><fontconfig></fontconfig>")
    done = _alone(tmp_path, FONTCONFIG_FILE=str(config))
    image = pyvips.Image.pngload_buffer(done.stdout)
    assert (image.width, image.height) == (320, 240)
    assert done.stderr.count(b"safelight[proof]") == 1
    # The label is still there, drawn instead of set: light strokes on its dark tag.
    tag = image.crop(24, 218, 30, 6)
    assert tag.max() > 220
    assert tag.min() < 60


def test_it_draws_where_untrusted_loaders_are_blocked() -> None:
    """Own SVG is drawn although VIPS_BLOCK_UNTRUSTED closes the SVG loaders, and no fonts of the
    system take part: the picture is the same with and without."""
    site = Path(sysconfig.get_paths()["purelib"])
    blocked = _alone(site, VIPS_BLOCK_UNTRUSTED="1")
    bare = _alone(site)
    assert blocked.stdout == bare.stdout
    assert bare.stderr == b""
    # A process of its own, too: fonts that others of this one have loaded would take part.
    usual = subprocess.run([sys.executable, "-c", _ALONE], capture_output=True, check=True)
    assert bare.stdout == usual.stdout
