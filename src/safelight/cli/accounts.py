"""`safelight accounts`: how each account stands, what it delivered, cost and earned.

Reads the data folder, whether or not a server runs on it, and the configuration for the accounts
that have done nothing yet. Their keys are not needed: nothing is sent. The sums are those of
`safelight.accounts`; this file only shows them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from safelight.accounts import AccountBook, Limit, Standing, Tally, total
from safelight.cli import options, output
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import require_books
from safelight.cli.table import Column
from safelight.config import Config, load_config
from safelight.costs import prices_as_of
from safelight.money import micros_to_dollars
from safelight.types import Account

_DEFAULT_FILE = Path("safelight.toml")
_UNIT_S = {"m": 60, "h": 3600, "d": 86_400}
_ALL = "(all)"
"""Heads the sums; no account and no channel can have that name."""

_FIGURES = (
    Column("attempts", right=True, rank=5),
    Column("delivered", right=True),
    Column("success", right=True, rank=1),
    Column("429", right=True, rank=4),
    Column("p50 s", right=True, rank=9),
    Column("p95 s", right=True, rank=6),
    Column("waste", right=True, rank=3),
    Column("cost", right=True, rank=4),
    Column("per image", right=True, rank=2),
    Column("revenue", right=True, rank=6),
    Column("margin", right=True, rank=5),
    Column("share", right=True),
)
_ACCOUNTS = (
    Column("account"),
    Column("upstream", rank=8),
    Column("group", rank=7),
    Column("tier", right=True, rank=10),
    Column("state", words=True),
    Column("images/min", right=True, rank=3),
    *_FIGURES,
)
_CHANNELS = (Column("channel"), *_FIGURES)


def accounts(
    since: Annotated[
        str, typer.Option(help="Count attempts of the last 90m, 24h, 7d ...; all: every one.")
    ] = "24h",
    config: options.Config = None,
    data: options.Data = Path("data"),
    as_json: options.Json = False,
) -> None:
    """Show each account: its state and limit, what it delivered and wasted, its cost and margin.

    Costs come from the tokens that vendors counted and the price list in the package, or from
    `image_cost_micros`. Where one is not known the sum says so (≥, ≤ or ?).
    """
    window_s = _seconds(since)
    require_books(data)
    path = config or (_DEFAULT_FILE if _DEFAULT_FILE.is_file() else None)
    settings = load_config(path, data, environ=_UnreadKeys())
    page = _Page(settings, asyncio.run(_read(data, window_s)))
    if as_json:
        output.print_json(page.as_json())
    else:
        _print(page, since)


class _UnreadKeys(Mapping[str, str]):
    """An environment in which every account's key is set, as nothing here looks at one."""

    def __getitem__(self, name: str) -> str:
        return "not-read"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


async def _read(data: Path, window_s: float | None) -> AccountBook:
    from safelight.office import open_office  # noqa: PLC0415 - the other commands start without it

    async with open_office(data) as office:
        return await office.account_book(window_s)


def _seconds(text: str) -> float | None:
    """Return a span of time in seconds, None for `all`.

    Raises:
        CliError: it is no span (exit code 2).
    """
    if text == "all":
        return None
    match = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if match is None or not int(match[1]):
        raise CliError(
            f"--since {text}: expected a number of minutes, hours or days such as 90m, 24h or 7d, "
            "or all",
            exit_code=ExitCode.USAGE,
        )
    return float(int(match[1]) * _UNIT_S[match[2]])


@dataclass(frozen=True)
class _Entry:
    """One account of the configuration, the books or both."""

    name: str
    account: Account | None
    group: str | None
    tally: Tally
    standing: Standing | None
    limit: Limit | None


class _Page:
    """What is shown: the figures of the books beside the accounts of the configuration."""

    def __init__(self, settings: Config, book: AccountBook) -> None:
        self.book = book
        self.alarm_share = settings.pool.margin_alarm
        configured = {account.name: account for account in settings.accounts}
        known = {name for name, _ in book.tallies} | set(book.standings)
        names = [*configured, *sorted(known - set(configured))]
        self.entries = [self._entry(name, configured.get(name)) for name in names]
        self.channels = sorted({channel for _, channel in book.tallies})
        self.total = total(book.tallies.values())

    def _entry(self, name: str, account: Account | None) -> _Entry:
        group = account.group if account else self.book.groups.get(name)
        return _Entry(
            name=name,
            account=account,
            group=group,
            tally=self.book.of_account(name),
            standing=self.book.standing(name, group),
            limit=self.book.limits.get(group or ""),
        )

    def losing(self, tally: Tally) -> bool:
        """Return whether a margin is below the alarm."""
        return tally.margin_share is not None and tally.margin_share < self.alarm_share

    def as_json(self) -> dict[str, Any]:
        """Return everything that is known."""
        since_ms = self.book.since_ms
        return {
            "object": "list",
            "at": self.book.now_ms // 1000,
            "since": None if since_ms is None else since_ms // 1000,
            "server_runs": bool(self.book.standings),
            "margin_alarm": self.alarm_share,
            "prices_as_of": prices_as_of().isoformat(),
            "data": [self._entry_json(entry) for entry in self.entries],
            "channels": [
                {"channel": name, **self._figures_json(self.book.of_channel(name))}
                for name in self.channels
            ],
            "total": self._figures_json(self.total),
        }

    def _entry_json(self, entry: _Entry) -> dict[str, Any]:
        account, standing, limit = entry.account, entry.standing, entry.limit
        return {
            "account": entry.name,
            "configured": account is not None,
            "upstream": account.upstream if account else None,
            "model": account.model if account else None,
            "group": entry.group,
            "tier": account.tier if account else None,
            "state": standing.state if standing else None,
            "reason": standing.reason if standing else None,
            "until": standing.until // 1000 if standing and standing.until else None,
            "in_flight": standing.in_flight if standing else None,
            "limit": {
                "images_per_minute": limit.images_per_minute if limit else None,
                "learnt": bool(limit and limit.learnt),
                "configured": _configured_limit(entry),
            },
            **self._figures_json(entry.tally),
            "channels": [
                {"channel": channel, **self._figures_json(self.book.tallies[entry.name, channel])}
                for channel in self.channels
                if (entry.name, channel) in self.book.tallies
            ],
        }

    def _figures_json(self, tally: Tally) -> dict[str, Any]:
        return {
            "attempts": tally.attempts,
            "open": tally.open,
            "answered": tally.answered,
            "delivered": tally.delivered,
            "faults": dict(sorted(tally.faults.items())),
            "success_share": tally.success_share,
            "throttled_share": tally.throttled_share,
            "p50_s": tally.seconds(0.5),
            "p95_s": tally.seconds(0.95),
            "waste_sold": tally.waste_sold,
            "waste_unknown": tally.waste_unknown,
            "waste_estimate_micros": tally.waste_estimate_micros,
            "cost_micros": tally.cost_micros,
            "cost_complete": tally.cost_complete,
            "cost_per_image_micros": tally.cost_per_image_micros,
            "uncosted_delivered": tally.uncosted_delivered,
            "uncosted_waste": tally.uncosted_waste,
            "revenue_micros": tally.revenue_micros,
            "margin_micros": tally.margin_micros,
            "margin_share": tally.margin_share,
            "below_alarm": self.losing(tally),
        }


