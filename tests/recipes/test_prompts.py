"""What recipes order, and what they refuse before anything is spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from recipes.made import picture, shoe
from safelight.client.errors import BadOrder
from safelight.client.recipes.deck import deck
from safelight.client.recipes.posters import posters
from safelight.client.recipes.products import products
from safelight.client.runs.items import Plan

COPY = '[base]\ntitle = "New in"\n[zh]\ntitle = "新品上市"\n[hi]\ntitle = "नए उत्पाद"\n'


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return shoe(tmp_path / "Red Shoe.png")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "copy.toml"
    path.write_text(COPY, encoding="utf-8")
    return path


def test_products_order_one_edit_of_the_photo_for_each_style(photo: Path) -> None:
    plan = products(photo, "新品上市", "3")
    assert [item.out for item in plan.items] == [
        *("red-shoe-pure-white", "red-shoe-brushed-steel", "red-shoe-desert-dunes")
    ]
    for item in plan.items:
        assert (item.order.inputs, item.order.size) == ((photo,), "2048x2048")
        assert item.order.prompt.count('"新品上市"') == 1
        assert "Source Han Sans SC" in item.order.prompt
        assert [gate.name for gate in item.gates] == [
            *("size", "not-blank", "near-duplicate", "text")
        ]
    assert len({item.id for item in plan.items}) == 3


def test_all_products_share_one_memory_of_what_was_accepted(photo: Path) -> None:
    plan = products(photo, "", "4")
    assert len({id(gate) for item in plan.items for gate in item.gates}) == 3
    assert all("No words anywhere" in item.order.prompt for item in plan.items)


def test_a_plan_is_the_same_at_every_start(photo: Path, tmp_path: Path) -> None:
    """Ids follow from the content; another headline is another picture."""
    first, again = products(photo, "New in", "5"), products(photo, " New  in ", "5")
    assert [item.id for item in first.items] == [item.id for item in again.items]
    other = products(photo, "New", "5")
    assert not {item.id for item in first.items} & {item.id for item in other.items}


def test_a_headline_in_a_script_that_ocr_does_not_claim_is_said_to_be_unchecked(
    photo: Path,
) -> None:
    plan = products(photo, "नए उत्पाद", "1")
    [item] = plan.items
    assert [gate.name for gate in item.gates] == ["size", "not-blank", "near-duplicate"]
    assert "नए उत्पाद" in item.details["not checked by OCR"]


def test_posters_replace_texts_and_keep_the_size(copy: Path, tmp_path: Path) -> None:
    base = picture(tmp_path / "poster_en.png", (20, 90, 60), (848, 1280))
    plan = posters(base, "zh,hi", copy)
    chinese, hindi = plan.items
    assert (chinese.out, chinese.order.size) == ("poster-en-zh", "848x1280")
    assert '- title (now: New in) becomes "新品上市"' in chinese.order.prompt
    assert "into Simplified Chinese" in chinese.order.prompt
    assert "Source Han Sans SC" in chinese.order.prompt
    assert "Noto Sans Devanagari" in hindi.order.prompt
    assert [gate.name for gate in chinese.gates] == ["size", "not-blank", "text"]
    assert [gate.name for gate in hindi.gates] == ["size", "not-blank"]
    assert "not checked by OCR" in hindi.details
    assert "not checked by OCR" not in chinese.details


def test_only_the_wanted_words_stand_between_quotation_marks(copy: Path, tmp_path: Path) -> None:
    """What stands between them is set; the words that are replaced must not be."""
    base = picture(tmp_path / "p.png", (20, 90, 60))
    [item] = posters(base, "zh", copy, check_text=False).items
    assert item.order.prompt.count('"') == 2


def test_a_deck_gives_its_first_picture_to_the_others(tmp_path: Path) -> None:
    path = tmp_path / "talk.md"
    path.write_text('# The "big" talk\n## One\n- a\n## Two\nPicture: a boat\n## Three\n')
    first, *others = deck(path, tmp_path / "talk.pptx").items
    assert first.reference is None
    assert [item.reference for item in others] == [first.id, first.id]
    assert [item.out for item in (first, *others)] == ["01-one", "02-two", "03-three"]
    assert "attached picture" not in first.order.prompt
    assert all("attached picture" in item.order.prompt for item in others)
    assert "It shows: a boat." in others[0].order.prompt
    assert not any('"' in item.order.prompt for item in (first, *others))
    free = deck(path, tmp_path / "talk.pptx", consistent=False)
    assert [item.reference for item in free.items] == [None] * 3


def test_wrong_wishes_are_refused_before_anything_is_ordered(
    photo: Path, copy: Path, tmp_path: Path
) -> None:
    talk = tmp_path / "talk.md"
    talk.write_text("# T\n## One\n")
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    orders: tuple[tuple[Callable[[], Plan], str], ...] = (
        (lambda: products(tmp_path / "gone.png"), "gone.png: --photo: there is no such file"),
        (lambda: products(photo, "word " * 40), "a headline has 120 at most"),
        (lambda: products(photo, size="huge"), "--size: 'huge' is no size"),
        (lambda: posters(tmp_path / "gone.png", "zh", copy), "--base: there is no such file"),
        (lambda: posters(text, "zh", copy), "--base: this is no picture"),
        (lambda: posters(photo, "zh,ja", copy), r"no texts for Japanese \(ja\)"),
        (lambda: posters(photo, ",", copy), "--languages names none"),
        (lambda: deck(talk, tmp_path / "talk.pdf"), "has to end in .pptx"),
        (lambda: deck(tmp_path / "gone.md"), "the outline is not there"),
    )
    for order, said in orders:
        with pytest.raises(BadOrder, match=said):
            order()
