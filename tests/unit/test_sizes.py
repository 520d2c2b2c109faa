"""The vendor's size rules, the table of names, and the planner."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight import sizes
from safelight.errors import InvalidValue
from safelight.types import PlanMethod, SizePlan

# What every name of the table is drawn as, where that is not the name itself.
NOT_NATIVE = {
    "1820x1024": "crop from 1824x1024",
    "1820x780": "crop from 1824x784",
    "3840x1640": "crop from 3840x1648",
    "2880x3840": "resample from 2448x3264 x1.1765",
}

edges = st.integers(1, 6000)


def plan_or_none(width: int, height: int) -> SizePlan | None:
    try:
        return sizes.plan_size(width, height)
    except InvalidValue:
        return None


# The table


def test_the_table_has_thirty_published_names_and_five_more() -> None:
    assert len(sizes.TABLE) == len(sizes.SIZES_BY_NAME) == 35
    assert sum(size.published for size in sizes.TABLE) == 30
    assert [size.name for size in sizes.TABLE if not size.published] == [
        "1024x1024",
        "1820x1024",
        "1820x780",
        "3840x1640",
        "2880x3840",
    ]


def test_every_ratio_has_every_tier_once() -> None:
    published = [(size.ratio, size.tier) for size in sizes.TABLE if size.published]
    assert len(sizes.RATIOS) == 10
    assert sorted(published) == sorted((r, t) for r in sizes.RATIOS for t in sizes.TIERS)


@pytest.mark.parametrize("size", sizes.TABLE, ids=lambda size: size.name)
def test_a_name_says_its_pixels_and_is_near_its_ratio(size: sizes.NamedSize) -> None:
    assert size.name == f"{size.width}x{size.height}"
    across, down = map(int, size.ratio.split(":"))
    # 1280x544 is the farthest: 2.353 where 21:9 is 2.333.
    assert size.width / size.height == pytest.approx(across / down, rel=0.02)


@pytest.mark.parametrize("size", sizes.TABLE, ids=lambda size: size.name)
def test_a_name_is_planned_as_the_contract_has_it(size: sizes.NamedSize) -> None:
    plan = sizes.plan_size(size.width, size.height)
    assert plan.describe() == NOT_NATIVE.get(size.name, "native")
    assert plan.size == size.name


@pytest.mark.parametrize("size", sizes.TABLE, ids=lambda size: size.name)
def test_a_name_is_priced_in_the_tier_it_is_published_under(size: sizes.NamedSize) -> None:
    assert sizes.tier_of(size.width, size.height) == size.tier


# Reading a size


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2048x1152", "2048x1152"),
        (" 2048 X 1152 ", "2048x1152"),
        ("2048\u00d71152", "2048x1152"),
        ("2048 \u00d7 1152", "2048x1152"),
        ("AUTO", "auto"),
        (" auto ", "auto"),
        ("16:9@2K", "2048x1152"),
        ("16:9@4k", "3840x2160"),
        ("21 : 9 @ 1k", "1280x544"),
        ("3:4@4K", "2480x3312"),
        ("99999x1", "99999x1"),
    ],
)
def test_a_size_is_read_in_the_forms_people_write(text: str, canonical: str) -> None:
    assert sizes.parse_size(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "2048", "2048x", "0x1024", "01024x1024", "-1x5", "1e3x1e3", "1024.0x1024"),
        *(
            "1024xx1024",
            "1024x1024x1",
            "100000x1",
            "1024x1024\x00",
            "\u0661\u0660x10",
            "2048by1152",
        ),
        *("16:9", "16:9@", "16:9@3K", "@2K", "0:1@1K", "16:9@2Kx", "square", "auto auto"),
    ],
)
def test_what_is_no_size_is_refused_with_the_forms_and_the_names(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        sizes.parse_size(text)
    assert caught.value.param == "size"
    assert caught.value.code == "invalid_value"
    assert caught.value.message.startswith("Invalid size ")
    assert all(name in caught.value.message for name in sizes.SIZES_BY_NAME)


def test_an_unknown_ratio_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidValue, match=r"Invalid size '7:3@2K'\. .*16:9, 21:9"):
        sizes.parse_size("7:3@2K")


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(InvalidValue) as caught:
        sizes.parse_size("9" * 100_000)
    assert len(caught.value.message) < 1000


@given(edges, edges)
def test_a_canonical_size_reads_as_itself(width: int, height: int) -> None:
    assert sizes.parse_size(f"{width}x{height}") == f"{width}x{height}"
    assert sizes.dimensions(f"{width}x{height}") == (width, height)


# The vendor's rules


@pytest.mark.parametrize(
    ("width", "height"),
    [(1024, 1024), (816, 816), (3840, 2160), (2160, 3840), (2880, 2880), (640, 1024), (3840, 1280)],
)
def test_sizes_on_the_bounds_are_legal(width: int, height: int) -> None:
    assert sizes.is_legal(width, height)


@pytest.mark.parametrize(
    ("width", "height", "rule"),
    [
        (1792, 936, "Width and height must both be divisible by 16."),
        (1000, 1024, "Width and height must both be divisible by 16."),
        (3856, 2000, "The longest edge must be at most 3840 pixels."),
        (3840, 1264, "The ratio of the edges must be at most 3:1."),
        (800, 800, "A picture has at least 655,360 pixels."),
        (2896, 2880, "A picture has at most 8,294,400 pixels."),
    ],
)
def test_an_illegal_size_names_the_rule_it_breaks(width: int, height: int, rule: str) -> None:
    assert sizes.why_illegal(width, height) == rule
    assert sizes.why_illegal(height, width) == rule


@given(edges, edges)
def test_the_nearest_legal_size_is_legal_and_a_legal_size_is_its_own(w: int, h: int) -> None:
    nearest = sizes.nearest_legal(w, h)
    assert sizes.is_legal(*nearest)
    if sizes.is_legal(w, h):
        assert nearest == (w, h)


def test_the_nearest_legal_size_is_really_the_nearest() -> None:
    grid = range(16, 3841, 16)
    legal = [(w, h) for w in grid for h in grid if sizes.is_legal(w, h)]
    for width, height in ((1792, 936), (10, 10), (6000, 100), (3000, 3000), (500, 1501)):
        least = min((w - width) ** 2 + (h - height) ** 2 for w, h in legal)
        nearest = sizes.nearest_legal(width, height)
        assert (nearest[0] - width) ** 2 + (nearest[1] - height) ** 2 == least


# Tiers


@given(edges, edges, st.integers(0, 500))
def test_growing_an_edge_never_lowers_the_tier(width: int, height: int, more: int) -> None:
    small = sizes.TIERS.index(sizes.tier_of(width, height))
    assert sizes.TIERS.index(sizes.tier_of(width + more, height)) >= small
    assert sizes.tier_of(width, height) == sizes.tier_of(height, width)


# The planner


@given(edges, edges)
def test_every_plan_delivers_the_size_from_a_legal_canvas(width: int, height: int) -> None:
    plan = plan_or_none(width, height)
    if plan is None:
        return
    assert (plan.width, plan.height) == (width, height)
    assert plan.exact
    assert sizes.is_legal(plan.canvas_width, plan.canvas_height)


@given(edges, edges)
def test_a_plan_is_native_exactly_for_legal_sizes(width: int, height: int) -> None:
    plan = plan_or_none(width, height)
    native = plan is not None and plan.method is PlanMethod.NATIVE
    assert native == sizes.is_legal(width, height)


@given(edges, edges)
def test_a_crop_covers_the_size_and_loses_little(width: int, height: int) -> None:
    plan = plan_or_none(width, height)
    if plan is None or plan.method is not PlanMethod.CROP:
        return
    assert plan.canvas_width >= width
    assert plan.canvas_height >= height
    lost = 1 - width * height / (plan.canvas_width * plan.canvas_height)
    beyond_ratio = max(width, height) > 3 * min(width, height)
    assert 0 < lost <= (1 / 4 if beyond_ratio else 1 / 16)


@given(edges, edges)
def test_a_resample_keeps_the_ratio_and_enlarges_by_half_at_most(width: int, height: int) -> None:
    plan = plan_or_none(width, height)
    if plan is None or plan.method is not PlanMethod.RESAMPLE:
        return
    across, down = width / plan.canvas_width, height / plan.canvas_height
    assert across / down == pytest.approx(1, rel=0.0051)
    assert max(across, down) <= 1.5


@given(edges, edges)
def test_a_turned_size_has_the_turned_plan(width: int, height: int) -> None:
    plan, turned = plan_or_none(width, height), plan_or_none(height, width)
    if plan is None or turned is None:
        assert plan is turned
        return
    assert plan.method is turned.method
    area = plan.canvas_width * plan.canvas_height
    if plan.method is not PlanMethod.RESAMPLE:
        assert turned.canvas_width * turned.canvas_height == area


def test_a_crop_uses_the_smallest_canvas_that_covers() -> None:
    grid = range(16, 3841, 16)
    legal = [(w, h) for w in grid for h in grid if sizes.is_legal(w, h)]
    for width, height in ((1820, 1024), (1820, 780), (3840, 1640), (800, 800), (3830, 1000)):
        plan = sizes.plan_size(width, height)
        least = min(w * h for w, h in legal if w >= width and h >= height)
        assert plan.method is PlanMethod.CROP
        assert plan.canvas_width * plan.canvas_height == least


@pytest.mark.parametrize(
    ("width", "height", "described"),
    [
        (800, 800, "crop from 800x832"),  # below the least pixels, by little
        (500, 500, "resample from 816x816 x0.6127"),  # by much: a crop would lose most of it
        (3840, 1000, "crop from 3840x1280"),  # a banner beyond 3:1
        (4000, 2250, "resample from 3840x2160 x1.0417"),
        (4320, 4320, "resample from 2880x2880 x1.5000"),
        (3839, 2160, "crop from 3840x2160"),
    ],
)
def test_plans_outside_the_table(width: int, height: int, described: str) -> None:
    assert sizes.plan_size(width, height).describe() == described


@pytest.mark.parametrize(("width", "height"), [(4336, 4336), (10, 1000), (4000, 1000), (6000, 400)])
def test_what_cannot_be_made_is_refused_with_the_nearest_size(width: int, height: int) -> None:
    with pytest.raises(InvalidValue) as caught:
        sizes.plan_size(width, height)
    assert caught.value.param == "size"
    advised = re.findall(r"is drawn is (\d+)x(\d+)", caught.value.message)
    assert len(advised) == 1
    assert sizes.is_legal(int(advised[0][0]), int(advised[0][1]))
