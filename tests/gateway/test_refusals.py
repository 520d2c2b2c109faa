"""Customers whose prompts are refused again and again."""

from __future__ import annotations

from gateway.house import House
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.refusals import Refusals
from safelight.types import JobState


def test_a_customer_has_too_many_for_an_hour_and_is_told_of_once() -> None:
    refusals = Refusals(2)
    assert [refusals.note("a", at) for at in (0.0, 10.0, 20.0, 30.0)] == [False, False, True, False]
    assert refusals.too_many("a", 100.0)
    assert not refusals.too_many("b", 100.0)
    # 10 s later than an hour after the second one, two are left.
    assert not refusals.too_many("a", 3615.0)
    assert not refusals.too_many("a", 9000.0)


async def test_refused_prompts_are_counted_and_nothing_else_is(house: House) -> None:
    def fault(code: str) -> UpstreamError:
        return UpstreamError(FaultClass.CLIENT, code, "No.", final_status=400)

    house.upstream.steps = [fault("invalid_value"), *(fault("moderation_blocked") for _ in "ab")]
    for _ in range(3):
        (job,) = await house.buy()
        assert job.state is JobState.FAILED
    now = house.clock.monotonic()
    bound = house.parts.refusals
    assert not bound.too_many("cus_1", now)
    for _ in range(18):
        bound.note("cus_1", now)
    assert not bound.too_many("cus_1", now)
    assert bound.note("cus_1", now)
    (job,) = await house.buy()
    assert job.state is JobState.COMPLETED  # it is served all the same
