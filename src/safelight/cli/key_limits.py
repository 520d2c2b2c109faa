"""Limits of a key on the command line: the options that set them, the columns that show them.

Owns the words: an amount or a number sets a limit, `none` takes it away, `default` leaves a rate to
the configuration. The office changes them.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from safelight.cli import options
from safelight.cli.errors import CliError, ExitCode
from safelight.cli.services import KeyInfo
from safelight.cli.table import Column
from safelight.money import micros_to_dollars
from safelight.types import PERIODS, LimitChange, Micros, Period

RATE_MAX = 1_000_000
_PANEL = "Limits"


def _budget_option(period: str) -> Any:
    return typer.Option(
        metavar="DOLLARS",
        help=f"What the key may spend {period}; none: no such budget.",
        show_default=False,
        rich_help_panel=_PANEL,
    )


def _rate_option(what: str) -> Any:
    return typer.Option(
        metavar="NUMBER",
        help=f"{what}; none: no limit, default: that of the configuration.",
        show_default=False,
        rich_help_panel=_PANEL,
    )


BudgetDay = Annotated[str | None, _budget_option("in a day (UTC)")]
BudgetMonth = Annotated[str | None, _budget_option("in a month (UTC)")]
BudgetTotal = Annotated[str | None, _budget_option("ever")]
Rpm = Annotated[str | None, _rate_option("Requests in a minute")]
MaxInFlight = Annotated[str | None, _rate_option("Jobs that have not ended")]

COLUMNS = (
    Column("rpm", right=True, rank=3),
    Column("in flight", right=True, rank=3),
    Column("day", right=True, rank=3),
    Column("month", right=True, rank=3),
    Column("total", right=True, rank=3),
)


def change_of(
    *,
    day: str | None,
    month: str | None,
    total: str | None,
    rpm: str | None,
    max_in_flight: str | None,
) -> LimitChange:
    """Return the change that the options ask for; what was not given stays.

    Raises:
        CliError: a value is none (exit code 2).
    """
    budgets: dict[Period, Micros | None] = {}
    for period, text in zip(PERIODS, (day, month, total), strict=True):
        if text is not None:
            budgets[period] = _budget(period, text)
    return LimitChange(
        requests_per_minute=_rate("--rpm", rpm),
        max_in_flight=_rate("--max-in-flight", max_in_flight),
        budgets=budgets,
    )


def cells(key: KeyInfo) -> tuple[str, ...]:
    """Return what the columns show of a key: rates, and of each budget the used and the whole."""
    budgets = {state.period: state for state in key.budgets}
    shown = [_shown(key.requests_per_minute), _shown(key.max_in_flight)]
    for period in PERIODS:
        state = budgets.get(period)
        used = "" if state is None else micros_to_dollars(state.used_micros)
        shown.append("" if state is None else f"{used}/{micros_to_dollars(state.limit_micros)}")
    return tuple(shown)


def as_json(key: KeyInfo) -> dict[str, Any]:
    """Return a key's limits for `--json`."""
    return {
        "requests_per_minute": key.requests_per_minute,
        "max_in_flight": key.max_in_flight,
        "budgets": list(key.budgets),
    }


def _budget(period: Period, text: str) -> Micros | None:
    if text == "none":
        return None
    micros = options.dollars(text)
    if micros < 0:
        raise CliError(f"--budget-{period} cannot be negative", exit_code=ExitCode.USAGE)
    return micros


def _rate(option: str, text: str | None) -> int | msgspec.UnsetType | None:
    if text is None:
        return msgspec.UNSET
    if text == "default":
        return None
    if text == "none":
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= RATE_MAX):
        raise CliError(
            f"{option} is a number from 1 to {RATE_MAX}, none or default, not {text!r}",
            exit_code=ExitCode.USAGE,
        )
    return int(text)


def _shown(limit: int | None) -> str:
    return {None: "", 0: "none"}.get(limit, str(limit))
