"""What a quote tells of a pool's pace: the sums of its groups, as far as they are usable now."""

from __future__ import annotations

import math

from pool_desk import NEED, VIP, account, fault, lease, pool
from safelight.clock import ManualClock
from safelight.errors import FaultClass
from safelight.gateway.forecast import Forecast
from safelight.gateway.orders import Outlook
from safelight.pool import Need
from safelight.types import ImageRequest, Operation


def test_groups_are_added_up_and_accounts_of_one_group_are_not() -> None:
    """Keys of one organisation share one limit."""
    p, _ = pool(
        account("a", group="one", images_per_minute=60.0),
        account("b", group="one", images_per_minute=60.0),
        account("c", group="two", images_per_minute=30.0),
    )
    pace = p.pace(NEED)
    assert pace is not None
    assert (pace.per_minute, pace.burst, pace.window_s) == (90.0, 12 + 6, 61.0)
    assert pace.at_once == math.inf


def test_what_was_sent_is_no_burst_any_more() -> None:
    """And none while the group cools after a refusal."""
    p, _ = pool(account("a", images_per_minute=60.0, max_in_flight=40))
    leases = [lease(p) for _ in range(5)]
    pace = p.pace(NEED)
    assert pace is not None
    assert (pace.burst, pace.at_once) == (7, 40)
    p.release(leases[0], fault(FaultClass.THROTTLED, retry_after_s=60))
    cooling = p.pace(NEED)
    assert cooling is not None
    assert cooling.burst == 0


def test_a_limit_of_inputs_bounds_edits() -> None:
    """Four inputs each, forty a minute: ten edits."""
    p, _ = pool(account("a", images_per_minute=60.0, input_images_per_minute=40.0))
    pace = p.pace(Need(VIP, edits=True, inputs=4))
    assert pace is not None
    assert (pace.per_minute, pace.burst) == (10.0, 2)


def test_without_an_account_there_is_no_pace() -> None:
    """And the quote says that nobody serves it; unknown limits are told as none."""
    p, clock = pool(account("a"))
    assert p.pace(Need("another channel")) is None
    request = ImageRequest(
        channel="another channel", operation=Operation.GENERATION, prompt="a", size="auto"
    )
    forecast = Forecast(p, clock)
    assert forecast.outlook(request, "auto", waiting=2) == Outlook(serves=False, waiting=2)
    open_pool, clock = pool(account("a"))
    served = ImageRequest(channel=VIP, operation=Operation.GENERATION, prompt="a", size="auto")
    told = Forecast(open_pool, ManualClock()).outlook(served, "auto", waiting=0)
    assert (told.serves, told.images_per_minute, told.burst, told.at_once) == (
        True,
        None,
        None,
        None,
    )
