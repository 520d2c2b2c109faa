"""The files that people write for recipes: styles, texts, outlines; and every fault in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.client.recipes.canvas import NAMED, nearest, pixels_of
from safelight.client.recipes.errors import BadRecipe
from safelight.client.recipes.languages import font_advice, language
from safelight.client.recipes.outline import read_outline
from safelight.client.recipes.quoting import quoted
from safelight.client.recipes.reading import STEM_BYTES_MAX, stem_of
from safelight.client.recipes.styles import chosen, read_styles, ready_made
from safelight.client.recipes.texts import read_texts

ZH, JA = language("zh"), language("JA")


def written(folder: Path, text: str) -> Path:
    path = folder / "file.txt"
    path.write_text(text, encoding="utf-8")
    return path


# --- styles ---


def test_thirty_styles_ship_and_none_is_like_another() -> None:
    styles = ready_made()
    assert len(styles) == 30
    assert len({style.description for style in styles.values()}) == 30
    assert all(40 < len(style.description) < 200 for style in styles.values())
    assert not any('"' in style.description for style in styles.values())


def test_a_number_of_styles_is_spread_over_all_kinds() -> None:
    every = list(ready_made())
    assert [style.name for style in chosen("3")] == [every[0], every[10], every[20]]
    assert len(chosen("30")) == 30


def test_styles_are_named_or_read_from_a_file(tmp_path: Path) -> None:
    """A line that is only a name takes the ready-made style of that name."""
    assert [style.name for style in chosen("neon-night, pure-white")] == [
        "neon-night",
        "pure-white",
    ]
    path = written(tmp_path, "\ufeff# mine\n\npure-white\nrooftop: flat roof: at dawn\n")
    mine = chosen(str(path))
    assert mine[0] == ready_made()["pure-white"]
    assert (mine[1].name, mine[1].description) == ("rooftop", "flat roof: at dawn")


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ("0", "between 1 and 30"),
        ("31", "between 1 and 30"),
        ("pure-white,pure-red", "'pure-red' is neither"),
        ("gone.txt", "gone.txt: the list of styles is not there"),
    ],
)
def test_wishes_for_styles_that_cannot_be_met_say_why(wish: str, said: str) -> None:
    with pytest.raises(BadRecipe, match=said):
        chosen(wish)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# nothing\n", "no style in it"),
        ("a: b\n\na: c\n", r"file.txt:3: 'a' stands in line 1 already"),
        ("a: b\nunknown\n", r"file.txt:2: 'unknown' says no more than a name"),
        ("a: b\nx:\n", r"file.txt:2: 'x:' says no more"),
    ],
)
def test_faults_in_a_list_of_styles_have_their_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=said):
        read_styles(written(tmp_path, text))


def test_files_in_another_encoding_are_refused_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "styles.txt"
    path.write_bytes("a: b\nc: d\u00e9\n".encode("latin-1"))
    with pytest.raises(BadRecipe, match=r"styles.txt:2: .* not UTF-8"):
        read_styles(path)


# --- texts of posters ---

ADD_IT = "add it there, or leave it out"


def test_texts_come_by_language_in_the_order_of_the_base(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[base]\ntitle = "New"\nbutton = "Go"\n[zh]\nbutton = "走"\ntitle = "新"\n'
        '[ja]\ntitle = "新"\nbutton = "行"\n[fr]\ntitle = "extra"\n',
    )
    base, texts = read_texts(path, [ZH, JA])
    assert list(base) == ["title", "button"]
    assert texts == {"zh": {"title": "新", "button": "走"}, "ja": {"title": "新", "button": "行"}}
    assert list(texts["zh"]) == ["title", "button"]


def test_all_that_texts_lack_is_said_at_once(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[base]\ntitle = "New"\nbutton = "Go"\n\n[zh]\ntitle = "新"\nnote = "x"\n[kli]\na = "b"\n'
        "[ko]\ntitle = 3\nbutton = ' '\n",
    )
    with pytest.raises(BadRecipe) as caught:
        read_texts(path, [ZH, JA])
    assert str(caught.value).splitlines() == [
        f'{path}:11: ko.title: a text was expected: "..."',
        f'{path}:12: ko.button: a text was expected: "..."',
        f"{path}:8: [kli] is not a language that posters know",
        f"{path}: Simplified Chinese (zh) has no 'button', which the base has",
        f"{path}: Simplified Chinese (zh) has 'note', which [base] has not: {ADD_IT}",
        f"{path}: no texts for Japanese (ja): add a table [ja]",
    ]


def test_without_a_base_languages_are_compared_with_each_other(tmp_path: Path) -> None:
    path = written(tmp_path, '[zh]\ntitle = "新"\nbutton = "走"\n[ja]\ntitle = "新"\n')
    with pytest.raises(BadRecipe, match=r"Japanese \(ja\) has no 'button', which another"):
        read_texts(path, [ZH, JA])


def test_a_broken_table_of_texts_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"file.txt:2: not TOML"):
        read_texts(written(tmp_path, '[zh]\ntitle = "新\n'), [ZH])


def test_languages_are_known_in_any_spelling_of_their_code() -> None:
    assert language("PT_br").name == "Brazilian Portuguese"
    assert language("zh-Hant").script.font == "Source Han Sans TC"
    with pytest.raises(BadRecipe, match="'xx' is not a language"):
        language("xx")


@pytest.mark.parametrize(
    ("text", "font"),
    [
        ("New in", None),
        ("新品上市", "Source Han Sans SC"),
        ("新着アイテム", "Source Han Sans JP"),
        ("신상품", "Source Han Sans KR"),
        ("नए उत्पाद", "Noto Sans Devanagari"),
    ],
)
def test_a_text_gives_away_the_type_it_needs(text: str, font: str | None) -> None:
    assert font_advice(text) == font


# --- outlines ---

TALK = """\
---
author: nobody
---
# Light *without* limits

