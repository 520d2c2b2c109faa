"""Gates by name: forms that are understood, and messages about those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from safelight.client.errors import ClientError
from safelight.client.gates import (
    NAMES,
    BadGate,
    Gate,
    NearDuplicate,
    NotBlank,
    Size,
    Text,
    UnreadableScript,
    Weight,
    WhiteBackground,
    gate,
    unclaimed,
)


@pytest.mark.parametrize(
    ("name", "value", "made"),
    [
        ("size", "1820x1024", Size(1820, 1024)),
        ("size", " 64 X 32 ", Size(64, 32)),
        ("weight", "3MB", Weight(3_000_000)),
        ("weight", "1.5 MiB", Weight(1_572_864)),
        ("weight", "500kB", Weight(500_000)),
        ("weight", "2m", Weight(2_000_000)),
        ("weight", "900", Weight(900)),
        ("not-blank", None, NotBlank()),
        ("not-blank", "5", NotBlank(5.0)),
        ("white-background", "", WhiteBackground()),
        ("white-background", "95%", WhiteBackground(0.95)),
        ("white-background", "0.9", WhiteBackground(0.9)),
        ("white-background", "90", WhiteBackground(0.9)),
    ],
)
def test_forms_of_values(name: str, value: str | None, made: Gate) -> None:
    assert gate(name, value) == made


def test_size_without_a_value_is_the_orders() -> None:
    assert gate("size", wanted="2048x1360") == Size(2048, 1360)
    assert gate("size", "", wanted=(10, 20)) == Size(10, 20)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("blurry", None, "there is no gate 'blurry'; there are: size, not-blank"),
        ("size", None, "the order names no size"),
        ("size", "16:9@2K", "is no WIDTHxHEIGHT"),
        ("weight", None, "it needs a file size"),
        ("weight", "3 stone", "'3 stone' is no file size"),
        ("weight", "0", "no picture weighs nothing"),
        ("near-duplicate", "many", "'many' is no whole number"),
        ("near-duplicate", "40", "40 is not between 0 and 32"),
        ("white-background", "150%", "150 is not between 0 and 100"),
        ("white-background", "0", "would let everything pass"),
        ("not-blank~2", None, "~2 is only for the gate text"),
        ("text", None, "needs the text that shall be in the picture"),
        ("text", "!?", "has no letters"),
    ],
)
def test_wrong_values_are_named(name: str, value: str | None, says: str) -> None:
    with pytest.raises(BadGate) as caught:
        gate(name, value)
    assert says in str(caught.value)
    assert isinstance(caught.value, ClientError)


def test_near_duplicate_is_one_for_the_run() -> None:
    """Items of one run share the gate's memory, and another distance is another gate."""
    shared: dict[str, Any] = {}
    one = gate("near-duplicate", shared=shared)
    assert isinstance(one, NearDuplicate)
    assert gate("near-duplicate", "6", shared=shared) is one
    assert gate("near-duplicate", "3", shared=shared) is not one
    assert gate("near-duplicate") is not one


def test_every_name_can_be_made() -> None:
    values = {"size": "1x1", "weight": "1MB", "text": "NEW"}
    assert [gate(name, values.get(name)).name for name in NAMES] == list(NAMES)


def test_texts_are_parted_by_bars_and_lines() -> None:
    made = gate("text~1", "New  arrivals|Buy now\n2\\|3 off")
    assert isinstance(made, Text)
    assert made.wanted == ("New arrivals", "Buy now", "2|3 off")
    assert made.mistakes == 1


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("नया आगमन", "Devanagari"),
        ("নতুন", "Bengali"),
        ("Новинки", "Cyrillic"),
    ],
)
def test_scripts_that_are_not_claimed_are_refused_by_name(text: str, missing: str) -> None:
    """Before anything is spent: a gate that always says no would buy every re-roll."""
    assert unclaimed(text) == (missing,)
    with pytest.raises(UnreadableScript, match=f"but not {missing}"):
        gate("text", text)


@pytest.mark.parametrize(
    "text", ["Soldes d'été", "新品上市", "カートに入れる", "\uff21\uff22 50\uff05ｵﾌ", "№ 1"]
)
def test_claimed_scripts_are_known(text: str) -> None:
    assert unclaimed(text) == ()


def test_a_character_that_no_reading_can_have_is_refused() -> None:
    with pytest.raises(UnreadableScript, match="the character 𪜈"):
        gate("text", "𪜈の本")
