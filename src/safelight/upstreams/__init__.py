"""The seam to image APIs: what an adapter is given and what it must answer.

An adapter is one class, named by an entry point of group `safelight.upstreams`. It makes one call
for one image, writes the picture to the spool path while it arrives, and ends with `Received` or
with one typed `UpstreamError`; no other exception leaves it (but `asyncio.CancelledError`). It
knows nothing of jobs, money, retries or pools.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from safelight.clock import Clock
from safelight.errors import ConfigError
from safelight.types import Account, Received, UpstreamCall

PartialSink = Callable[[int, Path], None]
"""Called with the 0-based index and the spooled file of each partial image, coarse to fine."""


class Upstream(Protocol):
    """The adapter to one kind of image API."""

    def __init__(self, clock: Clock) -> None:
        """Make an adapter; it opens connections only when the first call needs them."""
        ...

    def check(self, account: Account) -> Account:
        """Return a configured account with the adapter's defaults filled in (`base_url`, ...).

        Called once for each account at start, before anything is asked. Only an account that was
        returned here is given to the other methods.

        Raises:
            ConfigError: an option is unknown or has a value that is not taken, or something that
                this kind of API needs is missing; the message names account and option.
        """
        ...

    async def probe(self, account: Account, *, deadline: float) -> None:
        """Ask, with one call that costs nothing, whether the credential is accepted.

        A server that answers anything but a refusal passes. That it has money and budget left is
        not said by any free call, so a probe says nothing about QUOTA.

        Args:
            account: the credential to ask with.
            deadline: on the clock's monotonic seconds.

        Raises:
            UpstreamError: classified; AUTH when the credential is refused.
        """
        ...

    async def generate(
        self,
        account: Account,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Received:
        """Make one image with one call.

        Args:
            account: the credential to use; its key goes to its own base_url and nowhere else.
            call: what to draw.
            spool: where the picture's bytes end up. The adapter writes `<spool>.part` while bytes
                arrive, fsyncs it and renames it to `spool`, then fsyncs the folder: a file at
                `spool` is a complete answer, whatever happens to the process afterwards.
            deadline: on the clock's monotonic seconds; no byte is waited for beyond it.
            on_partial: sink for partial images, or None when nobody looks.

        Raises:
            UpstreamError: classified; `<spool>.part` is removed.
        """
        ...

    async def close(self) -> None:
        """Close connections. Calls in flight have ended before."""
        ...


def load_upstream(name: str, clock: Clock) -> Upstream:
    """Return the adapter registered as `name`.

    Raises:
        ConfigError: no adapter has that name; the message lists those that exist.
    """
    found = {point.name: point for point in entry_points(group="safelight.upstreams")}
    if name not in found:
        known = ", ".join(sorted(found))
        raise ConfigError(f"no upstream is named {name!r}; known upstreams: {known}")
    adapter: type[Upstream] = found[name].load()
    return adapter(clock)
