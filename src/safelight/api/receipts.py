"""GET /v1/jobs/{id}/receipt: one job's money, picture and attempts as its owner sees them.

Owns the shape, and with it what a customer does not see: the operator's names of accounts, their
limiter groups, and what the vendor bills. The vendor's request id is shown: with it the vendor's
support finds the call, and without the account's key it opens nothing.
"""

from __future__ import annotations

import msgspec

from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.api.job_views import seconds
from safelight.attempts import Attempt
from safelight.gateway.receipts import Movement, Receipt
from safelight.types import ImageFormat


class ReceiptImage(msgspec.Struct, frozen=True, kw_only=True):
    """The delivered picture, measured.

    `original_sha256` is the digest of the file that the vendor answered; another one than `sha256`
    where pixels or format were made here.
    """

    sha256: str
    original_sha256: str | None
    bytes: int
    format: ImageFormat
    width: int
    height: int


class ReceiptPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the pixels were made: the method, and the canvas that the upstream was asked for."""

    method: str
    canvas: str


class ReceiptTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger record: what it did to the balance and to what is held, and the balance after it."""

    id: str
    kind: str
    created_at: int
    amount_micros: int
    held_micros: int
    balance_micros: int
    reason: str


class ReceiptAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream call.

    `outcome` is `ok`, a fault class, `lost`, `superseded` or `returned` (a line that came back from
    a vendor batch); null: it runs.
    `account` is an alias that is stable for this customer. `seconds`: how long the call took.
    """

    number: int
    sent_at: int
    seconds: float | None
    outcome: str | None
    delivered: bool
    account: str
    upstream_request_id: str | None


class ReceiptView(msgspec.Struct, frozen=True, kw_only=True):
    """A receipt; times in unix seconds. `free_reason` says why an ended job was not charged."""

    object: str = "image.receipt"
    id: str
    request_id: str
    channel: str
    status: str
    size_asked: str
    size: str | None
    size_plan: ReceiptPlan
    image: ReceiptImage | None
    price_micros: int
    charged_micros: int
    free_reason: str | None
    created_at: int
    started_at: int | None
    completed_at: int | None
    delivered_at: int | None
    transfers: tuple[ReceiptTransfer, ...]
    attempts: tuple[ReceiptAttempt, ...]


async def receipt(exchange: Exchange) -> None:
    """Answer GET /v1/jobs/{id}/receipt."""
    identity = await authenticate(exchange)
    gateway = exchange.services.gateway
    found = await gateway.receipt(identity.customer_id, exchange.path_param("id"))
    await exchange.respond_json(receipt_view(found))


def receipt_view(found: Receipt) -> ReceiptView:
    """Return a receipt as the job's owner sees it."""
    job = found.job
    blob = None if job.image is None else job.image.blob
    return ReceiptView(
        id=job.id,
        request_id=job.request_id,
        channel=job.request.channel,
        status=job.state,
        size_asked=job.request.size,
        size=None if blob is None else f"{blob.width}x{blob.height}",
        size_plan=ReceiptPlan(method=job.size_plan.method, canvas=job.size_plan.canvas),
        image=None
        if blob is None
        else ReceiptImage(
            sha256=blob.digest,
            original_sha256=found.original_sha256,
            bytes=blob.bytes,
            format=blob.format,
            width=blob.width,
            height=blob.height,
        ),
        price_micros=job.price_micros,
        charged_micros=found.charged_micros,
        free_reason=found.free_reason,
        created_at=job.created_at // 1000,
        started_at=seconds(job.started_at),
        completed_at=seconds(job.completed_at),
        delivered_at=seconds(job.delivered_at),
        transfers=tuple(_transfer(movement) for movement in found.movements),
        attempts=tuple(
            _attempt(number, attempt, found.aliases[attempt.account])
            for number, attempt in enumerate(found.attempts, 1)
        ),
    )


def _transfer(movement: Movement) -> ReceiptTransfer:
    values = msgspec.structs.asdict(movement)
    return ReceiptTransfer(**{**values, "created_at": movement.created_at // 1000})


def _attempt(number: int, attempt: Attempt, alias: str) -> ReceiptAttempt:
    return ReceiptAttempt(
        number=number,
        sent_at=attempt.sent_at // 1000,
        seconds=attempt.seconds,
        outcome=attempt.outcome,
        delivered=attempt.settled,
        account=alias,
        upstream_request_id=attempt.upstream_request_id,
    )
