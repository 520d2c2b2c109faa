"""The `openai` upstream: the documented Images API of OpenAI, and servers that speak it.

Owns what an account of this kind may state and how it is asked. What differs between servers is in
`profiles.py`, the course of a call in `images_api.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import msgspec

from safelight.clock import Clock
from safelight.config_file import Seconds
from safelight.types import Account, Received, UpstreamCall
from safelight.upstreams import PartialSink
from safelight.upstreams.batches import VendorBatches
from safelight.upstreams.images_api import ImagesApi
from safelight.upstreams.openai_batches import OpenAIBatches
from safelight.upstreams.openai_request import Target, bearer
from safelight.upstreams.options import bad_account, bad_option, read_options
from safelight.upstreams.profiles import PROFILES

BASE_URL: Final = "https://api.openai.com/v1"

Heartbeat = Annotated[int, msgspec.Meta(ge=0, le=3)]
Pixels = Annotated[int, msgspec.Meta(ge=0, le=2**32)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of an account of this upstream."""

    profile: Literal[
        "openai", "vllm-omni", "sglang", "stable-diffusion-cpp", "localai", "compatible"
    ] = "openai"
    """Kind of server."""
    heartbeat: Heartbeat = 0
    """Partial images asked for though nobody looks, so that a stall shows early."""
    event_timeout_s: Seconds = 60.0
    """How long a stream may go without an event."""
    max_pixels: Pixels = 0
    """The server's cap on width x height; 0: none is known."""
    download_hosts: str = ""
    """Other hosts that the server's answers may name, by comma."""


class OpenAIUpstream:
    """The Images API of OpenAI and of servers that speak it (the `Upstream` seam)."""

    def __init__(self, clock: Clock) -> None:
        self._api = ImagesApi(clock)
        self.batches: VendorBatches = OpenAIBatches(clock, self._api.transport, _target)
        """The vendor's Batch API."""
        self._targets: dict[str, Target] = {}

    def check(self, account: Account) -> Account:
        """Return the account with its address; see `Upstream.check`.

        Raises:
            ConfigError: a wrong option, no address of a server of one's own, or no key for the
                vendor's.
        """
        options = read_options(account, Options)
        if options.heartbeat and not PROFILES[options.profile].streams:
            problem = f"servers of profile {options.profile!r} send no partial images"
            raise bad_option(account, "heartbeat", problem)
        try:
            _origins(options.download_hosts)
        except ValueError as error:
            raise bad_option(account, "download_hosts", str(error)) from None
        if account.vendor_batches and options.profile not in ("openai", "compatible"):
            problem = f"vendor_batches: servers of profile {options.profile!r} have no Batch API"
            raise bad_account(account, problem)
        if not account.base_url and options.profile != "openai":
            problem = f"needs base_url, the address of its {options.profile} server"
            raise bad_account(account, problem)
        base_url = account.base_url.rstrip("/") or BASE_URL
        if base_url == BASE_URL and account.api_key is None:
            raise bad_account(account, "needs a key: name its variable with api_key_env")
        return msgspec.structs.replace(account, base_url=base_url)

    async def probe(self, account: Account, *, deadline: float) -> None:
        """List the models; see `Upstream.probe`."""
        await self._api.probe(_target(account), deadline=deadline)

    async def generate(
        self,
        account: Account,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Received:
        """Make one image with one call; see `Upstream.generate` and `ImagesApi.generate`."""
        target = self._targets.get(account.name)
        if target is None or target.account is not account:
            target = self._targets[account.name] = _target(account)
        return await self._api.generate(
            target, call, spool=spool, deadline=deadline, on_partial=on_partial
        )

    async def close(self) -> None:
        """Close connections."""
        await self._api.close()


def _target(account: Account) -> Target:
    options = read_options(account, Options)
    base = account.base_url.rstrip("/")
    return Target(
        account=account,
        profile=PROFILES[options.profile],
        base=base,
        auth=bearer(account),
        models_url=f"{base}/models",
        heartbeat=options.heartbeat,
        event_timeout_s=options.event_timeout_s,
        max_pixels=options.max_pixels,
        download_origins=_origins(options.download_hosts),
    )


def _origins(hosts: str) -> tuple[str, ...]:
    """Return the origins that a list of hosts means; https where none is stated.

    Raises:
        ValueError: one is no host.
    """
    found = []
    for host in filter(None, (part.strip() for part in hosts.split(","))):
        origin = host if "://" in host else f"https://{host}"
        url = urlsplit(origin)
        extras = url.username or url.password or url.query or url.fragment or url.path.strip("/")
        if url.scheme not in ("http", "https") or not url.hostname or extras or url.port == 0:
            raise ValueError(
                f"{host!r} is no host such as pictures.example.com or http://host:9000"
            )
        found.append(origin)
    return tuple(found)
