"""Lines of the PDF sheet: broken where they may be, never wider than their place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safelight.client.recipes.sheet.lines import ELLIPSIS, broken, needs_shaping, width_of

EVEN = {ord(char): 0.5 for char in "abcdefghijklmnopqrstuvwxyz …"} | {
    ord("新"): 1.0,
    ord("品"): 1.0,
}


def test_words_break_at_blanks_and_wide_letters_anywhere() -> None:
    assert broken("one two three", EVEN, 2, 7, 9) == ["one two", "three"]
    assert broken("新品新品新", EVEN, 1, 2, 9) == ["新品", "新品", "新"]
    assert broken("unbreakable", EVEN, 2, 4, 9) == ["unbr", "eaka", "ble"]
    assert broken("", EVEN, 2, 4, 9) == []


def test_what_does_not_fit_ends_in_an_ellipsis() -> None:
    assert broken("one two three four", EVEN, 2, 9, 1) == ["one two …"]
    assert broken("one two", EVEN, 2, 7, 1) == ["one two"]


@given(
    st.text("abc def 新品", max_size=120),
    st.floats(4, 40),
    st.integers(1, 5),
)
def test_no_line_is_too_wide_and_no_word_is_lost(text: str, width: float, most: int) -> None:
    lines = broken(text, EVEN, 2, width, most)
    assert len(lines) <= most
    assert all(width_of(line, EVEN, 2) <= width + 1e-9 for line in lines)
    if not lines or not lines[-1].endswith(ELLIPSIS):
        assert "".join(lines).replace(" ", "") == "".join(text.split())


def test_only_letters_that_join_or_stack_need_shaping() -> None:
    assert not needs_shaping("Größe 新着アイテム 신상품 ✓")
    assert all(needs_shaping(text) for text in ("क्ष", "কি", "سلام", "ที่", "e\u0301"))
