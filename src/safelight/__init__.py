"""safelight: a self-hosted, OpenAI-compatible image gateway.

Owns the version, and the two names of the Python client, which is loaded when one of them is used:
the server and the command line need none of it to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safelight.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the client with its first use (PEP 562)."""
    if name in ("AsyncClient", "Client"):
        from safelight import client  # noqa: PLC0415 - it would slow every start

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
