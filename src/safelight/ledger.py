"""Money: immutable transfers and guarded balances.

Every verb is a function on an open transaction, so that money moves in the same commit as the job
it belongs to. Guards stand in the WHERE of the update, never in a read before it; resolution is
unique by index. The rules and their reasons are in docs/ledger.md. Amounts are integer
micro-dollars.

This module does not know jobs, images or keys; it stores the job id that it is told.
"""

from __future__ import annotations

import hashlib
from typing import Any

from safelight import transfer_spans
from safelight.db import Row, Transaction, UniqueViolation
from safelight.errors import CustomerFrozen, InsufficientBalance, SafelightError
from safelight.types import Balance, Micros

GENESIS = bytes(32)
"""The hash before a customer's first transfer."""

FUNDING, REVENUE, GOODWILL = "system:funding", "system:revenue", "system:goodwill"
"""The other parties of a customer's transfers."""


class AlreadyResolved(Exception):
    """The reserve has been settled or released before; nothing was changed."""


class WouldOverdraw(Exception):
    """An adjustment would take more than is available; nothing was changed."""


def open_balance(tx: Transaction, customer_id: str, *, floor_micros: Micros = 0) -> None:
    """Give a new customer a balance of zero; a negative floor is a credit line."""
    tx.execute(
        "INSERT INTO balance (customer_id, floor_micros, chain) VALUES (:customer, :floor, :chain)",
        {"customer": customer_id, "floor": floor_micros, "chain": GENESIS},
    )


def topup(
    tx: Transaction,
    *,
    transfer_id: str,
    customer_id: str,
    amount_micros: Micros,
    actor: str,
    reason: str,
) -> None:
    """Add money that the customer paid in.

    Raises:
        UniqueViolation: a transfer of that id exists (the call is a re-run).
    """
    _move(tx, customer_id, posted=amount_micros)
    _append(
        tx,
        id=transfer_id,
        kind="topup",
        customer_id=customer_id,
        debit=FUNDING,
        credit=customer_id,
        amount_micros=amount_micros,
        actor=actor,
        reason=reason,
    )


def reserve(
    tx: Transaction,
    *,
    transfer_id: str,
    customer_id: str,
    job_id: str,
    amount_micros: Micros,
    actor: str,
) -> None:
    """Hold the price of one job.

    Raises:
        CustomerFrozen: the customer's admissions are stopped; nothing was written.
        InsufficientBalance: posted - held - floor does not cover it; nothing was written.
    """
    changed = tx.execute(
        "UPDATE balance SET held_micros = held_micros + :amount WHERE customer_id = :customer "
        "AND posted_micros - held_micros - floor_micros >= :amount AND frozen_at IS NULL",
        {"amount": amount_micros, "customer": customer_id},
    )
    if changed == 0:
        raise _refusal(tx, customer_id)
    _append(
        tx,
        id=transfer_id,
        kind="reserve",
        customer_id=customer_id,
        debit=customer_id,
        credit=REVENUE,
        amount_micros=amount_micros,
        job_id=job_id,
        actor=actor,
        reason="price held",
    )


def settle(tx: Transaction, *, transfer_id: str, reserve_id: str, actor: str, reason: str) -> None:
    """Turn a reserve into a charge, once.

    Raises:
        AlreadyResolved: the reserve was settled or released before.
    """
    held = _reserve(tx, reserve_id)
    _resolve(tx, "settle", held, transfer_id=transfer_id, actor=actor, reason=reason)


def release(tx: Transaction, *, transfer_id: str, reserve_id: str, actor: str, reason: str) -> None:
    """Give a reserve back without a charge, once.

    Raises:
        AlreadyResolved: the reserve was settled or released before.
    """
    held = _reserve(tx, reserve_id)
    _resolve(tx, "release", held, transfer_id=transfer_id, actor=actor, reason=reason)


