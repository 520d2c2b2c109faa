"""Counts, their text, and the files that name them: page, dashboard and rules agree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from safelight.api import ROUTES
from safelight.api.route_classes import ROUTE_CLASSES, route_class
from safelight.clock import ManualClock
from safelight.config_watch import AlertsConfig
from safelight.gateway.alerting import RULES
from safelight.gateway.probing import CAUSES
from safelight.metrics import Metrics, Window, catalogue, exposition, status_class
from safelight.metrics.catalogue import CATALOGUE
from safelight.metrics.exposition import Sample

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
DASHBOARD = (ROOT / "deploy/grafana/safelight.json").read_text()
RULES_FILE = (ROOT / "deploy/prometheus/rules.yml").read_text()
PROCESS = {
    *("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_max_fds"),
    *("process_cpu_seconds_total", "process_start_time_seconds", "process_open_fds"),
}
"""What the maintained client tells of a process, under its usual names."""


def written(metrics: Metrics, *gauges: Sample) -> dict[str, float]:
    """Return every sample of the text by its name and labels."""
    _, text = exposition.write(metrics, gauges, "")
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): (
            sample.value
        )
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_what_was_counted_is_written() -> None:
    metrics = Metrics(ManualClock())
    metrics.attempt_ended("a", "org", "ok")
    metrics.attempt_ended("a", "org", "ok")
    metrics.answered("images", "429")
    found = written(metrics, Sample(catalogue.JOBS_WAITING, 7))
    assert found["safelight_attempts_total account=a group=org outcome=ok"] == 2
    assert found["safelight_answers_total route=images status=429"] == 1
    assert found["safelight_visible_errors_total route=images status=429"] == 1
    assert found["safelight_jobs_waiting"] == 7
    assert found["safelight_database_refusals_total"] == 0


def test_a_bucket_takes_what_is_at_most_its_bound() -> None:
    metrics = Metrics(ManualClock())
    for seconds in (0.5, 1.0, 120.0, 120.5, 999.0):
        metrics.generation.observe(seconds, "vip")
    found = written(metrics)
    bucket = "safelight_generation_seconds_bucket channel=vip le="
    assert [found[bucket + le] for le in ("1.0", "2.0", "120.0", "150.0", "300.0", "+Inf")] == [
        *(2, 2, 3, 4, 4, 5)
    ]
    assert found["safelight_generation_seconds_sum channel=vip"] == 1241.0
    assert found["safelight_generation_seconds_count channel=vip"] == 5


def test_a_window_forgets() -> None:
    clock = ManualClock()
    window = Window(clock, 300)
    assert window.ratio() is None
    window.add(1.0)
    clock.advance(200)
    window.add(0.0)
    assert window.sums() == (1.0, 2.0)
    clock.advance(105)
    assert window.sums() == (0.0, 1.0)
    clock.advance(300)
    assert window.ratio() is None


def test_429_is_an_error_that_is_seen_and_no_5xx() -> None:
    metrics = Metrics(ManualClock())
    for status in (200, 429, 503, 404):
        metrics.answered("images", status_class(status))
    metrics.answered("facts", "5xx")
    assert metrics.recent_visible.sums() == (1.0, 4.0)
    assert sum(metrics.visible_errors.values.values()) == 3


def test_openmetrics_is_written_for_who_asks_and_nonsense_is_no_error() -> None:
    metrics = Metrics(ManualClock())
    kind, text = exposition.write(metrics, (), "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    for accept in ("", "*/*", "text/plain; version=x.y", "\x00;;=,"):
        assert exposition.write(metrics, (), accept)[0].startswith("text/plain")


# --- names ---------------------------------------------------------------------------------------


def test_names_have_one_form_and_are_unique() -> None:
    names = [family.name for family in CATALOGUE]
    assert len(set(names)) == len(names)
    for family in CATALOGUE:
        assert re.fullmatch(r"safelight_[a-z0-9_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert bool(family.buckets) == (family.kind == "histogram")


def test_every_counter_and_histogram_of_the_catalogue_is_counted() -> None:
    metrics = Metrics(ManualClock())
    counted = {one.family.name for one in metrics.tallies()}
    counted |= {one.family.name for one in metrics.histograms()}
    assert counted == {family.name for family in CATALOGUE if family.kind != "gauge"}


def test_every_metric_is_documented_with_its_labels_and_nothing_else_is() -> None:
    rows = re.findall(r"^\| `(safelight_\w+)` \| ([\w, ]*?) ?\| \S", PAGE, re.MULTILINE)
    assert dict(rows) == {family.name: ", ".join(family.labels) for family in CATALOGUE}
    assert len(rows) == len(CATALOGUE)
    assert set(re.findall(r"`(process_\w+)`", PAGE)) == PROCESS


def names_of(expression: str) -> set[str]:
    """Return the metrics of an expression, without the endings of a histogram's series."""
    found = set(re.findall(r"\b(?:safelight|process)_[a-z0-9_]+", expression))
    histograms = {family.name for family in CATALOGUE if family.kind == "histogram"}
    endings = re.compile(r"_(bucket|sum|count)$")
    return {
        endings.sub("", name) if endings.sub("", name) in histograms else name for name in found
    }


