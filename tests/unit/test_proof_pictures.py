"""The proof upstream's pixels: sizes, formats, scripts, words, label, edits, masks."""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pyvips

from safelight.errors import FaultClass, UpstreamError
from safelight.types import BlobRef, ImageFormat, Operation, UpstreamCall
from safelight.upstreams.proof import lettering, pictures
from safelight.upstreams.proof.brief import read_brief
from safelight.upstreams.proof.colour import contrast, luminance
from safelight.upstreams.proof.fonts import load_fonts
from safelight.upstreams.proof.painter import paint
from safelight.upstreams.proof.sheet import compose_generation, compose_patch
from safelight.upstreams.proof.studio import Rendering

SUBJECTS = (
    *("mountain", "sea", "city", "planet", "flower", "cat", "rabbit", "puppy", "otter"),
    *("poster", "bauhaus", "retro", "gradient", "infographic"),
    *("perfume", "coffee", "phone", "gift box", "3d ball product"),
)
LOADERS = {
    "png": pyvips.Image.pngload_buffer,
    "jpeg": pyvips.Image.jpegload_buffer,
    "webp": pyvips.Image.webpload_buffer,
}


def make_call(
    prompt: str,
    size: str = "320x320",
    output_format: ImageFormat = "png",
    inputs: tuple[Path, ...] = (),
    mask: Path | None = None,
    **more: Any,
) -> UpstreamCall:
    return UpstreamCall(
        job_id="job-1",
        operation=Operation.EDIT if inputs else Operation.GENERATION,
        prompt=prompt,
        size=size,
        output_format=output_format,
        inputs=tuple(_blob(path) for path in inputs),
        input_paths=inputs,
        mask=_blob(mask) if mask else None,
        mask_path=mask,
        **more,
    )


def _blob(path: Path) -> BlobRef:
    data = path.read_bytes()
    kind: ImageFormat = (
        "png" if data[:4] == b"\x89PNG" else "webp" if data[:4] == b"RIFF" else "jpeg"
    )
    return BlobRef(hashlib.sha256(data).hexdigest(), len(data), kind, 1, 1)


def draw_bytes(call: UpstreamCall) -> bytes:
    return Rendering(call, lambda: None).run(Path("unused"), None)


def draw(call: UpstreamCall) -> Any:
    return LOADERS[call.output_format](draw_bytes(call))


