"""The `azure` upstream: image deployments of Azure OpenAI.

Owns what an account of this kind may state, its two kinds of route and its two credentials. Source:
Azure OpenAI REST reference, "Image generation". The course of a call is in `images_api.py`.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from safelight.clock import Clock
from safelight.config_file import Seconds
from safelight.types import Account, Received, UpstreamCall
from safelight.upstreams import PartialSink
from safelight.upstreams.images_api import ImagesApi
from safelight.upstreams.openai import Heartbeat
from safelight.upstreams.openai_request import Target, Targets, bearer
from safelight.upstreams.options import bad_account, bad_option, read_options
from safelight.upstreams.profiles import AZURE, AZURE_DEPLOYMENT

_ROUTES: Final = re.compile(r"/openai(?:/v1)?/?$")
_DATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}(?:-preview)?")
_UNDATED: Final = ("", "v1", "preview", "latest")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of an account of this upstream."""

    api_version: str = ""
    """Empty: the v1 routes. A date such as `2025-04-01-preview`: the routes of deployments."""
    auth: Literal["key", "bearer"] = "key"
    """`bearer`: the credential is an Entra token, not the resource's key."""
    heartbeat: Heartbeat = 0
    """Partial images asked for though nobody looks, so that a stall shows early."""
    event_timeout_s: Seconds = 60.0
    """How long a stream may go without an event."""


class AzureUpstream:
    """Image deployments of Azure OpenAI (the `Upstream` seam). The account's model names one."""

    def __init__(self, clock: Clock) -> None:
        self._api = ImagesApi(clock)
        self._targets = Targets(_target)

    def check(self, account: Account) -> Account:
        """Return the account with the bare address of its resource; see `Upstream.check`.

        Raises:
            ConfigError: a wrong option, no address or no key.
        """
        options = read_options(account, Options)
        if options.api_version not in _UNDATED and not _DATED.fullmatch(options.api_version):
            problem = "expected a date such as 2025-04-01-preview, 'preview', or nothing"
            raise bad_option(account, "api_version", problem)
        if not account.base_url:
            problem = "needs base_url, its resource's address: https://NAME.openai.azure.com"
            raise bad_account(account, problem)
        if account.api_key is None:
            raise bad_account(account, "needs a key: name its variable with api_key_env")
        return msgspec.structs.replace(account, base_url=_resource(account))

    async def probe(self, account: Account, *, deadline: float) -> None:
        """List the models; see `Upstream.probe`."""
        await self._api.probe(self._targets.of(account), deadline=deadline)

    def generate(
        self,
        account: Account,
        call: UpstreamCall,
        *,
        spool: Path,
        deadline: float,
        on_partial: PartialSink | None = None,
    ) -> Coroutine[Any, Any, Received]:
        """Make one image with one call; see `Upstream.generate` and `ImagesApi.generate`."""
        return self._api.generate(
            self._targets.of(account), call, spool=spool, deadline=deadline, on_partial=on_partial
        )

    async def close(self) -> None:
        """Close connections."""
        await self._api.close()


def _resource(account: Account) -> str:
    return _ROUTES.sub("", account.base_url).rstrip("/")


def _target(account: Account) -> Target:
    options = read_options(account, Options)
    openai = f"{_resource(account)}/openai"
    query = f"?api-version={options.api_version}" if options.api_version else ""
    dated = options.api_version not in _UNDATED
    deployment = f"{openai}/deployments/{quote(account.model, safe='')}"
    return Target(
        account=account,
        profile=AZURE_DEPLOYMENT if dated else AZURE,
        base=deployment if dated else f"{openai}/v1",
        query=query,
        auth=_credential(account, options),
        models_url=f"{openai}/models{query}" if dated else f"{openai}/v1/models{query}",
        heartbeat=options.heartbeat,
        event_timeout_s=options.event_timeout_s,
    )


def _credential(account: Account, options: Options) -> dict[str, str]:
    if options.auth == "bearer" or account.api_key is None:
        return bearer(account)
    return {"api-key": account.api_key.reveal()}
