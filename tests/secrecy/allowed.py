"""Where a secret may be seen, and why: everything else that the campaign sees is a leak.

Owns data alone. A place is named as cage.py and canaries.py name it; both patterns match from the
beginning.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Allowed(NamedTuple):
    """One permission: secrets of this name may stand in places of this name."""

    secret: str
    place: str
    why: str


ALLOWED = (
    Allowed(
        r"key of ours",
        r"output of .*\b(?:keys create|admin keys create|serve$|demo)",
        "a new key is printed once, on standard output, by the command that makes it",
    ),
    Allowed(
        r"key of ours",
        r"answer of POST /admin/v1/(?:customers|customers/[^/]+/keys|admin_keys|keys) 20\d",
        "a new key is in the answer that makes it, once",
    ),
    Allowed(
        r"webhook secret",
        r"answer of (?:POST /v1/webhooks|POST /v1/webhooks/[^/]+/rotate"
        r"|GET /v1/webhooks/secret|POST /v1/webhooks/secret/rotate) 20\d",
        "a receiver needs it to verify messages; these routes are there to tell it",
    ),
    Allowed(
        r"webhook secret",
        r"output of .*\bwebhooks (?:add|rotate|secret)\b",
        "the same, by the command line",
    ),
    Allowed(
        r"password of Postgres",
        r"file [^ ]+\.books$",
        "a test's own note, beside the data folder, of where it keeps its books",
    ),
    Allowed(
        r"session",
        r"cookie in the answer of POST /(?:admin/)?v1/session 20\d",
        "the browser that signs in gets its cookie",
    ),
)


def reason(secret: str, place: str) -> str | None:
    """Return why a secret may be seen in a place; None: it may not."""
    for one in ALLOWED:
        if re.match(one.secret, secret) and re.match(one.place, place):
            return one.why
    return None
