"""[[accounts]]: the operator's upstream credentials, as the file has them and as accounts.

Owns the shape of an account's table and its checks. What only an adapter can judge (its options,
its default address) the adapter checks at start.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from safelight.config_file import ConfigFile, Count, KeyPath, Name, PerMinute, Seconds, Text, known
from safelight.config_secrets import of_either
from safelight.types import Account, Secret

_LIMITS = ("images_per_minute", "input_images_per_minute", "requests_per_minute")


class AccountConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[accounts]]: one upstream credential as the file has it; loading makes an `Account`."""

    name: Name
    upstream: str
    base_url: str = ""
    """Address of the API; empty: the upstream's own, if it has one."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; empty: no key is sent."""
    api_key_file: str = ""
    """A file that holds the key instead, which only its owner may read (mode 600)."""
    group: str = ""
    """Limiter group; empty: a group of the account's own name."""
    model: Text = "gpt-image-2"
    images_per_minute: PerMinute | None = None
    """The limit of the group, stated by any of its accounts; None: only what the upstream says."""
    input_images_per_minute: PerMinute | None = None
    """The group's limit of pictures sent along with edits; None: none is known."""
    requests_per_minute: PerMinute | None = None
    """The group's limit of calls; None: none is known."""
    max_in_flight: Count | None = None
    tier: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    """Lower tiers are used first; a higher one when nothing lower is free."""
    image_cost_micros: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """What one picture costs the operator, for upstreams that count no tokens."""
    options: dict[str, str | int | float | bool] = {}
    """What only the account's upstream knows; docs/configuration.md lists them."""
    channels: tuple[str, ...] = ()
    """Channels that the account serves; empty: all."""
    edits: bool = True
    vendor_batches: bool = False
    """Whether lines of batches may go to the vendor's own Batch API with this credential."""
    connect_timeout_s: Seconds = 5.0
    first_byte_timeout_s: Seconds = 240.0
    idle_timeout_s: Seconds = 20.0


def load_accounts(
    file: ConfigFile, channels: Mapping[str, bool], environ: Mapping[str, str]
) -> tuple[Account, ...]:
    """Return the accounts of the file, or the built-in proof account if it names none.

    Args:
        file: the operator's file.
        channels: every channel's name, and whether it is enabled.
        environ: where the accounts' keys are looked up.

    Raises:
        ConfigError: a table is wrong; the message never shows a value that may be a secret.
    """
    tables = file.tables.get("accounts", [])
    if not isinstance(tables, list):
        raise file.error(("accounts",), "expected an array of tables, written [[accounts]]")
    if not tables:
        live = tuple(name for name, enabled in channels.items() if enabled)
        return (Account(name="proof", upstream="proof", group="proof", channels=live),)
    configs = [_account_config(file, table, ("accounts", at)) for at, table in enumerate(tables)]
    _check_names(file, configs)
    limits = _group_limits(file, configs)
    return tuple(
        _account(file, config, ("accounts", at), limits, channels, environ)
        for at, config in enumerate(configs)
    )


def _account_config(file: ConfigFile, table: object, path: KeyPath) -> AccountConfig:
    if isinstance(table, dict) and "api_key" in table:
        raise file.error(
            (*path, "api_key"),
            "a key does not stand in the file; put it into an environment variable and name that "
            "with api_key_env, or into a file of its own that api_key_file names",
        )
    config = file.struct(AccountConfig, table, path)
    if isinstance(table, dict) and table.get("channels") == []:
        problem = "name the channels to serve, or leave the key out to serve all of them"
        raise file.error((*path, "channels"), problem)
    return msgspec.structs.replace(config, group=config.group or config.name)


def _check_names(file: ConfigFile, configs: list[AccountConfig]) -> None:
    seen: set[str] = set()
    for at, config in enumerate(configs):
        if config.name in seen:
            problem = f"another account is named {config.name!r} already"
            raise file.error(("accounts", at, "name"), problem)
        seen.add(config.name)


def _group_limits(file: ConfigFile, configs: list[AccountConfig]) -> dict[str, dict[str, float]]:
    """Return each limit by group: one vendor limit, whichever account states it."""
    limits: dict[str, dict[str, float]] = {name: {} for name in _LIMITS}
    for at, config in enumerate(configs):
        for name, by_group in limits.items():
            limit = getattr(config, name)
            if limit is not None and by_group.setdefault(config.group, limit) != limit:
                raise file.error(
                    ("accounts", at, name),
                    f"another account of group {config.group!r} states "
                    f"{by_group[config.group]:g}; a group has one limit",
                )
    return limits


def _account(
    file: ConfigFile,
    config: AccountConfig,
    path: KeyPath,
    limits: Mapping[str, Mapping[str, float]],
    channels: Mapping[str, bool],
    environ: Mapping[str, str],
) -> Account:
    _check_upstream(file, config.upstream, (*path, "upstream"))
    for at, name in enumerate(config.channels):
        if name not in channels:
            problem = f"no such channel; {known('channels', name, channels)}"
            raise file.error((*path, "channels", at), problem)
    base_url = config.base_url
    if base_url:
        base_url = file.http_url(base_url, (*path, "base_url"))
    return Account(
        name=config.name,
        upstream=config.upstream,
        group=config.group,
        channels=tuple(n for n in config.channels or channels if channels[n]),
        model=config.model,
        base_url=base_url,
        api_key=_api_key(file, config, path, environ),
        images_per_minute=limits["images_per_minute"].get(config.group),
        input_images_per_minute=limits["input_images_per_minute"].get(config.group),
        requests_per_minute=limits["requests_per_minute"].get(config.group),
        max_in_flight=config.max_in_flight,
        tier=config.tier,
        image_cost_micros=config.image_cost_micros,
        options=config.options,
        edits=config.edits,
        vendor_batches=config.vendor_batches,
        connect_timeout_s=config.connect_timeout_s,
        first_byte_timeout_s=config.first_byte_timeout_s,
        idle_timeout_s=config.idle_timeout_s,
    )


def _check_upstream(file: ConfigFile, name: str, path: KeyPath) -> None:
    upstreams = sorted({point.name for point in entry_points(group="safelight.upstreams")})
    if name not in upstreams:
        raise file.error(path, f"no such upstream; {known('upstreams', name, upstreams)}")


def _api_key(
    file: ConfigFile, config: AccountConfig, path: KeyPath, environ: Mapping[str, str]
) -> Secret | None:
    named = {"api_key_env": config.api_key_env, "api_key_file": config.api_key_file}
    return of_either(file, path, "api_key", named, environ)


def keys_in_clear(accounts: tuple[Account, ...]) -> list[str]:
    """Return a warning for each account whose key travels unencrypted."""
    return [
        f"account {account.name!r} sends its key over plain http to {account.base_url}"
        for account in accounts
        if account.api_key is not None and not _stays_private(account.base_url)
    ]


def _stays_private(base_url: str) -> bool:
    url = urlsplit(base_url)
    host = url.hostname or ""
    if url.scheme != "http" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
