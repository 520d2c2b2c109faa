"""Gates on pixels and files: size, weight, not-blank, white-background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pyvips

from safelight.client.gates import NotBlank, Size, Verdict, Weight, WhiteBackground

WHITE, GREY, BLACK = [255] * 3, [128] * 3, [0] * 3


def plain(width: int = 200, height: int = 160, colour: list[int] | None = None) -> Any:
    base = pyvips.Image.black(width, height, bands=3) + (WHITE if colour is None else colour)
    return base.cast("uchar").copy(interpretation="srgb")


def with_box(box: tuple[int, int, int, int], colour: list[int] | None = None) -> Any:
    return plain().draw_rect(GREY if colour is None else colour, *box, fill=True)


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(image: Any, name: str = "picture.png") -> Path:
        path = tmp_path / name
        image.write_to_file(str(path))
        return path

    return write


ALL = (Size(10, 10), NotBlank(), WhiteBackground())


@pytest.mark.parametrize("gate", ALL, ids=lambda gate: gate.name)
@pytest.mark.parametrize("content", [b"", b"no picture at all"], ids=["empty", "text"])
def test_a_file_that_is_no_picture_fails_and_raises_nothing(
    gate: Any, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    verdict = gate.check(path)
    assert not verdict.passed
    assert verdict.reason.startswith("cannot be read as a picture: ")


@pytest.mark.parametrize("gate", [NotBlank(), WhiteBackground()], ids=lambda gate: gate.name)
def test_a_picture_that_was_cut_off_fails(gate: Any, file: Any) -> None:
    path = file(pyvips.Image.gaussnoise(300, 300, mean=128, sigma=40).cast("uchar"))
    path.write_bytes(path.read_bytes()[:20_000])
    assert not gate.check(path).passed


@pytest.mark.parametrize("gate", [*ALL, Weight(10)], ids=lambda gate: gate.name)
def test_a_missing_file_fails(gate: Any, tmp_path: Path) -> None:
    verdict = gate.check(tmp_path / "gone.png")
    assert not verdict.passed
    assert verdict.gate == gate.name


def test_size_passes_the_exact_pixels_only(file: Any) -> None:
    path = file(plain(1820, 1024))
    assert Size(1820, 1024).check(path) == Verdict(
        "size", True, "1820x1024 pixels, as wanted", {"width": 1820, "height": 1024}
    )
    for width, height in ((1821, 1024), (1820, 1023), (1024, 1820)):
        verdict = Size(width, height).check(path)
        assert not verdict.passed
        assert verdict.reason == f"1820x1024 pixels, {width}x{height} wanted"


def test_weight_counts_the_file_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"x" * 3_000_000)
    assert Weight(3_000_000).check(path).passed
    heavy = Weight(2_999_999).check(path)
    assert not heavy.passed
    assert heavy.reason == "3.00 MB, at most 3.00 MB wanted"
    assert heavy.measured == {"bytes": 3_000_000}


@pytest.mark.parametrize("colour", [WHITE, GREY, BLACK, [255, 0, 0]])
@pytest.mark.parametrize("name", ["flat.png", "flat.jpg", "flat.webp"])
def test_one_flat_colour_is_blank(colour: list[int], name: str, file: Any) -> None:
    verdict = NotBlank().check(file(plain(colour=colour), name))
    assert not verdict.passed
    assert "nothing but #" in verdict.reason


def test_grain_alone_is_blank(file: Any) -> None:
    """Noise of ten levels vanishes when the picture is shrunk, as it does for the eye."""
    noise = pyvips.Image.gaussnoise(2048, 2048, mean=128, sigma=10, seed=1)
    assert not NotBlank().check(file(noise.cast("uchar"))).passed


def test_a_small_mark_on_white_is_not_blank(file: Any) -> None:
    """A black square of a thousandth of the page is something to be seen."""
    page = plain(1000, 1000).draw_rect(BLACK, 480, 480, 32, 32, fill=True)
    assert NotBlank().check(file(page)).passed


def test_a_white_drawing_on_nothing_is_not_blank_and_nothing_is(file: Any) -> None:
    alpha = pyvips.Image.black(200, 160).draw_rect(255, 50, 50, 60, 60, fill=True)
    assert NotBlank().check(file(plain().bandjoin(alpha))).passed
    nothing = plain().bandjoin(pyvips.Image.black(200, 160))
    assert not NotBlank().check(file(nothing)).passed


def test_a_product_within_white_has_a_white_background(file: Any) -> None:
    verdict = WhiteBackground().check(file(with_box((40, 40, 80, 80))))
    assert verdict.passed
    assert verdict.reason == "100.0% of the border is white, at least 98.0% wanted"


def test_a_product_that_touches_the_border_is_refused_with_the_side(file: Any) -> None:
    verdict = WhiteBackground().check(file(with_box((0, 40, 80, 80))))
    assert not verdict.passed
    assert "least at the left" in verdict.reason
    assert verdict.measured["left"] == pytest.approx(1 - 80 / 152, abs=1e-3)
    assert verdict.measured["top"] == 1


def test_off_white_is_white_down_to_245(file: Any) -> None:
    assert WhiteBackground().check(file(plain(colour=[245, 250, 255]))).passed
    assert not WhiteBackground().check(file(plain(colour=[244, 255, 255]))).passed


def test_transparent_ground_counts_as_white(file: Any) -> None:
    black = plain(colour=BLACK)
    alpha = pyvips.Image.black(200, 160).draw_rect(255, 50, 50, 60, 60, fill=True)
    assert WhiteBackground().check(file(black.bandjoin(alpha))).passed
    assert not WhiteBackground().check(file(black)).passed


def test_the_share_decides(file: Any) -> None:
    path = file(with_box((0, 0, 10, 160)))
    share = float(WhiteBackground().check(path).measured["white_share"])
    assert 0.5 < share < 0.98
    assert WhiteBackground(share=share - 0.001).check(path).passed
    assert not WhiteBackground(share=share + 0.001).check(path).passed


def test_grey_pictures_and_sixteen_bits_are_understood(file: Any) -> None:
    deep = (plain() * 257).cast("ushort").copy(interpretation="rgb16")
    assert WhiteBackground().check(file(deep)).passed
    assert WhiteBackground().check(file(plain()[0].copy(interpretation="b-w"), "grey.png")).passed
    assert not NotBlank().check(file(deep, "deep.png")).passed
