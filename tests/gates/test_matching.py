"""When a wanted text counts as read: letters decide, everything else does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.client.gates.matching import Line, found, nearest


def row(*texts: str, top: float = 0, height: float = 20) -> list[Line]:
    """Return lines side by side."""
    return [
        Line(text, 100.0 * i, top, 100.0 * i + 90, top + height) for i, text in enumerate(texts)
    ]


def column(*texts: str) -> list[Line]:
    """Return lines below each other."""
    return [Line(text, 0, 30.0 * i, 200, 30.0 * i + 20) for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("wanted", "read"),
    [
        ("New Arrivals", "NEW ARRIVALS"),
        ("New Arrivals", "NewArrivals"),
        ("全场五折\uff01", "全场五折"),
        ("\uff21\uff22\uff23 50\uff05", "ABC50%"),
        ("Soldes d'été", "Soldes d\u2019été"),
        ("Größe", "GRÖSSE"),
        ("一步到位", "-步到位"),
        ("コーヒー", "コ一ヒ一"),
        ("Illness", "lllness"),
        ("10 % off", "I0%OFF"),
        ("“Quiet” — now", "Quiet now"),
        ("カ", "ｶ"),
    ],
)
def test_what_counts_as_equal(wanted: str, read: str) -> None:
    assert nearest(wanted, column(read)).mistakes == 0


@pytest.mark.parametrize(
    ("wanted", "read", "mistakes"),
    [
        ("新品上市", "新品上布", 1),
        ("新品上市", "新品上", 1),
        ("新品上市", "新品上市了", 1),
        ("SALE", "SALES", 1),
        ("été", "ete", 2),
        ("$19.99", "$1999", 1),
        ("$19.99", "19.99", 1),
        ("50%", "50", 1),
        ("书画", "書畫", 2),
        ("はし", "ばし", 1),
        ("SALE", "SUMMER SALE", 6),
    ],
)
def test_what_does_not(wanted: str, read: str, mistakes: int) -> None:
    match = nearest(wanted, column(read))
    assert match.mistakes == min(mistakes, len(wanted))


def test_a_text_may_wrap_over_lines() -> None:
    lines = [*column("brand", "The quiet", "machine", "Buy now")]
    assert nearest("The quiet machine", lines).mistakes == 0
    assert nearest("The quiet machine", lines).read == "The quiet machine"


def test_a_text_may_be_read_in_pieces_side_by_side() -> None:
    assert nearest("Saturday, 14 March", row("Saturday,", "14", "March")).mistakes == 0


def test_a_word_close_beside_belongs_to_the_line() -> None:
    """Wide letter spacing lets one line be read as two; half of it is not the whole."""
    apart = [Line("Køb", 0, 0, 90, 40), Line("nu", 110, 0, 170, 40)]
    assert nearest("Køb nu", apart).mistakes == 0
    assert nearest("nu", apart).mistakes == 2
    logo = [Line("acme", 0, 10, 60, 20), Line("Køb nu", 70, 0, 270, 40)]
    assert nearest("Køb nu", logo).mistakes == 0


def test_wanted_texts_may_stand_close_beside_each_other() -> None:
    """A row of three buttons: each is wanted, so none of them belongs to its neighbour."""
    texts = ["Men", "Women", "Kids"]
    buttons = [Line(text, 110.0 * i, 0, 110.0 * i + 100, 40) for i, text in enumerate(texts)]
    assert [match.mistakes for match in found(texts, buttons).values()] == [0, 0, 0]


def test_words_count_in_their_order_only() -> None:
    assert nearest("machine quiet", row("quiet", "machine")).mistakes > 0
    assert nearest("top bottom", column("bottom", "top")).mistakes > 0


def test_two_texts_in_one_row_may_have_been_read_as_one_line() -> None:
    matches = found(["New", "Buy now"], column("NEW BUY NOW"))
    assert [match.mistakes for match in matches.values()] == [0, 0]
    alone = found(["New"], column("NEW BUY NOW"))
    assert alone["New"].mistakes > 0


def test_further_lines_do_not_matter() -> None:
    lines = column("ACME Inc.", "新品上市", "xk2", "立即购买")
    assert all(m.mistakes == 0 for m in found(["新品上市", "立即购买"], lines).values())


def test_no_lines_match_nothing() -> None:
    match = nearest("abc", [])
    assert match.mistakes == 3
    assert match.read == ""


def test_many_lines_end_in_time() -> None:
    """Sixty lines that all might be a beginning: the search is bounded."""
    lines = [line for i in range(6) for line in row(*["ab"] * 10, top=30.0 * i)]
    assert nearest("ab" * 30, lines).mistakes > 0


letters = st.text(alphabet="abcdefgh新品上市立即购买", min_size=2, max_size=12)


@given(letters, st.data())
def test_any_single_change_is_one_mistake_or_none_is_missed(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + "Ω" + text[at + 1 :]
    assert nearest(text, column(changed)).mistakes == 1
    assert nearest(text, column(text)).mistakes == 0


@given(letters, st.integers(1, 11))
def test_any_wrap_is_found(text: str, at: int) -> None:
    parts = [part for part in (text[:at], text[at:]) if part]
    assert nearest(text, column("zz", *parts)).mistakes == 0
