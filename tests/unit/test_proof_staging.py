"""Product shots and series of the proof upstream: cut out, set, and kept to a style."""

from __future__ import annotations

from pathlib import Path

import pytest
import pyvips

from safelight.types import BlobRef, Operation, UpstreamCall
from safelight.upstreams.proof import staging
from safelight.upstreams.proof.brief import Brief, read_brief
from safelight.upstreams.proof.studio import Rendering

SHOT = "Photograph of the product in the attached photo, "


def photo(path: Path, ground: str, *, alpha: bool = False) -> Path:
    rect = "" if alpha else f'<rect width="400" height="300" fill="{ground}"/>'
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="300">{rect}'
        '<rect x="120" y="90" width="160" height="120" fill="#c81e2d"/>'
        '<rect x="170" y="120" width="60" height="40" fill="#ffffff"/></svg>'
    )
    image = pyvips.Image.svgload_buffer(svg.encode())
    (image if alpha else image.flatten()).pngsave(str(path))
    return path


def call(prompt: str, path: Path) -> UpstreamCall:
    return UpstreamCall(
        job_id="job-1",
        operation=Operation.EDIT,
        prompt=prompt,
        size="320x320",
        output_format="png",
        inputs=(BlobRef("0" * 64, path.stat().st_size, "png", 400, 300),),
        input_paths=(path,),
    )


def brief(prompt: str, path: Path) -> Brief:
    return read_brief(call(prompt, path))


def draw(prompt: str, path: Path) -> pyvips.Image:
    data = Rendering(call(prompt, path), lambda: None).run(Path("unused"), None)
    return pyvips.Image.pngload_buffer(data)


@pytest.mark.parametrize("alpha", [False, True])
def test_a_product_is_cut_out_of_a_plain_or_transparent_ground(alpha: bool, tmp_path: Path) -> None:
    """What is white within the product stays; the ground goes, and so does the room around."""
    path = photo(tmp_path / "p.png", "#ffffff", alpha=alpha)
    product = staging.product_of(brief(SHOT, path), pyvips.Image.pngload(str(path)))
    assert product is not None
    assert product.hasalpha()
    assert abs(product.width - 160) <= 4
    assert abs(product.height - 120) <= 4
    middle = product(product.width // 2, product.height // 2 - 10)
    assert middle[3] == 255
    assert min(middle[:3]) > 250


def test_what_stands_on_no_plain_ground_is_shown_whole(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    noise = pyvips.Image.gaussnoise(400, 300, mean=120, sigma=60, seed=3).cast("uchar")
    noise.bandjoin([noise, noise]).copy(interpretation="srgb").pngsave(str(path))
    image = pyvips.Image.pngload(str(path))
    product = staging.product_of(brief(SHOT, path), image)
    assert product is not None
    assert (product.width, product.height, product.hasalpha()) == (400, 300, False)


@pytest.mark.parametrize("prompt", ["make it warmer", "a poster of the product", "add a hat"])
def test_other_edits_are_no_product_shots(prompt: str, tmp_path: Path) -> None:
    path = photo(tmp_path / "p.png", "#ffffff")
    assert staging.product_of(brief(prompt, path), pyvips.Image.pngload(str(path))) is None


def test_settings_differ_and_keep_the_product(tmp_path: Path) -> None:
    path = photo(tmp_path / "p.png", "#ffffff")
    drawn = [draw(SHOT + where, path) for where in ("on a beach", "in a forest", "on marble")]
    for image in drawn:
        red = (image[0] > 170) & (image[1] < 70) & (image[2] < 80)
        assert red.avg() / 255 > 0.03
    for one, two in ((0, 1), (1, 2), (0, 2)):
        assert (drawn[one] - drawn[two]).abs().avg() > 12


def test_a_style_reference_lends_its_colours_and_not_its_motif(tmp_path: Path) -> None:
    path = photo(tmp_path / "p.png", "#103a8c")
    prompt = "A boat. Same series as the attached picture; choose a new motif."
    image = draw(prompt, path).thumbnail_image(160)
    source = pyvips.Image.pngload(str(path)).thumbnail_image(160, height=160, size="force")
    assert (image - source[0:3]).abs().avg() > 20
    assert not staging.is_style(brief("make it red", path))
