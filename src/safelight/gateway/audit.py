"""The witness: does the money agree with the jobs and the pictures?

Reads ledger, jobs and images together and says in words what does not fit; it corrects nothing.
"""

from __future__ import annotations

from safelight import ledger
from safelight.db import Transaction

_RESOLUTION = {"completed": "settle", "failed": "release", "cancelled": "release"}


def audit(tx: Transaction) -> list[str]:
    """Return every contradiction found; empty means sound.

    Beyond `ledger.verify`: a completed job has exactly one settle and one image, a failed or
    cancelled one exactly one release and no image, an open one neither; every reserve has a job.
    """
    return ledger.verify(tx) + _jobs(tx) + _reserves(tx)


def _jobs(tx: Transaction) -> list[str]:
    rows = tx.all(
        "SELECT j.id, j.state, j.image_id, i.id AS found, t.kind AS resolution "
        "FROM job j LEFT JOIN image i ON i.job_id = j.id "
        "LEFT JOIN transfer t ON t.reserve_id = j.reserve_id"
    )
    faults = []
    for row in rows:
        if row["resolution"] != _RESOLUTION.get(row["state"]):
            faults.append(f"job {row['id']} is {row['state']}, its reserve: {row['resolution']}")
        if (row["state"] == "completed") != (row["found"] is not None):
            faults.append(f"job {row['id']} is {row['state']}, its image: {row['found']}")
        if row["image_id"] != row["found"]:
            faults.append(f"job {row['id']} names image {row['image_id']}, not {row['found']}")
    return faults


def _reserves(tx: Transaction) -> list[str]:
    rows = tx.all(
        "SELECT t.id FROM transfer t LEFT JOIN job j ON j.reserve_id = t.id "
        "WHERE t.kind = 'reserve' AND j.id IS NULL"
    )
    return [f"reserve {row['id']} belongs to no job" for row in rows]
