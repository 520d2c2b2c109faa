"""The receipt of a job: its order, its picture, its money and its attempts, in one piece.

Owns the read that puts them together, and the names under which customers see accounts. What a
customer is shown of it is the API's choice; the operator sees all. Changes nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

import msgspec

from safelight import attempts, jobs, ledger
from safelight.attempts import Attempt
from safelight.db import Row, Transaction
from safelight.types import Job, JobState, Micros

_ALIAS_DIGITS = 6


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer of a job. `created_at` in milliseconds since 1970.

    `amount_micros` is what it did to the posted balance, `held_micros` to what is held, and
    `balance_micros` the posted balance after it.
    """

    id: str
    kind: str
    created_at: int
    amount_micros: Micros
    held_micros: Micros
    balance_micros: Micros
    reason: str


class Cost(msgspec.Struct, frozen=True):
    """What attempts cost at their vendors; incomplete where the cost of a sold one is not known.

    `unknown` counts the attempts of which nobody can say whether they were sold.
    """

    micros: Micros
    complete: bool
    sold: int
    unknown: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one job; attempts and movements in their order.

    `aliases` has, by account, the name under which the customer sees it.
    """

    job: Job
    customer: str
    movements: tuple[Movement, ...]
    attempts: tuple[Attempt, ...]
    aliases: dict[str, str]

    @property
    def charged_micros(self) -> Micros:
        """What the customer paid for it, after refunds."""
        return -sum(movement.amount_micros for movement in self.movements)

    @property
    def original_sha256(self) -> str | None:
        """Digest of the vendor's answer that the picture is, or was made of."""
        return next((one.digest for one in self.attempts if one.settled), None)

    @property
    def free_reason(self) -> str | None:
        """Why an ended job cost nothing: the release's reason or the refund's; else None."""
        if not self.job.state.terminal:
            return None
        given_back = [one for one in self.movements if one.kind in ("release", "refund")]
        return given_back[-1].reason if given_back else None

    @property
    def cost(self) -> Cost:
        """What the job cost at the vendors, waste included."""
        return cost_of(self.attempts)

    @property
    def margin_micros(self) -> Micros:
        """What the charge leaves of the known cost: an upper bound where a cost is not known."""
        return self.charged_micros - self.cost.micros

    @property
    def delivered(self) -> bool:
        """Whether the job ended with a picture."""
        return self.job.state is JobState.COMPLETED


def read_receipt(tx: Transaction, job_id: str, *, pepper: bytes) -> Receipt | None:
    """Return a job's receipt, or None: a handful of rows, each found by an index.

    `pepper` is the secret that aliases of accounts are made with.
    """
    job = jobs.get_job(tx, job_id)
    if job is None:
        return None
    customer = tx.one("SELECT name FROM customer WHERE id = :id", {"id": job.customer_id})
    assert customer is not None, "a job has a customer, by reference"
    made = attempts.of_jobs(tx, [job_id]).get(job_id, ())
    return Receipt(
        job=job,
        customer=customer["name"],
        movements=tuple(_movement(row) for row in ledger.story(tx, job.reserve_id)),
        attempts=made,
        aliases={
            name: account_alias(pepper, job.customer_id, name)
            for name in {attempt.account for attempt in made}
        },
    )


def cost_of(made: Iterable[Attempt]) -> Cost:
    """Add up what attempts cost at their vendors."""
    known, complete, sold, unknown = 0, True, 0, 0
    for attempt in made:
        if attempt.sold is None:
            unknown += 1
        elif attempt.sold:
            sold += 1
            complete = complete and attempt.cost_micros is not None
            known += attempt.cost_micros or 0
    return Cost(known, complete and not unknown, sold, unknown)


def account_alias(pepper: bytes, customer_id: str, account: str) -> str:
    """Return the name under which one customer sees an account, such as `account-3f2ac1`.

    It is keyed, so that nobody finds the operator's name for it by trying likely ones, and it
    differs from customer to customer, so that two of them cannot tell that they share an account.
    It stays the same as long as the pepper does.
    """
    text = "\0".join(("account alias", customer_id, account)).encode()
    return f"account-{hmac.new(pepper, text, hashlib.sha256).hexdigest()[:_ALIAS_DIGITS]}"


def _movement(row: Row) -> Movement:
    amount = row["amount_micros"]
    held = {"reserve": amount, "settle": -amount, "release": -amount}
    return Movement(
        id=row["id"],
        kind=row["kind"],
        created_at=row["created_at"],
        amount_micros=ledger.signed_amount(row),
        held_micros=held.get(row["kind"], 0),
        balance_micros=row["balance_micros"],
        reason=row["reason"],
    )