How it works

Notes: Welcome.

## One [link](http://127.0.0.1/x) and `code`

- first **strong** words
  that go on
  * below
    1. deeper
       - deepest
- last
### Small heading
A paragraph.

> Say this.

Picture: a lighthouse
***
## Two
Notes:
All of this
- is for the speaker
"""


def test_an_outline_is_read_into_sections_bullets_and_notes(tmp_path: Path) -> None:
    talk = read_outline(written(tmp_path, TALK))
    assert (talk.title, talk.subtitle, talk.notes) == (
        "Light without limits",
        "How it works",
        "Welcome.",
    )
    one, two = talk.sections
    assert one.title == "One link and code"
    assert [(line.text, line.level, line.bullet) for line in one.lines] == [
        ("first strong words that go on", 0, True),
        ("below", 1, True),
        ("deeper", 2, True),
        ("deepest", 2, True),
        ("last", 0, True),
        ("Small heading", 0, False),
        ("A paragraph.", 0, False),
    ]
    assert one.lines[0].runs[1] == ("strong", True)
    assert (one.notes, one.picture) == ("Say this.", "a lighthouse")
    assert (two.lines, two.notes) == ((), "All of this\n- is for the speaker")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no heading in it"),
        ("# Title\n\n- words\n", "no section in it"),
        ("words\n# Title\n## One\n", "text before the first heading"),
        ("## One\n", "file.txt:1: a section before the talk has a title"),
        ("# Title\n##  \n", "no section|without words"),
        ("# T\n## One\n| a | b |\n", "file.txt:3: tables"),
        ("# T\n## One\n\n```\ncode\n```\n", "file.txt:4: code blocks"),
        ("# T\n## One\n![x](y.png)\n", "file.txt:3: pictures are made"),
    ],
)
def test_what_has_no_place_on_a_slide_is_an_error_with_its_line(
    text: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadRecipe, match=said):
        read_outline(written(tmp_path, text))


# --- sizes, quotes, names ---


def test_the_size_of_a_base_is_kept_where_it_has_a_name() -> None:
    for name in NAMED:
        width, height = map(int, name.split("x"))
        assert nearest(width, height) == name


@pytest.mark.parametrize(
    ("size", "near"),
    [
        ((1200, 1800), "1360x2048"),
        ((1080, 1080), "1024x1024"),
        ((1500, 1500), "2048x2048"),
        ((3508, 4961), "2880x3840"),
        ((1920, 1080), "2048x1152"),
    ],
)
def test_the_nearest_size_keeps_the_shape_before_the_resolution(
    size: tuple[int, int], near: str
) -> None:
    assert nearest(*size) == near


def test_a_channel_that_takes_any_size_keeps_what_the_model_draws() -> None:
    assert nearest(1200, 1808, "gpt-image-2") == "1200x1808"
    assert nearest(1200, 1800, "gpt-image-2") == nearest(1200, 1808) == "1360x2048"


def test_sizes_promise_their_pixels() -> None:
    assert pixels_of("16:9@2k") == "2048x1152"
    assert pixels_of("1820X1024") == "1820x1024"
    assert pixels_of("auto") is None
    with pytest.raises(BadRecipe, match="'big' is no size"):
        pixels_of("big")


def test_a_text_is_quoted_with_marks_that_it_has_not() -> None:
    assert quoted("新品上市") == '"新品上市"'
    assert quoted('the "best" shoe') == '“the "best" shoe”'
    with pytest.raises(BadRecipe, match="marks of every kind"):
        quoted('"“«「')


@given(st.text(max_size=300))
def test_any_text_makes_part_of_a_file_name(text: str) -> None:
    stem = stem_of(text)
    assert 0 < len(stem.encode()) <= STEM_BYTES_MAX
    assert not set(stem) & set('/\\:*?"<>|\0\n .')


def test_file_names_keep_letters_of_any_script() -> None:
    assert stem_of("Wo wir  begannen?") == "wo-wir-begannen"
    assert stem_of("为什么 2048×2048") == "为什么-2048-2048"  # noqa: RUF001 - people write the sign
    assert stem_of("हिन्दी") == "हिन्दी"
