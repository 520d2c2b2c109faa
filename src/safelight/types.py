"""The nouns that several rooms share: requests, size plans, jobs, accounts, images.

Only data: no I/O, no rules. The words are those of docs/architecture.md, "Words".
"""

from __future__ import annotations

import hashlib
import hmac
from enum import StrEnum
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from safelight import redaction
from safelight.notices import LimitNotice

Micros = int
"""Money: integer micro-dollars; $0.03 is 30000."""

ImageFormat = Literal["png", "jpeg", "webp"]
IMAGE_FORMATS: tuple[ImageFormat, ...] = ("png", "jpeg", "webp")
MEDIA_TYPES: dict[str, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


class Secret:
    """A credential that does not show itself in repr, str, format, logs, pickles or JSON.

    `reveal` is the only way to it. Its value is noted as one that no log may show, so make one as
    soon as a credential is read; `passing` is for those of which a process sees any number.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        redaction.note(value)

    @classmethod
    def passing(cls, value: str) -> Secret:
        """Return a secret that is not noted: a customer's, which a pattern finds in a log."""
        made = cls.__new__(cls)
        made._value = value
        return made

    def reveal(self) -> str:
        """Return the credential itself; call it only where it goes on the wire."""
        return self._value

    def matches(self, text: str) -> bool:
        """Return whether `text` is this credential; how long that takes does not tell how near."""
        mine, theirs = (hashlib.sha256(one.encode()).digest() for one in (self._value, text))
        return hmac.compare_digest(mine, theirs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.matches(other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    # A copy is the credential itself, or whoever copies a configuration would send three stars.
    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class Operation(StrEnum):
    """What an upstream is asked to do."""

    GENERATION = "generation"
    EDIT = "edit"


class JobState(StrEnum):
    """A job's state, in the SDK's words."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """True when nothing will change any more."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class JobClass(StrEnum):
    """How urgent a job is; more urgent classes go first, each keeps a floor."""

    INTERACTIVE = "interactive"
    """A caller waits."""
    JOB = "job"
    """Ordered to be collected later, or left over from an earlier process."""
    BATCH = "batch"


class Stage(StrEnum):
    """How far a job in progress has come; journalled, a restart continues after it."""

    SENT = "sent"
    RECEIVED = "received"
    VERIFIED = "verified"
    STORED = "stored"
    SETTLED = "settled"


class PlanMethod(StrEnum):
    """How a size plan makes its pixels."""

    NATIVE = "native"
    """The upstream makes exactly these pixels."""
    CROP = "crop"
    """The upstream makes the smallest legal covering canvas; its centre is cut out."""
    RESAMPLE = "resample"
    """The upstream makes the largest legal canvas of the ratio; Lanczos enlarges it."""
    AUTO = "auto"
    """The upstream chooses; the delivered file is measured."""
    HINT = "hint"
    """The size goes into the prompt; nothing is guaranteed, the delivered file is measured."""


class SizePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How exact pixels are made.

    `width` x `height` is what the caller gets (0 for AUTO; for HINT what was asked, not
    guaranteed), `canvas_width` x `canvas_height` what the upstream is asked for (0 = "auto").
    """

    method: PlanMethod
    width: int = 0
    height: int = 0
    canvas_width: int = 0
    canvas_height: int = 0

    @property
    def size(self) -> str:
        """The size to deliver as `WxH`, or `auto`."""
        return f"{self.width}x{self.height}" if self.width else "auto"

    @property
    def canvas(self) -> str:
        """The size to ask from the upstream as `WxH`, or `auto`."""
        return f"{self.canvas_width}x{self.canvas_height}" if self.canvas_width else "auto"

    @property
    def exact(self) -> bool:
        """True when the delivered file must measure width x height."""
        return self.method in (PlanMethod.NATIVE, PlanMethod.CROP, PlanMethod.RESAMPLE)

    @property
    def remakes(self) -> bool:
        """True when the delivered pixels are made here from the upstream's."""
        return self.method in (PlanMethod.CROP, PlanMethod.RESAMPLE)

    def describe(self) -> str:
        """Return the plan in words: `native`, `crop from 1824x1024`, ..."""
        match self.method:
            case PlanMethod.CROP:
                return f"crop from {self.canvas}"
            case PlanMethod.RESAMPLE:
                return f"resample from {self.canvas} x{self.width / self.canvas_width:.4f}"
            case PlanMethod.HINT:
                return f"hint of {self.size}"
            case _:
                return str(self.method)


class BlobRef(msgspec.Struct, frozen=True):
    """A stored picture: lower-case hex SHA-256 of its bytes, length, format, pixels."""

    digest: str
    bytes: int
    format: ImageFormat
    width: int
    height: int
    has_alpha: bool = False


Metadata = tuple[tuple[str, str], ...]
"""What a customer has written on its jobs, names with values; nothing here reads it."""


class ImageRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One order as the caller means it, in canonical form; stored with its jobs.

    `size` is `WxH` or `auto` (names such as `16:9@2K` are already resolved). Its encoding without
    defaults is what the fingerprint of the retry-join rules is made of.
    """

    operation: Operation
    channel: str
    prompt: str
    size: str = "auto"
    quality: str | None = None
    background: str | None = None
    output_format: ImageFormat = "png"
    output_compression: int | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    inputs: tuple[BlobRef, ...] = ()
    mask: BlobRef | None = None
    n: int = 1
    partial_images: int = 0
    user: str | None = None


LANE_OWNER = "vendor-batches"
"""To whom a job is leased that is with a vendor's Batch API, or collected for it: no process."""
LANE_GROUP = "/batch"
"""Behind a limiter group: its attempts by a Batch API, which vendors count apart from calls."""


class Quote(msgspec.Struct, frozen=True):
    """What one request would cost and how its pixels are made; `price_micros` is per image."""

    channel: str
    size_plan: SizePlan
    n: int
    price_micros: Micros
    total_micros: Micros


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream credential, as configured. `group` is its limiter group."""

    name: str
    upstream: str
    group: str
    channels: tuple[str, ...]
    model: str = "gpt-image-2"
    base_url: str = ""
    api_key: Secret | None = None
    images_per_minute: float | None = None
    input_images_per_minute: float | None = None
    requests_per_minute: float | None = None
    max_in_flight: int | None = None
    tier: int = 1
    image_cost_micros: Micros | None = None
    options: dict[str, str | int | float | bool] = {}
    edits: bool = True
    vendor_batches: bool = False
    """Whether lines of batches may be sent to the Batch API of its vendor."""
    connect_timeout_s: float = 5.0
    first_byte_timeout_s: float = 240.0
    idle_timeout_s: float = 20.0

    @property
    def endpoint(self) -> str:
        """What fails as one: the origin of `base_url`, or the upstream's name where it has none."""
        scheme, _, rest = self.base_url.partition("://")
        return f"{scheme}://{rest.partition('/')[0]}".lower() if rest else self.upstream


class UpstreamCall(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter is asked for one attempt: one image, the `n`-th (from 0) of its request.

    `size` is `WxH` or `auto`, in canvas pixels. `input_paths` are local files, in order, whose
    formats are in `inputs`. `output_format` is what the upstream shall answer if it can.
    """

    job_id: str
    n: int = 0
    operation: Operation
    prompt: str
    size: str
    output_format: ImageFormat
    quality: str | None = None
    background: str | None = None
    output_compression: int | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    inputs: tuple[BlobRef, ...] = ()
    input_paths: tuple[Path, ...] = ()
    mask: BlobRef | None = None
    mask_path: Path | None = None
    partial_images: int = 0
    user: str | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens as OpenAI's images body counts them; all zero when the upstream is silent."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_text_tokens: int = 0
    input_image_tokens: int = 0
    output_text_tokens: int = 0
    output_image_tokens: int = 0


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished upstream call left: complete picture bytes, fsynced, at `path`."""

    path: Path
    digest: str
    bytes: int
    upstream_request_id: str | None = None
    usage: Usage | None = None
    limits: tuple[LimitNotice, ...] = ()


class JobFailure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job failed, in wire words; stored with the job so that a replay says the same."""

    status: int
    type: str
    code: str | None
    message: str
    param: str | None = None
    should_retry: bool = False
    retry_after_s: float | None = None
    moderation_details: dict[str, object] | None = None


class Identity(msgspec.Struct, frozen=True):
    """Who a valid key speaks for.

    `keep_alive`: plain answers to this key may begin with white space.
    """

    customer_id: str
    key_id: str
    keep_alive: bool = False


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stored result.

    `id` is 128 random bits in hex, `link_ttl_s` the life of a fresh link, `link_epoch` the
    customer's epoch (raising it ends all of the customer's links). Times are milliseconds since
    1970.
    """

    id: str
    job_id: str
    customer_id: str
    blob: BlobRef
    created_at: int
    link_ttl_s: int
    link_epoch: int
    expires_at: int | None = None
    """When its bytes may go, unless it is pinned; None: not by themselves."""
    pinned: bool = False
    deleted_at: int | None = None
    """Since when its bytes are gone, or are going."""
    persisted_at: int | None = None
    persisted_url: str | None = None
    """Where it lies in the customer's own bucket."""
    persist_state: str | None = None
    """waiting, done or failed; None: it is not carried anywhere."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One requested image, durable. Times in milliseconds since 1970."""

    id: str
    request_id: str
    customer_id: str
    key_id: str
    n: int
    state: JobState
    stage: Stage | None
    request: ImageRequest
    size_plan: SizePlan
    price_micros: Micros
    reserve_id: str
    epoch: int
    deadline_at: int
    created_at: int
    started_at: int | None = None
    completed_at: int | None = None
    attempts: int = 0
    image: ImageRecord | None = None
    failure: JobFailure | None = None
    usage: Usage | None = None
    delivered_at: int | None = None
    budget_day: str = ""
    """The day (UTC, `2026-11-22`) in which the price counts against the budgets of the key."""
    job_class: JobClass = JobClass.INTERACTIVE
    priority: int = 100
    """Of a queued job among its customer's, the lowest first."""
    not_before: int | None = None
    """When a queued job may begin; None: at once."""
    cancel_requested_at: int | None = None
    """Since when no further attempt is made; a picture under way is still delivered."""
    batch_id: str | None = None
    metadata: Metadata = ()


class Balance(msgspec.Struct, frozen=True):
    """A customer's money in micro-dollars; available = posted - held.

    What can be spent is `available_micros` and `credit_line_micros` together.
    """

    posted_micros: Micros
    held_micros: Micros
    available_micros: Micros
    credit_line_micros: Micros = 0


Period = Literal["day", "month", "total"]
PERIODS: tuple[Period, ...] = ("day", "month", "total")


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may spend in a period, and how much of it is spent or held.

    `resets_at` is unix seconds, None for `total`; `alerted` the highest share, in percent, that was
    announced in this period.
    """

    period: Period
    limit_micros: Micros
    used_micros: Micros
    remaining_micros: Micros
    resets_at: int | None
    alerted: int


class KeyBalance(Balance, frozen=True, kw_only=True):
    """A customer's money and the budgets of the one key that asks."""

    budgets: tuple[BudgetState, ...] = ()


class LimitChange(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator changes about the limits of a key.

    Requests and jobs: None is the configuration's default, 0 no limit. `budgets` has the periods to
    change, with their limits; None removes one.
    """

    requests_per_minute: int | msgspec.UnsetType | None = msgspec.UNSET
    max_in_flight: int | msgspec.UnsetType | None = msgspec.UNSET
    budgets: dict[Period, Micros | None] = {}


class StatementLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the statement; field order is the CSV's column order.

    `created_at` is unix seconds. Settle lines are negative, free lines 0 with the reason,
    top-ups positive; summing `amount_micros` gives the posted balance.
    """

    id: str
    created_at: int
    kind: str
    job_id: str | None
    request_id: str | None
    channel: str | None
    size: str | None
    size_plan: str | None
    amount_micros: Micros
    balance_micros: Micros
    reason: str
    image_sha256: str | None
    attempts: int | None
