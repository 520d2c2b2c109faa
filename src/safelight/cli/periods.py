"""Moments and months as they are given on the command line; what has no zone is UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from safelight.cli.errors import CliError, ExitCode
from safelight.months import month_span


def seconds(text: str | None) -> int | None:
    """Return a moment in unix seconds.

    Raises:
        CliError: it is no date or time (exit code 2).
    """
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) != 8:  # eight digits are a day
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CliError(f"{text!r} is no date or time", exit_code=ExitCode.USAGE) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def month(text: str) -> tuple[int, int]:
    """Return the first second of a month and the first one after it, unix seconds.

    Raises:
        CliError: it is no month (exit code 2).
    """
    try:
        return month_span(text)
    except ValueError as error:
        raise CliError(f"--month {text}: {error}", exit_code=ExitCode.USAGE) from error
