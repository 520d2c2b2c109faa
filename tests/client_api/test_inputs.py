"""Inputs made right: how small, how alike, and what is refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
import pyvips

from client_api.photos import photo, psnr_db, ssim
from safelight.client import BadOrder, UnreadableInput, prepare
from safelight.client.inputs import Prepared

MEGABYTE = 1_000_000


def opened(prepared: Prepared) -> Any:
    """Return what is sent, decoded."""
    if isinstance(prepared.source, bytes):
        return pyvips.Image.new_from_buffer(prepared.source, "")
    return pyvips.Image.new_from_file(str(prepared.source))


def flat(width: int, height: int, *colour: int) -> Any:
    image = pyvips.Image.black(width, height, bands=len(colour)) + list(colour)
    return image.cast("uchar").copy(interpretation="srgb")


def test_a_photo_goes_up_small_and_equal_to_the_eye(tmp_path: Path) -> None:
    """The yardstick is the original, scaled by another way: at 40 dB people see no difference."""
    original = photo(1400, 900).copy_memory()
    path = tmp_path / "photo.jpg"
    original.jpegsave(str(path), Q=96)
    prepared = prepare(path, longest=1024, max_bytes=400_000)
    assert prepared.before == (1400, 900, path.stat().st_size)
    assert prepared.before.bytes > 500_000
    assert prepared.after.bytes < 400_000
    assert prepared.after[:2] == (1024, 658)
    assert psnr_db(opened(prepared), original.resize(1024 / 1400)) > 40


@pytest.mark.campaign
def test_a_photo_of_12_mb_goes_up_under_1_5_mb_and_equal_to_the_eye(tmp_path: Path) -> None:
    """A camera's photo; 40 dB and a structural similarity of 0.95 are beyond what people see."""
    original = photo(6000, 4000).copy_memory()
    path = tmp_path / "photo.jpg"
    original.jpegsave(str(path), Q=98)
    prepared = prepare(path)
    assert prepared.before.bytes > 12 * MEGABYTE
    assert prepared.after.bytes < 1.5 * MEGABYTE
    assert prepared.after[:2] == (2048, 1365)
    sent, yardstick = opened(prepared), original.resize(2048 / 6000)
    likeness, structure = psnr_db(sent, yardstick), ssim(sent, yardstick)
    print(f"{prepared}; PSNR {likeness:.1f} dB, SSIM {structure:.3f}")
    assert likeness > 40
    assert structure > 0.95


def test_what_is_right_already_is_sent_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.webp"):
        path = tmp_path / name
        flat(640, 480, 200, 30, 30).write_to_file(str(path))
        prepared = prepare(path)
        assert prepared.source == path
        assert prepared.before == prepared.after == (640, 480, path.stat().st_size)
        assert not prepared.changed
        assert "sent as it is" in str(prepared)
        assert prepare(path.read_bytes()).source == path.read_bytes()


def test_a_picture_is_never_enlarged_even_when_it_is_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "heavy.png"
    photo(600, 600).write_to_file(str(path))
    prepared = prepare(path, max_bytes=300_000)
    assert prepared.before.bytes > 300_000 > prepared.after.bytes
    assert prepared.after[:2] == (600, 600)
    assert prepared.mime == "image/jpeg"