def _print(page: _Page, since: str) -> None:
    rows = [_account_row(page, entry) for entry in page.entries]
    sums = (_ALL, *[""] * (len(_ACCOUNTS) - len(_FIGURES) - 1), *_figures(page, page.total))
    output.print_table(_ACCOUNTS, [*rows, sums])
    if page.channels:
        output.out().print()
        output.print_table(
            _CHANNELS,
            [(name, *_figures(page, page.book.of_channel(name))) for name in page.channels],
        )
    output.out().print()
    output.print_paragraph(_legend(page, since))
    for entry in page.entries:
        _warn(page, "account", entry.name, entry.tally)
    for name in page.channels:
        _warn(page, "channel", name, page.book.of_channel(name))


def _legend(page: _Page, since: str) -> str:
    span = "all attempts" if since == "all" else f"attempts of the last {since}"
    said = [f"{span}; dollars at vendor prices of {prices_as_of()}", "waste: sold + perhaps sold"]
    if not page.total.cost_complete:
        said.append("≥ ≤ ?: some costs are not known")
    if not page.book.standings:
        said.append("no server runs on this folder: states are not known")
    return "; ".join(said) + "."


def _warn(page: _Page, kind: str, name: str, tally: Tally) -> None:
    if page.losing(tally):
        output.out().print(
            f"[bold red]! {kind} {escape(name)}: the margin is {_percent(tally.margin_share)} of "
            f"the revenue[/], below the alarm of {_percent(page.alarm_share)}",
            soft_wrap=True,
        )


def _account_row(page: _Page, entry: _Entry) -> Sequence[str]:
    account = entry.account
    return (
        entry.name,
        account.upstream if account else "",
        entry.group or "",
        str(account.tier) if account else "",
        _state(page.book, entry),
        _limit(entry),
        *_figures(page, entry.tally),
    )


def _state(book: AccountBook, entry: _Entry) -> str:
    standing = entry.standing
    if standing is None:
        if entry.account is None:
            return "not configured"
        return "unknown" if book.standings else "no server"
    if standing.until is None or standing.until <= book.now_ms:
        return standing.state
    left_s = -(-(standing.until - book.now_ms) // 1000)
    return (
        f"{standing.state} {left_s} s" if left_s < 120 else f"{standing.state} {left_s // 60} min"
    )


def _limit(entry: _Entry) -> str:
    configured = _configured_limit(entry)
    limit = entry.limit
    if limit is None or not limit.learnt or limit.images_per_minute is None:
        return "" if configured is None else f"{configured:g}"
    learnt = f"{limit.images_per_minute:.1f} learnt"
    return learnt if configured is None else f"{learnt}, {configured:g} set"


def _configured_limit(entry: _Entry) -> float | None:
    if entry.account is not None:
        return entry.account.images_per_minute
    return entry.limit.configured if entry.limit else None


def _figures(page: _Page, tally: Tally) -> Sequence[str]:
    waste = f"{tally.waste_sold}+{tally.waste_unknown}" if tally.waste_unknown else None
    return (
        str(tally.attempts),
        str(tally.delivered),
        _percent(tally.success_share),
        _percent(tally.throttled_share),
        _took(tally.seconds(0.5)),
        _took(tally.seconds(0.95)),
        waste or str(tally.waste_sold),
        _money(tally, tally.cost_micros, "≥"),
        _money(tally, tally.cost_per_image_micros, "≥") if tally.delivered else "",
        micros_to_dollars(tally.revenue_micros),
        _money(tally, tally.margin_micros, "≤"),
        _percent(tally.margin_share) + (" !" if page.losing(tally) else ""),
    )


def _money(tally: Tally, micros: int | None, bound: str) -> str:
    if micros is None:
        return "?"
    return f"{'' if tally.cost_complete else bound}{micros_to_dollars(micros)}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.1f} %"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3g}"
