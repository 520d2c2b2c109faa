"""Classes of routes: what answers are counted by, since a path holds what callers choose.

Owns the words; docs/metrics.md lists them.
"""

from __future__ import annotations

from functools import cache

_CLASSES: tuple[tuple[str, str], ...] = (
    ("/v1/images/generations", "images"),
    ("/v1/images/edits", "images"),
    ("/v1/chat/", "chat"),
    ("/v1/jobs", "jobs"),
    ("/v1/files", "batches"),
    ("/v1/batches", "batches"),
    ("/v1/billing/", "billing"),
    ("/v1/webhooks", "webhooks"),
    ("/v1/images", "pictures"),
    ("/i/", "links"),
    ("/admin/", "admin"),
    ("/v1/session", "admin"),
    ("/v1/models", "facts"),
    ("/v1/sizes", "facts"),
    ("/v1/quote", "facts"),
    ("/v1/diagnostics/", "diagnostics"),
)
"""The first that a route's own path begins with counts."""
ROUTE_CLASSES: tuple[str, ...] = (
    *dict.fromkeys(word for _, word in _CLASSES),
    "queued",
    "operations",
    "none",
)


@cache
def route_class(path: str | None) -> str:
    """Return the class of a route by its path as it is declared; None: no route was found."""
    if path is None:
        return "none"
    return next((word for begin, word in _CLASSES if path.startswith(begin)), "operations")
