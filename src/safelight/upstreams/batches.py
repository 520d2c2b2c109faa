"""The seam to vendors' Batch APIs: many pictures in one file, made when the vendor has room.

An adapter whose vendor has one offers it as `batches` beside its calls (`OffersBatches`). It knows
nothing of jobs, money or deadlines: it sends a file, makes a batch of it under our tag, looks,
cancels, and reads what came line by line. Every failure is one typed `UpstreamError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from safelight.errors import ConfigError, UpstreamError
from safelight.types import Account, Received, UpstreamCall
from safelight.upstreams import Upstream

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""Words of a vendor's batch that has ended (OpenAI Batch API, "batch object")."""


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as the vendor tells of it. `problem`: why it failed as a whole, for the operator."""

    id: str
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    problem: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a vendor's batch left.

    `received` has its picture, at the scratch path that was given: whoever wants it moves the file
    before the next line is asked for. `error` says why there is none. Both None: the line was not
    executed, and is not billed.
    """

    custom_id: str
    received: Received | None = None
    error: UpstreamError | None = None


class VendorBatches(Protocol):
    """One vendor's Batch API. Deadlines are on the clock's monotonic seconds."""

    def line(self, account: Account, call: UpstreamCall, custom_id: str) -> bytes:
        """Return a call as one line of an input file, with its line feed."""
        ...

    async def send_file(self, account: Account, path: Path, *, name: str, deadline: float) -> str:
        """Send an input file, read from disk as it goes; return the vendor's id of it.

        Raises:
            UpstreamError: classified; nothing was bought.
        """
        ...

    async def create(self, account: Account, file_id: str, *, tag: str, deadline: float) -> Remote:
        """Make a batch of an input file; the vendor keeps `tag` with it.

        Raises:
            UpstreamError: classified. With a `status` of 400 and more the vendor has refused it;
                without one nobody knows whether there is one: `find` tells.
        """
        ...

    async def find(
        self, account: Account, *, tag: str, since_s: int, deadline: float
    ) -> Remote | None:
        """Return the newest batch with this tag that was made since then (unix seconds), or None.

        Raises:
            UpstreamError: classified.
        """
        ...

    async def look(self, account: Account, remote_id: str, *, deadline: float) -> Remote:
        """Return a batch as it is now.

        Raises:
            UpstreamError: classified.
        """
        ...

    async def cancel(self, account: Account, remote_id: str, *, deadline: float) -> Remote:
        """Let a batch begin nothing more; what it has done it still gives.

        Raises:
            UpstreamError: classified; also where it has ended already.
        """
        ...

    def lines(self, account: Account, file_id: str, *, scratch: Path) -> AsyncIterator[BatchLine]:
        """Yield the lines of an output or error file; each picture goes to `scratch` as it comes.

        A line that cannot be read is left out: its job is one that the file does not name.

        Raises:
            UpstreamError: the file cannot be had, or is cut short.
        """
        ...

    async def forget(self, account: Account, file_id: str, *, deadline: float) -> None:
        """Have a file deleted at the vendor.

        Raises:
            UpstreamError: classified.
        """
        ...


@runtime_checkable
class OffersBatches(Protocol):
    """An adapter whose vendor has a Batch API."""

    batches: VendorBatches


def checked_accounts(
    accounts: Iterable[Account], upstreams: Mapping[str, Upstream]
) -> tuple[Account, ...]:
    """Return accounts as their adapters have checked them and filled them in.

    Raises:
        ConfigError: an adapter refuses one, or has no Batch API for one that is to use it.
    """
    found = tuple(upstreams[one.upstream].check(one) for one in accounts)
    for account in found:
        if account.vendor_batches and not isinstance(upstreams[account.upstream], OffersBatches):
            raise ConfigError(
                f"account {account.name!r}: vendor_batches: upstream {account.upstream!r} has no "
                "Batch API here; leave the key out"
            )
    return found
