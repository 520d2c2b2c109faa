"""What a verification can find, by name and invariant.

Owns the list of contradictions and the form in which one is reported. Looks at nothing itself.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class Check(Enum):
    """One kind of contradiction: the invariant it breaks (docs/ledger.md) and what is wrong.

    1 balances are the sums of their transfers; 2 a reserve is open exactly while its job is; 3 a
    completed job has one settle, one image and its blobs; 4 a failed job has one release; 5 amounts
    agree and no balance is under its floor; 6 the hash chain is unbroken; 7 budgets count what is
    held and charged; 8 a line of a batch says what became of its order.
    """

    POSTED = 1, "the posted balance is not the sum of the transfers"
    HELD = 1, "what is held is not the sum of the open reserves"
    RUNNING = 1, "what follows this transfer does not go on from the balance after it"
    PARTIES = 1, "debit and credit are not those of a transfer of its kind"
    NO_BALANCE = 1, "the customer has no balance"
    HOLD_OF_NO_JOB = 2, "the transfer belongs to no job"
    OWNER = 2, "the transfer names a job of another customer"
    HOLD_OF_JOB = 2, "the job and its reserve do not name each other"
    RESOLVED_TOO_EARLY = 2, "the job is open, its reserve is not"
    OVERDUE = 2, "the job is open long after its deadline, and money is held for it"
    RESOLVES = 2, "it does not resolve an open reserve of its customer and job"
    SETTLE = 3, "a completed job has exactly one settle and no release"
    IMAGE = 3, "a completed job has exactly one image, any other none"
    IMAGE_OF_JOB = 3, "the image and its job do not name each other"
    IMAGE_OWNER = 3, "the image and its job belong to different customers"
    DELIVERED = 3, "a completed job has exactly one attempt whose picture it delivered, others none"
    ATTEMPTS = 3, "the job counts other attempts than there are"
    BLOB_MISSING = 3, "the picture is not in the store"
    BLOB_DAMAGED = 3, "the picture in the store has other bytes"
    ORIGINAL_MISSING = 3, "the vendor's file beside the picture is not in the store"
    ORIGINAL_DAMAGED = 3, "the vendor's file beside the picture has other bytes in the store"
    RELEASE = 4, "a failed or cancelled job has exactly one release and no settle"
    FLOOR = 5, "available is below the floor"
    AMOUNT = 5, "what is settled or released is not what was held"
    PRICE = 5, "what is held is not the price of the job"
    REFUND = 5, "it does not refund, in full, a charge of its customer and job"
    REFUNDED_TWICE = 5, "the charge was refunded more than once"
    REFUNDS = 5, "more was refunded than charged"
    CONTENT = 6, "the transfer is not the one that was written: it breaks the hash chain"
    ORDER = 6, "what follows this transfer is not chained to it: the hash chain is broken"
    BUDGET = 7, "the budget's use is not the sum of its jobs"
    LINE = 8, "a line of the batch does not say what became of its order"

    def __init__(self, invariant: int, words: str) -> None:
        self.invariant = invariant
        self.words = words


_PASSING = frozenset({Check.OVERDUE.name.lower()})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One contradiction.

    `subject` is the transfer, job, image or balance at fault, `stored` and `expected` what it says
    and what the rest says it should. `customer_id` is empty where nobody can be named.
    """

    invariant: int
    check: str
    customer_id: str
    subject: str
    stored: str
    expected: str
    words: str
    differs: str = ""
    """What tells it from another finding of the subject: of sums the difference, which stays."""
    customer: str = ""
    """The customer's name."""

    @property
    def mark(self) -> str:
        """By which the same contradiction is known again."""
        return f"{self.check}:{self.subject}:{self.differs}"

    @property
    def passing(self) -> bool:
        """Whether it may have been true for a moment only: it counts if it is a round later."""
        return self.check in _PASSING

    def __str__(self) -> str:
        whose = self.customer or self.customer_id or "nobody"
        return (
            f"customer {whose}: {self.subject}: {self.words} "
            f"(stored: {self.stored}; should be: {self.expected})"
        )


def found(
    check: Check,
    customer_id: str | None,
    subject: str,
    *,
    stored: object = "",
    expected: object = "",
    differs: object = "",
) -> Finding:
    """Return a finding in the words of its check."""
    return Finding(
        invariant=check.invariant,
        check=check.name.lower(),
        customer_id=customer_id or "",
        subject=subject,
        stored=str(stored),
        expected=str(expected),
        words=check.words,
        differs=str(differs),
    )
