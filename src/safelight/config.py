"""The operator's configuration: one TOML file, every key known, checked at start.

Owns the shape, the defaults and the loading; `defaults.toml` beside this file holds the channels
that ship with safelight, config_file.py reads TOML and knows its lines. Nothing here is changed
after start. Every key is described in docs/configuration.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from importlib.metadata import entry_points
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from safelight import money, sizes
from safelight.config_file import ConfigFile, KeyPath, known
from safelight.errors import ConfigError, InvalidValue
from safelight.types import Account, Micros, Secret

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=2**40)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Price = Annotated[Micros, msgspec.Meta(ge=0, le=money.MICROS_MAX)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[server]: where to listen and what a request may be."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    public_url: str = ""
    """Origin for links in answers, e.g. https://images.example.com; empty: from the Host header."""
    max_request_bytes: Bytes = 64 * 1024 * 1024
    max_file_bytes: Bytes = 25 * 1024 * 1024
    max_json_bytes: Bytes = 1024 * 1024
    """Limit of a JSON body on routes that carry no pictures."""
    max_buffered_bytes: Bytes = 256 * 1024 * 1024
    """Most bytes of JSON bodies in memory at one time, beyond the first 64 KiB of each."""
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 120.0
    body_min_bytes_per_s: Bytes = 8 * 1024
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 240.0
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Most jobs that run at one time in one process."""


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[storage]: blobs."""

    min_free_bytes: Annotated[int, msgspec.Meta(ge=0)] = 1024 * 1024 * 1024
    """Below this much free space no new work is accepted (503 `storage_full`)."""


class BillingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[billing]: the customer that the first start makes."""

    first_customer: Text = "default"
    first_credit: str = "10.00"
    """Dollars credited to the first customer, as a decimal string."""


class AccountConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[accounts]]: one upstream credential as the file has it; loading makes an `Account`."""

    name: Name
    upstream: str
    base_url: str = ""
    """Address of the API; empty: the upstream's own (openai: https://api.openai.com/v1)."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; empty: no key is sent."""
    group: str = ""
    """Limiter group; empty: a group of the account's own name."""
    model: Text = "gpt-image-2"
    images_per_minute: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None
    """The limit of the group, stated by any of its accounts; None: only what the upstream says."""
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    channels: tuple[str, ...] = ()
    """Channels that the account serves; empty: all."""
    edits: bool = True
    connect_timeout_s: Seconds = 5.0
    first_byte_timeout_s: Seconds = 240.0
    idle_timeout_s: Seconds = 20.0


class ChannelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[channels.NAME]: one model id that customers may ask for, with its policy."""

    kind: Literal["direct", "aggregated", "pooled"]
    sizes: Literal["legal", "hint", "table"]
    """legal: what the vendor makes; hint: told to the model in the prompt; table: `size_names`."""
    enabled: bool = True
    """False: the channel does not exist (for switching off one that ships with safelight)."""
    size_names: tuple[str, ...] = ()
    """Sizes of a `table` channel as `WxH`; empty: the 35 names of sizes.py."""
    quality: tuple[Text, ...] = ()
    """Allowed values of `quality`; empty: the parameter is refused."""
    input_fidelity: bool = False
    """Whether `input_fidelity` is taken on edits; gpt-image-2 does not know it."""
    n_max: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1
    price_micros: Price | None = None
    """Flat price per image; or None and `prices`."""
    prices: dict[str, dict[str, Price]] = {}
    """Price per image by quality, then by size tier (1K, 2K, 4K)."""
    retries: bool = True
    """False: the first failure is the answer, and 429 with Retry-After reaches the caller."""
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8
    deadline_s: Seconds = 300.0
    link_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=3_650 * 86_400)] = 86_400
    created: Annotated[int, msgspec.Meta(ge=0)] = 1_776_729_600
    shutdown_date: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, defaults filled in. `path` is the file it came from, or None.

    `warnings` are sentences about what is allowed but hardly meant, for the operator at start.
    """

    data_dir: Path
    server: ServerConfig
    storage: StorageConfig
    billing: BillingConfig
    accounts: tuple[Account, ...]
    channels: dict[str, ChannelConfig]
    path: Path | None = None
    warnings: tuple[str, ...] = ()


SECTIONS: tuple[str, ...] = ("server", "storage", "billing", "accounts", "channels")
"""The top-level keys of the file."""

_BASE_URLS = {"openai": "https://api.openai.com/v1"}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_StructT = TypeVar("_StructT", bound=msgspec.Struct)


