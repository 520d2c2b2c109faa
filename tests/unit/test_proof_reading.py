"""Reading prompts: quotes, titles, canvases, palettes, scenes; no pixels."""

import random
from pathlib import Path

import pytest

from safelight.errors import FaultClass, UpstreamError
from safelight.types import BlobRef, Operation, UpstreamCall
from safelight.upstreams.proof.brief import MAX_WORDS_CHARS, clean, quoted, read_brief, shorten
from safelight.upstreams.proof.canvas import choose_canvas
from safelight.upstreams.proof.colour import contrast, from_oklch, luminance, parse_hex, to_oklch
from safelight.upstreams.proof.fonts import cjk_region, families, scripts_of, settable
from safelight.upstreams.proof.palette import (
    COLOUR_WORDS,
    CURATED,
    choose_palette,
    named_colours,
    named_moods,
)
from safelight.upstreams.proof.scene import choose_scene


def _call(prompt: str, size: str = "1024x1024", **more: object) -> UpstreamCall:
    return UpstreamCall(
        job_id=str(more.pop("job_id", "job-1")),
        operation=Operation.GENERATION,
        prompt=prompt,
        size=size,
        output_format="png",
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ('A poster "One" and "Two words"', ["One", "Two words"]),
        ("A poster “Curly” „Deutsch“ «Guillemets»", ["Curly", "Deutsch", "Guillemets"]),
        ("海报「山海之间」『副题』《书名》", ["山海之间", "副题", "书名"]),
        ("a sign that says 'Open late' in the window", ["Open late"]),
        ("it's the dogs' bowl and don't touch the cats' toys", []),
        ("a sign 'don't walk' by the road", ["don't walk"]),
        ("rock 'n' roll on a 5\" x 7\" print", []),
        ('empty "" and " " and "…"', []),
        ('say \\"escaped\\" words', ["escaped"]),
        ('twice "Same" and "Same"', ["Same"]),
        ('two lines "First\\nSecond"', ["First\nSecond"]),
        ('文字"你好"在中间', ["你好"]),
    ],
)
def test_quoted_words_are_found(prompt: str, words: list[str]) -> None:
    assert quoted(clean(prompt))[0] == words


def test_quoted_words_leave_the_subject() -> None:
    """What is to be written does not decide what is to be drawn."""
    brief = read_brief(_call('A quiet beach "Mountain City Cat"'))
    assert brief.words == ("Mountain City Cat",)
    assert "mountain" not in brief.subject
    assert "beach" in brief.subject


def test_a_prompt_without_quotes_gets_a_short_title() -> None:
    brief = read_brief(_call("Create an image of a lighthouse in a storm, oil on canvas, seed 42"))
    assert brief.words == ()
    assert brief.title == "Lighthouse in a storm"


def test_an_instruction_keeps_its_verb() -> None:
    blob = BlobRef("00" * 32, 1, "png", 8, 8)
    call = _call("Make it brighter", inputs=(blob,), input_paths=(Path("x.png"),))
    assert read_brief(call).title == "Make it brighter"


@pytest.mark.parametrize(
    "prompt",
    ["", " ", "\x00\x01", "\ud800", '"\udfff"', "<&>", "\u202e", "\n\n", '"' * 99, "a" * 32_000],
)
def test_any_prompt_can_be_read(prompt: str) -> None:
    """Control characters and lone surrogates vanish; nothing raises."""
    brief = read_brief(_call(prompt))
    for text in (*brief.words, brief.title):
        text.encode("utf-8")
        assert not any(ord(char) < 32 and char != "\n" for char in text)


def test_long_quotes_end_in_an_ellipsis_at_a_space() -> None:
    brief = read_brief(_call('"' + "word " * 6000 + '"'))
    assert len(brief.words[0]) <= MAX_WORDS_CHARS
    assert brief.words[0].endswith("word…")


def test_shortening_does_not_tear_a_mark_from_its_letter() -> None:
    """Cutting between a Devanagari consonant and its vowel sign would change the letter."""
    assert shorten("कि" * 10, 4) == "कि…"


def test_the_seed_depends_on_the_content_alone() -> None:
    same = read_brief(_call("a cat", job_id="job-1")).seed
    assert read_brief(_call("a cat", job_id="job-2", user="u")).seed == same
    assert read_brief(_call("a cat, seed 2")).seed != same
    assert read_brief(_call("a cat", "1536x1024")).seed != same
    mask = BlobRef("11" * 32, 1, "png", 8, 8)
    assert read_brief(_call("a cat", mask=mask)).seed != same


@pytest.mark.parametrize(
    ("prompt", "canvas"),
    [
        ("a cat", (1024, 1024)),
        ("a cat. Size: 1536x1024", (1536, 1024)),
        ("a cat, aspect ratio 16:9", (1536, 1024)),
        ("a cat, 9:16 story", (1024, 1536)),
        ("a cat, 1080×1350", (1024, 1536)),  # noqa: RUF001 - people write it
        ("99:1 odds", (1024, 1024)),
    ],
)
def test_auto_follows_a_hint_in_the_prompt(prompt: str, canvas: tuple[int, int]) -> None:
    assert choose_canvas(_call(prompt, "auto"), None) == canvas


