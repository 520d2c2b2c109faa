"""The vendor's books beside ours: what agrees, and every way in which they may not."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.attempts import Attempt
from safelight.gateway.reconciling import (
    CONTRADICTIONS,
    KINDS,
    LATE_MS,
    SKEW_MS,
    NothingToCompare,
    Reconciliation,
    match_by_time,
    possible_span,
    reach,
    reconcile,
)
from safelight.vendor_usage import Bucket, Call, VendorUsage

NOON = 1_796_126_400_000
MINUTE = 60_000
DAY = 86_400_000


def attempt(number: int, *, sold: bool | None = True, **more: object) -> Attempt:
    values: dict[str, object] = {
        "sent_at": NOON + number * 1000,
        "ended_at": NOON + number * 1000 + 20_000,
        "outcome": "ok",
        "settled": bool(sold),
        "upstream_request_id": None if sold is None else f"req_{number}",
        "cost_micros": 9_000 if sold else None,
        **more,
    }
    return Attempt(
        job_id=f"job_{number}",
        epoch=1,
        k=1,
        account="a",
        group="a",
        code=None,
        sold=sold,
        **values,  # type: ignore[arg-type]
    )


def call(number: int, **more: object) -> Call:
    values: dict[str, object] = {
        "row": number + 1,
        "id": f"req_{number}",
        "at": NOON + number * 1000 + 15_000,
        "cost_micros": 9_000,
        **more,
    }
    return Call(**values)  # type: ignore[arg-type]


def compare(
    calls: list[Call],
    made: list[Attempt],
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> Reconciliation:
    return reconcile(VendorUsage(calls=tuple(calls)), made, from_ms=from_ms, to_ms=to_ms)


def kinds(found: Reconciliation) -> list[str]:
    return [one.what for one in found.differences]


# --- single calls --------------------------------------------------------------------------------


def test_equal_books_have_no_difference() -> None:
    made = [attempt(1), attempt(2, settled=False), attempt(3, sold=False)]
    found = compare([call(1), call(2)], made)
    assert found.adds_up
    assert (found.settled, found.waste, found.unknown, found.vendor) == (1, 1, 0, 2)
    assert (found.matched_by_id, found.difference, found.difference_micros) == (2, 0, 0)
    assert kinds(found) == []


def test_a_sale_without_an_attempt_is_named() -> None:
    found = compare([call(1), call(9)], [attempt(1)])
    assert kinds(found) == ["foreign"]
    assert found.differences[0].call == call(9)
    assert (found.difference, found.difference_micros, found.adds_up) == (1, 9_000, False)


def test_an_attempt_that_the_vendor_does_not_know_is_named() -> None:
    found = compare([call(1)], [attempt(1), attempt(2)])
    assert kinds(found) == ["missing"]
    assert found.differences[0].attempt == attempt(2)
    assert (found.difference, found.adds_up) == (-1, False)


def test_one_too_many_and_one_too_few_do_not_make_it_right() -> None:
    """The sums agree, the calls do not."""
    found = compare([call(1), call(9)], [attempt(1), attempt(2)])
    assert found.difference == 0
    assert kinds(found) == ["foreign", "missing"]
    assert not found.adds_up


def test_a_call_without_pictures_is_no_sale() -> None:
    """It was made and not billed: then we must not count it either."""
    assert kinds(compare([call(1, images=0)], [attempt(1, sold=False)])) == []
    assert kinds(compare([call(1, images=0)], [attempt(1)])) == ["missing"]
    assert compare([call(7, images=0)], []).vendor == 0


def test_a_sale_that_we_count_as_a_failure_is_named() -> None:
    found = compare([call(1)], [attempt(1, sold=False)])
    assert kinds(found) == ["counted_unsold"]
    assert not found.adds_up


def test_more_pictures_than_asked_for_are_named() -> None:
    found = compare([call(1, images=2)], [attempt(1)])
    assert kinds(found) == ["more_images"]
    assert (found.vendor, found.adds_up) == (2, False)


def test_another_cost_is_named_and_leaves_the_count_right() -> None:
    found = compare([call(1, cost_micros=9_001), call(2)], [attempt(1), attempt(2)])
    assert kinds(found) == ["cost"]
    assert (found.difference_micros, found.adds_up) == (1, True)


def test_a_cost_that_one_side_does_not_know_is_no_difference_between_two() -> None:
    found = compare(
        [call(1, cost_micros=None), call(2)], [attempt(1), attempt(2, cost_micros=None)]
    )
    assert kinds(found) == []
    assert (found.uncosted, found.our_cost_micros, found.vendor_cost_micros) == (1, 9_000, 9_000)


def test_the_export_proves_what_became_of_unanswered_calls() -> None:
    """One was sold after all, found by its time; of the other the vendor knows nothing."""
    made = [attempt(1), attempt(2, sold=None), attempt(100_000, sold=None)]
    found = compare([call(1), call(2, id="req_late", at=NOON + LATE_MS)], made)
    assert kinds(found) == ["unknown_sold", "unknown_unsold"]
    assert (found.unknown, found.vendor, found.difference) == (2, 2, 1)
    assert (found.matched_by_id, found.matched_by_time, found.adds_up) == (1, 1, True)


def test_a_sale_long_after_an_unanswered_call_is_not_explained_by_it() -> None:
    late = NOON + LATE_MS + 2 * SKEW_MS
    found = compare([call(1, id="req_late", at=late)], [attempt(1, sold=None)])
    assert kinds(found) == ["foreign", "unknown_unsold"]
    assert not found.adds_up


def test_an_unanswered_call_with_an_id_is_found_by_it() -> None:
    """An edge answered with the id, the model never did."""
    found = compare([call(1)], [attempt(1, sold=None, upstream_request_id="req_1")])
    assert kinds(found) == ["unknown_sold"]
    assert found.matched_by_id == 1


def test_an_export_without_ids_is_matched_by_time() -> None:
    made = [attempt(number * 600) for number in range(5)]
    calls = [call(number * 600, id=None) for number in range(5)]
    found = compare(calls, made)
    assert (found.matched_by_time, found.vendor, kinds(found)) == (5, 5, [])
    del calls[2]
    assert kinds(compare(calls, made)) == ["missing"]


def test_a_row_goes_to_the_call_that_cannot_be_a_later_one() -> None:
    """The answered call ends first; only the unanswered one can be the row minutes later."""
    made = [attempt(1, sold=None), attempt(2)]
    calls = [call(2, id=None), call(3, id=None, at=NOON + 300_000)]
    found = compare(calls, made)
    assert kinds(found) == ["unknown_sold"]
    assert found.differences[0].call == calls[1]


def test_a_call_with_neither_time_nor_known_id_is_foreign() -> None:
    assert kinds(compare([call(1, id="x", at=None)], [attempt(1)])) == ["foreign", "missing"]


# --- periods -------------------------------------------------------------------------------------


def test_a_period_leaves_its_neighbours_calls_out() -> None:
    """A call that left before the first moment was billed after it: it is the last period's."""
    before = attempt(0, sent_at=NOON - 5_000, ended_at=NOON + 15_000)
    made = [before, attempt(300)]
    found = compare([call(0), call(300)], made, from_ms=NOON, to_ms=NOON + DAY)
    assert (found.border, found.settled, found.vendor, kinds(found)) == (1, 1, 1, [])


