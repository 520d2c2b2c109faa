"""What can go wrong on the wire to an upstream, as errors (failure catalogue, U1-U5 and U20-U22).

Owns their codes, classes and words, and whether the picture counts as sold. What a vendor says is
`faults`' business.
"""

from __future__ import annotations

from safelight.errors import FaultClass, UpstreamError


def unreachable() -> UpstreamError:
    """No connection, no name, or a reset before a byte was sent (U1)."""
    return UpstreamError(
        FaultClass.LOCAL, "upstream_unreachable", "The upstream could not be reached."
    )


def tls_failed() -> UpstreamError:
    """No trusted TLS connection (U2)."""
    return UpstreamError(
        FaultClass.LOCAL,
        "upstream_tls_error",
        "No trusted connection to the upstream was possible.",
    )


def timed_out() -> UpstreamError:
    """Nothing came in time (U3)."""
    return UpstreamError(
        FaultClass.SLOW,
        "upstream_timeout",
        "The upstream did not answer in time.",
        sold=None,
    )


def disconnected() -> UpstreamError:
    """The connection broke after the request had left and before any header."""
    return UpstreamError(
        FaultClass.FAST,
        "upstream_disconnected",
        "The upstream broke the connection off.",
        sold=None,
    )


def stalled() -> UpstreamError:
    """The body stopped or trickles (U4)."""
    return UpstreamError(
        FaultClass.SLOW, "upstream_stalled", "The upstream stopped in mid-answer.", sold=True
    )


def silent() -> UpstreamError:
    """A stream gave no further event in time (U3): it has stalled, paid for or not."""
    return UpstreamError(
        FaultClass.SLOW, "upstream_stalled", "The upstream stopped in mid-answer.", sold=None
    )


def truncated() -> UpstreamError:
    """The body ended early (U5)."""
    return UpstreamError(
        FaultClass.SLOW, "upstream_truncated", "The upstream's answer was cut short.", sold=True
    )


def not_json(status: int | None, *, sold: bool = False) -> UpstreamError:
    """A web page, a text or something unreadable (U20); it is never echoed."""
    return UpstreamError(
        FaultClass.FAST,
        "upstream_not_json",
        "The upstream answered something unreadable.",
        status=status,
        sold=sold,
    )


def redirected(status: int) -> UpstreamError:
    """A redirect (U22): following it would carry the key, or the request, to another place."""
    return UpstreamError(
        FaultClass.FAST,
        "upstream_redirect",
        "The upstream redirected the request.",
        status=status,
    )


def disk_failed(*, sold: bool) -> UpstreamError:
    """An input could not be read or the picture not be kept: our own disk, nobody else's fault."""
    return UpstreamError(
        FaultClass.LOCAL,
        "storage_failed",
        "The image could not be read or kept.",
        sold=sold,
        final_status=503,
    )


def too_large() -> UpstreamError:
    """More than any picture can be (U21)."""
    return UpstreamError(
        FaultClass.BAD_OUTPUT,
        "upstream_too_large",
        "The upstream's answer was too large.",
        sold=True,
    )
