"""The .pptx of a talk: what is on its slides, in our design and in a company's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pptx
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from pptx.enum.shapes import MSO_SHAPE_TYPE

from recipes.made import picture
from safelight.client.recipes.errors import BadRecipe
from safelight.client.recipes.outline import Line, Outline, Section
from safelight.client.recipes.slides import Illustration, write_deck
from safelight.client.recipes.slides.colours import PLAIN, colours_of
from safelight.client.recipes.slides.fitting import Box, lines_of, pages, title_size

SIZE = (1820, 1024)


def line(text: str, level: int = 0, *, bullet: bool = True) -> Line:
    return Line(((text, False),), level, bullet)


TALK = Outline(
    "Light without limits",
    "How it works",
    (
        Section("One", (line("first"), line("below", 1), line("Note", bullet=False)), "Say this."),
        Section("Two"),
        Section("Three", tuple(line(f"{number} " + "long words " * 12) for number in range(9))),
        Section("为什么", (line("主图必须是方的"),)),
    ),
    notes="Welcome.",
)


@pytest.fixture(scope="module")
def illustrations(tmp_path_factory: pytest.TempPathFactory) -> list[Illustration]:
    folder = tmp_path_factory.mktemp("pictures")
    colours = ((20, 120, 140), (200, 80, 40), (90, 60, 160), (40, 140, 60))
    return [
        Illustration(picture(folder / f"{at}.png", colour, SIZE), f"Illustration: {at}")
        for at, colour in enumerate(colours)
    ]


def pictures_of(deck: Any) -> list[Any]:
    return [
        shape
        for slide in deck.slides
        for shape in slide.shapes
        if shape.shape_type == MSO_SHAPE_TYPE.PICTURE
    ]


def titles_of(deck: Any) -> list[str]:
    return [slide.shapes.title.text_frame.text for slide in deck.slides]


def outside(deck: Any) -> list[str]:
    """Return the shapes that are not wholly on their slide."""
    return [
        f"{number}: {shape.name}"
        for number, slide in enumerate(deck.slides, start=1)
        for shape in slide.shapes
        if shape.left < 0
        or shape.top < 0
        or shape.left + shape.width > deck.slide_width + 2
        or shape.top + shape.height > deck.slide_height + 2
    ]


def test_a_deck_has_titles_text_notes_and_pictures(
    illustrations: list[Illustration], tmp_path: Path
) -> None:
    path = tmp_path / "talk.pptx"
    write_deck(TALK, illustrations, path)
    deck = pptx.Presentation(str(path))
    assert (deck.slide_width, deck.slide_height) == (12_191_695, 6_858_000)
    assert titles_of(deck) == [
        *("Light without limits", "One", "Two", "Three (1/2)", "Three (2/2)", "为什么"),
    ]
    found = pictures_of(deck)
    assert [shape.image.size for shape in found] == [SIZE] * 4
    alts = [shape._element.nvPicPr.cNvPr.get("descr") for shape in found]
    assert alts == [one.alt for one in illustrations]
    first = deck.slides[1]
    body = next(one for one in first.placeholders if one.placeholder_format.idx == 2)
    assert [(one.text, one.level) for one in body.text_frame.paragraphs] == [
        ("first", 0),
        ("below", 1),
        ("Note", 0),
    ]
    assert first.notes_slide.notes_text_frame.text == "Say this."
    assert deck.slides[0].notes_slide.notes_text_frame.text == "Welcome."
    assert outside(deck) == []
    assert deck.core_properties.title == "Light without limits"
    assert deck.core_properties.author == ""


def test_pictures_keep_their_shape(illustrations: list[Illustration], tmp_path: Path) -> None:
    """Nothing is stretched, and in our design nothing that can be seen is cut away."""
    path = tmp_path / "talk.pptx"
    write_deck(TALK, illustrations, path)
    for shape in pictures_of(pptx.Presentation(str(path))):
        shown = 1 - shape.crop_left - shape.crop_right
        tall = 1 - shape.crop_top - shape.crop_bottom
        assert shown * tall > 0.995
        ratio = (SIZE[0] * shown) / (SIZE[1] * tall)
        assert shape.width / shape.height == pytest.approx(ratio, rel=0.001)


def test_no_placeholder_is_left_empty(illustrations: list[Illustration], tmp_path: Path) -> None:
    path = tmp_path / "talk.pptx"
    write_deck(TALK, illustrations, path)
    empty = [
        f"{slide.shapes.title.text_frame.text}: {shape.name}"
        for slide in pptx.Presentation(str(path)).slides
        for shape in slide.placeholders
        if not shape.has_text_frame or not shape.text_frame.text.strip()
    ]
    assert empty == []


def test_a_section_without_a_picture_has_a_slide_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "talk.pptx"
    write_deck(TALK, [None] * 4, path)
    deck = pptx.Presentation(str(path))
    assert pictures_of(deck) == []
    assert titles_of(deck)[1:3] == ["One", "Two"]


def template(path: Path, *, keep: int | None = None) -> Path:
    """Write a company's template with a slide in it; `keep` leaves it one layout alone."""
    deck = pptx.Presentation()
    if keep is not None:
        for number, layout in enumerate(list(deck.slide_layouts)):
            if number != keep:
                deck.slide_layouts.remove(layout)
    slide = deck.slides.add_slide(deck.slide_layouts[0])
    slide.name = "old"
    deck.save(str(path))
    return path


