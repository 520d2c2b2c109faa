"""How an image is read from a row that joins it with its job, its customer and its carrying.

Owns the names of the columns in such a row, for whoever reads jobs. Changes nothing.
"""

from __future__ import annotations

from safelight.db import Row
from safelight.types import BlobRef, ImageRecord

COLUMNS = (
    "i.id AS i_id, i.digest AS i_digest, i.bytes AS i_bytes, i.format AS i_format, "
    "i.width AS i_width, i.height AS i_height, i.has_alpha AS i_has_alpha, "
    "i.created_at AS i_created_at, i.link_ttl_s AS i_link_ttl_s, c.link_epoch AS i_link_epoch, "
    "i.expires_at AS i_expires_at, i.pinned_at AS i_pinned_at, i.deleted_at AS i_deleted_at, "
    "p.state AS p_state, p.url AS p_url, p.ended_at AS p_ended_at"
)
"""Of job `j`, customer `c`, image `i` and persisting `p`."""


def record(row: Row) -> ImageRecord:
    """Return the image of a row; it has one (`i_id` is not NULL)."""
    blob = BlobRef(
        digest=row["i_digest"],
        bytes=row["i_bytes"],
        format=row["i_format"],
        width=row["i_width"],
        height=row["i_height"],
        has_alpha=bool(row["i_has_alpha"]),
    )
    return ImageRecord(
        id=row["i_id"],
        job_id=row["id"],
        customer_id=row["customer_id"],
        blob=blob,
        created_at=row["i_created_at"],
        link_ttl_s=row["i_link_ttl_s"],
        link_epoch=row["i_link_epoch"],
        expires_at=row["i_expires_at"],
        pinned=row["i_pinned_at"] is not None,
        deleted_at=row["i_deleted_at"],
        persisted_at=row["p_ended_at"] if row["p_state"] == "done" else None,
        persisted_url=row["p_url"],
        persist_state=row["p_state"],
    )