def pixels(image: Any) -> bytes:
    return bytes(image.write_to_memory())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A colourful picture of 240x160 pixels."""
    ramp = pyvips.Image.xyz(240, 160)
    image = (ramp[0] * 1.05).bandjoin([ramp[1] * 1.5, (ramp[0] + ramp[1]) % 256])
    path = tmp_path / "photo.png"
    image.cast("uchar").copy(interpretation="srgb").pngsave(str(path))
    return path


def write_mask(path: Path, width: int, height: int, hole: tuple[int, int, int, int]) -> Path:
    """Write a mask that is transparent in `hole` (left, top, width, height)."""
    alpha = (pyvips.Image.black(width, height) + 255).cast("uchar").copy_memory()
    alpha = alpha.draw_rect(0, *hole, fill=True)
    rgb = pyvips.Image.black(width, height, bands=3).cast("uchar").copy(interpretation="srgb")
    rgb.bandjoin(alpha).pngsave(str(path))
    return path


# -- sizes and formats ------------------------------------------------------


@pytest.mark.parametrize(
    "size", ["16x16", "1024x1024", "1824x784", "720x1280", "16x900", "1000x16", "333x77", "48x64"]
)
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_picture_has_exactly_the_pixels_asked_for(size: str, kind: ImageFormat) -> None:
    image = draw(make_call('mountains "Hi"', size, kind))
    assert f"{image.width}x{image.height}" == size
    assert image.bands == 3


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("words", ["", ' "Hello"'])
def test_every_scene_draws_at_awkward_sizes(subject: str, words: str) -> None:
    for size in ("16x160", "400x130"):
        image = draw(make_call(subject + words, size, "jpeg"))
        assert f"{image.width}x{image.height}" == size
        assert image.deviate() > 4


def test_compression_changes_the_size_of_the_file() -> None:
    for kind in ("jpeg", "webp"):
        small = draw_bytes(make_call("sea", output_format=kind, output_compression=20))
        large = draw_bytes(make_call("sea", output_format=kind, output_compression=95))
        assert len(small) < len(large) / 2


def test_quality_is_visible_as_detail() -> None:
    low, high = (draw(make_call("sea waves", quality=level)) for level in ("low", "high"))
    assert _detail(high) > _detail(low) * 1.2


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_transparent_picture_has_no_plate(kind: ImageFormat) -> None:
    for prompt in ('cat "Meow"', "planet", "gradient", "poster"):
        image = draw(make_call(prompt, output_format=kind, background="transparent"))
        assert image.bands == 4
        alpha = image[3]
        assert alpha.min() == 0
        assert alpha.max() == 255


def test_jpeg_is_never_transparent() -> None:
    assert draw(make_call("cat", output_format="jpeg", background="transparent")).bands == 3


def _detail(image: Any) -> float:
    """Return how much of an image is fine detail: its mean distance from its own blur."""
    grey = image.colourspace("b-w")[0].cast("float")
    return float((grey - grey.gaussblur(2)).abs().avg())


# -- the same call, the same picture ----------------------------------------


def test_the_same_content_gives_the_same_bytes() -> None:
    call = make_call('neon city at night "東京"', quality="high")
    assert draw_bytes(call) == draw_bytes(call)


def test_different_content_gives_different_pictures() -> None:
    seen = {draw_bytes(make_call(f"mountains, seed {seed}")) for seed in range(4)}
    assert len(seen) == 4


# -- words ------------------------------------------------------------------

SCRIPTS = {
    "latin": "ABCDEfghij",
    "chinese": "山海之间风景",
    "japanese": "さくらカタナ",
    "korean": "한국어도시밤",
    "devanagari": "कखगघजट",
    "bengali": "কখগঘজট",
}


@pytest.mark.parametrize("letters", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_each_script_is_set_in_glyphs_of_its_own(letters: str) -> None:
    """Every letter has ink, and no two look alike, as boxes for missing glyphs would."""
    load_fonts()
    style = lettering.Style("Bold", 64)
    masks = [lettering.ink(letter, style, 64, 400) for letter in letters]
    assert all(mask.avg() > 5 for mask in masks)
    assert len({(mask.width, mask.height, pixels(mask)) for mask in masks}) == len(letters)


@pytest.mark.parametrize("letters", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_quoted_words_change_the_picture_where_they_stand(letters: str) -> None:
    """Only words differ between the two pictures, so the difference is ink of the right amount."""
    brief = read_brief(make_call(f'swiss poster "{letters}"'))
    sheet = compose_generation(brief, 480, 480, 1, transparent=False)
    with_words = paint(sheet, 1, lambda: None).copy_memory()
    box = sheet.words[0].box
    sheet.words = []
    without = paint(sheet, 1, lambda: None).copy_memory()
    difference = (with_words - without).abs()
    left, top, width, height = difference.find_trim(threshold=20, background=[0, 0, 0])
    assert width > 100
    assert left >= box[0] - 1
    assert top >= box[1] - 1
    assert left + width <= box[0] + box[2] + 1
    assert top + height <= box[1] + box[3] + 1


def test_ligatures_of_devanagari_and_bengali_are_shaped() -> None:
    """A conjunct is narrower than its letters side by side: the text goes through a shaper."""
    load_fonts()
    style = lettering.Style("Bold", 64)
    for joined, apart in (("क्ष", "क ् ष"), ("ক্ষ", "ক ্ ষ")):
        widths = [lettering.ink(text, style, 64, 900).width for text in (joined, apart)]
        assert widths[0] < widths[1] * 0.8


def test_bold_is_really_bold() -> None:
    load_fonts()
    for text in ("Hxn", "国海", "नमन", "বাংলা", "한국"):
        thin, bold = (
            lettering.ink(text, lettering.Style(weight, 90), 90, 900).avg()
            for weight in ("Regular", "Bold")
        )
        assert bold > thin * 1.2, text


def test_han_letters_differ_between_china_and_japan() -> None:
    load_fonts()
    style = lettering.Style("Bold", 90)
    masks = [lettering.ink("直", style, 90, 900, context) for context in ("", "日本のポスター")]
    assert pixels(masks[0]) != pixels(masks[1])


@pytest.mark.parametrize("size", [(320, 320), (900, 200), (200, 600), (64, 64), (1824, 784)])
@pytest.mark.parametrize(
    "words",
    [
        "Hi",
        "Donaudampfschifffahrtsgesellschaftskapitän",
        "many words " * 30,
        "漢字" * 200,
        "हिन्दी " * 40,
        "a\n" * 40,
        "مرحبا بالعالم",
        "😀🎉👨‍👩‍👧",
        "W" * 3000,
    ],
)
def test_words_never_leave_their_zone(size: tuple[int, int], words: str) -> None:
    """Whatever the text and the canvas, every word stands inside the picture's border."""
    for subject in ("swiss poster", "bauhaus", "cat"):
        brief = read_brief(make_call(f'{subject} "{words}" "{words} two" "three"'))
        sheet = compose_generation(brief, *size, 1, transparent=False)
        for ink in sheet.words:
            left, top, width, height = ink.box
            assert left >= 0
            assert top >= 0
            assert left + width <= size[0]
            assert top + height <= size[1]
        tops = [(ink.box[1], ink.box[1] + ink.box[3]) for ink in sheet.words]
        assert all(one[1] <= two[0] + 1 for one, two in pairwise(tops))