def test_a_call_on_the_last_border_may_be_billed_in_the_next_period() -> None:
    end = NOON + DAY
    last = attempt(0, sent_at=end - 5_000, ended_at=end + 15_000)
    found = compare([], [last], from_ms=NOON, to_ms=end)
    assert (found.border, found.settled, kinds(found), found.adds_up) == (1, 0, [], True)
    inside = attempt(0, sent_at=end - DAY // 2, ended_at=end - DAY // 2 + 1000)
    assert kinds(compare([], [inside], from_ms=NOON, to_ms=end)) == ["missing"]


def test_rows_of_other_periods_are_not_counted() -> None:
    found = compare([call(1), call(2, at=NOON + 2 * DAY)], [attempt(1)], to_ms=NOON + DAY)
    assert (found.vendor, kinds(found)) == (1, [])


def test_more_is_read_than_the_period_has() -> None:
    """What left before it may be billed in it, and clocks differ."""
    begin, end = reach(VendorUsage(), NOON, NOON + DAY)
    assert begin == NOON - LATE_MS - SKEW_MS
    assert end == NOON + DAY + SKEW_MS
    assert reach(VendorUsage(), None, None)[0] == 0


# --- any history ---------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Attempt], list[Call]]:
    """Attempts, and the export of a vendor that keeps honest books of them."""
    made: list[Attempt] = []
    calls: list[Call] = []
    for number in range(draw(st.integers(0, 25))):
        sold = draw(st.sampled_from([True, True, False, None]))
        took = draw(st.integers(0, 300_000))
        sent_at = NOON + draw(st.integers(0, DAY))
        settled = sold is True and draw(st.booleans())
        made.append(
            attempt(number, sold=sold, sent_at=sent_at, ended_at=sent_at + took, settled=settled)
        )
        if sold or (sold is None and draw(st.booleans())):
            at = sent_at + draw(st.integers(0, took))
            calls.append(call(number, at=at))
    random.Random(draw(st.integers())).shuffle(calls)
    return made, calls


@given(histories())
def test_honest_books_always_add_up(history: tuple[list[Attempt], list[Call]]) -> None:
    made, calls = history
    found = compare(calls, sorted(made, key=lambda one: one.sent_at))
    assert found.adds_up
    assert not set(kinds(found)) & set(CONTRADICTIONS)
    assert found.vendor == len(calls)
    assert found.vendor is not None
    assert found.ours <= found.vendor <= found.ours + found.unknown
    # Each unanswered call that the vendor sold is found, whichever of them it is taken for.
    assert len(found.of("unknown_sold")) == found.difference


@given(histories(), st.data())
def test_a_changed_export_never_passes(
    history: tuple[list[Attempt], list[Call]], data: st.DataObject
) -> None:
    """A removed sale, an added one and a changed cost are each named by their own id."""
    made, calls = history
    made.sort(key=lambda one: one.sent_at)
    sold = [one for one in made if one.sold]
    if sold:
        gone = data.draw(st.sampled_from(sold))
        fewer = [one for one in calls if one.id != gone.upstream_request_id]
        found = compare(fewer, made)
        assert [one.attempt for one in found.of("missing")] == [gone]
        assert not found.adds_up
        dearer = [
            call(0, id=one.id, row=one.row, at=one.at, cost_micros=9_001)
            if one.id == gone.upstream_request_id
            else one
            for one in calls
        ]
        assert [one.attempt for one in compare(dearer, made).of("cost")] == [gone]
    extra = call(999, id="req_extra", at=NOON - DAY)
    found = compare([*calls, extra], made)
    assert [one.call for one in found.of("foreign")] == [extra]
    assert not found.adds_up


@given(histories())
def test_matching_by_time_is_as_large_as_any(
    history: tuple[list[Attempt], list[Call]],
) -> None:
    """Against augmenting paths, which find the largest matching by search."""
    made, calls = history
    wanted = [one for one in made if one.sold is None]
    calls = [call(at, id=None, at=one.at) for at, one in enumerate(calls)]
    greedy = match_by_time(calls, enumerate(wanted))
    assert len(greedy) == _largest(calls, wanted)
    for place, found in greedy.items():
        first, last = possible_span(wanted[place])
        assert found.at is not None
        assert first <= found.at <= last


def _largest(calls: list[Call], made: list[Attempt]) -> int:
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for number, one in enumerate(made):
            first, last = possible_span(one)
            if number in tried or not first <= (calls[row].at or 0) <= last:
                continue
            tried.add(number)
            if number not in owner or place(owner[number], tried):
                owner[number] = row
                return True
        return False

    return sum(place(row, set()) for row in range(len(calls)))


# --- sums over time ------------------------------------------------------------------------------


def sums(
    images: list[int] | None = None, costs: list[int] | None = None, width: int = DAY
) -> VendorUsage:
    def buckets(amounts: list[int]) -> tuple[Bucket, ...]:
        begin = NOON - width // 2
        return tuple(
            Bucket(start=begin + at * width, end=begin + (at + 1) * width, amount=amount)
            for at, amount in enumerate(amounts)
        )

    return VendorUsage(images=buckets(images or []), costs=buckets(costs or []))


def test_sums_of_pictures_lie_between_what_was_sold_and_what_may_have_been() -> None:
    made = [attempt(1), attempt(2, settled=False), attempt(3, sold=None), attempt(4, sold=False)]
    for count, fits in ((1, False), (2, True), (3, True), (4, False)):
        found = reconcile(sums([count]), made)
        assert found.adds_up is fits
        assert [(one.at_least, one.at_most) for one in found.spans] == [(2, 3)]
    assert (found.settled, found.waste, found.unknown, found.difference) == (1, 1, 1, 2)


def test_what_lies_on_a_border_may_be_in_either_bucket_but_not_in_none() -> None:
    """Each bucket alone allows it; both together do not."""
    made = [attempt(0, sent_at=NOON + DAY // 2 - 1000, ended_at=NOON + DAY // 2 + 1000)]
    assert reconcile(sums([1, 0]), made).adds_up
    assert reconcile(sums([0, 1]), made).adds_up
    neither = reconcile(sums([0, 0]), made)
    assert [one.fits for one in neither.spans] == [True, True, False]
    assert not neither.adds_up
    assert not reconcile(sums([1, 1]), made).adds_up


def test_minutes_are_compared_one_by_one_and_as_a_whole() -> None:
    made = [attempt(number * 60) for number in range(30)]
    counts = [0] * 60
    for one in made:
        counts[(one.ended_at or 0) // MINUTE - (NOON - 30 * 1000) // MINUTE] += 1
    found = reconcile(sums(counts, width=MINUTE), made)
    assert found.vendor == 30
    assert len(found.spans) == 61
    assert found.adds_up
    counts[10] += 5
    found = reconcile(sums(counts, width=MINUTE), made)
    assert [one.fits for one in found.spans].count(False) == 2


def test_costs_over_time_are_compared_with_what_we_know() -> None:
    made = [attempt(1), attempt(2), attempt(3, cost_micros=None)]
    found = reconcile(sums([3], [18_500]), made)
    assert (found.our_cost_micros, found.vendor_cost_micros, found.uncosted) == (18_000, 18_500, 1)
    assert found.difference_micros == 500
    assert found.adds_up, "money is told, pictures decide"
    assert [one.fits for one in found.spans if one.money] == [False]


def test_costs_alone_add_up_to_the_cent() -> None:
    made = [attempt(1), attempt(2)]
    assert reconcile(sums(costs=[18_000 + 9_999]), made).adds_up
    found = reconcile(sums(costs=[18_000 + 10_000]), made)
    assert not found.adds_up
    assert found.vendor is None


def test_attempts_outside_the_sums_are_not_compared() -> None:
    made = [attempt(1), attempt(0, sent_at=NOON + 5 * DAY, ended_at=NOON + 5 * DAY)]
    found = reconcile(sums([1]), made)
    assert (found.settled, found.adds_up) == (1, True)


def test_sums_that_reach_out_of_the_period_are_left_out() -> None:
    begin = NOON - DAY // 2
    found = reconcile(sums([7, 1, 7]), [attempt(86_400)], from_ms=begin + 1, to_ms=begin + 2 * DAY)
    assert (found.vendor, found.settled, found.adds_up) == (1, 1, True)


def test_a_period_without_a_sum_is_no_comparison() -> None:
    with pytest.raises(NothingToCompare):
        reconcile(sums([1]), [attempt(1)], from_ms=NOON, to_ms=NOON + 1)


def test_what_was_sold_between_the_sums_is_not_passed_over() -> None:
    """A page is missing: nobody has compared what lies there."""
    made = [attempt(1), attempt(86_400), attempt(2 * 86_400)]
    whole = sums([1, 1, 1])
    assert reconcile(whole, made).adds_up
    found = reconcile(VendorUsage(images=(whole.images[0], whole.images[2])), made)
    assert (found.outside, found.adds_up) == (1, False)
    begin = whole.images[0].start
    found = reconcile(sums([1, 1]), made, from_ms=begin, to_ms=begin + 3 * DAY)
    assert (found.outside, found.adds_up) == (1, False)


def test_what_a_failed_call_cost_is_on_the_bill() -> None:
    """Sold no picture and billed nevertheless: money, not a picture."""
    found = compare([call(1, images=0, cost_micros=50)], [attempt(1, sold=False)])
    assert (found.vendor, found.vendor_cost_micros, found.adds_up) == (0, 50, True)
    assert compare([call(9, images=0, cost_micros=50)], []).difference_micros == 50


def test_every_contradiction_has_a_meaning_for_people() -> None:
    assert set(CONTRADICTIONS) < set(KINDS)