def load_config(path: Path | None, data_dir: Path, *, environ: Mapping[str, str]) -> Config:
    """Return the configuration: the shipped channels, overridden by the file at `path` if any.

    Args:
        path: the operator's TOML file, or None for the defaults alone.
        data_dir: where the database and the pictures live; only carried along.
        environ: where the accounts' keys are looked up.

    Raises:
        ConfigError: the file cannot be read or a value is wrong; the message names the file, the
            line, the key and the keys that are known. It never shows a value that may be a secret.
    """
    file = ConfigFile.read(path) if path is not None else ConfigFile("built-in", "")
    for section in file.tables:
        if section not in SECTIONS:
            raise file.unknown_key((section,), SECTIONS)
    channels = _load_channels(file)
    live = {name: channel for name, channel in channels.items() if channel.enabled}
    if not live:
        raise file.error(("channels",), "every channel is switched off; leave one enabled")
    accounts = _load_accounts(file, channels, environ)
    return Config(
        data_dir=data_dir,
        server=_load_server(file),
        storage=_section(file, StorageConfig, "storage"),
        billing=_load_billing(file),
        accounts=accounts,
        channels=live,
        path=path,
        warnings=(*_unserved(live, accounts), *_keys_in_clear(accounts)),
    )


def _section(file: ConfigFile, kind: type[_StructT], name: str) -> _StructT:
    return file.struct(kind, file.tables.get(name, {}), (name,))


def _http_url(file: ConfigFile, text: str, path: KeyPath) -> str:
    """Check an address and return it without a trailing slash."""
    try:
        url = urlsplit(text)
        plain = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        plain = False
    if not plain or not text.isprintable() or " " in text:
        raise file.error(path, "expected an address such as https://images.example.com/v1")
    if "@" in url.netloc:
        raise file.error(path, "an address carries no user name or password; use api_key_env")
    if url.query or url.fragment or text.endswith(("?", "#")):
        raise file.error(path, "an address ends with its path; leave out '?' and '#'")
    return text.rstrip("/")


def _load_server(file: ConfigFile) -> ServerConfig:
    server = _section(file, ServerConfig, "server")
    for key in ("max_file_bytes", "max_json_bytes"):
        if getattr(server, key) > server.max_request_bytes:
            problem = f"may not exceed max_request_bytes ({server.max_request_bytes})"
            raise file.error(("server", key), problem)
    if server.max_buffered_bytes < server.max_request_bytes:
        problem = f"may not be below max_request_bytes ({server.max_request_bytes})"
        raise file.error(("server", "max_buffered_bytes"), problem)
    if not server.public_url:
        return server
    public_url = _http_url(file, server.public_url, ("server", "public_url"))
    return msgspec.structs.replace(server, public_url=public_url)


def _load_billing(file: ConfigFile) -> BillingConfig:
    billing = _section(file, BillingConfig, "billing")
    path = ("billing", "first_credit")
    try:
        credit = money.dollars_to_micros(billing.first_credit)
    except ValueError as error:
        raise file.error(path, str(error)) from None
    if credit < 0:
        raise file.error(path, "a credit is not negative")
    return billing


def _load_channels(file: ConfigFile) -> dict[str, ChannelConfig]:
    """Return every channel, those switched off too."""
    shipped_text = files("safelight").joinpath("defaults.toml").read_text(encoding="utf-8")
    shipped = ConfigFile("defaults.toml", shipped_text).tables["channels"]
    own = file.tables.get("channels", {})
    if not isinstance(own, dict):
        raise file.error(("channels",), "expected tables, written [channels.NAME]")
    channels = {}
    for name in [*shipped, *(name for name in own if name not in shipped)]:
        file.value(Name, name, ("channels", name))
        table = own.get(name, {})
        merged = _merged(shipped.get(name, {}), table) if isinstance(table, dict) else table
        channels[name] = file.struct(ChannelConfig, merged, ("channels", name))
        _check_channel(file, channels[name], ("channels", name))
    return channels


