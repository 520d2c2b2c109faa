"""The catalogue of metrics: every name that /metrics can show, with its kind, labels and meaning.

Owns names, help texts and buckets, nothing that counts. docs/metrics.md has a row for each entry,
and a test keeps the two alike. Names follow Prometheus' conventions (prometheus.io/docs/practices/
naming): `safelight_`, the thing, its unit, `_total` for what only grows. Money is in micro-dollars.

Every label has few values: channels, accounts and groups of the configuration, and words that are
listed in docs/metrics.md. No label holds what callers choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

PICTURE_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 150.0, 200.0, 300.0)
"""A picture takes seconds from a quick server and minutes from a vendor; 120 is the article's."""
WAIT_S = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0)
STORE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
WORKS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
PROBE_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Family:
    """One metric. `name` has its ending; `buckets` are upper bounds of a histogram."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# --- jobs and attempts ---------------------------------------------------------------------------

JOBS_ENDED = Family(
    "safelight_jobs_ended_total",
    "counter",
    "Jobs that this process has ended, by channel and outcome",
    ("channel", "outcome"),
)
GENERATION = Family(
    "safelight_generation_seconds",
    "histogram",
    "From the first call that left for a job to its picture settled, retries included",
    ("channel",),
    PICTURE_S,
)
QUEUE_WAIT = Family(
    "safelight_queue_wait_seconds",
    "histogram",
    "From a job's acceptance, or its not_before, to the first call that left for it",
    ("channel",),
    WAIT_S,
)
ATTEMPTS = Family(
    "safelight_attempts_total",
    "counter",
    "Upstream calls that have ended, by account, limiter group and outcome",
    ("account", "group", "outcome"),
)
THROTTLED_ABSORBED = Family(
    "safelight_throttled_absorbed_total",
    "counter",
    "Upstream 429s of jobs that were completed all the same",
    ("channel",),
)
HIDDEN_ERRORS = Family(
    "safelight_hidden_errors_total",
    "counter",
    "Failed attempts, other than 429s, of jobs that were completed all the same",
    ("channel", "account", "outcome"),
)
ANSWERS = Family(
    "safelight_answers_total",
    "counter",
    "Answers to callers, by class of route and of status",
    ("route", "status"),
)
VISIBLE_ERRORS = Family(
    "safelight_visible_errors_total",
    "counter",
    "Answers to callers that were 5xx or 429, by class of route",
    ("route", "status"),
)

# --- the three numbers over the last minutes, as the alerts see them -----------------------------

GENERATION_MEAN = Family(
    "safelight_generation_mean_seconds",
    "gauge",
    "Mean generation time over the alerts' window",
)
VISIBLE_RATIO = Family(
    "safelight_visible_error_ratio",
    "gauge",
    "Share of 5xx among the answers about pictures over the alerts' window",
)
HIDDEN_RATIO = Family(
    "safelight_hidden_error_ratio",
    "gauge",
    "Share of attempts over the alerts' window that failed and were hidden by another one",
)
DOWNLOAD_RATIO = Family(
    "safelight_link_download_success_ratio",
    "gauge",
    "Share of the prober's downloads over the alerts' window that were right",
)

# --- the pool ------------------------------------------------------------------------------------

ACCOUNT_STATE = Family(
    "safelight_account_state",
    "gauge",
    "1 for the state that an account is in: in_use, cooling, out or paused",
    ("account", "state"),
)
ACCOUNT_IN_FLIGHT = Family(
    "safelight_account_in_flight_calls",
    "gauge",
    "Calls of an account under way in this process",
    ("account",),
)
GROUP_LIMIT = Family(
    "safelight_group_limit_images_per_minute",
    "gauge",
    "What a limiter group may send, configured or learnt; absent where no limit is known",
    ("group",),
)
GROUP_SENT = Family(
    "safelight_group_sent_images",
    "gauge",
    "Images that this process has sent for within the group's last minute",
    ("group",),
)
ENDPOINT_DOWN = Family(
    "safelight_endpoint_down",
    "gauge",
    "1 while an endpoint's breaker is open: everything failed there of late",
    ("endpoint",),
)
JOBS_WAITING = Family("safelight_jobs_waiting", "gauge", "Jobs that wait for an account here")
JOBS_IN_FLIGHT = Family("safelight_jobs_in_flight", "gauge", "Jobs that run in this process")

# --- money ---------------------------------------------------------------------------------------

SETTLED = Family(
    "safelight_settled_micros_total",
    "counter",
    "Micro-dollars that customers were charged, by channel",
    ("channel",),
)
VENDOR_COST = Family(
    "safelight_vendor_cost_micros_total",
    "counter",
    "Micro-dollars that complete answers cost at the vendor, where that is known",
    ("account",),
)
HELD = Family(
    "safelight_held_micros",
    "gauge",
    "Micro-dollars reserved for jobs that have not ended, of all processes",
)

# --- stores --------------------------------------------------------------------------------------

BLOB = Family(
    "safelight_blob_seconds",
    "histogram",
    "How long the blob store took, by operation; of a read, until its first bytes",
    ("operation",),
    STORE_S,
)
BLOB_FAILURES = Family(
    "safelight_blob_failures_total",
    "counter",
    "Operations that the blob store refused or failed",
    ("operation",),
)
BLOB_FREE = Family(
    "safelight_blob_free_bytes", "gauge", "What the blob store can still take; absent if unknown"
)
COMMIT = Family(
    "safelight_database_commit_seconds",
    "histogram",
    "How long a transaction took from its first work to its commit",
    (),
    STORE_S,
)
COMMIT_WORKS = Family(
    "safelight_database_commit_works",
    "histogram",
    "How many works shared one commit",
    (),
    WORKS,
)
DATABASE_REFUSALS = Family(
    "safelight_database_refusals_total",
    "counter",
    "Writes that the database refused: busy, full, away or damaged",
)

# --- HTTP, webhooks, links -----------------------------------------------------------------------

RECEIVED = Family(
    "safelight_http_received_bytes_total", "counter", "Bytes of request bodies that came in"
)
SENT = Family("safelight_http_sent_bytes_total", "counter", "Bytes of answers' bodies that left")
WEBHOOKS = Family(
    "safelight_webhook_deliveries_total",
    "counter",
    "Attempts to tell webhooks: delivered, put_off or given_up",
    ("outcome",),
)
WEBHOOKS_DISABLED = Family(
    "safelight_webhooks_disabled_total",
    "counter",
    "Webhooks that the gateway has switched off: gone or failing",
    ("reason",),
)
LINK_DOWNLOADS = Family(
    "safelight_link_downloads_total",
    "counter",
    "Requests for signed links, by outcome",
    ("outcome",),
)
PROBE_DOWNLOADS = Family(
    "safelight_probe_downloads_total",
    "counter",
    "Downloads of live links by the prober: ok, or the cause of the failure",
    ("cause",),
)
PROBE = Family(
    "safelight_probe_download_seconds",
    "histogram",
    "How long a right download of the prober took, connection included",
    (),
    PROBE_S,
)

# --- the process ---------------------------------------------------------------------------------

LOOP_LAG = Family(
    "safelight_event_loop_lag_seconds",
    "histogram",
    "How late the event loop came to a timer",
    (),
    STORE_S,
)
ALERTS = Family("safelight_alerts", "gauge", "Alerts that are raised, of all processes", ("rule",))
BUILD = Family(
    "safelight_build_info", "gauge", "1; the labels say what runs", ("version", "python")
)

CATALOGUE: tuple[Family, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Family)
)
"""Every family, in the order of this page."""