@pytest.mark.parametrize("longest", [1024, 1536])
def test_the_long_edge_can_be_chosen(tmp_path: Path, longest: int) -> None:
    path = tmp_path / "a.png"
    flat(1600, 3200, 9, 99, 199).write_to_file(str(path))
    assert prepare(path, longest=longest).after[:2] == (longest // 2, longest)


@pytest.mark.parametrize("longest", [512, 4096])
def test_a_long_edge_that_models_do_not_read_is_refused(longest: int) -> None:
    with pytest.raises(BadOrder, match="from 1024 to 2048"):
        prepare(b"", longest=longest)


def test_a_photo_taken_upright_arrives_upright(tmp_path: Path) -> None:
    """EXIF orientation 6: the top of the scene is at the right of the pixels."""
    top, rest = flat(300, 40, 250, 0, 0), flat(300, 360, 0, 0, 250)
    upright = top.join(rest, "vertical")
    lying = upright.rot270().copy()
    lying.set_type(pyvips.GValue.gint_type, "orientation", 6)
    path = tmp_path / "phone.jpg"
    lying.jpegsave(str(path))
    prepared = prepare(path)
    assert prepared.before[:2] == prepared.after[:2] == (300, 400)
    sent = opened(prepared)
    assert sent.getpoint(150, 10)[0] > 240
    assert sent.getpoint(150, 390)[2] > 240
    assert "orientation" not in sent.get_fields()
    assert not any(name.startswith("exif-") for name in sent.get_fields())


def test_another_colour_profile_becomes_srgb(tmp_path: Path) -> None:
    """Display P3 red is more than sRGB has: its numbers change, its look as little as can be."""
    path = tmp_path / "p3.jpg"
    flat(400, 300, 200, 60, 60).jpegsave(str(path), Q=95, profile="p3")
    prepared = prepare(path)
    red, green, _ = opened(prepared).getpoint(200, 150)
    assert prepared.changed
    assert red > 205
    assert green < 58
    assert "icc-profile-data" not in opened(prepared).get_fields()


def test_a_picture_that_says_it_is_srgb_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "srgb.png"
    flat(400, 300, 200, 60, 60).pngsave(str(path), profile="srgb")
    assert prepare(path).source == path


def test_ink_and_deep_colours_become_srgb(tmp_path: Path) -> None:
    ink = tmp_path / "print.jpg"
    flat(300, 200, 200, 60, 60).icc_export(output_profile="cmyk").jpegsave(str(ink))
    deep = tmp_path / "deep.png"
    flat(300, 200, 200, 60, 60).colourspace("rgb16").pngsave(str(deep))
    for path in (ink, deep):
        sent = opened(prepare(path))
        assert (sent.interpretation, sent.format, sent.bands) == ("srgb", "uchar", 3)
        assert sent.getpoint(150, 100)[0] == pytest.approx(200, abs=12)


def test_transparency_is_kept(tmp_path: Path) -> None:
    """A cut-out stays PNG; one that is too heavy becomes WebP, with its edge as it was."""
    cut = photo(600, 600).bandjoin(
        pyvips.Image.black(600, 600).draw_circle(255, 300, 300, 250, fill=True)
    )
    path = tmp_path / "shoe.png"
    cut.pngsave(str(path), compression=1)
    heavy = prepare(path, max_bytes=300_000)
    assert (heavy.mime, heavy.after[:2]) == ("image/webp", (600, 600))
    assert heavy.after.bytes < 300_000
    alpha = opened(heavy)[3]
    assert (alpha.getpoint(5, 5), alpha.getpoint(300, 300)) == ([0.0], [255.0])

    light = tmp_path / "logo.png"
    flat(2100, 1050, 200, 30, 30, 128).write_to_file(str(light))
    prepared = prepare(light)
    assert (prepared.mime, prepared.after[:2]) == ("image/png", (2048, 1024))
    assert opened(prepared)[3].avg() == 128


def test_an_alpha_channel_that_hides_nothing_is_no_reason_for_png(tmp_path: Path) -> None:
    path = tmp_path / "opaque.png"
    photo(600, 600).bandjoin(255).cast("uchar").write_to_file(str(path))
    assert prepare(path, max_bytes=400_000).mime == "image/jpeg"


def test_graphics_stay_sharp_where_they_fit(tmp_path: Path) -> None:
    """Flat graphics compress well without loss: letters are not smeared."""
    path = tmp_path / "poster.png"
    stripes = (pyvips.Image.xyz(2100, 1400)[0] % 60 < 30).ifthenelse([255, 255, 255], [180, 0, 20])
    stripes.cast("uchar").copy(interpretation="srgb").pngsave(str(path), compression=0)
    prepared = prepare(path)
    assert prepared.mime == "image/png"
    assert prepared.after[:2] == (2048, 1365)


@pytest.mark.parametrize("suffix", [".tif", ".gif"])
def test_other_still_formats_are_converted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    flat(300, 200, 0, 200, 0).write_to_file(str(path))
    assert prepare(path).mime == "image/png"


def test_untouched_is_untouched(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    flat(3000, 2000, 10, 10, 200).write_to_file(str(path))
    prepared = prepare(path, untouched=True)
    assert (prepared.source, prepared.after[:2]) == (path, (3000, 2000))


def test_what_was_saved_is_told(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    photo(700, 700).write_to_file(str(path))
    prepared = prepare(path, max_bytes=500_000)
    assert prepared.saved_bytes == prepared.before.bytes - prepared.after.bytes > 0
    assert str(prepared).startswith("large.png: 700x700, ")
    assert "% less" in str(prepared)


def spoilt(path: Path, kind: str) -> None:
    """Write a file that cannot be uploaded."""
    if kind == "text":
        path.write_text("a shoe, from the side")
    elif kind == "empty":
        path.touch()
    elif kind == "vector":
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    elif kind == "cut":
        photo(400, 400).jpegsave(str(path), strip=True)
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "cut png":
        photo(400, 400).pngsave(str(path))
        path.write_bytes(path.read_bytes()[:90_000])
    elif kind == "animated":
        frames = pyvips.Image.arrayjoin([flat(20, 20, 9, 9, 9), flat(20, 20, 200, 9, 9)], across=1)
        frames = frames.copy()
        frames.set_type(pyvips.GValue.gint_type, "page-height", 20)
        frames.webpsave(str(path))
    elif kind == "huge":
        flat(1, 1, 9).pngsave(str(path))
        small = path.read_bytes()
        header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + small[24:29]
        checksum = struct.pack(">I", zlib.crc32(header))
        path.write_bytes(small[:12] + header + checksum + small[33:])
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "No such file"),
        ("text", "is no picture"),
        ("empty", "the file is empty"),
        ("vector", "is no picture"),
        ("cut", "it is damaged"),
        ("cut png", "it is damaged"),
        ("animated", "an animation"),
        ("huge", "20000x20000 pixels are too many"),
        ("folder", "Is a directory"),
    ],
)
@pytest.mark.parametrize("untouched", [False, True])
def test_what_cannot_be_uploaded_is_named(
    tmp_path: Path, kind: str, says: str, untouched: bool
) -> None:
    path = tmp_path / "shoe.png"
    spoilt(path, kind)
    with pytest.raises(UnreadableInput, match=rf"^shoe\.png: .*{says}") as bad:
        prepare(path, untouched=untouched)
    assert bad.value.name == "shoe.png"


def test_an_animated_png_is_known_before_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    flat(20, 20, 9, 9, 9).pngsave(str(path))
    still = path.read_bytes()
    control = b"\x00\x00\x00\x08acTL\x00\x00\x00\x02\x00\x00\x00\x00\xf3\x8d\x93\x70"
    path.write_bytes(still[:33] + control + still[33:])
    with pytest.raises(UnreadableInput, match="an animation"):
        prepare(path)