def refund(tx: Transaction, *, transfer_id: str, settle_id: str, actor: str, reason: str) -> None:
    """Give a charge back in full, once.

    Raises:
        AlreadyResolved: the charge was refunded before.
        LookupError: there is no such settle.
    """
    row = tx.one("SELECT * FROM transfer WHERE id = :id AND kind = 'settle'", {"id": settle_id})
    if row is None:
        raise LookupError(f"no settle has the id {settle_id}")
    _move(tx, row["customer_id"], posted=row["amount_micros"])
    try:
        _append(
            tx,
            id=transfer_id,
            kind="refund",
            customer_id=row["customer_id"],
            debit=REVENUE,
            credit=row["customer_id"],
            amount_micros=row["amount_micros"],
            refund_of=settle_id,
            job_id=row["job_id"],
            actor=actor,
            reason=reason,
        )
    except UniqueViolation as error:
        raise AlreadyResolved(settle_id) from error


def adjust(
    tx: Transaction,
    *,
    transfer_id: str,
    customer_id: str,
    amount_micros: Micros,
    actor: str,
    reason: str,
) -> None:
    """Correct a balance by a signed amount; the ledger never corrects itself.

    Raises:
        WouldOverdraw: less than that is available.
        ValueError: the amount is zero.
    """
    if amount_micros == 0:
        raise ValueError("an adjustment of zero says nothing")
    _move(tx, customer_id, posted=amount_micros)
    debit, credit = (GOODWILL, customer_id) if amount_micros > 0 else (customer_id, GOODWILL)
    _append(
        tx,
        id=transfer_id,
        kind="adjust",
        customer_id=customer_id,
        debit=debit,
        credit=credit,
        amount_micros=abs(amount_micros),
        actor=actor,
        reason=reason,
    )


def hold_still(tx: Transaction, customer_id: str) -> None:
    """Keep the customer's balance from changing until this transaction ends; change nothing.

    Raises:
        LookupError: no such customer.
    """
    _move(tx, customer_id, posted=0)


def set_credit_line(tx: Transaction, customer_id: str, line_micros: Micros) -> None:
    """Let the customer owe at most `line_micros`; 0 is prepaid.

    Raises:
        WouldOverdraw: more than that is owed or held already; nothing was changed.
        LookupError: no such customer.
    """
    changed = tx.execute(
        "UPDATE balance SET floor_micros = :floor WHERE customer_id = :customer "
        "AND posted_micros - held_micros >= :floor",
        {"floor": -line_micros, "customer": customer_id},
    )
    if not changed:
        balance(tx, customer_id)
        raise WouldOverdraw(f"more than {line_micros} micro-dollars are owed or held")


def held_of_all(tx: Transaction) -> Micros:
    """Return what is held for the open jobs of every customer together."""
    row = tx.one("SELECT CAST(SUM(held_micros) AS BIGINT) AS held FROM balance")
    return 0 if row is None else row["held"] or 0


def balance(tx: Transaction, customer_id: str) -> Balance:
    """Return what the customer has, what is held, and what can be spent.

    Raises:
        LookupError: no such customer.
    """
    row = tx.one(
        "SELECT posted_micros, held_micros, floor_micros FROM balance "
        "WHERE customer_id = :customer",
        {"customer": customer_id},
    )
    if row is None:
        raise LookupError(f"no customer has the id {customer_id}")
    posted, held = row["posted_micros"], row["held_micros"]
    # A floor above zero would be money that must stay: no line of credit.
    return Balance(posted, held, posted - held, max(0, -row["floor_micros"]))


def signed_amount(transfer: Row) -> Micros:
    """Return what a transfer did to the posted balance: charges negative, free lines 0."""
    amount: Micros = transfer["amount_micros"]
    match transfer["kind"]:
        case "settle":
            return -amount
        case "topup" | "refund":
            return amount
        case "adjust":
            return amount if transfer["credit"] == transfer["customer_id"] else -amount
        case _:
            return 0


