"""The naive way with one reply: what a gateway costs that is written down without a thought.

Owns the baseline inside the bench's own process: parse it all, decode, hash, write, encode, build
the answer. No socket is read or written; a real gateway of this kind pays for those on top.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from pathlib import Path

from safelight.bench.picture import Replies


def pass_on(body: bytes, folder: Path) -> bytes:
    """Return the answer for an upstream's body, its picture kept in `folder` and fsynced."""
    document = json.loads(body)
    picture = base64.b64decode(document["data"][0]["b64_json"])
    digest = hashlib.sha256(picture).hexdigest()
    with (folder / digest).open("wb") as file:
        file.write(picture)
        file.flush()
        os.fsync(file.fileno())
    document["data"] = [{"b64_json": base64.b64encode(picture).decode()}]
    return json.dumps(document).encode()


def measure(replies: Replies, folder: Path, count: int, limit_s: float) -> tuple[int, float]:
    """Pass `count` replies on, or as many as begin within `limit_s` seconds.

    Returns:
        How many, and the CPU seconds that they took.
    """
    folder.mkdir(exist_ok=True)
    until = time.monotonic() + limit_s
    done, spent_ns = 0, 0
    while done < count and (not done or time.monotonic() < until):
        body = b"".join(replies.pieces(done))
        began_ns = time.process_time_ns()
        pass_on(body, folder)
        spent_ns += time.process_time_ns() - began_ns
        done += 1
    for path in folder.iterdir():
        path.unlink()
    return done, spent_ns / 1e9
