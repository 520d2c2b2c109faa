"""What an order refuses before anything is sent, and what it becomes on the wire."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from safelight.client import BadOrder, Misconfigured, Order
from safelight.client.address import Address


def test_an_order_without_a_prompt_is_refused() -> None:
    with pytest.raises(BadOrder, match="prompt is empty"):
        Order("  ")


def test_a_mask_without_a_picture_is_refused() -> None:
    with pytest.raises(BadOrder, match="mask needs the picture"):
        Order("a lamp", mask=b"x")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("n", 3, "one picture"),
        ("stream", True, "watch a job"),
        ("async", True, "submit"),
        ("prompt", "other", "field of the order"),
    ],
)
def test_parameters_that_have_no_place_are_refused_by_name(
    name: str, value: object, says: str
) -> None:
    with pytest.raises(BadOrder, match=says) as refused:
        Order("a lamp", parameters={name: value})
    assert repr(name) in str(refused.value)


def test_fields_that_are_none_are_left_out() -> None:
    order = Order("a lamp", parameters={"quality": None, "output_format": "webp"})
    wanted = {"model": "gpt-image-2-vip", "prompt": "a lamp", "output_format": "webp"}
    assert order.fields() == wanted


def test_a_key_is_made_once_and_differs_between_orders() -> None:
    first, second = Order("a lamp").with_key(), Order("a lamp").with_key()
    assert first.idempotency_key != second.idempotency_key
    assert first.with_key() is first


def test_an_order_can_be_copied_pickled_and_hashed() -> None:
    order = Order("a lamp", inputs=(Path("a.png"),), parameters={"quality": "low"})
    assert pickle.loads(pickle.dumps(order)) == order  # noqa: S301 - our own bytes
    assert copy.deepcopy(order) == order
    assert hash(order) == hash(copy.copy(order))


def test_what_an_order_was_given_cannot_be_changed_afterwards() -> None:
    given = {"quality": "low"}
    order = Order("a lamp", parameters=given)
    given["quality"] = "high"
    assert order.parameters["quality"] == "low"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("http://127.0.0.1:8080/v1/", "http://127.0.0.1:8080/v1"),
        ("https://images.example.com/openai", "https://images.example.com/openai/v1"),
        ("https://images.example.com/api/v3", "https://images.example.com/api/v3"),
        ("https://images.example.com/v1beta", "https://images.example.com/v1beta"),
    ],
)
def test_addresses_end_with_a_version(given: str, used: str) -> None:
    assert Address.of(given, "sk-a", {}).url == used


@pytest.mark.parametrize("bad", ["images.example.com", "ftp://a/v1", "http://", "http://a/?b=c"])
def test_what_is_no_address_is_refused_with_an_example(bad: str) -> None:
    with pytest.raises(Misconfigured, match=r"write it like http://127\.0\.0\.1:8080/v1"):
        Address.of(bad, "sk-a", {})


def test_the_environment_is_asked_in_the_order_of_the_command_line() -> None:
    known = {
        "SAFELIGHT_URL": "http://one",
        "OPENAI_BASE_URL": "http://two",
        "OPENAI_API_KEY": "sk-openai",
    }
    found = Address.of(None, None, known)
    assert (found.url, found.key) == ("http://one/v1", "sk-openai")
    assert "sk-openai" not in repr(found)


@pytest.mark.parametrize(
    ("environment", "says"),
    [({}, "SAFELIGHT_URL"), ({"SAFELIGHT_URL": "http://a"}, "SAFELIGHT_API_KEY")],
)
def test_what_is_missing_is_named(environment: dict[str, str], says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        Address.of(None, None, environment)


def test_a_key_with_a_line_break_in_it_is_refused_without_being_shown() -> None:
    with pytest.raises(Misconfigured) as refused:
        Address.of("http://a", "sk-one\nsk-two", {})
    assert "sk-one" not in str(refused.value)