def transfers(
    tx: Transaction,
    customer_id: str,
    *,
    after: str | None = None,
    limit: int,
    from_ms: int | None = None,
    to_ms: int | None = None,
) -> list[Row]:
    """Return a customer's statement transfers, oldest first.

    Args:
        tx: a transaction.
        customer_id: whose.
        after: id of the last transfer already seen.
        limit: most rows to return.
        from_ms: inclusive lower bound of created_at.
        to_ms: exclusive upper bound of created_at.

    Raises:
        LookupError: `after` is no transfer of this customer.
    """
    seq, last = transfer_spans.between(tx, customer_id, from_ms=from_ms, to_ms=to_ms)
    if after is not None:
        row = tx.one(
            "SELECT seq FROM transfer WHERE id = :id AND customer_id = :customer",
            {"id": after, "customer": customer_id},
        )
        if row is None:
            raise LookupError(after)
        seq = max(seq, row["seq"])
    return tx.all(
        "SELECT * FROM transfer WHERE customer_id = :customer AND seq > :seq AND seq <= :last "
        "AND kind <> 'reserve' "
        "AND created_at >= :from AND created_at < :to ORDER BY seq LIMIT :limit",
        {
            "customer": customer_id,
            "seq": seq,
            "last": last,
            "from": from_ms if from_ms is not None else 0,
            "to": to_ms if to_ms is not None else 2**62,
            "limit": limit,
        },
    )


def story(tx: Transaction, reserve_id: str) -> list[Row]:
    """Return a reserve, what resolved it and the refund of that, as far as they exist.

    Each is found by the unique index that makes it the only one.
    """
    reserved = tx.all("SELECT * FROM transfer WHERE id = :id", {"id": reserve_id})
    resolved = tx.all("SELECT * FROM transfer WHERE reserve_id = :id", {"id": reserve_id})
    refunded = [
        row
        for settled in resolved
        for row in tx.all("SELECT * FROM transfer WHERE refund_of = :id", {"id": settled["id"]})
    ]
    return [*reserved, *resolved, *refunded]


def posted_before(tx: Transaction, customer_id: str, before_ms: int) -> Micros:
    """Return what a customer's transfers made before a moment (ms since 1970) add up to."""
    first, last = transfer_spans.between(tx, customer_id, from_ms=before_ms, to_ms=before_ms)
    # All up to `first` were made before, none behind `last`: what is between is looked at singly.
    known = tx.one("SELECT balance_micros FROM transfer WHERE seq = :first", {"first": first})
    row = tx.one(
        "SELECT CAST(COALESCE(SUM(CASE WHEN kind = 'settle' THEN -amount_micros "
        "WHEN kind IN ('topup', 'refund') THEN amount_micros "
        "WHEN kind = 'adjust' AND credit = customer_id THEN amount_micros "
        "WHEN kind = 'adjust' THEN -amount_micros ELSE 0 END), 0) AS BIGINT) AS posted "
        "FROM transfer WHERE customer_id = :customer AND seq > :first AND seq <= :last "
        "AND created_at < :before",
        {"customer": customer_id, "before": before_ms, "first": first, "last": last},
    )
    assert row is not None, "a sum without GROUP BY has one row"
    posted: Micros = row["posted"] + (0 if known is None else known["balance_micros"])
    return posted


def freeze(tx: Transaction, customer_id: str, reason: str) -> bool:
    """Stop a customer's admissions; what runs goes on and ends. False: they were stopped before."""
    return bool(
        tx.execute(
            "UPDATE balance SET frozen_at = :now, frozen_reason = :reason "
            "WHERE customer_id = :customer AND frozen_at IS NULL",
            {"customer": customer_id, "now": tx.now_ms, "reason": reason},
        )
    )


def unfreeze(tx: Transaction, customer_id: str) -> bool:
    """Let a customer order again; False: nothing stood in the way."""
    return bool(
        tx.execute(
            "UPDATE balance SET frozen_at = NULL, frozen_reason = NULL "
            "WHERE customer_id = :customer AND frozen_at IS NOT NULL",
            {"customer": customer_id},
        )
    )


def _refusal(tx: Transaction, customer_id: str) -> SafelightError:
    """Tell why a reserve was refused; only who is refused pays for the second look."""
    row = tx.one(
        "SELECT frozen_at FROM balance WHERE customer_id = :customer", {"customer": customer_id}
    )
    if row is not None and row["frozen_at"] is not None:
        return CustomerFrozen(
            "New orders of this account are stopped while its books are looked into. Your operator "
            "has been alerted; nothing was charged, and orders that were accepted go on."
        )
    return InsufficientBalance(
        "The balance does not cover this request; ask your operator for a top-up "
        "(GET /v1/billing/balance shows what is available)."
    )


