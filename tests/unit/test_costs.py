"""Vendor costs: tokens times prices in whole micro-dollars, nothing guessed; the margin's watch."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.clock import ManualClock
from safelight.costs import (
    ALARM_PAUSE_S,
    MARGIN_WINDOW,
    MARGIN_WINDOW_MIN,
    MarginWatch,
    prices_as_of,
    vendor_cost_micros,
)
from safelight.types import Account, Usage

HIGH_SQUARE = Usage(
    input_tokens=40, output_tokens=7024, input_text_tokens=40, output_image_tokens=7024
)


def account(model: str = "gpt-image-2", **more: object) -> Account:
    values: dict[str, object] = {"upstream": "openai", "group": "g", "channels": (), **more}
    return Account(name="a", model=model, **values)  # type: ignore[arg-type]


def test_a_picture_costs_its_tokens_at_the_vendors_prices() -> None:
    """40 text tokens at $5 and 7,024 image tokens at $30 a million are $0.21092."""
    assert vendor_cost_micros(account(), HIGH_SQUARE) == 200 + 210_720


def test_every_kind_of_token_has_its_own_price() -> None:
    """Input pictures cost more than text, and gpt-image-1.5 bills the text it writes."""
    usage = Usage(
        input_tokens=1100,
        input_text_tokens=100,
        input_image_tokens=1000,
        output_tokens=2010,
        output_image_tokens=2000,
        output_text_tokens=10,
    )
    assert vendor_cost_micros(account(), usage) == 500 + 8_000 + 60_000 + 300
    assert vendor_cost_micros(account("gpt-image-1.5"), usage) == 500 + 8_000 + 64_000 + 100


def test_without_details_input_is_text_and_output_is_image() -> None:
    usage = Usage(input_tokens=10, output_tokens=100)
    assert vendor_cost_micros(account(), usage) == 50 + 3_000


def test_a_part_of_a_micro_dollar_is_rounded_up() -> None:
    """Half a micro-dollar is one: no cost is lost in many small ones."""
    assert vendor_cost_micros(account("gpt-image-1-mini"), Usage(output_tokens=1)) == 8
    odd = Usage(input_image_tokens=1, input_tokens=1, output_tokens=1)
    assert vendor_cost_micros(account("gpt-image-1-mini"), odd) == 11


@given(
    st.builds(
        Usage,
        input_tokens=st.integers(0, 10**6),
        output_tokens=st.integers(1, 10**6),
        input_image_tokens=st.integers(0, 10**6),
        output_image_tokens=st.integers(0, 10**6),
    )
)
def test_a_cost_is_a_whole_number_and_never_below_the_output(usage: Usage) -> None:
    """Whatever an upstream counts, the image tokens at least are paid for."""
    cost = vendor_cost_micros(account(), usage)
    assert isinstance(cost, int)
    assert cost >= 30 * max(usage.output_tokens, usage.output_image_tokens)


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt-image-2", True),
        ("gpt-image-2-2026-04-21", True),
        ("gpt-image-2.5-sunburst-2026-09-08", True),
        ("gpt-image-2.6-flare", False),
        ("gpt-image-2-turbo", False),
        ("gpt-image-20", False),
        ("my-deployment", False),
    ],
)
def test_only_a_date_may_follow_the_name_of_a_family(model: str, known: bool) -> None:
    """A dated snapshot has its family's prices; another name is another model."""
    assert (vendor_cost_micros(account(model), HIGH_SQUARE) is not None) == known


def test_a_family_is_not_taken_for_its_cheaper_sister() -> None:
    mini = vendor_cost_micros(account("gpt-image-1-mini-2025-10-06"), HIGH_SQUARE)
    assert (mini, vendor_cost_micros(account("gpt-image-1"), HIGH_SQUARE)) == (56_272, 281_160)


def test_what_nobody_counted_has_no_cost() -> None:
    """No usage, or a usage of zeros, is unknown; it is not free."""
    assert vendor_cost_micros(account(), None) is None
    assert vendor_cost_micros(account(), Usage()) is None
    assert vendor_cost_micros(account(), Usage(input_tokens=30, total_tokens=30)) is None


def test_the_operators_own_cost_comes_first() -> None:
    """`image_cost_micros` stands above every count; proofs cost nothing."""
    own = account("local-model", image_cost_micros=1_200)
    assert vendor_cost_micros(own, None) == 1_200
    assert vendor_cost_micros(account(image_cost_micros=0), HIGH_SQUARE) == 0
    assert vendor_cost_micros(account(upstream="proof"), None) == 0


def test_the_price_list_is_dated() -> None:
    assert prices_as_of() >= date(2026, 11, 22)


# --- the watch ---


def sell(watch: MarginWatch, times: int, cost: int, channel: str = "vip") -> list[float]:
    """Note pictures sold at 30,000; return the shares of the alarms."""
    alarms = [watch.note(channel, "a", 30_000, cost) for _ in range(times)]
    return [alarm.share for alarm in alarms if alarm]


def test_the_alarm_speaks_once_for_a_loss() -> None:
    """It waits for enough pictures, then says once what the window holds."""
    watch = MarginWatch(0.0, ManualClock())
    assert sell(watch, MARGIN_WINDOW_MIN - 1, 45_000) == []
    alarm = watch.note("vip", "a", 30_000, 45_000)
    assert alarm is not None
    assert (alarm.channel, alarm.account, alarm.pictures) == ("vip", "a", MARGIN_WINDOW_MIN)
    assert (alarm.revenue_micros, alarm.cost_micros) == (600_000, 900_000)
    assert alarm.share == -0.5
    assert sell(watch, 500, 45_000) == []


def test_only_the_last_hundred_pictures_count() -> None:
    """A long good past does not hide a loss of today."""
    watch = MarginWatch(0.0, ManualClock())
    assert sell(watch, 10_000, 10_000) == []
    assert sell(watch, MARGIN_WINDOW // 2, 50_000) == []
    assert sell(watch, 1, 50_000) != []


def test_a_second_fall_within_the_hour_is_told_at_its_end_if_it_lasts() -> None:
    clock = ManualClock()
    watch = MarginWatch(0.1, clock)
    assert len(sell(watch, 100, 28_000)) == 1
    assert sell(watch, 100, 10_000) == []
    clock.advance(60)
    assert sell(watch, 100, 28_000) == []
    clock.advance(ALARM_PAUSE_S)
    assert len(sell(watch, 100, 28_000)) == 1


def test_a_loss_that_goes_on_is_not_repeated() -> None:
    """An hour later there is nothing new to say."""
    clock = ManualClock()
    watch = MarginWatch(0.0, clock)
    assert len(sell(watch, 100, 40_000)) == 1
    clock.advance(2 * ALARM_PAUSE_S)
    assert sell(watch, 100, 40_000) == []


def test_each_channel_of_an_account_is_watched_by_itself() -> None:
    watch = MarginWatch(0.0, ManualClock())
    assert len(sell(watch, 100, 40_000, "vip")) == 1
    assert len(sell(watch, 100, 40_000, "all")) == 1
    assert watch.note("vip", "b", 30_000, 40_000) is None


def test_unknown_costs_and_free_channels_raise_no_alarm() -> None:
    watch = MarginWatch(0.5, ManualClock())
    assert [watch.note("vip", "a", 30_000, None) for _ in range(200)] == [None] * 200
    assert [watch.note("free", "a", 0, 5_000) for _ in range(200)] == [None] * 200
