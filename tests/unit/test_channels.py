"""What each shipped channel takes, refuses, costs and plans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight import sizes
from safelight.channels import Channels
from safelight.config import ChannelConfig, load_config
from safelight.errors import (
    InvalidImage,
    InvalidRequest,
    InvalidValue,
    MissingParameter,
    UnknownModel,
    UnsupportedParameter,
)
from safelight.types import BlobRef, ImageRequest, Operation, PlanMethod

DIRECT, ALL, VIP = "gpt-image-2", "gpt-image-2-all", "gpt-image-2-vip"
CHANNELS = Channels(load_config(None, Path("unused"), environ={}).channels)
EVERY = (DIRECT, ALL, VIP)


def blob(width: int = 1024, height: int = 1024, *, alpha: bool = False) -> BlobRef:
    return BlobRef("0" * 64, 1000, "png", width, height, alpha)


def order(channel: str = VIP, **fields: Any) -> ImageRequest:
    fields = {"operation": Operation.GENERATION, "prompt": "a lighthouse", **fields}
    return ImageRequest(channel=channel, **fields)


def edit(channel: str = VIP, **fields: Any) -> ImageRequest:
    return order(channel, operation=Operation.EDIT, **{"inputs": (blob(),), **fields})


def refusal(request: ImageRequest, **how: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        CHANNELS.check(request, **how)
    assert caught.value.status == 400
    return caught.value


# Models


def test_the_shipped_channels_are_known_in_order() -> None:
    assert CHANNELS.ids() == EVERY


def test_an_unknown_model_is_400_on_image_routes_and_names_the_known_ones() -> None:
    error = refusal(order("dall-e-3"))
    assert isinstance(error, UnknownModel)
    assert (error.param, error.code) == ("model", "invalid_value")
    assert "'dall-e-3' does not exist" in error.message
    assert all(name in error.message for name in EVERY)


def test_an_unknown_model_is_404_elsewhere() -> None:
    with pytest.raises(UnknownModel) as caught:
        CHANNELS.get("nobody", status=404)
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


# Prompts


@pytest.mark.parametrize("channel", EVERY)
@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_a_prompt_is_required(channel: str, prompt: str) -> None:
    error = refusal(order(channel, prompt=prompt))
    assert isinstance(error, MissingParameter)
    assert error.param == "prompt"


def test_a_prompt_has_at_most_32000_characters() -> None:
    """Characters are counted, not bytes: Chinese has as much room as English."""
    assert CHANNELS.check(order(prompt="\u706f" * 32_000)).prompt == "\u706f" * 32_000
    error = refusal(order(prompt="x" * 32_001))
    assert (type(error), error.param) == (InvalidValue, "prompt")
    assert "32,001 characters; shorten it to 32,000" in error.message


@pytest.mark.parametrize("bad", ["a\x00b", "a\ud800b", "\udfff"])
def test_text_that_cannot_be_stored_is_refused(bad: str) -> None:
    assert refusal(order(prompt=f"x {bad}")).param == "prompt"
    assert refusal(order(user=bad)).param == "user"


def test_a_user_name_is_bounded() -> None:
    assert CHANNELS.check(order(user="u" * 512)).user == "u" * 512
    assert refusal(order(user="u" * 513)).param == "user"


# Sizes


@pytest.mark.parametrize("size", sizes.TABLE, ids=lambda size: size.name)
def test_vip_takes_every_name_of_the_table(size: sizes.NamedSize) -> None:
    assert CHANNELS.check(order(size=size.name)).size == size.name
    plan = CHANNELS.plan(order(size=size.name))
    assert (plan.width, plan.height) == (size.width, size.height)
    assert CHANNELS.plan(edit(size=size.name)) == plan


@pytest.mark.parametrize("size", ["1000x1000", "1536x1024", "3840x3840", "banana", "16:9@8K", ""])
def test_vip_refuses_other_sizes_listing_all_of_its_own(size: str) -> None:
    error = refusal(order(size=size))
    assert (type(error), error.code, error.param) == (InvalidValue, "invalid_value", "size")
    assert error.message.startswith(f"Invalid size {size!r}.")
    assert all(name in error.message for name in sizes.SIZES_BY_NAME)
    assert "16:9@2K" in error.message
    assert "auto" in error.message


def test_vip_suggests_the_nearest_of_its_sizes() -> None:
    assert "The nearest is 1024x1024." in refusal(order(size="1000x1000")).message
    assert "The nearest is 1024x1024." in refusal(order(size="17x17")).message
    assert "The nearest is 1820x1024." in refusal(order(size="1920x1080")).message


def test_check_returns_the_size_in_canonical_form() -> None:
    assert CHANNELS.check(order(size="16:9@2k")).size == "2048x1152"
    assert CHANNELS.check(order(size="1820 X 1024")).size == "1820x1024"
    assert CHANNELS.check(order(size="AUTO")).size == "auto"


def test_direct_takes_any_legal_size_natively() -> None:
    request = CHANNELS.check(order(DIRECT, size="1600x1008"))
    plan = CHANNELS.plan(request)
    assert (plan.method, plan.canvas) == (PlanMethod.NATIVE, "1600x1008")


def test_direct_refuses_an_illegal_size_with_the_rule_and_the_nearest() -> None:
    message = refusal(order(DIRECT, size="1792x936")).message
    assert message.startswith("Invalid size '1792x936'. Width and height must both be divisible")
    assert "The nearest is 1792x944." in message


def test_a_hint_channel_hints_and_guarantees_nothing() -> None:
    plan = CHANNELS.plan(CHANNELS.check(order(ALL, size="1820x1024")))
    assert (plan.method, plan.size, plan.canvas, plan.exact) == (
        PlanMethod.HINT,
        "1820x1024",
        "auto",
        False,
    )


@pytest.mark.parametrize("size", ["8x8", "8193x100", "99999x99999"])
def test_a_hint_has_bounds_too(size: str) -> None:
    assert refusal(order(ALL, size=size)).param == "size"


@pytest.mark.parametrize("channel", EVERY)
def test_auto_is_taken_everywhere_and_planned_as_auto(channel: str) -> None:
    request = CHANNELS.check(order(channel))
    assert CHANNELS.plan(request).method is PlanMethod.AUTO
    assert CHANNELS.plan(request).canvas == "auto"


@given(st.text(max_size=12))
def test_any_text_as_size_is_taken_or_refused_by_name(text: str) -> None:
    for channel in EVERY:
        try:
            size = CHANNELS.check(order(channel, size=text)).size
        except InvalidValue:
            with pytest.raises(InvalidValue, match="Invalid size "):
                CHANNELS.resolve_size(channel, text)
        else:
            assert sizes.parse_size(size) == size


# How the upstream is told


def test_only_a_hint_channel_adds_the_size_to_the_prompt() -> None:
    assert CHANNELS.upstream_prompt(order(size="2048x1152")) == "a lighthouse"
    assert CHANNELS.upstream_prompt(order(DIRECT, size="2048x1152")) == "a lighthouse"
    assert CHANNELS.upstream_prompt(order(ALL)) == "a lighthouse"
    told = CHANNELS.upstream_prompt(order(ALL, size="2048x1152"))
    assert told.startswith("a lighthouse\n\n")
    assert "2048x1152 pixels (landscape, ratio 16:9)" in told


def test_the_hint_fits_into_the_longest_prompt() -> None:
    request = order(ALL, size="2048x1152", prompt="x" * 32_000)
    assert refusal(request).param == "prompt"
    room = 32_000 - len(CHANNELS.upstream_prompt(order(ALL, size="2048x1152", prompt="")))
    request = CHANNELS.check(order(ALL, size="2048x1152", prompt="x" * room))
    assert len(CHANNELS.upstream_prompt(request)) == 32_000


# n, streams


@pytest.mark.parametrize("n", [2, 10, 11])
def test_vip_does_not_support_n(n: int) -> None:
    error = refusal(order(n=n), given={"n"})
    assert (type(error), error.code, error.param) == (
        UnsupportedParameter,
        "unsupported_parameter",
        "n",
    )
    assert "one request per image" in error.message


@pytest.mark.parametrize(("channel", "n_max"), [(DIRECT, 10), (ALL, 4), (VIP, 1)])
def test_n_has_the_bounds_of_the_channel(channel: str, n_max: int) -> None:
    for n in range(1, n_max + 1):
        assert CHANNELS.check(order(channel, n=n), given={"n"}).n == n
    error = refusal(order(channel, n=0))
    assert (type(error), error.param) == (InvalidValue, "n")
    if n_max > 1:
        error = refusal(order(channel, n=n_max + 1))
        assert (type(error), error.param) == (InvalidValue, "n")
        assert f"1 to {n_max}" in error.message


def test_a_stream_carries_one_image() -> None:
    error = refusal(order(DIRECT, n=2), stream=True)
    assert (type(error), error.param) == (InvalidValue, "n")
    assert CHANNELS.check(order(DIRECT, n=1, partial_images=3), stream=True).partial_images == 3


@pytest.mark.parametrize("count", [-1, 4])
def test_partial_images_are_none_to_three(count: int) -> None:
    assert refusal(order(partial_images=count), stream=True).param == "partial_images"


# quality and the other parameters


@pytest.mark.parametrize("quality", ["low", "high", "auto", "nonsense"])
def test_vip_does_not_support_quality(quality: str) -> None:
    error = refusal(order(quality=quality), given={"quality"})
    assert (type(error), error.code, error.param) == (
        UnsupportedParameter,
        "unsupported_parameter",
        "quality",
    )


def test_vip_tolerates_quality_null() -> None:
    assert CHANNELS.check(order(quality=None), given={"quality"}).quality is None


@pytest.mark.parametrize("channel", [DIRECT, ALL])
def test_quality_is_one_of_the_channels_list(channel: str) -> None:
    for quality in ("low", "medium", "high", "auto"):
        assert CHANNELS.check(order(channel, quality=quality)).quality == quality
    error = refusal(order(channel, quality="hd"))
    assert (type(error), error.param) == (InvalidValue, "quality")
    assert "'low', 'medium', 'high', 'auto'" in error.message


@pytest.mark.parametrize("output_format", ["gif", "svg", "PNG", "jpg"])
def test_other_formats_are_refused_with_the_list(output_format: str) -> None:
    error = refusal(order(output_format=output_format))
    assert error.param == "output_format"
    assert "'png', 'jpeg', 'webp'" in error.message


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_compression_belongs_to_jpeg_and_webp(output_format: str) -> None:
    request = order(output_format=output_format, output_compression=0)
    assert CHANNELS.check(request) == request


def test_compression_of_png_can_only_be_100() -> None:
    assert CHANNELS.check(order(output_compression=100)).output_compression == 100
    assert refusal(order(output_compression=99)).param == "output_compression"


@pytest.mark.parametrize("compression", [-1, 101])
def test_compression_has_bounds(compression: int) -> None:
    error = refusal(order(output_format="webp", output_compression=compression))
    assert error.param == "output_compression"


def test_transparency_needs_a_format_that_has_it() -> None:
    for output_format in ("png", "webp"):
        CHANNELS.check(order(background="transparent", output_format=output_format))
    error = refusal(order(background="transparent", output_format="jpeg"))
    assert error.param == "background"
    assert "'png' or 'webp'" in error.message


@pytest.mark.parametrize(
    ("param", "good", "bad"),
    [("background", ["opaque", "auto"], "red"), ("moderation", ["auto", "low"], "off")],
)
def test_choices_are_checked_by_name(param: str, good: list[str], bad: str) -> None:
    for value in good:
        CHANNELS.check(order(**{param: value}))
    assert refusal(order(**{param: bad})).param == param


@pytest.mark.parametrize("channel", EVERY)
@pytest.mark.parametrize("fidelity", ["high", "low", "nonsense"])
def test_gpt_image_2_does_not_take_input_fidelity(channel: str, fidelity: str) -> None:
    error = refusal(edit(channel, input_fidelity=fidelity))
    assert (error.code, error.param) == ("invalid_input_fidelity_model", "input_fidelity")


def test_a_channel_of_another_model_may_take_input_fidelity() -> None:
    vip = CHANNELS.get(VIP)
    channels = Channels({"other": msgspec.structs.replace(vip, input_fidelity=True)})
    assert channels.check(edit("other", input_fidelity="high")).input_fidelity == "high"
    with pytest.raises(InvalidValue, match="input_fidelity"):
        channels.check(edit("other", input_fidelity="medium"))


# Inputs and masks


@pytest.mark.parametrize("channel", EVERY)
def test_an_edit_takes_one_to_sixteen_images(channel: str) -> None:
    assert len(CHANNELS.check(edit(channel, inputs=(blob(),) * 16)).inputs) == 16
    none = refusal(edit(channel, inputs=()))
    assert (type(none), none.param) == (MissingParameter, "image")
    many = refusal(edit(channel, inputs=(blob(),) * 17))
    assert (type(many), many.param) == (InvalidValue, "image")
    assert "at most 16" in many.message


def test_a_mask_has_the_first_images_size_and_alpha() -> None:
    inputs = (blob(640, 480), blob(100, 100))
    CHANNELS.check(edit(inputs=inputs, mask=blob(640, 480, alpha=True)))
    for mask in (blob(100, 100, alpha=True), blob(640, 480), blob(480, 640, alpha=True)):
        error = refusal(edit(inputs=inputs, mask=mask))
        assert (type(error), error.param) == (InvalidImage, "mask")


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (order(inputs=(blob(),)), "image"),
        (order(mask=blob(alpha=True)), "mask"),
    ],
)
def test_a_generation_takes_no_images(request_: ImageRequest, param: str) -> None:
    error = refusal(request_)
    assert (type(error), error.param) == (UnsupportedParameter, param)
    assert "/v1/images/edits" in error.message


def test_a_generation_refuses_image_parameters_that_were_only_named() -> None:
    assert refusal(order(), given={"prompt", "images"}).param == "images"


# Prices


@pytest.mark.parametrize("size", sizes.TABLE, ids=lambda size: size.name)
@pytest.mark.parametrize("channel", [ALL, VIP])
def test_flat_channels_cost_three_cents_for_every_size(channel: str, size: sizes.NamedSize) -> None:
    quote = CHANNELS.quote(order(channel, size=size.name))
    assert (quote.channel, quote.n, quote.price_micros, quote.total_micros) == (
        channel,
        1,
        30_000,
        30_000,
    )


def test_a_quote_multiplies_by_n() -> None:
    quote = CHANNELS.quote(order(ALL, n=4))
    assert (quote.n, quote.price_micros, quote.total_micros) == (4, 30_000, 120_000)


@pytest.mark.parametrize(
    ("quality", "size", "price"),
    [
        ("low", "1024x1024", 6_000),
        ("medium", "1024x1024", 53_000),
        ("high", "1024x1024", 211_000),
        ("high", "2048x2048", 428_160),
        ("high", "3840x2160", 428_160),
        ("auto", "2048x2048", 428_160),
        (None, "1024x1024", 211_000),
        ("low", "auto", 6_000),
        (None, "auto", 211_000),
    ],
)
def test_direct_is_priced_by_quality_and_tier(quality: str | None, size: str, price: int) -> None:
    request = CHANNELS.check(order(DIRECT, quality=quality, size=size))
    assert CHANNELS.quote(request).price_micros == price


def test_direct_prices_never_fall_with_quality_or_tier() -> None:
    prices = CHANNELS.get(DIRECT).prices
    rows = [
        [prices[quality][tier] for tier in sizes.TIERS] for quality in ("low", "medium", "high")
    ]
    assert all(row == sorted(row) for row in rows)
    assert all(list(column) == sorted(column) for column in zip(*rows, strict=True))


def test_auto_may_have_a_price_of_its_own() -> None:
    direct = CHANNELS.get(DIRECT)
    prices = {**direct.prices, "auto": dict.fromkeys(sizes.TIERS, 1)}
    channels = Channels({"own": msgspec.structs.replace(direct, prices=prices)})
    assert channels.quote(order("own")).price_micros == 1
    assert channels.quote(order("own", quality="high")).price_micros == 211_000


def test_a_quality_without_a_price_is_refused_not_crashed_on() -> None:
    with pytest.raises(InvalidValue) as caught:
        CHANNELS.quote(order(DIRECT, quality="ultra"))
    assert caught.value.param == "quality"


# The list of sizes


def test_vip_lists_its_35_sizes_with_plan_and_price() -> None:
    entries = {entry.name: entry for entry in CHANNELS.sizes(VIP)}
    assert len(entries) == len(CHANNELS.sizes(VIP)) == 35
    assert set(entries) == set(sizes.SIZES_BY_NAME)
    assert msgspec.to_builtins(entries["1820x1024"]) == {
        "name": "1820x1024",
        "width": 1820,
        "height": 1024,
        "ratio": "16:9",
        "tier": "1K",
        "plan": "crop from 1824x1024",
        "canvas": "1824x1024",
        "price_micros": 30_000,
    }


def test_direct_lists_named_sizes_that_are_legal_with_prices_by_quality() -> None:
    entries = {entry.name: entry for entry in CHANNELS.sizes(DIRECT)}
    assert len(entries) == 33
    assert all(entry.plan == "native" for entry in entries.values())
    assert "1820x1024" not in entries
    assert entries["1536x1024"].ratio == "3:2"
    assert entries["2048x2048"].price_micros == 428_160
    assert entries["1024x1024"].prices_micros == {
        "low": 6_000,
        "medium": 53_000,
        "high": 211_000,
        "auto": 211_000,
    }


def test_all_lists_the_table_as_hints() -> None:
    entries = CHANNELS.sizes(ALL)
    assert len(entries) == 35
    assert entries[0].plan == f"hint of {entries[0].name}"
    assert entries[0].canvas == "auto"


def test_a_table_channel_without_names_has_the_whole_table() -> None:
    config = ChannelConfig(kind="pooled", sizes="table", price_micros=1)
    channels = Channels({"own": config})
    assert {entry.name for entry in channels.sizes("own")} == set(sizes.SIZES_BY_NAME)


def test_a_table_channel_may_have_names_of_its_own() -> None:
    config = ChannelConfig(kind="pooled", sizes="table", size_names=("1584x396",), price_micros=1)
    channels = Channels({"banner": config})
    assert channels.plan(order("banner", size="1584x396")).describe() == "crop from 1584x528"
    assert channels.sizes("banner")[0].ratio == "4:1"
    with pytest.raises(InvalidValue, match="The nearest is 1584x396"):
        channels.check(order("banner", size="2048x1152"))
    with pytest.raises(InvalidValue, match="Invalid size '16:9@2K'"):
        channels.check(order("banner", size="16:9@2K"))


@pytest.mark.parametrize("channel", EVERY)
def test_every_listed_size_can_be_ordered_at_its_price(channel: str) -> None:
    for entry in CHANNELS.sizes(channel):
        quote = CHANNELS.quote(CHANNELS.check(order(channel, size=entry.name)))
        assert quote.price_micros == entry.price_micros
        assert quote.size_plan.describe() == entry.plan
