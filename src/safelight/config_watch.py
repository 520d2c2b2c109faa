"""[metrics], [logs], [alerts], [prober], [traces]: how the running gateway is watched.

Owns the shapes and the defaults of these tables and what they take from the environment; config.py
loads them with the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from safelight.config_file import ConfigFile, Count, Port, Seconds, Share, Text
from safelight.config_secrets import of_either
from safelight.types import Secret

Interval = Annotated[float, msgspec.Meta(ge=1, le=3600)]


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[metrics]: who may read /metrics, and where."""

    access: Literal["off", "local", "token", "open"] = "local"
    """local: from this machine, or with the token; token: with it alone; open: anybody."""
    token_env: str = ""
    """Name of the environment variable with the token that scrapers send; empty: there is none."""
    token_file: str = ""
    """A file with the token instead, which only its owner may read (mode 600)."""
    host: Text = "127.0.0.1"
    """Address of the port below."""
    port: Port = 0
    """A port for /metrics alone; process N of several listens on this plus N - 1. 0: none."""


class LogsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[logs]: how much is written, and what about ended jobs."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is written; debug is for the search of a fault, and is much."""
    jobs: bool = True
    """Whether each ended job is a line."""
    prompts: bool = False
    """Whether that line has the prompt itself, beside its length and keyed hash."""


class AlertsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[alerts]: when the operator is told, and where."""

    enabled: bool = True
    every_s: Interval = 10.0
    """How often a process looks."""
    window_s: Annotated[float, msgspec.Meta(ge=10, le=86_400)] = 300.0
    """Over how many of the last seconds means and shares are taken."""
    least: Count = 20
    """Fewest pictures, answers, attempts or downloads in the window that say anything."""
    generation_s: Seconds = 120.0
    """A longer mean generation time is an alert."""
    error_share: Share = 0.01
    """A larger share of 5xx, visible or hidden, is an alert."""
    download_share: Share = 0.995
    """A smaller share of right downloads is an alert."""
    clear_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60.0
    """How long all must be well before an alert is resolved."""
    webhook_url: str = ""
    """Address that is told; empty: none."""
    webhook_secret_env: str = ""
    """Name of the environment variable with its secret, `whsec_` and base64."""
    webhook_secret_file: str = ""
    """A file with that secret instead, which only its owner may read (mode 600)."""


class ProberConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[prober]: downloads of live links as an outsider makes them."""

    enabled: bool = False
    every_s: Annotated[float, msgspec.Meta(ge=5, le=3600)] = 60.0
    """How often links are sampled, over all processes."""
    links: Annotated[int, msgspec.Meta(ge=1, le=20)] = 2
    """How many each time."""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=300)] = 30.0
    """How long one download may take."""


class TracesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[traces]: OpenTelemetry; needs the extra `otel`."""

    endpoint: str = ""
    """Where spans go: OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces. Empty: nowhere."""
    sample: Share = 1.0
    """Share of the jobs without a traceparent of their own that are traced."""


class WatchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The five tables, and the secrets that they name."""

    metrics: MetricsConfig = MetricsConfig()
    logs: LogsConfig = LogsConfig()
    alerts: AlertsConfig = AlertsConfig()
    prober: ProberConfig = ProberConfig()
    traces: TracesConfig = TracesConfig()
    metrics_token: Secret | None = None
    alerts_secret: Secret | None = None


WATCH_SECTIONS = ("metrics", "logs", "alerts", "prober", "traces")


def load_watch(file: ConfigFile, environ: Mapping[str, str], *, public_url: str) -> WatchConfig:
    """Return how the gateway is watched.

    Raises:
        ConfigError: a value is wrong, a secret is missing, or the prober has no address to call.
    """
    metrics = file.struct(MetricsConfig, file.tables.get("metrics", {}), ("metrics",))
    alerts = file.struct(AlertsConfig, file.tables.get("alerts", {}), ("alerts",))
    prober = file.struct(ProberConfig, file.tables.get("prober", {}), ("prober",))
    traces = file.struct(TracesConfig, file.tables.get("traces", {}), ("traces",))
    if metrics.access == "token" and not (metrics.token_env or metrics.token_file):
        problem = (
            "name the variable with the token, or with token_file a file, "
            'for access = "token" lets nobody else in'
        )
        raise file.error(("metrics", "token_env"), problem)
    if alerts.webhook_url:
        file.http_url(alerts.webhook_url, ("alerts", "webhook_url"))
        if not (alerts.webhook_secret_env or alerts.webhook_secret_file):
            raise file.error(
                ("alerts", "webhook_secret_env"),
                "name the variable with the secret that messages to webhook_url are signed with, "
                "or with webhook_secret_file a file",
            )
    if prober.enabled and not public_url:
        problem = "[server] public_url is empty; the prober downloads from there, as customers do"
        raise file.error(("prober", "enabled"), problem)
    if traces.endpoint:
        file.http_url(traces.endpoint, ("traces", "endpoint"))
    return WatchConfig(
        metrics=metrics,
        logs=file.struct(LogsConfig, file.tables.get("logs", {}), ("logs",)),
        alerts=alerts,
        prober=prober,
        traces=traces,
        metrics_token=of_either(
            file,
            ("metrics",),
            "token",
            {"token_env": metrics.token_env, "token_file": metrics.token_file},
            environ,
        ),
        alerts_secret=of_either(
            file,
            ("alerts",),
            "webhook_secret",
            {
                "webhook_secret_env": alerts.webhook_secret_env,
                "webhook_secret_file": alerts.webhook_secret_file,
            },
            environ,
        ),
    )
