"""What comes back: pictures, jobs, quotes, lines of the statement.

Owns the shapes, tolerantly: fields that a later release adds are ignored, and those that another
server leaves out are None. Money is integer micro-dollars, times (`..._at`) are unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from safelight.client.errors import Answered, BrokenPicture, OutOfMoney, Refused, ServiceFailed

ENDED = frozenset({"completed", "failed", "cancelled"})


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that was made: as a link or as bytes, one of the two is there.

    `size` is `WIDTHxHEIGHT` as measured. `generation_s` is how long it took to make: the call as
    its caller saw it, or what the job says (whole seconds) where the call joined an earlier one
    (`replayed`). `charge_micros` is what it cost, once; None where the server does not say.
    """

    job_id: str | None = None
    request_id: str | None = None
    link: str | None = None
    data: bytes | None = None
    mime: str | None = None
    size: str | None = None
    sha256: str | None = None
    size_plan: str | None = None
    charge_micros: int | None = None
    generation_s: float | None = None
    idempotency_key: str | None = None
    replayed: bool = False


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A picture that lies on disk, whole and checked; pixels from its own header."""

    path: Path
    sha256: str
    bytes: int
    mime: str
    width: int
    height: int


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at an address: a safelight or another server, and the models it names."""

    safelight: bool
    channels: tuple[str, ...]


class JobImage(msgspec.Struct, frozen=True, kw_only=True):
    """A finished job's picture; `url` is a fresh signed link, None when the picture is gone."""

    id: str
    url: str | None = None
    sha256: str
    bytes: int
    width: int
    height: int
    format: str
    expires_at: int | None = None
    kept_until: int | None = None
    deleted_at: int | None = None


class JobProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job has no picture; it was free."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as its owner sees it.

    `status` is `queued`, `in_progress`, `completed`, `failed` or `cancelled`. `queue_position` and
    `expected_finish_at` are estimates; 0 is the next one.
    """

    id: str
    status: str
    created_at: int
    model: str
    request_id: str | None = None
    stage: str | None = None
    batch_id: str | None = None
    metadata: dict[str, str] | None = None
    job_class: str | None = msgspec.field(default=None, name="class")
    priority: int | None = None
    not_before: int | None = None
    started_at: int | None = None
    completed_at: int | None = None
    cancel_requested_at: int | None = None
    deadline_at: int | None = None
    queue_position: int | None = None
    expected_finish_at: int | None = None
    size: str | None = None
    size_plan: str | None = None
    price_micros: int | None = None
    attempts: int | None = None
    image: JobImage | None = None
    error: JobProblem | None = None
    usage: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing about it changes any more."""
        return self.status in ENDED

    @property
    def generation_s(self) -> float | None:
        """Whole seconds from its begin to its end; None before that."""
        if self.completed_at is None:
            return None
        return float(self.completed_at - (self.started_at or self.created_at))

    def picture(self) -> Picture:
        """Return the picture of a completed job.

        Raises:
            OutOfMoney, Refused, ServiceFailed: it ended without one; by the job's own error.
            BrokenPicture: it has not ended, or its picture was deleted since.
        """
        if self.status != "completed":
            raise self._without_picture()
        image = self.image
        if image is None or image.url is None:
            raise BrokenPicture(f"the picture of {self.id} is not kept any more: order it again")
        return Picture(
            job_id=self.id,
            request_id=self.request_id,
            link=image.url,
            mime=f"image/{image.format}",
            size=f"{image.width}x{image.height}",
            sha256=image.sha256,
            size_plan=self.size_plan,
            charge_micros=self.price_micros,
            generation_s=self.generation_s,
        )

    def _without_picture(self) -> Exception:
        if not self.ended:
            return BrokenPicture(f"{self.id} is {self.status}: wait() for it first")
        if self.error is None:
            return Refused(
                f"{self.id} was cancelled; it cost nothing",
                status=409,
                code="job_cancelled",
                job_id=self.id,
            )
        kind: type[Answered] = ServiceFailed
        if self.error.type == "insufficient_quota":
            kind = OutOfMoney
        elif (self.error.type or "").startswith(("invalid_request", "image_generation_user")):
            kind = Refused
        return kind(
            self.error.message,
            status=503 if kind is ServiceFailed else 400,
            code=self.error.code,
            param=self.error.param,
            job_id=self.id,
        )


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a job; `type` is `job.queued`, `job.in_progress`, ...

    The first event has `job`, as it stands then, and the last one. Events with an `id` can be gone
    on after; partial pictures (`b64_json`) are hints and come once or not at all.
    """

    type: str
    job_id: str
    created_at: int
    status: str
    id: str | None = None
    stage: str | None = None
    attempt: int | None = None
    reason: str | None = None
    queue_position: int | None = None
    expected_finish_at: int | None = None
    partial_image_index: int | None = None
    output_format: str | None = None
    b64_json: str | None = None
    job: Job | None = None

    @property
    def last(self) -> bool:
        """Whether the job has ended with it."""
        return self.type in ("job.completed", "job.failed", "job.cancelled")


class JobChange(msgspec.Struct, frozen=True, kw_only=True):
    """What `wait(on_change=...)` tells: the job as it stands now, and what changed it.

    `partial` is a partial picture where the event brought one.
    """

    job: Job
    event: JobEvent
    partial: bytes | None = None


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What pictures will cost, and with which plan their size is made; nothing is reserved.

    `price_micros` is for one, `total_micros` for all `n`. The other fields forecast when they will
    be there; None where the server does not tell, or nothing bounds it: `images_per_minute` may
    begin, `burst` of them at once, no more than a minute's in `window_s`; `at_once` may be in the
    making; `generation_s` is how long one takes (the median), `waiting` how many jobs come first.
    `serves` is False while no account can make such pictures.
    """

    model: str
    size: str
    size_plan: str
    method: str | None = None
    canvas: str | None = None
    n: int
    price_micros: int
    total_micros: int
    serves: bool | None = None
    images_per_minute: float | None = None
    burst: int | None = None
    window_s: float | None = None
    at_once: int | None = None
    generation_s: float | None = None
    waiting: int | None = None
    expected_finish_at: int | None = None


class SizeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One size of a channel; `plan` says how its pixels are made."""

    name: str
    width: int
    height: int
    ratio: str
    tier: str
    plan: str
    canvas: str
    price_micros: int
    prices_micros: dict[str, int] = {}


class ChannelSizes(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of one channel that have a name; `allowed` says in words what else it takes."""

    model: str
    sizes: tuple[SizeEntry, ...]
    allowed: str = ""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's money; what can be spent is `spendable_micros`."""

    posted_micros: int
    held_micros: int
    available_micros: int
    credit_line_micros: int = 0

    @property
    def spendable_micros(self) -> int:
        """What is available, and the credit line."""
        return self.available_micros + self.credit_line_micros


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line: settles are negative, free ones 0 with the reason, top-ups positive."""

    id: str
    created_at: int
    kind: str
    amount_micros: int
    balance_micros: int
    reason: str
    job_id: str | None = None
    request_id: str | None = None
    channel: str | None = None
    size: str | None = None
    size_plan: str | None = None
    image_sha256: str | None = None
    attempts: int | None = None


def charge_of(headers: Mapping[str, str]) -> int | None:
    """Return what an image answer says it cost, in micro-dollars; None: it says nothing."""
    raw = headers.get("x-safelight-price-micros", "")
    return int(raw) if raw.isascii() and raw.isdigit() else None