@pytest.mark.parametrize("size", [(4000, 3000), (100, 100), (9000, 100), (100, 9000), (1820, 1024)])
def test_auto_edits_keep_the_ratio_on_a_legal_canvas(size: tuple[int, int]) -> None:
    """Legal for gpt-image-2: a grid of 16, at most 3:1, 655,360 to 8,294,400 pixels."""
    width, height = choose_canvas(_call("x", "auto"), size)
    assert width % 16 == height % 16 == 0
    assert max(width, height) <= 3 * min(width, height)
    assert 655_360 <= width * height <= 8_294_400
    wanted = min(3.0, max(1 / 3, size[0] / size[1]))
    assert width / height == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize(
    "size", ["", "1024", "0x0", "15x1024", "3841x16", "1024X1024", "-1x5", "axb"]
)
def test_an_unusable_size_is_the_callers_fault(size: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        choose_canvas(_call("x", size), None)
    error = caught.value
    assert (error.fault, error.code) == (FaultClass.CLIENT, "invalid_value")
    assert (error.param, error.final_status) == ("size", 400)


def test_named_colours_keep_their_order() -> None:
    assert named_colours("teal on #aa3311, and gold") == ["#128c8c", "#aa3311", "#d9a441"]
    assert named_colours("bored tealish goldfish") == []
    assert named_colours("红色和蓝色的海报") == ["#d7263d", "#2f6fd0"]


@pytest.mark.parametrize(
    ("text", "mood"),
    [
        ("a dark forest", "dark"),
        ("霓虹城市", "neon"),
        ("夕焼けの海", "sunset"),
        ("शांत झील", "calm"),
    ],
)
def test_moods_are_named_in_several_languages(text: str, mood: str) -> None:
    assert mood in named_moods(text)


@pytest.mark.parametrize(
    "text", ["a teal poster", "nothing", "dark red", "pastel #00ff00", "white"]
)
@pytest.mark.parametrize("seed", range(4))
def test_every_palette_has_readable_ends(text: str, seed: int) -> None:
    """The lightest and the darkest tone of a palette always contrast enough for text."""
    palette = choose_palette(text, random.Random(seed))
    dark, light = luminance(parse_hex(palette.deep)), luminance(parse_hex(palette.light))
    assert contrast(dark, light) > 10


def test_a_named_colour_leads_the_palette() -> None:
    for entry in COLOUR_WORDS:
        word = min(entry.latin)
        main = to_oklch(choose_palette(f"a {word} poster", random.Random(1)).main)
        lightness, chroma, hue = to_oklch(entry.name)
        if chroma > 0.05:
            assert abs((main[2] - hue + 180) % 360 - 180) < 12, (word, lightness)


def test_curated_palettes_say_rightly_whether_they_are_dark() -> None:
    for _, palette in CURATED:
        assert palette.dark == (to_oklch(palette.ground)[0] < 0.5)


def test_oklch_round_trip() -> None:
    for colour in ("#d7263d", "#128c8c", "#ffffff", "#000000", "#7d4fd0"):
        assert from_oklch(*to_oklch(colour)) == colour


@pytest.mark.parametrize(
    ("prompt", "scene"),
    [
        ("A poster for a mountain film festival", "landscape"),
        ("a cute baby sea otter", "creature"),
        ("infographic about city traffic", "report"),
        ("bauhaus pattern", "tiles"),
        ("香水产品图", "product"),
        ("서울 야경", "city"),
        ("पहाड़ का दृश्य", "landscape"),
        ("সমুদ্র", "sea"),
        ("a swiss poster", "swiss"),
    ],
)
def test_the_subject_chooses_the_scene(prompt: str, scene: str) -> None:
    chosen = choose_scene(read_brief(_call(prompt)), random.Random(1))
    assert getattr(chosen, "__name__", "") == scene


@pytest.mark.parametrize(
    ("text", "context", "region"),
    [
        ("山海之间", "", "SC"),
        ("臺灣國際藝術節", "", "TC"),
        ("春の音楽祭", "", "JP"),
        ("東京", "「東京」のポスター", "JP"),
        ("밤의 도시", "", "KR"),
        ("京都", "a travel poster for kyoto", "JP"),
    ],
)
def test_han_letters_take_the_form_of_their_country(text: str, context: str, region: str) -> None:
    assert cjk_region(text, context)[0] == region
    assert f"Noto Sans CJK {region}" in families(text, context)[0]


def test_scripts_choose_their_families() -> None:
    assert families("नमस्ते")[0].startswith("Noto Sans, Noto Sans Devanagari")
    assert families("নমস্কার")[1] == "bn"
    assert "Noto Sans CJK" in families("नमस्ते 你好")[0]
    assert scripts_of("Hello") == frozenset()


def test_characters_without_a_font_are_left_out() -> None:
    """Pango would draw boxes with digits for runes; for the six scripts everything stays."""
    assert settable("ᚠᚢᚦ runes") == "runes"
    for text in ("Hello", "你好世界", "こんにちは", "안녕하세요", "नमस्ते क्षत्रिय", "বাংলা"):
        assert settable(text) == text
