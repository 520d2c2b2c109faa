"""How a tool fails: a message for the model, with what to do next.

Owns the error and how the client's errors read as one. A model repeats what it is told, so each
message says whether another try makes sense and what it would cost.
"""

from __future__ import annotations

from safelight.client import errors


class ToolFault(Exception):
    """A tool that cannot do what was asked. The message is the model's to read."""


def explained(error: errors.ClientError, key: str | None = None) -> ToolFault:
    """Return the client's error as a message that says what to do next.

    Args:
        error: what went wrong.
        key: the idempotency key of the order that it happened to, if it was one.
    """
    if isinstance(error, errors.Answered):
        advice = f"Nothing was charged. {_advice(error)}"
    elif key and isinstance(error, errors.TimedOut | errors.Unreachable | errors.BrokenPicture):
        advice = (
            "If the order was accepted it goes on: call again with "
            f'idempotency_key="{key}" to collect it without paying twice.'
        )
    else:
        advice = ""
    return ToolFault(f"{error.message.rstrip('.')}. {advice}".strip())


def _advice(error: errors.Answered) -> str:
    match error:
        case errors.OutOfMoney():
            return "A person must top up the balance or raise the budget."
        case errors.Refused(code="moderation_blocked"):
            return "Change the prompt or the input pictures."
        case errors.Refused(status=401 | 403):
            return "A person must give this server another key."
        case errors.Refused(param=str(param)):
            return f"Change {param!r}; the same call is refused again."
        case errors.Refused():
            return "The same call is refused again."
    when = "later" if error.retry_after_s is None else f"in {error.retry_after_s:.0f} seconds"
    return f"Try again {when}."
