"""What can be wrong with books: each case spoils one thing and says what must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.mixed_books import PRICE
from gateway.spoiling import Hand
from safelight import ledger


@dataclass(frozen=True)
class Case:
    """`spoil` changes something of one customer, in whom exactly `found` is to be found."""

    name: str
    spoil: Callable[[Hand], None]
    found: frozenset[str]
    whose: str = "acme"

    def __str__(self) -> str:
        return self.name


def _sql(sql: str) -> Callable[[Hand], None]:
    return lambda hand: hand.run(sql)


def _forged_topup(hand: Hand) -> None:
    """Insert a top-up and raise the balance, without a care for the chain."""
    row = hand.transfer("topup-acme-0") | {"id": "forged", "amount_micros": 5_000_000}
    posted = hand.row("SELECT posted_micros FROM balance WHERE customer_id = 'cus-acme'")
    row["balance_micros"] = posted["posted_micros"] + 5_000_000
    hand.insert(row)
    hand.run(
        "UPDATE balance SET posted_micros = posted_micros + 5000000 WHERE customer_id = 'cus-acme'"
    )


def _topup_without_a_head(hand: Hand) -> None:
    """Insert a top-up that is rightly chained to the newest transfer, and nothing else."""
    head = hand.row("SELECT * FROM balance WHERE customer_id = 'cus-acme'")
    row = hand.transfer("topup-acme-0") | {"id": "forged", "prev_hash": head["chain"]}
    row["balance_micros"] = head["posted_micros"] + row["amount_micros"]
    row["hash"] = ledger.chain_hash(row)
    hand.insert(row)


def _swap(hand: Hand) -> None:
    first, second = (hand.transfer(f"topup-acme-{number}")["seq"] for number in (0, 1))
    hand.run("UPDATE transfer SET seq = -1 WHERE seq = :seq", seq=first)
    hand.run("UPDATE transfer SET seq = :to WHERE seq = :seq", to=first, seq=second)
    hand.run("UPDATE transfer SET seq = :to WHERE seq = -1", to=second)


def _rehash_one(hand: Hand) -> None:
    """Change a line and hash it anew, but not those behind it."""
    row = hand.transfer("topup-acme-1") | {"reason": "a gift"}
    hand.run(
        "UPDATE transfer SET reason = 'a gift', hash = :hash WHERE id = 'topup-acme-1'",
        hash=ledger.chain_hash(row),
    )


def _twice(hand: Hand) -> None:
    hand.append("settle-acme-done-0", id="again", posted=-PRICE)


def _release_beside_a_settle(hand: Hand) -> None:
    hand.append(
        "release-acme-failed", id="gift", reserve_id="hold-acme-done-0", job_id="acme-done-0"
    )


def _release_of_a_running_job(hand: Hand) -> None:
    hand.append(
        "release-acme-failed",
        id="early",
        reserve_id="hold-acme-running",
        job_id="acme-running",
        held=-PRICE,
    )


def _second_refund(hand: Hand) -> None:
    hand.append("refund-acme", id="again", posted=PRICE)


def _refund_of_a_release(hand: Hand) -> None:
    hand.append(
        "refund-acme",
        id="free",
        refund_of="release-acme-failed",
        job_id="acme-failed",
        posted=PRICE,
    )


def _larger_refund(hand: Hand) -> None:
    hand.append(
        "refund-acme",
        id="large",
        refund_of="settle-acme-done-0",
        job_id="acme-done-0",
        amount_micros=10 * PRICE,
        posted=10 * PRICE,
    )


def _hold_of_no_job(hand: Hand) -> None:
    hand.append("hold-acme-done-0", id="ghost", job_id="no-such-job", held=PRICE)


def _hold_for_another(hand: Hand) -> None:
    hand.append("hold-acme-done-0", id="theirs", job_id="other-done-0", held=PRICE)


def _leave_open(hand: Hand) -> None:
    """Have a job open long after its deadline, though a server runs that should end it."""
    hand.run("UPDATE job SET deadline_at = 0 WHERE id = 'acme-running'")
    hand.run(
        "INSERT INTO process (owner, host, beats, started_at, beat_at) "
        "VALUES ('p', 'h', 1, 0, 4000000000000)"
    )


def _backwards(hand: Hand) -> None:
    row = hand.transfer("topup-acme-0")
    hand.append(
        "topup-acme-0",
        id="backwards",
        debit=row["credit"],
        credit=row["debit"],
        posted=row["amount_micros"],
    )


def _lose_blob(hand: Hand) -> None:
    hand.blob("acme-done-1").unlink()


def _flip_bit(hand: Hand) -> None:
    _flip_bit_in(hand.blob("acme-done-1"))


def _flip_bit_in(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def _lose_original(hand: Hand) -> None:
    hand.blob("acme-done-2", "original_digest").unlink()


def _flip_bit_of_original(hand: Hand) -> None:
    _flip_bit_in(hand.blob("acme-done-2", "original_digest"))


def _cut_blob(hand: Hand) -> None:
    path = hand.blob("acme-done-1")
    path.write_bytes(path.read_bytes()[:-1])


def _case(name: str, spoil: Callable[[Hand], None], found: str, whose: str = "acme") -> Case:
    return Case(name, spoil, frozenset(found.split()), whose)


CASES = (
    _case(
        "amount of a topup changed",
        _sql("UPDATE transfer SET amount_micros = 9 WHERE id = 'topup-acme-0'"),
        "content running posted",
    ),
    _case(
        "amount of a settle changed",
        _sql("UPDATE transfer SET amount_micros = 9 WHERE id = 'settle-acme-done-0'"),
        "content running posted amount",
    ),
    _case(
        "transfer deleted",
        _sql("DELETE FROM transfer WHERE id = 'topup-acme-1'"),
        "order running posted",
    ),
    _case(
        "newest transfer deleted",
        _sql("DELETE FROM transfer WHERE id = 'adjust-acme-1'"),
        "order running posted",
    ),
    _case("topup forged", _forged_topup, "content order"),
    _case("topup forged without the balance", _topup_without_a_head, "order running posted"),
    _case("order of two transfers swapped", _swap, "order running"),
    _case("one transfer changed and hashed anew", _rehash_one, "order"),
    _case(
        "previous hash changed",
        _sql("UPDATE transfer SET prev_hash = hash WHERE id = 'settle-acme-done-1'"),
        "content order",
    ),
    _case(
        "actor changed",
        _sql("UPDATE transfer SET actor = 'nobody' WHERE id = 'adjust-acme-0'"),
        "content",
    ),
    _case(
        "balance after a transfer changed",
        _sql("UPDATE transfer SET balance_micros = 1 WHERE id = 'settle-acme-done-0'"),
        "content running",
    ),
    _case(
        "posted changed",
        _sql("UPDATE balance SET posted_micros = posted_micros + 1 WHERE customer_id = 'cus-acme'"),
        "posted running",
    ),
    _case(
        "held changed",
        _sql("UPDATE balance SET held_micros = 0 WHERE customer_id = 'cus-acme'"),
        "held",
    ),
    _case(
        "balance under its floor",
        _sql("UPDATE balance SET floor_micros = 10000000 WHERE customer_id = 'cus-acme'"),
        "floor",
    ),
    _case(
        "balance deleted",
        _sql("DELETE FROM balance WHERE customer_id = 'cus-acme'"),
        "no_balance",
    ),
    _case("debit and credit swapped", _backwards, "parties"),
    _case(
        "settle deleted",
        _sql("DELETE FROM transfer WHERE id = 'settle-acme-done-2'"),
        "order running posted held settle",
    ),
    _case("settled twice", _twice, "resolves settle"),
    _case("completed job released too", _release_beside_a_settle, "resolves settle"),
    _case("running job released", _release_of_a_running_job, "resolved_too_early"),
    _case(
        "release deleted",
        _sql("DELETE FROM transfer WHERE id = 'release-acme-unsent'"),
        "order held release",
    ),
    _case("refunded twice", _second_refund, "refunded_twice"),
    _case("release refunded", _refund_of_a_release, "refund"),
    _case("more refunded than was charged", _larger_refund, "refund refunds"),
    _case(
        "completed job called failed",
        _sql("UPDATE job SET state = 'failed' WHERE id = 'acme-done-0'"),
        "release image delivered budget",
    ),
    _case(
        "failed job called completed",
        _sql("UPDATE job SET state = 'completed' WHERE id = 'acme-failed'"),
        "settle image delivered budget",
    ),
    _case(
        "completed job called queued",
        _sql("UPDATE job SET state = 'queued' WHERE id = 'acme-done-0'"),
        "resolved_too_early image delivered",
    ),
    _case(
        "price of a job changed",
        _sql("UPDATE job SET price_micros = 1 WHERE id = 'acme-done-0'"),
        "price budget",
    ),
    _case(
        "job far beyond its deadline",
        _leave_open,
        "overdue",
    ),
    _case("hold of no job", _hold_of_no_job, "hold_of_no_job"),
    _case("hold for another customer's job", _hold_for_another, "owner"),
    _case(
        "job names another reserve",
        _sql("UPDATE job SET reserve_id = 'hold-acme-running' WHERE id = 'acme-queued'"),
        "hold_of_job",
    ),
    _case(
        "image deleted",
        _sql("DELETE FROM image WHERE job_id = 'acme-done-0'"),
        "image",
    ),
    _case(
        "job names another image",
        _sql("UPDATE job SET image_id = 'another' WHERE id = 'acme-done-0'"),
        "image_of_job",
    ),
    _case(
        "image given to another customer",
        _sql("UPDATE image SET customer_id = 'cus-other' WHERE job_id = 'acme-done-0'"),
        "image_owner",
        "other",
    ),
    _case(
        "digest of an image changed",
        _sql("UPDATE image SET digest = 'none' WHERE job_id = 'acme-done-0'"),
        "blob_missing",
    ),
    _case("blob deleted", _lose_blob, "blob_missing"),
    _case("one bit of a blob flipped", _flip_bit, "blob_damaged"),
    _case("blob cut", _cut_blob, "blob_damaged"),
    _case("original deleted", _lose_original, "original_missing"),
    _case("one bit of an original flipped", _flip_bit_of_original, "original_damaged"),
    _case(
        "bytes of an original changed",
        _sql("UPDATE image SET original_bytes = 1 WHERE job_id = 'acme-done-2'"),
        "original_damaged",
    ),
    _case(
        "delivered attempt not marked",
        _sql("UPDATE attempt SET settled = 0 WHERE job_id = 'acme-done-0'"),
        "delivered",
    ),
    _case(
        "attempt deleted",
        _sql("DELETE FROM attempt WHERE job_id = 'acme-failed' AND k = 1"),
        "attempts",
    ),
    _case(
        "use of a budget changed",
        _sql("UPDATE budget SET used_micros = 1 WHERE key_id = 'key-acme' AND period = 'day'"),
        "budget",
    ),
)
