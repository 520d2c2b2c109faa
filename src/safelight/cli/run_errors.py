"""The client's errors as the command line's: exit codes, hints, and where a plan is at fault."""

from __future__ import annotations

from collections.abc import Mapping

from safelight.cli.errors import CliError, ExitCode
from safelight.client.errors import (
    Answered,
    BadOrder,
    ClientError,
    Misconfigured,
    OutOfMoney,
    Refused,
    TimedOut,
    Unreachable,
)
from safelight.client.gates import BadGate, ReaderMissing
from safelight.client.runs import (
    DiskFull,
    Fault,
    FolderBusy,
    FolderForeign,
    GatewayLost,
    Interrupted,
    ItemsFaulty,
    PlanFaulty,
    Undecidable,
)

_CODES: tuple[tuple[type[ClientError], ExitCode], ...] = (
    (Interrupted, ExitCode.INTERRUPTED),
    (DiskFull, ExitCode.DISK_FULL),
    (GatewayLost, ExitCode.UNREACHABLE),
    (OutOfMoney, ExitCode.NO_BALANCE),
    (Unreachable, ExitCode.UNREACHABLE),
    (TimedOut, ExitCode.TIMEOUT),
    (Misconfigured, ExitCode.USAGE),
    (BadOrder, ExitCode.USAGE),
    (BadGate, ExitCode.USAGE),
    (ReaderMissing, ExitCode.USAGE),
    (FolderBusy, ExitCode.USAGE),
    (FolderForeign, ExitCode.USAGE),
    (Undecidable, ExitCode.USAGE),
)

_HINTS: tuple[tuple[tuple[type[ClientError], ...], str], ...] = (
    ((OutOfMoney,), "The operator tops up with: safelight credit CUSTOMER AMOUNT"),
    (
        (Unreachable, GatewayLost),
        "Is the gateway running (safelight serve) and is the address right?",
    ),
    ((PlanFaulty, ItemsFaulty), "Nothing was ordered."),
    ((DiskFull,), "Pictures under way are kept by the gateway for a day: make room in time."),
)


def as_cli_error(error: ClientError | OSError, places: Mapping[str, tuple[str, int]]) -> CliError:
    """Return an error as the command line tells it.

    Args:
        error: what happened.
        places: file and line of each item of a plan file, by id.
    """
    if isinstance(error, OSError):
        return CliError(str(error))
    message = error.message
    if isinstance(error, ItemsFaulty) and places:
        faults = [
            Fault(*places.get(one.item_id, (one.out, 0)), one.field, one.message)
            for one in error.faults
        ]
        message = PlanFaulty(sorted(faults)).message
    code = next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.REFUSED)
    return CliError(message, exit_code=code, hint=_hint(error), details=_details(error))


def _hint(error: ClientError) -> str:
    if isinstance(error, OutOfMoney) and error.code == "budget_exceeded":
        return "The operator changes it with: safelight keys limit ID"
    if isinstance(error, Refused) and error.status == 401:
        return "Set SAFELIGHT_API_KEY to a key made by: safelight keys create NAME"
    return next((hint for kinds, hint in _HINTS if isinstance(error, kinds)), "")


def _details(error: ClientError) -> dict[str, object]:
    if not isinstance(error, Answered):
        return {}
    return {
        "status": error.status,
        "code": error.code,
        "param": error.param,
        "request_id": error.request_id,
    }
