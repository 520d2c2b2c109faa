"""The removal of blobs' bytes: which are to go, which are going, and who must not rely on them.

Owns the rows of removals and the rule that no row names bytes that are gone. Blobs are named by
their content, so the same bytes may be ordered anew at the very moment in which the last row that
named them lets go. Therefore:

- Whoever wants to name a digest reads its mark, keeps the bytes (put and read back), and in the
  transaction that writes the row says so with `claim`. The claim is refused while the bytes are
  being removed, and when a removal was begun since the mark was read: they must be kept again.
- Whoever removes bytes first condemns them in a transaction of its own: nothing names them, and
  from here on every claim is refused. Then they are removed, then the removal is over.

Both take the digest's lock first, so one of them sees what the other did. This module knows neither
images nor stores; it is told who names blobs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from safelight.db import Transaction

STUCK_MS = 15 * 60 * 1000
"""A removal that was begun so long ago and is not over was left by a process that died."""
KEEP_MS = 7 * 86_400_000
"""How long it is remembered that bytes were removed: much longer than any order takes."""

InUse = Callable[[Transaction, Collection[str]], set[str]]
"""Which of some digests are named by a row that needs the bytes."""


class Going(Exception):
    """The bytes of this digest are being removed, or were since they were kept."""


def mark_of(tx: Transaction, digest: str) -> str:
    """Return what `claim` must be told; read it before the bytes are kept."""
    row = tx.one("SELECT mark FROM blob_removal WHERE digest = :digest", {"digest": digest})
    return "" if row is None else str(row["mark"])


def claim(tx: Transaction, digest: str, *, mark: str | None, in_use: InUse) -> None:
    """Make sure that the bytes are there, before a row is written that names them.

    Call it before anything else in the transaction is changed, for several digests in their order:
    whoever waits for a lock then holds nothing that the other needs.

    Args:
        tx: a transaction that may write.
        digest: of bytes that were kept.
        mark: as it was before they were kept; None: not known, because they were kept by somebody
            else whose row named them.
        in_use: says whether a row names them now; what is named is there.

    Raises:
        Going: they may not be there; keep them again.
    """
    tx.lock(f"blob {digest}")
    row = tx.one("SELECT state, mark FROM blob_removal WHERE digest = :d", {"d": digest})
    if row is None or (row["state"] != "removing" and mark == row["mark"]):
        return
    if row["state"] == "removing" or not in_use(tx, [digest]):
        raise Going(digest)


def want(tx: Transaction, digests: Iterable[str]) -> None:
    """Note that bytes may go unless a row still names them."""
    for digest in sorted(set(digests)):
        tx.execute(
            "INSERT INTO blob_removal (digest, state, mark, changed_at) "
            "VALUES (:digest, 'wanted', '', :now) ON CONFLICT (digest) DO UPDATE "
            "SET state = 'wanted', changed_at = :now WHERE blob_removal.state = 'over'",
            {"digest": digest, "now": tx.now_ms},
        )


def due(tx: Transaction, *, limit: int) -> list[str]:
    """Return digests whose bytes are to go, oldest wish first."""
    rows = tx.all(
        "SELECT digest FROM blob_removal WHERE state = 'wanted' "
        "OR (state = 'removing' AND changed_at <= :stuck) ORDER BY changed_at, digest LIMIT :limit",
        {"stuck": tx.now_ms - STUCK_MS, "limit": limit},
    )
    return [row["digest"] for row in rows]


def condemn(tx: Transaction, digests: Collection[str], *, mark: str, in_use: InUse) -> list[str]:
    """Begin the removal of those that no row names; return them. The others stay.

    Args:
        tx: a transaction that may write.
        digests: from `due`.
        mark: a new one, made before the transaction.
        in_use: says what is named.
    """
    going = []
    for digest in sorted(digests):
        tx.lock(f"blob {digest}")
        row = tx.one("SELECT state, changed_at FROM blob_removal WHERE digest = :d", {"d": digest})
        if row is None or row["state"] == "over":
            continue
        if row["state"] == "removing" and row["changed_at"] > tx.now_ms - STUCK_MS:
            continue
        named = bool(in_use(tx, [digest]))
        tx.execute(
            "UPDATE blob_removal SET state = :state, changed_at = :now, "
            "mark = CASE WHEN :going = 1 THEN :mark ELSE mark END WHERE digest = :digest",
            {
                "digest": digest,
                "state": "over" if named else "removing",
                "going": int(not named),
                "mark": mark,
                "now": tx.now_ms,
            },
        )
        if not named:
            going.append(digest)
    return going


def finish(tx: Transaction, digests: Iterable[str], *, mark: str) -> None:
    """Say that the bytes are gone; without effect where another process has begun anew."""
    for digest in digests:
        tx.execute(
            "UPDATE blob_removal SET state = 'over', changed_at = :now "
            "WHERE digest = :digest AND mark = :mark AND state = 'removing'",
            {"digest": digest, "mark": mark, "now": tx.now_ms},
        )


def forget(tx: Transaction) -> None:
    """Remove what was remembered for long enough."""
    tx.execute(
        "DELETE FROM blob_removal WHERE state = 'over' AND changed_at <= :before",
        {"before": tx.now_ms - KEEP_MS},
    )
