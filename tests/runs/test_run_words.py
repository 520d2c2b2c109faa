"""What a run says: amounts, times, and lines of progress where there is no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from safelight.cli.run_progress import Display
from safelight.cli.run_report import dollars, duration
from safelight.client.runs import Snapshot
from safelight.client.runs.speed import Speed


@pytest.mark.parametrize(
    ("micros", "words"),
    [(0, "$0.00"), (30_000, "$0.03"), (900_000, "$0.90"), (1_234_567, "$1.234567")],
)
def test_amounts_have_two_digits_or_all_of_them(micros: int, words: str) -> None:
    """Nothing is rounded away."""
    assert dollars(micros) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_times_are_told_as_people_say_them(seconds: float, words: str) -> None:
    """As exact as it matters."""
    assert duration(seconds) == words


def test_a_log_gets_a_line_for_each_tenth() -> None:
    """Not one for each picture; what went wrong is on it."""
    text = io.StringIO()
    display = Display(quiet=False, console=Console(file=text, width=200))
    with display:
        display.begin(100, 0)
        for done in range(1, 101):
            display.changed(
                Snapshot(100, accepted=done, running=3, cost_micros=done * 30_000, rerolls=2)
            )
    lines = text.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[-1] == "100 of 100 done, 3 running, $3.00, 2 re-rolls"


def test_nothing_is_shown_beside_json() -> None:
    """Neither progress nor remarks."""
    text = io.StringIO()
    with Display(quiet=True, console=Console(file=text)) as display:
        display.begin(10, 0)
        display.changed(Snapshot(10, accepted=10))
        display.said("a remark")
    assert not text.getvalue()


def test_the_time_left_is_the_forecast_until_there_is_better() -> None:
    """A measured forecast counts for a minute; one that was assumed until five pictures came."""
    _, left_s = Speed(100.0, trusted=True).of(50, 50)
    assert left_s == pytest.approx(100.0, abs=1)
    rate, left_s = Speed(100.0, trusted=False).of(50, 50)
    assert left_s == pytest.approx(50 * 60 / rate)
    assert Speed(None, trusted=False).of(1, 5)[1] is None
    assert Speed(None, trusted=False).of(5, 0)[1] == 0.0
