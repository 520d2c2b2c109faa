"""Judging: what is wrong, by the figures of all processes, and telling the operator.

Owns the rules. Each process says what it sees (sums over the last minutes, and conditions in
words), reads what the others said, and settles the alerts in the same transaction: so an
installation is judged as a whole, and an alert is raised once. Thresholds of the article: a mean
generation time over 120 s, over 1 % of 5xx, under 99.5 % of right downloads.

Hysteresis: a share that has been told must fall below half of its threshold, a mean below nine
tenths, and all must be well for `clear_s` in a row, before an alert is resolved.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from safelight import alerts
from safelight.alerts import Alert, Wrong
from safelight.config_watch import AlertsConfig
from safelight.db import Transaction
from safelight.errors import Unavailable
from safelight.gateway.parts import Parts
from safelight.metrics import Metrics

log = logging.getLogger("safelight.alerts")

GENERATION, VISIBLE, HIDDEN, DOWNLOADS = (
    "generation_slow",
    "visible_errors",
    "hidden_errors",
    "downloads_failing",
)
RULES: tuple[str, ...] = (
    GENERATION,
    VISIBLE,
    HIDDEN,
    DOWNLOADS,
    "account_out",
    "channel_unserved",
    "disk_low",
    "database_refused",
    "webhook_disabled",
    "margin_low",
    "books_wrong",
    "prober_down",
)
"""Every rule; docs/metrics.md says when each is raised."""
CLEAR_SHARE, CLEAR_MEAN = 0.5, 0.9
FRESH_LOOKS = 3
"""A process that has said nothing for so many looks sees nothing any more."""
REFUSED_S = 60.0
"""How long a refused write of the database counts."""
WEBHOOK_S = 86_400.0
"""A webhook that was switched off longer ago is not told of any more."""
KEEP_S = 90 * 86_400.0
"""How long resolved alerts are kept."""
SUBJECTS_MAX = 100
"""Most webhooks, or findings, that are told of one by one."""


class Condition(msgspec.Struct, frozen=True):
    """Something that is so, or is not."""

    rule: str
    subject: str
    words: str


class Figures(msgspec.Struct, frozen=True):
    """What one process sees: sums (part, whole) by rule, and what is so."""

    shares: dict[str, tuple[float, float]] = {}
    conditions: tuple[Condition, ...] = ()


def figures_of(metrics: Metrics, conditions: Iterable[Condition]) -> Figures:
    """Return what a process has counted, and what it sees."""
    right, downloads = metrics.recent_downloads.sums()
    shares = {
        GENERATION: metrics.recent_generation.sums(),
        VISIBLE: metrics.recent_visible.sums(),
        HIDDEN: metrics.recent_hidden.sums(),
        DOWNLOADS: (downloads - right, downloads),
    }
    said = {rule: sums for rule, sums in shares.items() if sums[1]}
    return Figures(said, tuple(conditions))


def judge(all_figures: Sequence[Figures], config: AlertsConfig) -> list[Wrong]:
    """Return what is wrong by the figures of all processes. Pure."""
    found = [one for one in _measured(all_figures, config) if one is not None]
    seen: dict[tuple[str, str], Wrong] = {}
    for figures in all_figures:
        for one in figures.conditions:
            wrong = Wrong(rule=one.rule, subject=one.subject, words=one.words)
            seen.setdefault((one.rule, one.subject), wrong)
    return found + [seen[which] for which in sorted(seen)]


def _measured(all_figures: Sequence[Figures], config: AlertsConfig) -> Iterable[Wrong | None]:
    limits = {
        GENERATION: (config.generation_s, CLEAR_MEAN, "the mean generation time is {:.0f} s"),
        VISIBLE: (config.error_share, CLEAR_SHARE, "{:.2%} of the answers are 5xx"),
        HIDDEN: (config.error_share, CLEAR_SHARE, "{:.2%} of the attempts fail, hidden by others"),
        DOWNLOADS: (1 - config.download_share, CLEAR_SHARE, "{:.2%} of the downloads fail"),
    }
    for rule, (threshold, clear, words) in limits.items():
        sums = [figures.shares.get(rule, (0.0, 0.0)) for figures in all_figures]
        part, whole = sum(one[0] for one in sums), sum(one[1] for one in sums)
        if whole < config.least:
            continue
        value = part / whole
        if value > threshold * clear:
            yield Wrong(
                rule=rule,
                words=words.format(value) + f" over the last {config.window_s:.0f} s",
                value=value,
                threshold=threshold,
                holds=value <= threshold,
            )


Look = Callable[[Transaction], list[Condition]]
"""What the rows of the database say is wrong."""


class Alerting:
    """Looks for one process.

    Args:
        parts: rooms below.
        config: thresholds.
        owner: this process's name.
        see: returns what this process sees besides the rows.
    """

    def __init__(
        self,
        parts: Parts,
        config: AlertsConfig,
        *,
        owner: str,
        see: Callable[[], Iterable[Condition]],
    ) -> None:
        self._parts = parts
        self._config = config
        self._owner = owner
        self._see = see
        self._silent = False

    async def look(self) -> tuple[list[Alert], list[Alert]]:
        """Say what this process sees and settle the alerts; return those raised and resolved.

        Raises:
            Unavailable: the database is away; that itself is told in the log, once.
        """
        figures = figures_of(self._parts.notes.metrics, self._see())
        text = msgspec.json.encode(figures).decode()
        fresh_ms = round(FRESH_LOOKS * self._config.every_s * 1000)
        ids = [self._parts.new_id("alt") for _ in range(64)]

        def work(tx: Transaction) -> tuple[list[Alert], list[Alert]]:
            alerts.say(tx, self._owner, text, fresh_ms=fresh_ms)
            everybody = [
                msgspec.json.decode(one, type=Figures)
                for one in alerts.said(tx, fresh_ms=fresh_ms).values()
            ]
            everybody.append(Figures(conditions=tuple(conditions_of_rows(tx))))
            wrong = judge(everybody, self._config)[: len(ids)]
            clear_ms = round(self._config.clear_s * 1000)
            raised, resolved = alerts.settle(
                tx, wrong, new_ids=ids[: len(wrong)], clear_ms=clear_ms
            )
            if self._config.webhook_url:
                for alert in raised:
                    alerts.insert_message(tx, alert, alerts.RAISED)
                for alert in resolved:
                    alerts.insert_message(tx, alert, alerts.RESOLVED)
            alerts.forget(tx, before_ms=tx.now_ms - round(KEEP_S * 1000))
            return raised, resolved

        try:
            raised, resolved = await self._parts.db.write(work)
        except Unavailable:
            if not self._silent:
                log.exception("alert raised: the database takes no writes", extra=_UNWRITABLE)
            self._silent = True
            raise
        self._silent = False
        for alert in raised:
            log.error("alert raised: %s", alert.words, extra=_facts(alert))
        for alert in resolved:
            log.warning("alert resolved: %s", alert.words, extra=_facts(alert))
        return raised, resolved

    async def leave(self) -> None:
        """Take back what this process has said."""
        await self._parts.db.write(lambda tx: alerts.leave(tx, self._owner))


def conditions_of_rows(tx: Transaction) -> list[Condition]:
    """Return what the rows say is wrong, the same for every process."""
    webhooks = tx.all(
        "SELECT id, disabled_reason FROM webhook "
        "WHERE disabled_at >= :since AND disabled_reason <> 'owner' ORDER BY id LIMIT :limit",
        {"since": tx.now_ms - round(WEBHOOK_S * 1000), "limit": SUBJECTS_MAX},
    )
    findings = tx.all(
        "SELECT customer_id, COUNT(*) AS findings FROM finding WHERE accepted_at IS NULL "
        "GROUP BY customer_id ORDER BY customer_id LIMIT :limit",
        {"limit": SUBJECTS_MAX},
    )
    return [
        *(
            Condition(
                "webhook_disabled",
                row["id"],
                f"a customer's webhook is switched off: it is {row['disabled_reason']}",
            )
            for row in webhooks
        ),
        *(
            Condition(
                "books_wrong",
                row["customer_id"],
                f"verification has found {row['findings']} faults in the customer's books",
            )
            for row in findings
        ),
    ]


_UNWRITABLE = {"rule": "database_refused", "subject": ""}


def _facts(alert: Alert) -> dict[str, object]:
    return {
        "alert_id": alert.id,
        "rule": alert.rule,
        "subject": alert.subject,
        "value": alert.value,
        "threshold": alert.threshold,
    }