def labels_of(expression: str) -> set[str]:
    return set(re.findall(r"(\w+)=~?\"", expression))


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD)["panels"]
    rules = [rule for group in yaml.safe_load(RULES_FILE)["groups"] for rule in group["rules"]]
    return [
        *(target["expr"] for panel in panels for target in panel["targets"]),
        *(rule["expr"] for rule in rules),
    ]


def test_the_dashboard_and_the_rules_ask_for_metrics_that_exist() -> None:
    known = {family.name for family in CATALOGUE} | PROCESS
    asked: set[str] = set().union(*(names_of(one) for one in expressions()))
    assert asked - known == set()
    # The other way round: what nobody would ever look at need not be counted.
    unseen = known - asked - (PROCESS - {"process_resident_memory_bytes"})
    assert unseen == {
        *("safelight_generation_mean_seconds", "safelight_visible_error_ratio"),
        *("safelight_hidden_error_ratio", "safelight_link_download_success_ratio"),
        *("safelight_probe_download_seconds", "safelight_webhooks_disabled_total"),
    }
    labels = {label for family in CATALOGUE for label in family.labels} | {"le"}
    assert set().union(*(labels_of(one) for one in expressions())) <= labels


def test_the_dashboard_asks_for_recorded_numbers_that_the_rules_record() -> None:
    recorded = set(re.findall(r"record: (\S+)", RULES_FILE))
    assert set(re.findall(r"safelight:[\w:]+", DASHBOARD)) == recorded


def test_the_rules_have_the_thresholds_of_the_configuration() -> None:
    config = AlertsConfig()
    rules = {
        rule["labels"].get("rule"): rule
        for group in yaml.safe_load(RULES_FILE)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    thresholds = {
        "generation_slow": f"> {config.generation_s:g}",
        "visible_errors": f"> {config.error_share:g}",
        "hidden_errors": f"> {config.error_share:g}",
        "downloads_failing": f"< {config.download_share:g}",
    }
    for rule, ending in thresholds.items():
        assert rules[rule]["expr"].endswith(ending)
    assert set(rules) - {None, "gone"} <= set(RULES)
    steps = [
        panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for panel in json.loads(DASHBOARD)["panels"]
        if panel["type"] == "stat"
    ]
    assert steps == [120, 0.01, 0.01, 0.995]


def test_every_word_of_a_label_is_documented() -> None:
    for word in (*ROUTE_CLASSES, *CAUSES):
        assert f"`{word}`" in PAGE
    about_alerts = PAGE.partition("## Alerts")[2]
    rules = re.findall(r"^\| `(\w+)` \| [\w, ]*\| ", about_alerts, re.MULTILINE)
    assert tuple(rules) == RULES


@pytest.mark.parametrize(("_method", "path", "_handler"), ROUTES)
def test_every_route_has_a_class(_method: str, path: str, _handler: object) -> None:
    assert route_class(path) in ROUTE_CLASSES
    assert (route_class(path) == "operations") == (path.count("/") == 1)