@pytest.mark.parametrize(
    "prompt", ["sea", "sunset mountains", "night city", "gradient", "perfume", "teal retro", "cat"]
)
def test_words_can_be_read_on_what_lies_beneath(prompt: str) -> None:
    """Ink and its surroundings contrast by at least 4.5 to 1 in the mean (WCAG 2.2)."""
    brief = read_brief(make_call(f'{prompt} "IIIIII"', "480x480"))
    sheet = compose_generation(brief, 480, 480, 1, transparent=False)
    image = paint(sheet, 1, lambda: None).copy_memory()
    left, top, width, height = sheet.words[0].box
    part = image.crop(left, top, width, height)
    mask = sheet.words[0].mask
    ink_light, ground_light = (
        _mean_light(part, mask if inside else 255 - mask) for inside in (True, False)
    )
    assert contrast(ink_light, ground_light) > 4.5


def _mean_light(image: Any, weight: Any) -> float:
    total = weight.avg()
    means = [(image[band] * weight).avg() / total for band in range(3)]
    return luminance((means[0], means[1], means[2]))


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "   ",
        '""',
        "\x00\x01\x1b[31m",
        '\ud800 "lone \udfff"',
        '<&> "</span><b>&amp;"',
        '"&#0; %s {0}"',
        "x" * 32_000,
        '"' + "漢" * 31_000 + '"',
        "😀🎉👨‍👩‍👧‍👦🇯🇵",
        '"' + "\u0301" * 200 + '"',
        '"\u202eabc\u202c" שלום',
        "ᏣᎳᎩ 𓀀",
        '"a" ' * 300,
    ],
)
def test_hostile_prompts_are_drawn(prompt: str) -> None:
    image = draw(make_call(prompt, "256x192", "jpeg"))
    assert (image.width, image.height) == (256, 192)


# -- the label --------------------------------------------------------------


@pytest.mark.parametrize("size", [(1024, 1024), (720, 1280), (1824, 784)])
def test_the_picture_says_that_it_is_a_proof(size: tuple[int, int]) -> None:
    """The label's ink is the proof line, set light on a dark tag at the foot of the picture."""
    brief = read_brief(make_call("sunny beach"))
    sheet = compose_generation(brief, *size, 1, transparent=False)
    image = paint(sheet, 1, lambda: None).copy_memory()
    assert sheet.label is not None
    left, top, width, height = sheet.label.box
    assert top > size[1] * 0.85
    assert height > 8
    part = image.crop(left, top, width, height)
    ink = _mean_light(part, sheet.label.mask)
    ground = _mean_light(part, 255 - sheet.label.mask)
    assert contrast(ink, ground) > 4.5
    line = f"PROOF  ·  safelight  ·  not a model\u2019s work  ·  {size[0]} \u00d7 {size[1]}"
    again = lettering.fit_line((line,), lettering.Style("Medium", height, "low", 0.02), 9999)
    assert again is not None
    # The same words at another size: the same proportions, and nothing cut off.
    assert width / height == pytest.approx(again.width / again.height, rel=0.08)


def test_small_pictures_say_it_too() -> None:
    for size in ((200, 120), (64, 64), (32, 32)):
        sheet = compose_generation(read_brief(make_call("sea")), *size, 1, transparent=False)
        assert sheet.label is not None
        left, top, width, height = sheet.label.box
        assert left >= 0
        assert top >= 0
        assert left + width <= size[0]
        assert top + height <= size[1]


# -- edits ------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16])
def test_inputs_are_placed(photo: Path, count: int) -> None:
    """The edit differs from the bare prompt and holds colours of the picture."""
    image = draw(make_call('"Hi" moodboard', "480x320", inputs=(photo,) * count))
    assert (image.width, image.height) == (480, 320)
    assert image.deviate() > 20


def test_all_cells_stay_in_their_area_and_apart() -> None:
    for count in range(1, 17):
        for area in ((10, 20, 800, 500), (0, 0, 300, 900), (5, 5, 640, 640)):
            boxes = pictures.cells(count, area, 8)
            assert len(boxes) == count
            for at, (x, y, width, height) in enumerate(boxes):
                assert x >= area[0]
                assert y >= area[1]
                assert x + width <= area[0] + area[2]
                assert y + height <= area[1] + area[3]
                for ox, oy, owidth, oheight in boxes[at + 1 :]:
                    apart_x = x + width <= ox or ox + owidth <= x
                    assert apart_x or y + height <= oy or oy + oheight <= y


