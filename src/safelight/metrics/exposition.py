"""The counts as Prometheus reads them, by the maintained client's own writer.

Owns the way from plain counts to samples. Reads nothing of the gateway: gauges are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from safelight.metrics import Cell, Metrics
from safelight.metrics.catalogue import Family

_OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True)
class Sample:
    """One value of a gauge; `labels` in the order of the family's."""

    family: Family
    value: float
    labels: tuple[str, ...] = ()


class _Counts(Collector):
    def __init__(self, metrics: Metrics, gauges: Sequence[Sample]) -> None:
        self._metrics = metrics
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for tally in self._metrics.tallies():
            # The client adds the ending itself.
            name = tally.family.name.removesuffix("_total")
            counter = CounterMetricFamily(name, tally.family.help, labels=tally.family.labels)
            for labels, value in list(tally.values.items()):
                counter.add_metric(labels, value)
            yield counter
        for histogram in self._metrics.histograms():
            shown = HistogramMetricFamily(
                histogram.family.name, histogram.family.help, labels=histogram.family.labels
            )
            for labels, cell in list(histogram.cells.items()):
                shown.add_metric(labels, _buckets(histogram.family, cell), cell.total)
            yield shown
        yield from _shown(self._gauges)


def _shown(gauges: Sequence[Sample]) -> Iterator[Metric]:
    for family in dict.fromkeys(one.family for one in gauges):
        gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
        for one in gauges:
            if one.family is family:
                gauge.add_metric(one.labels, one.value)
        yield gauge


def _buckets(family: Family, cell: Cell) -> list[tuple[str, float]]:
    """Return the buckets as Prometheus has them: each with all that is below."""
    bounds = [*(str(bound) for bound in family.buckets), "+Inf"]
    found, below = [], 0
    for bound, count in zip(bounds, list(cell.counts), strict=True):
        below += count
        found.append((bound, float(below)))
    return found


def write(metrics: Metrics, gauges: Iterable[Sample], accept: str) -> tuple[str, bytes]:
    """Return the content type and the text of everything, in the form that a scraper accepts."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Counts(metrics, list(gauges)))
    ProcessCollector(registry=registry)
    # The client stumbles over versions that are none; so it sees one of two words of ours.
    encode, content_type = choose_encoder(_OPENMETRICS if "openmetrics-text" in accept else "")
    return content_type, encode(registry)
