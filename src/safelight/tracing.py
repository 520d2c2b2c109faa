"""Traces of jobs: one span for each stage, sent as OpenTelemetry (OTLP over HTTP).

Owns what a job's spans are and where they belong; the SDK, which is an extra and is imported only
when traces are on, owns the way to the collector. A run keeps the moments of its stages, and the
spans are made of them when the job has ended: so a stage costs one append, and nothing when traces
are off. No span holds a prompt, an address or a credential.

The caller's `traceparent` (W3C Trace Context, level 1) is the parent of the job's span.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from safelight.clock import Clock
from safelight.errors import ConfigError
from safelight.types import Job

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)
KEPT = 10_000
"""Jobs whose callers are remembered at one time."""
_NS = 1_000_000_000
_T = TypeVar("_T")


class Mark(msgspec.Struct, frozen=True):
    """That a stage was reached.

    Args:
        stage: accepted, queued, attempt, received, verified, stored, settled or answered.
        at: when, monotonic seconds.
        since: when it began; None: where the stage before it ended.
        facts: attributes of its span.
    """

    stage: str
    at: float
    since: float | None
    facts: dict[str, str | int]


def valid(traceparent: str | None) -> str | None:
    """Return a traceparent if it is one; what is malformed is ignored, as the standard asks."""
    match = TRACEPARENT.fullmatch(traceparent or "")
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["more"]):
        return None
    if not int(match["trace"], 16) or not int(match["span"], 16):
        return None
    return traceparent


class Traces:
    """Makes the spans of one process.

    Args:
        provider: of the SDK.
        clock: both faces, to tell wall-clock times of monotonic ones.
    """

    def __init__(self, provider: TracerProvider, clock: Clock) -> None:
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("safelight")
        self._clock = clock
        self._parents: OrderedDict[str, str] = OrderedDict()
        self._told: OrderedDict[str, tuple[Context, float]] = OrderedDict()

    def note_parent(self, job_id: str, traceparent: str) -> None:
        """Remember the caller's span for a job that was accepted here."""
        _keep(self._parents, job_id, traceparent)

    def wanted(self, job_id: str) -> bool:
        """Return whether the stages of a job are worth keeping: its caller may have said no."""
        parent = self._parents.get(job_id)
        return parent is None or bool(int(parent[53:55], 16) & 1)

    def tell(self, job: Job, marks: Sequence[Mark], account: str | None) -> None:
        """Make the spans of a job that has ended."""
        from opentelemetry import trace  # noqa: PLC0415  (only where traces are on)
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        now, now_ns = self._clock.monotonic(), self._clock.now_ms() * 1_000_000
        began_ns = min(job.created_at * 1_000_000, now_ns)
        root = self._tracer.start_span(
            "job", self._parent_of(job.id), attributes=_facts(job, account), start_time=began_ns
        )
        if job.failure is not None:
            root.set_status(Status(StatusCode.ERROR, job.failure.code or job.failure.type))
        context = trace.set_span_in_context(root)
        last_ns = began_ns
        for mark in marks:
            at_ns = now_ns - round((now - mark.at) * _NS)
            since = mark.since
            start_ns = last_ns if since is None else now_ns - round((now - since) * _NS)
            span = self._tracer.start_span(
                mark.stage, context, attributes=mark.facts, start_time=min(start_ns, at_ns)
            )
            span.end(at_ns)
            last_ns = max(last_ns, at_ns)
        root.end(now_ns)
        _keep(self._told, job.id, (context, now))

    def answered(self, job_id: str, *, delivered: bool) -> None:
        """Make the last span: from a job's end until its caller was answered, or had left."""
        told = self._told.pop(job_id, None)
        if told is None:
            return
        context, since = told
        now_ns = self._clock.now_ms() * 1_000_000
        start_ns = now_ns - round((self._clock.monotonic() - since) * _NS)
        span: Span = self._tracer.start_span(
            "answered", context, attributes={"delivered": delivered}, start_time=start_ns
        )
        span.end(now_ns)

    def close(self) -> None:
        """Send what is left. Blocks for a few seconds at most."""
        self._provider.shutdown()

    def _parent_of(self, job_id: str) -> Context | None:
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        parent = self._parents.pop(job_id, None)
        if parent is None:
            return None
        return TraceContextTextMapPropagator().extract({"traceparent": parent})


def open_traces(endpoint: str, sample: float, version: str, clock: Clock) -> Traces | None:
    """Return traces that go to a collector, or None without an address.

    Raises:
        ConfigError: the extra `otel` is not installed.
    """
    if not endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise ConfigError(
            "[traces] endpoint is set, but OpenTelemetry is not installed; "
            "install the extra: pip install 'safelight[otel]'"
        ) from error
    return over(OTLPSpanExporter(endpoint=endpoint, timeout=5), sample, version, clock)


def over(
    exporter: SpanExporter, sample: float, version: str, clock: Clock, *, at_once: bool = False
) -> Traces:
    """Return traces over an exporter of the SDK; `at_once` sends each span when it ends."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        BatchSpanProcessor,
        SimpleSpanProcessor,
    )
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    resource = Resource.create({"service.name": "safelight", "service.version": version})
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample)),
        resource=resource,
        shutdown_on_exit=False,
    )
    processor = SimpleSpanProcessor if at_once else BatchSpanProcessor
    provider.add_span_processor(processor(exporter))
    return Traces(provider, clock)


def _facts(job: Job, account: str | None) -> dict[str, str | int]:
    facts: dict[str, str | int] = {
        "safelight.job_id": job.id,
        "safelight.request_id": job.request_id,
        "safelight.channel": job.request.channel,
        "safelight.size_plan": str(job.size_plan.method),
        "safelight.attempts": job.attempts,
        "safelight.outcome": str(job.state),
    }
    if account is not None:
        facts["safelight.account"] = account
    if job.failure is not None and job.failure.code is not None:
        facts["safelight.code"] = job.failure.code
    return facts


def _keep(kept: OrderedDict[str, _T], job_id: str, value: _T) -> None:
    kept[job_id] = value
    if len(kept) > KEPT:
        kept.popitem(last=False)
