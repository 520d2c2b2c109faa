"""How the client fails: one tree, grouped by what a caller would do.

    ClientError              a message that says what to do next
    |-- Misconfigured        no address, no key, or one that cannot be right
    |-- BadOrder             the order cannot be sent as it is; nothing was sent
    |   `-- UnreadableInput  a picture that cannot be uploaded; names the file
    |-- NotSupported         the address speaks OpenAI's API, but is no safelight
    |-- Answered             an error answer, with its status, code and param
    |   |-- Refused          4xx: the same order will be refused again
    |   |   `-- OutOfMoney   the balance or a budget does not cover the price
    |   |-- RateLimited      429 after all tries: come back in `retry_after_s`
    |   `-- ServiceFailed    5xx after all tries; free at a safelight
    |-- Unreachable          no connection, or it broke, after all tries
    |-- TimedOut             the time given is over; the order's key collects it later
    |-- BrokenPicture        what came is no picture, or not the one that was promised
    |-- DestinationFailed    a folder or bucket did not take a file
    `-- WebhookRefused       a message that must not be believed

Owns the tree; which answer becomes which error is `refusals`' business.
"""

from __future__ import annotations


class ClientError(Exception):
    """Something that the client cannot do; the message says what to do next."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Misconfigured(ClientError):
    """The address or the key is missing, or malformed."""


class BadOrder(ClientError, ValueError):
    """An order that cannot be sent as it is. Nothing was sent and nothing was spent."""


class UnreadableInput(BadOrder):
    """A picture that cannot be uploaded.

    Args:
        name: the file, or `the picture` for bytes in memory.
        why: what is wrong with it.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.why = why


class NotSupported(ClientError):
    """What only a safelight has, asked of another server.

    Args:
        what: the thing that was asked for.
        address: of the server.
    """

    def __init__(self, what: str, address: str) -> None:
        super().__init__(
            f"{what} is not to be had at {address}: it speaks OpenAI's API but is no safelight"
        )


class Answered(ClientError):
    """The address answered with an error.

    Args:
        message: from the answer.
        status: HTTP status; 200 where the error came in the body of an answer that had begun.
        code: the error's code, such as `invalid_value`.
        param: the parameter it is about.
        request_id: what the operator finds the call by.
        job_id: the job it is the word on.
        retry_after_s: when another try makes sense, seconds from the answer.
        retryable: whether the same order may be sent again.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        job_id: str | None = None,
        retry_after_s: float | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.request_id = request_id
        self.job_id = job_id
        self.retry_after_s = retry_after_s
        self.retryable = retryable


class Refused(Answered):
    """The same order will be refused again: change it (`param`), or the key."""


class OutOfMoney(Refused):
    """The balance, or a budget of the key, does not cover the price."""


class RateLimited(Answered):
    """Too many orders at once, after all tries; `retry_after_s` says when there is room."""


class ServiceFailed(Answered):
    """The service failed, after all tries. At a safelight a failure is free."""


class Unreachable(ClientError):
    """No connection, or it broke before the answer was complete, after all tries."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class TimedOut(ClientError):
    """The time is over. An order may go on: the same order with its key collects it.

    Args:
        message: what did not come in time.
        idempotency_key: of the order that may go on, if it was one.
        job_id: the job that goes on, where it is known.
    """

    def __init__(
        self, message: str, *, idempotency_key: str | None = None, job_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.idempotency_key = idempotency_key
        self.job_id = job_id


class BrokenPicture(ClientError):
    """What came is no picture, or has not the digest that was promised, after all tries."""


class DestinationFailed(ClientError):
    """A folder or a bucket did not take a file, or gave back another one."""


class WebhookRefused(ClientError):
    """A message that must not be believed: answer 400 and do nothing."""


class BadSignature(WebhookRefused):
    """None of the signatures is by one of the secrets, or headers are missing."""


class StaleMessage(WebhookRefused):
    """Rightly signed, but too long ago or in the future: a replay, or a wrong clock."""