def _merged(shipped: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the shipped channel with the operator's keys; single prices can be replaced, too."""
    merged = {**shipped, **own}
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(shipped.get(key), dict):
            merged[key] = _merged(shipped[key], value)
    # Two ways to say the price, or sizes that are not asked for: the operator's word replaces ours.
    if "price_micros" in own and "prices" not in own:
        merged.pop("prices", None)
    if "prices" in own and "price_micros" not in own:
        merged.pop("price_micros", None)
    if own.get("sizes", "table") != "table" and "size_names" not in own:
        merged.pop("size_names", None)
    return merged


def _check_channel(file: ConfigFile, channel: ChannelConfig, path: KeyPath) -> None:
    if channel.size_names and channel.sizes != "table":
        raise file.error(
            (*path, "size_names"), 'only a channel with sizes = "table" has size names'
        )
    for at, name in enumerate(channel.size_names):
        _check_size_name(file, name, (*path, "size_names", at))
    if (channel.price_micros is None) == (not channel.prices):
        raise file.error(path, "state either price_micros (one price) or prices (by quality, tier)")
    if channel.shutdown_date is not None:
        _check_date(file, channel.shutdown_date, (*path, "shutdown_date"))
    if channel.prices:
        _check_prices(file, channel, (*path, "prices"))


def _check_date(file: ConfigFile, text: str, path: KeyPath) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise file.error(path, 'expected a day that exists, such as "2027-01-31"') from None


def _check_size_name(file: ConfigFile, name: str, path: KeyPath) -> None:
    try:
        canonical = sizes.parse_size(name)
        if canonical == "auto" or canonical != name:
            raise file.error(
                path, "expected WIDTHxHEIGHT such as 2048x1152 (auto needs no mention)"
            )
        sizes.plan_size(*sizes.dimensions(name))
    except InvalidValue as error:
        raise file.error(path, error.message) from None


def _check_prices(file: ConfigFile, channel: ChannelConfig, path: KeyPath) -> None:
    for quality, row in channel.prices.items():
        for tier in row:
            if tier not in sizes.TIERS:
                raise file.unknown_key((*path, quality, tier), sizes.TIERS)
        for tier in sizes.TIERS:
            if tier not in row:
                raise file.error((*path, quality), f"the price of tier {tier} is missing")
    # A request without quality, or with quality "auto", pays the row `auto`, else the row `high`.
    automatic = "auto" if "auto" in channel.prices else "high"
    for quality in {*channel.quality, "auto"}:
        row_name = automatic if quality == "auto" else quality
        if row_name not in channel.prices:
            raise file.error(path, f"there is no price for quality {row_name!r}")


def _load_accounts(
    file: ConfigFile, channels: Mapping[str, ChannelConfig], environ: Mapping[str, str]
) -> tuple[Account, ...]:
    tables = file.tables.get("accounts", [])
    if not isinstance(tables, list):
        raise file.error(("accounts",), "expected an array of tables, written [[accounts]]")
    if not tables:
        live = tuple(name for name, channel in channels.items() if channel.enabled)
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
            "with api_key_env",
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


def _group_limits(file: ConfigFile, configs: list[AccountConfig]) -> dict[str, float]:
    """Return images per minute by group: one vendor limit, whichever account states it."""
    limits: dict[str, float] = {}
    for at, config in enumerate(configs):
        limit = config.images_per_minute
        if limit is None:
            continue
        if limits.setdefault(config.group, limit) != limit:
            raise file.error(
                ("accounts", at, "images_per_minute"),
                f"another account of group {config.group!r} states {limits[config.group]:g}; "
                "a group has one limit",
            )
    return limits


def _account(
    file: ConfigFile,
    config: AccountConfig,
    path: KeyPath,
    limits: Mapping[str, float],
    channels: Mapping[str, ChannelConfig],
    environ: Mapping[str, str],
) -> Account:
    _check_upstream(file, config.upstream, (*path, "upstream"))
    for at, name in enumerate(config.channels):
        if name not in channels:
            problem = f"no such channel; {known('channels', name, channels)}"
            raise file.error((*path, "channels", at), problem)
    base_url = config.base_url or _BASE_URLS.get(config.upstream, "")
    if base_url:
        base_url = _http_url(file, base_url, (*path, "base_url"))
    if base_url == _BASE_URLS.get(config.upstream) and not config.api_key_env:
        raise file.error(path, f"{base_url} needs a key: name its variable with api_key_env")
    return Account(
        name=config.name,
        upstream=config.upstream,
        group=config.group,
        channels=tuple(n for n in config.channels or channels if channels[n].enabled),
        model=config.model,
        base_url=base_url,
        api_key=_api_key(file, config.api_key_env, (*path, "api_key_env"), environ),
        images_per_minute=limits.get(config.group),
        max_in_flight=config.max_in_flight,
        edits=config.edits,
        connect_timeout_s=config.connect_timeout_s,
        first_byte_timeout_s=config.first_byte_timeout_s,
        idle_timeout_s=config.idle_timeout_s,
    )


def _check_upstream(file: ConfigFile, name: str, path: KeyPath) -> None:
    upstreams = sorted({point.name for point in entry_points(group="safelight.upstreams")})
    if name not in upstreams:
        raise file.error(path, f"no such upstream; {known('upstreams', name, upstreams)}")


def _api_key(
    file: ConfigFile, variable: str, path: KeyPath, environ: Mapping[str, str]
) -> Secret | None:
    """Return the key from the environment. Neither it nor what may be one is put into a message."""
    if not variable:
        return None
    if not _VARIABLE.fullmatch(variable):
        raise file.error(path, "expected the name of an environment variable, not the key itself")
    key = environ.get(variable, "").strip()
    if not key:
        raise file.error(path, f"the environment variable {variable} is not set")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise file.error(path, f"the environment variable {variable} holds no usable key")
    return Secret(key)


def _unserved(channels: Mapping[str, ChannelConfig], accounts: tuple[Account, ...]) -> list[str]:
    served = {name for account in accounts for name in account.channels}
    return [
        f"no account serves channel {name!r}: requests for it are answered with 503"
        for name in channels
        if name not in served
    ]


def _keys_in_clear(accounts: tuple[Account, ...]) -> list[str]:
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


__all__ = [
    "AccountConfig",
    "BillingConfig",
    "ChannelConfig",
    "Config",
    "ConfigError",
    "ServerConfig",
    "StorageConfig",
    "load_config",
]
