"""The bench's arithmetic, promises, books, tables and plots: pure, from counts made up here."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from safelight.bench import bars, contenders, plots, result, run, tables
from safelight.bench.contenders import CONTENDERS, Places
from safelight.bench.workloads import WORKLOADS, workload

DIRECT = result.Latency(p50=1.0, p99=2.0, samples=3)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 99, 4.0),
        ([float(n) for n in range(1, 201)], 99, 198.0),
        ([1.0, 2.0], 0, 1.0),
    ],
)
def test_percentiles_are_nearest_rank(
    values: Sequence[float], percent: float, expected: float
) -> None:
    assert result.percentile(values, percent) == expected


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no value"):
        result.percentile([], 50)


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [(6.0, 2.0, 3.0), (None, 2.0, None), (6.0, None, None), (6.0, 0.0, None)],
)
def test_a_ratio_of_what_is_not_measured_is_none(
    above: float | None, below: float | None, expected: float | None
) -> None:
    assert result.ratio(above, below) == expected


def test_a_median_needs_all_values() -> None:
    """One round that was not measured makes the median of all of them unknown."""
    assert result.median([3.0, 1.0, 2.0]) == 2.0
    assert result.median([3.0, None, 2.0]) is None
    assert result.median([]) is None


def counted(name: str, *cpu_s: float | None, answered: int = 10) -> result.Counted:
    turns = [result.Turn(asked=10, answered=answered, cpu_s=spent, seconds=2.0) for spent in cpu_s]
    latencies = [3.0, 5.0, 9.0]
    return result.Counted(
        contender=name, turns=turns, latencies_ms=latencies, idle_mb=90.0, over_idle_mb=7.0
    )


def standings(*found: result.Counted) -> dict[str, result.Standing]:
    return {one.contender: one for one in result.standings(found, DIRECT, "nginx")}


def test_a_standing_relates_medians_of_rounds() -> None:
    """CPU is per picture, ratios are of medians, the spread is that of the single rounds."""
    found = standings(
        counted("gateway", 0.100, 0.800, 0.200),
        counted("nginx", 0.010, 0.020, 0.040),
        counted("litellm", 0.400, 0.400, 0.500),
    )
    gateway, nginx, litellm = found["gateway"], found["nginx"], found["litellm"]
    assert (gateway.cpu_ms, nginx.cpu_ms, litellm.cpu_ms) == (20.0, 2.0, 40.0)
    assert (gateway.to_nginx, litellm.to_nginx, nginx.to_nginx) == (10.0, 20.0, 1.0)
    assert (gateway.gateway_to_it, litellm.gateway_to_it) == (1.0, 0.5)
    spread = [nginx.gateway_to_it_lowest, nginx.gateway_to_it_highest]
    assert spread == pytest.approx([5.0, 40.0])
    assert (gateway.per_s, gateway.busy) == (5.0, 0.1)
    assert gateway.added_ms == result.Latency(p50=4.0, p99=7.0, samples=3)
    assert (gateway.idle_mb, gateway.over_idle_mb) == (90.0, 7.0)


def test_where_cpu_cannot_be_measured_no_ratio_is_claimed() -> None:
    found = standings(counted("gateway", None), counted("nginx", 0.1))
    assert found["gateway"].cpu_ms is None
    assert found["nginx"].gateway_to_it is None


def test_who_answers_nothing_has_no_cpu_a_picture() -> None:
    found = standings(counted("gateway", 0.1), counted("litellm", 0.5, answered=0))
    assert found["litellm"].cpu_ms is None
    assert (found["litellm"].asked, found["litellm"].answered) == (10, 0)


def test_failures_and_peaks_of_rounds_come_together() -> None:
    turns = [
        result.Turn(
            asked=4,
            answered=2,
            cpu_s=1.0,
            seconds=1.0,
            failures={"503": 1, "unanswered": 1},
            at_once=at_once,
            over_idle_mb=mb,
        )
        for at_once, mb in ((4, 30.0), (3, 50.0), (4, 40.0))
    ]
    (found,) = result.standings([result.Counted(contender="gateway", turns=turns)], None, "nginx")
    assert found.failures == {"503": 3, "unanswered": 3}
    assert (found.at_once, found.over_idle_mb, found.added_ms) == (3, 40.0, None)


# --- promises ---


def played(name: str, *found: result.Standing) -> result.WorkloadResult:
    return result.workload_result(workload(name), 32, found, None)


def verdict(name: str, measure: str, *found: result.Standing) -> result.Verdict:
    (one,) = [one for one in bars.verdicts([played(name, *found)]) if one.measure == measure]
    return one


@pytest.mark.parametrize(("ratio", "kept"), [(0.25, True), (0.26, False), (None, None)])
def test_a_ratio_is_held_against_its_bar(ratio: float | None, kept: bool | None) -> None:
    found = verdict(
        "2mb",
        "CPU, of LiteLLM's",
        result.Standing(contender="gateway"),
        result.Standing(contender="litellm", gateway_to_it=ratio),
    )
    assert (found.value, found.kept, found.must) == (ratio, kept, 0.25)


def test_one_order_without_an_answer_breaks_a_promise() -> None:
    gateway = result.Standing(contender="gateway", asked=5000, answered=4999)
    assert verdict("waiting", "not answered", gateway).kept is False


def test_without_the_gateway_nothing_is_promised() -> None:
    assert bars.verdicts([played("2mb", result.Standing(contender="nginx"))]) == ()


# --- books ---


def books(**changed: int) -> result.Books:
    right = result.Books(
        answered=2,
        sold_by_upstream=2,
        settled=2,
        distinct_pictures=2,
        charged_micros=60_000,
        stored_bytes=2 * 768,
    )
    return msgspec.structs.replace(right, **changed)


def test_right_books_have_no_fault() -> None:
    assert run.wrong_books(books(), workload("1kb"), failed=False) == ""


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"distinct_pictures": 1}, "one picture"),
        ({"charged_micros": 30_000}, "price"),
        ({"answered": 3}, "delivered"),
        ({"answered": 1}, "delivered"),
        ({"sold_by_upstream": 1}, "bought"),
        ({"sold_by_upstream": 3}, "bought"),
        ({"stored_bytes": 768}, "store"),
        ({"stored_bytes": 3 * 768}, "store"),
    ],
)
def test_books_that_do_not_fit_are_found(changed: dict[str, int], word: str) -> None:
    assert word in run.wrong_books(books(**changed), workload("1kb"), failed=False)


def test_after_failures_more_may_be_settled_than_delivered_but_never_less() -> None:
    assert run.wrong_books(books(answered=1), workload("1kb"), failed=True) == ""
    assert run.wrong_books(books(answered=3), workload("1kb"), failed=True) != ""


def test_inputs_of_edits_are_stored_too() -> None:
    edits = workload("edits")
    kept = 2 * edits.weight.picture_bytes + 4096
    assert run.wrong_books(books(stored_bytes=kept), edits, failed=False) == ""


# --- who takes part ---


def plan(**wanted: object) -> run.Plan:
    return run.Plan(workloads=WORKLOADS, contenders=CONTENDERS, **wanted)  # type: ignore[arg-type]


def test_peers_that_are_not_installed_are_left_out_with_a_word(tmp_path: Path) -> None:
    found = plan(places=Places(tmp_path / "litellm", tmp_path))
    assert "LiteLLM" in found.skipped()["litellm"]
    assert "Portkey" in found.skipped()["portkey"]
    assert {"litellm", "portkey"}.isdisjoint(found.taking_part(workload("2mb")))


def test_only_the_gateway_has_links_and_jobs() -> None:
    assert plan().taking_part(workload("url")) == ("gateway",)
    assert plan().taking_part(workload("jobs")) == ("gateway",)


def test_the_naive_way_is_for_plain_loads() -> None:
    assert "naive" in plan().taking_part(workload("1kb"))
    assert "naive" not in plan().taking_part(workload("waiting"))
    assert "naive" not in plan().taking_part(workload("edits"))


def test_a_stretch_ends_unless_its_length_was_asked_for() -> None:
    assert plan().limit_s < 60
    assert plan(requests=5).limit_s == float("inf")


# --- configurations ---


def test_contenders_are_pointed_at_the_mock_alone(tmp_path: Path) -> None:
    """None of them is told any other address."""
    nginx = contenders.nginx_conf(1234, 5678, tmp_path)
    assert "server 127.0.0.1:1234;" in nginx
    assert "listen 127.0.0.1:5678" in nginx
    assert str(tmp_path) in nginx
    ours = msgspec.toml.decode(contenders.safelight_toml(1234))
    (account,) = ours["accounts"]
    assert account["base_url"] == "http://127.0.0.1:1234/gateway/v1"
    (model,) = contenders.litellm_config(1234)["model_list"]
    assert model["litellm_params"]["api_base"] == "http://127.0.0.1:1234/v1"


# --- tables and plots ---


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.2, "1/5"), (1.0, "1"), (12.34, "12.3"), (0.0, "-")]
)
def test_ratios_below_one_are_written_as_fractions(value: float | None, shown: str) -> None:
    assert tables.part(value) == shown


@pytest.mark.parametrize("name", ["2mb", "waiting", "burst-2mb"])
def test_every_workload_has_a_table_with_a_row_for_each_contender(name: str) -> None:
    shown = tables.workload_table(
        played(name, *(result.Standing(contender=one) for one in CONTENDERS))
    )
    assert [row[0] for row in shown.rows] == list(CONTENDERS)
    assert {len(row) for row in shown.rows} == {len(shown.headings)}


def test_pictures_a_second_of_an_idle_contender_are_a_lower_bound() -> None:
    idle = result.Standing(contender="nginx", per_s=100.0, busy=0.3)
    full = result.Standing(contender="relay", per_s=50.0, busy=0.99)
    shown = tables.workload_table(played("2mb", idle, full))
    at = shown.headings.index("a second")
    assert [row[at] for row in shown.rows] == ["≥ 100", "50"]


def test_failures_are_said_beside_the_table() -> None:
    found = result.Standing(
        contender="litellm", asked=9, answered=7, failures={"503": 2}, error="it has ended"
    )
    assert tables.remarks(played("2mb", found)) == [
        "litellm: it has ended",
        "litellm: 7 of 9 answered; 2 x 503",
    ]


def test_promises_are_shown_with_their_marks() -> None:
    gateway = result.Standing(contender="gateway", asked=5, answered=5, waiting_kb=40.0)
    shown = tables.verdict_table(bars.verdicts([played("waiting", gateway)]))
    signs = {row[1]: row[-1] for row in shown.rows}
    assert signs == {"not answered": "✓", "memory a waiting request": "✗", "late, p99": ""}


def test_taller_values_are_taller_bars() -> None:
    """On either axis; what is not measured is a dash without a bar."""
    bars_shown = (plots.Bar("gateway", 2.0), plots.Bar("nginx", 8.0), plots.Bar("litellm", None))
    for logarithmic in (True, False):
        chart = plots.Chart("CPU", (("2mb", bars_shown),), logarithmic=logarithmic)
        drawn = plots.svg(chart)
        tall = {
            name: float(drawn.split(f'" fill="{colour}"')[-2].rpartition('height="')[2])
            for name, colour in plots.COLOURS.items()
            if name in {"gateway", "nginx", "litellm"}
        }
        assert tall["nginx"] > tall["gateway"] > tall["litellm"] == 0.0
        assert ">-</text>" in drawn


@pytest.mark.parametrize("highest", [0.094, 1.0, 3.0, 7.0, 157.0, 20_000.0])
def test_an_axis_of_memory_has_a_few_lines_and_begins_at_nothing(highest: float) -> None:
    chart = plots.Chart("MB", (("2mb", (plots.Bar("gateway", highest),)),), logarithmic=False)
    drawn = plots.svg(chart)
    assert 4 <= drawn.count("<line ") <= 8
    assert ">0</text>" in drawn


def test_a_plot_is_a_picture_of_its_size() -> None:
    pytest.importorskip("pyvips")
    chart = plots.Chart("CPU", (("2mb", (plots.Bar("gateway", 2.0),)),))
    data = plots.png(plots.svg(chart))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (1500, 630)


def test_what_has_no_value_is_not_drawn() -> None:
    found = played("2mb", result.Standing(contender="gateway", cpu_ms=2.0))
    report = result.Report(
        version="1",
        versions={},
        machine=result.Machine(system="x", processor="y", cpus=2, python="3"),
        pinned=True,
        rounds=1,
        quick=False,
        took_s=1.0,
        skipped={},
        workloads=(found,),
        verdicts=(),
    )
    assert set(plots.draw(report)) == {"cpu.png"}
    assert not report.missed
