"""How the command line fails: exit codes, and one exception tree that knows them.

    CliError                    a message, an exit code, maybe a hint
    `-- GatewayError            talking to the gateway failed; knows if another try makes sense
        |-- UnreachableError    3   no connection, or it broke
        |-- OutOfTimeError      4   --timeout has passed
        `-- AnswerError         *   the gateway answered with an error; its code picks the exit code

Owns the codes (documented in docs/cli.md) and how an error body becomes one of them; printing is
`output.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the shell sees."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    NO_BALANCE = 5
    MODERATION = 6
    FINDINGS = 7
    REVIEW = 8
    COST_BOUND = 9
    DISK_FULL = 10
    INTERRUPTED = 130


RETRYABLE_CODES = frozenset(
    {
        "database_busy",
        "deadline_exceeded",
        "internal_error",
        "rate_limit_exceeded",
        "shutting_down",
        "too_many_bytes_in_flight",
        "too_many_in_flight",
        "unavailable",
    }
)
"""What passes by itself. Inside a stream there is neither a status nor `x-should-retry` to tell."""

EXIT_CODE_MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.REFUSED: "the gateway answered with a final error",
    ExitCode.USAGE: "wrong usage or configuration",
    ExitCode.UNREACHABLE: "the gateway cannot be reached",
    ExitCode.TIMEOUT: "out of time",
    ExitCode.NO_BALANCE: "the balance does not cover the price",
    ExitCode.MODERATION: "refused by a safety system",
    ExitCode.FINDINGS: "something does not add up",
    ExitCode.REVIEW: "pictures wait for a person's review",
    ExitCode.COST_BOUND: "stopped at --max-cost",
    ExitCode.DISK_FULL: "the disk is full",
    ExitCode.INTERRUPTED: "interrupted",
}


class CliError(Exception):
    """A command ends here.

    Args:
        message: what happened, for a person.
        exit_code: what the shell gets.
        hint: what to do next; may be empty.
        details: machine-readable facts for `--json`.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: ExitCode = ExitCode.REFUSED,
        hint: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.hint = hint
        self.details = dict(details or {})


class GatewayError(CliError):
    """Talking to the gateway failed.

    `retryable` says whether the same request may be sent again; `retry_after_s` is the gateway's
    own wait in seconds, or None.
    """

    retryable = False
    retry_after_s: float | None = None


class UnreachableError(GatewayError):
    """No connection, or it broke before the answer was complete."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(
            message,
            exit_code=ExitCode.UNREACHABLE,
            hint="Is the gateway running (safelight serve) and is the address right?",
        )
        self.retryable = retryable


class OutOfTimeError(GatewayError):
    """The command's own --timeout has passed."""

    def __init__(self, message: str = "no answer within --timeout") -> None:
        super().__init__(message, exit_code=ExitCode.TIMEOUT)


class AnswerError(GatewayError):
    """The gateway answered with an error, as a status or inside a stream.

    Args:
        error: the `error` object of the OpenAI envelope.
        status: HTTP status, or None for an error inside a stream.
        retryable: whether the gateway (or its status) invites another try.
        retry_after_s: the gateway's own wait, seconds.
        request_id: `x-request-id`, to quote to the operator.
    """

    def __init__(
        self,
        error: Mapping[str, Any],
        *,
        status: int | None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        code = error.get("code")
        super().__init__(
            str(error.get("message") or f"the gateway answered {status} without a message"),
            exit_code=_exit_code(status, code),
            hint=_hint(status, code),
            details={
                "status": status,
                "type": error.get("type"),
                "code": code,
                "param": error.get("param"),
                "request_id": request_id,
            },
        )
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s


def _exit_code(status: int | None, code: object) -> ExitCode:
    if code in ("moderation_blocked", "content_policy_violation"):
        return ExitCode.MODERATION
    if status == 402 or code in ("insufficient_balance", "budget_exceeded"):
        return ExitCode.NO_BALANCE
    # 504 is what a proxy on the way says; the gateway itself never does.
    if status in (408, 504) or code in ("deadline_exceeded", "upstream_timeout"):
        return ExitCode.TIMEOUT
    return ExitCode.REFUSED


def _hint(status: int | None, code: object) -> str:
    match _exit_code(status, code):
        case ExitCode.MODERATION:
            return "Nothing was charged. Change the prompt or the input images."
        case ExitCode.NO_BALANCE if code == "budget_exceeded":
            return "The operator changes it with: safelight keys limit ID"
        case ExitCode.NO_BALANCE:
            return "The operator tops up with: safelight credit CUSTOMER AMOUNT"
    if status == 401:
        return "Set SAFELIGHT_API_KEY to a key made by: safelight keys create NAME"
    return ""