@pytest.mark.parametrize("keep", [None, 1, 3, 7])
def test_a_template_gives_its_layouts_and_loses_its_slides(
    keep: int | None, illustrations: list[Illustration], tmp_path: Path
) -> None:
    """All of Office's layouts; one with a text alone; two contents; a text beside a caption."""
    company = template(tmp_path / "company.pptx", keep=keep)
    path = tmp_path / "talk.pptx"
    write_deck(TALK, illustrations, path, company)
    deck = pptx.Presentation(str(path))
    assert (deck.slide_width, deck.slide_height) == (9_144_000, 6_858_000)
    assert titles_of(deck)[0] == "Light without limits"
    assert [shape.image.size for shape in pictures_of(deck)] == [SIZE] * 4
    assert outside(deck) == []
    names = {slide.slide_layout.name for slide in deck.slides}
    assert names <= {layout.name for layout in pptx.Presentation(str(company)).slide_layouts}


def test_templates_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    wrong = tmp_path / "company.pptx"
    wrong.write_text("no zip")
    for path, said in (
        (tmp_path / "gone.pptx", "there is no such file"),
        (wrong, "no .pptx that can be opened"),
        (template(tmp_path / "blank.pptx", keep=6), "none of its layouts"),
    ):
        with pytest.raises(BadRecipe, match=said):
            write_deck(TALK, [None] * 4, tmp_path / "talk.pptx", path)


def test_heavy_pictures_go_in_as_jpeg_of_the_same_pixels(tmp_path: Path) -> None:
    noise = pyvips.Image.gaussnoise(*SIZE, mean=128, sigma=40, seed=7).cast("uchar")
    heavy = tmp_path / "heavy.png"
    noise.bandjoin([noise, noise]).copy(interpretation="srgb").pngsave(str(heavy))
    path = tmp_path / "talk.pptx"
    write_deck(TALK, [Illustration(heavy, "x"), None, None, None], path)
    [shape] = pictures_of(pptx.Presentation(str(path)))
    assert (shape.image.size, shape.image.ext) == (SIZE, "jpg")
    assert len(shape.image.blob) < heavy.stat().st_size


# --- colours and fitting ---


def test_a_deck_takes_its_colours_from_its_pictures(tmp_path: Path) -> None:
    """White type is readable on what is deep, whatever the picture's colour."""
    assert colours_of(None) == PLAIN
    assert colours_of(picture(tmp_path / "grey.png", (120, 120, 120))) == PLAIN
    for number, colour in enumerate(((20, 160, 60), (20, 90, 200), (240, 210, 20))):
        found = colours_of(picture(tmp_path / f"{number}.png", colour))
        strongest = max(range(3), key=lambda at: colour[at])
        channels = [int(found.accent[at : at + 2], 16) for at in (0, 2, 4)]
        assert channels.index(max(channels)) == strongest
        assert contrast_with_white(found.deep) > 10
        assert contrast_with_white(found.accent) > 4.5


def contrast_with_white(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_titles_shrink_until_they_fit() -> None:
    box = Box(600, 60)
    assert title_size("Short", box, 32, 22) == 32
    assert 22 <= title_size("A title of quite a few words that needs two lines", box, 32, 22) < 32
    assert title_size("word " * 200, box, 32, 22) == 22


def test_wide_letters_break_anywhere_and_words_between_blanks() -> None:
    assert lines_of("主图必须是方的", 40, 20) == 4
    assert lines_of("two words", 80, 20) == 2
    assert lines_of("unbreakable" * 9, 80, 20) > 5


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.builds(line, st.text("abcdefgh 主图必", min_size=1, max_size=220), st.integers(0, 2)),
        max_size=30,
    )
)
def test_lines_are_spread_without_loss_in_readable_sizes(lines: list[Line]) -> None:
    found = pages(lines, Box(320, 330), 22, 16)
    assert [one for page in found for one in page.lines] == lines
    assert all(16 <= page.size <= 22 for page in found)