def _reserve(tx: Transaction, reserve_id: str) -> Row:
    row = tx.one("SELECT * FROM transfer WHERE id = :id AND kind = 'reserve'", {"id": reserve_id})
    if row is None:
        raise LookupError(f"no reserve has the id {reserve_id}")
    return row


def _resolve(
    tx: Transaction, kind: str, held: Row, *, transfer_id: str, actor: str, reason: str
) -> None:
    charge = held["amount_micros"] if kind == "settle" else 0
    _move(tx, held["customer_id"], posted=-charge, held=-held["amount_micros"])
    try:
        _append(
            tx,
            id=transfer_id,
            kind=kind,
            customer_id=held["customer_id"],
            debit=held["debit"] if kind == "settle" else held["credit"],
            credit=held["credit"] if kind == "settle" else held["debit"],
            amount_micros=held["amount_micros"],
            reserve_id=held["id"],
            job_id=held["job_id"],
            actor=actor,
            reason=reason,
        )
    except UniqueViolation as error:
        raise AlreadyResolved(held["id"]) from error


def _move(tx: Transaction, customer_id: str, *, posted: Micros, held: Micros = 0) -> None:
    """Change a balance; taking away is guarded by what is there."""
    changed = tx.execute(
        "UPDATE balance SET posted_micros = posted_micros + :posted, "
        "held_micros = held_micros + :held WHERE customer_id = :customer "
        "AND held_micros + :held >= 0 "
        "AND (posted_micros + :posted) - (held_micros + :held) >= floor_micros",
        {"posted": posted, "held": held, "customer": customer_id},
    )
    if changed:
        return
    if tx.one("SELECT 1 FROM balance WHERE customer_id = :c", {"c": customer_id}) is None:
        raise LookupError(f"no customer has the id {customer_id}")
    if held:
        # A reserve that is open is inside held by construction: this one is not open any more.
        raise AlreadyResolved(customer_id)
    raise WouldOverdraw(f"less than {-posted} micro-dollars are available")


def _append(tx: Transaction, **values: Any) -> None:
    """Insert a transfer and make it the head of its customer's hash chain."""
    head = tx.one(
        "SELECT posted_micros, chain FROM balance WHERE customer_id = :customer_id", values
    )
    if head is None:
        raise LookupError(f"no customer has the id {values['customer_id']}")
    row = {
        "reserve_id": None,
        "refund_of": None,
        "job_id": None,
        **values,
        "created_at": tx.now_ms,
        "balance_micros": head["posted_micros"],
        "prev_hash": head["chain"],
    }
    row["hash"] = chain_hash(row)
    tx.execute(
        "INSERT INTO transfer (id, kind, customer_id, debit, credit, amount_micros, reserve_id, "
        "refund_of, job_id, actor, reason, created_at, balance_micros, prev_hash, hash) VALUES "
        "(:id, :kind, :customer_id, :debit, :credit, :amount_micros, :reserve_id, :refund_of, "
        ":job_id, :actor, :reason, :created_at, :balance_micros, :prev_hash, :hash)",
        row,
    )
    tx.execute(
        "UPDATE balance SET chain = :hash, "
        "set_back_ms = CASE WHEN latest_at - :created_at > set_back_ms "
        "THEN latest_at - :created_at ELSE set_back_ms END, "
        "latest_at = CASE WHEN latest_at > :created_at THEN latest_at ELSE :created_at END "
        "WHERE customer_id = :customer_id",
        row,
    )


_HASHED = (
    "id",
    "kind",
    "customer_id",
    "debit",
    "credit",
    "amount_micros",
    "reserve_id",
    "refund_of",
    "job_id",
    "actor",
    "reason",
    "created_at",
    "balance_micros",
)


def chain_hash(row: Row) -> bytes:
    """Hash a transfer with its predecessor; lengths keep neighbouring fields apart."""
    digest = hashlib.sha256(row["prev_hash"])
    for field in _HASHED:
        text = "" if row[field] is None else str(row[field])
        data = text.encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.digest()