def test_auto_takes_the_ratio_of_the_first_input(photo: Path) -> None:
    image = draw(make_call("brighter", "auto", "jpeg", inputs=(photo,)))
    assert image.width / image.height == pytest.approx(1.5, rel=0.02)


def test_named_colours_grade_the_picture(photo: Path) -> None:
    """A picture asked to be teal gets nearer to teal."""
    plain = draw(make_call("calm", "240x160", inputs=(photo,))).crop(60, 20, 120, 60)
    teal = draw(make_call("make it teal", "240x160", inputs=(photo,))).crop(60, 20, 120, 60)
    assert teal[2].avg() - teal[0].avg() > plain[2].avg() - plain[0].avg()


def test_outside_the_mask_every_pixel_is_kept(photo: Path, tmp_path: Path) -> None:
    hole = (100, 40, 120, 100)
    mask = write_mask(tmp_path / "mask.png", 240, 160, hole)
    image = draw(make_call('forest "Hi"', "240x160", inputs=(photo,), mask=mask))
    source = pyvips.Image.pngload(str(photo))
    difference = (image - source).abs().bandbool("or").copy_memory()
    assert difference.crop(*hole).avg() > 10
    outside = difference.draw_rect(0, *hole, fill=True)
    assert outside.max() == 0


def test_a_mask_keeps_the_inputs_own_transparency(tmp_path: Path) -> None:
    rgba = pyvips.Image.black(80, 80).new_from_image([200, 40, 90, 77]).cast("uchar")
    rgba.copy(interpretation="srgb").pngsave(str(tmp_path / "in.png"))
    mask = write_mask(tmp_path / "mask.png", 80, 80, (40, 0, 40, 80))
    image = draw(make_call("sea", "80x80", inputs=(tmp_path / "in.png",), mask=mask))
    assert image(10, 10) == [200, 40, 90, 77]
    assert image(60, 40)[3] == 255


def test_a_mask_of_another_size_is_scaled(photo: Path, tmp_path: Path) -> None:
    mask = write_mask(tmp_path / "mask.png", 60, 40, (30, 0, 30, 40))
    image = draw(make_call("forest", "240x160", inputs=(photo,), mask=mask))
    source = pyvips.Image.pngload(str(photo))
    difference = (image - source).abs()
    assert difference.crop(0, 0, 100, 160).max() == 0
    assert difference.crop(140, 0, 100, 160).avg() > 10


@pytest.mark.parametrize("extra", [0, 2])
def test_words_and_label_stand_inside_the_hole(photo: Path, tmp_path: Path, extra: int) -> None:
    """Ink outside the free area would be cut off by the kept pixels: all of it moves inside."""
    disc = b"<svg width='480' height='320'><circle cx='300' cy='160' r='140'/></svg>"
    shape = pyvips.Image.svgload_buffer(
        disc.replace(b"<svg", b"<svg xmlns='http://www.w3.org/2000/svg'")
    )
    mask = (255 - shape[3]).cast("uchar").copy_memory()
    call = make_call('forest "Hi there" "A second line"', inputs=(photo,))
    images = pictures.decode_inputs(call) * extra
    sheet, (left, top, _, _) = compose_patch(read_brief(call), mask, 1, (480, 320), images)
    assert sheet.label is not None
    assert len(sheet.words) == 2
    assert len(sheet.cards) == extra
    boxes = [*(ink.box for ink in sheet.words), sheet.label_box]
    boxes += [(card.x, card.y, card.image.width, card.image.height) for card in sheet.cards]
    for x, y, width, height in boxes:
        assert mask.crop(left + x, top + y, width, height).max() == 0


def test_an_opaque_mask_gives_the_input_back(photo: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    white = (pyvips.Image.black(240, 160, bands=4) + 255).cast("uchar")
    white.copy(interpretation="srgb").pngsave(str(mask))
    image = draw(make_call("x", "240x160", inputs=(photo,), mask=mask))
    assert pixels(image) == pixels(pyvips.Image.pngload(str(photo)))


def test_an_input_that_is_no_picture_is_the_callers_fault(photo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(photo.read_bytes()[:200])
    for inputs, mask, param in (((photo, bad), None, "image"), ((photo,), photo, "mask")):
        with pytest.raises(UpstreamError) as caught:
            draw(make_call("x", "64x64", inputs=inputs, mask=mask))
        assert (caught.value.fault, caught.value.code) == (FaultClass.CLIENT, "invalid_image")
        assert (caught.value.param, caught.value.final_status) == (param, 400)


def test_svg_never_reaches_its_loader_as_an_input(tmp_path: Path) -> None:
    """User bytes go through the loader of the stated format, whatever they look like."""
    path = tmp_path / "x.png"
    path.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>")
    with pytest.raises(UpstreamError):
        draw(make_call("x", "64x64", inputs=(path,)))
