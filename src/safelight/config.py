"""The operator's configuration: one TOML file, every key known, checked at start.

Owns the shape, the defaults and the loading; `defaults.toml` beside this file holds the channels
that ship with safelight, config_file.py reads TOML and knows its lines. Nothing here is changed
after start. Every key is described in docs/configuration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from safelight import money, sizes
from safelight.config_accounts import AccountConfig, keys_in_clear, load_accounts
from safelight.config_batches import (
    BatchesConfig,
    FilesConfig,
    VendorBatchesConfig,
    load_batches,
    without_batch_api,
)
from safelight.config_file import (
    Bytes,
    ConfigFile,
    Count,
    KeyPath,
    Name,
    Port,
    Seconds,
    Share,
    Text,
)
from safelight.config_queue import QueueConfig
from safelight.config_watch import WATCH_SECTIONS, WatchConfig, load_watch
from safelight.errors import ConfigError, InvalidValue
from safelight.types import Account, Micros

Price = Annotated[Micros, msgspec.Meta(ge=0, le=money.MICROS_MAX)]


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[server]: where to listen and what a request may be."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 1
    """Processes of `safelight serve` that share the port; 0: one for each core."""
    public_url: str = ""
    """Origin for links in answers, e.g. https://images.example.com; empty: from the Host header."""
    trusted_proxies: tuple[Text, ...] = ()
    """Networks (CIDR) of proxies whose X-Forwarded-For tells where a sign-in comes from."""
    max_request_bytes: Bytes = 64 * 1024 * 1024
    max_file_bytes: Bytes = 25 * 1024 * 1024
    max_json_bytes: Bytes = 1024 * 1024
    """Limit of a JSON body on routes that carry no pictures."""
    max_buffered_bytes: Bytes = 256 * 1024 * 1024
    """Most bytes of JSON bodies in memory at one time, beyond the first 64 KiB of each."""
    max_sending_bytes: Annotated[int, msgspec.Meta(ge=8 * 1024 * 1024, le=2**40)] = 48 * 1024 * 1024
    """Most bytes of answers in memory at one time."""
    header_timeout_s: Seconds = 10.0
    body_timeout_s: Seconds = 120.0
    body_min_bytes_per_s: Bytes = 8 * 1024
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 240.0
    drain_notice_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    """How long a balancer has to see /readyz fail before nothing new is taken; 0: there is none."""
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    """Most jobs that run at one time in one process."""
    max_wait_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 60.0
    """Longest `wait` of GET /v1/jobs/{id}."""
    lease_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 35.0
    """A process on another data folder that gives no sign of life for so long is dead."""


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[storage]: blobs."""

    url: str = ""
    """Bucket of the pictures; empty: the data folder. SAFELIGHT_STORAGE_URL goes before it."""
    serve: Literal["proxy", "redirect"] = "proxy"
    """How a link to a picture in a bucket is answered: with its bytes, or with a signed address."""
    cache_bytes: Bytes = 2 * 1024**3
    """Most bytes of local copies of what is in a bucket."""
    request_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=600)] = 20.0
    """How long one request to a bucket may take; a stall is cut then."""
    patience_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 60.0
    """How long what a bucket refuses is asked again."""
    min_free_bytes: Annotated[int, msgspec.Meta(ge=0)] = 1024 * 1024 * 1024
    """Below this much free space no new work is accepted (503 `storage_full`)."""


class RetentionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[retention]: how long bytes are kept; rows outlive them."""

    images_s: Annotated[int, msgspec.Meta(ge=0, le=3_650 * 86_400)] = 86_400
    """Pictures, from their making, and never less than their channel's links live. 0: for good."""
    inputs_s: Annotated[float, msgspec.Meta(ge=0, le=3_650 * 86_400)] = 86_400.0
    """What an order brought along, after the end of its jobs."""
    failed_inputs_s: Annotated[float, msgspec.Meta(ge=0, le=3_650 * 86_400)] = 86_400.0
    """The same where a job ended without a picture."""
    originals: Literal["signed", "all", "none"] = "signed"
    """Whose vendor's file is kept beside pixels made here, as long as they are: those it signed."""
    strays_s: Annotated[float, msgspec.Meta(ge=0, le=3_650 * 86_400)] = 86_400.0
    """Bytes that nothing names go when they are so old. 0: never."""

    def keep_s(self, link_ttl_s: int) -> int | None:
        """Return how long a picture is kept, seconds; None: for good."""
        return max(self.images_s, link_ttl_s) if self.images_s else None


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[pool]: how accounts are used; the defaults suit vendors that limit images a minute."""

    learn_above_configured: bool = False
    """Whether a group that is never refused may be used beyond its `images_per_minute`."""
    burst_share: Share = 0.2
    """Share of a minute's budget that may be used at once."""
    window_guard_s: Annotated[float, msgspec.Meta(ge=0, le=30)] = 1.0
    """Seconds by which the minute of our own count is longer than the vendor's."""
    cooling_max_s: Seconds = 600.0
    """Longest cooling that a vendor's Retry-After may ask for."""
    exhausted_s: Seconds = 900.0
    """A group without money upstream is tried again after this long."""
    eject_after_fast: Count = 5
    """Quick failures in a row that take an account out."""
    eject_after_slow: Count = 3
    """Timeouts, stalls or unusable pictures in a row that take an account out."""
    ejection_s: Seconds = 15.0
    """First time out; it grows with each failed return, up to `ejection_max_s`."""
    ejection_max_s: Seconds = 50.0
    slow_start_s: Seconds = 60.0
    """How long an account that came back takes to its full share."""
    canary_s: Seconds = 5.0
    """While an endpoint is down, one attempt in so many seconds looks whether it is back."""
    probe_s: Seconds = 30.0
    """How often a refused credential is looked at again, at no cost."""
    retry_tokens: Count = 50
    """Least size of an endpoint's retry quota; it grows with the attempts in flight."""
    soft_timeout_min_s: Seconds = 60.0
    """An attempt that is slower than almost all others gets a second one, never before this."""
    soft_timeout_max_s: Seconds = 150.0
    hedge_share: Share = 0.04
    """Most pictures, as a share of an hour's, that may be bought twice by such second attempts."""
    max_waiting: Count = 100_000
    """Most jobs that wait for an account in one process."""
    max_waiting_per_customer: Count = 10_000
    refusals_per_hour: Count = 20
    """A customer with more refused prompts in an hour is served after all others."""
    margin_alarm: Share = 0.0
    """Warn when less than this share of the price is left after the vendor's."""
    floor_share: Share = 0.1
    """Share of the turns that jobs and batches keep while interactive calls wait."""


class BillingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[billing]: the customer that the first start makes; how the books are watched."""

    first_customer: Text = "default"
    first_credit: str = "10.00"
    """Dollars credited to the first customer, as a decimal string."""
    verify_s: Seconds = 300.0
    """How often the books are verified, by one of all processes on the database."""
    verify_blobs: Share = 0.01
    """Share of the pictures that each verification reads and hashes."""


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[limits]: how fast a key may ask that has no limits of its own; 0: as fast as it likes."""

    requests_per_minute: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    max_in_flight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Most jobs of one key that have not ended, over all processes."""


class WebhooksConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[webhooks]: whom customers may have told about the ends of their jobs."""

    allow_http: bool = False
    """Whether addresses may begin with http://."""
    allow_hosts: tuple[Text, ...] = ()
    """Names that are called wherever they lead: receivers inside."""
    allow_networks: tuple[Text, ...] = ()
    """Networks (CIDR) whose addresses are called though they are not public."""
    timeout_s: Annotated[float, msgspec.Meta(ge=1, le=60)] = 15.0
    """How long a receiver may take to answer."""
    disable_after_s: Annotated[float, msgspec.Meta(ge=3600, le=365 * 86_400)] = 432_000.0
    """A webhook that has failed for so long, without a success, is switched off."""
    keep_s: Annotated[float, msgspec.Meta(ge=86_400, le=3650 * 86_400)] = 2_592_000.0
    """How long what was told can be looked up and told again."""


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
    batch_price_micros: Price | None = None
    """Flat price per image of a batch; None: what it costs elsewhere."""
    vendor_batches: Literal["off", "asked", "always"] = "off"
    """Which batches go to a vendor's own Batch API: none, those that ask, all that have time."""
    vendor_batch_price_micros: Price | None = None
    """Flat price per image of such a batch; None: what other batches cost."""
    prices: dict[str, dict[str, Price]] = {}
    """Price per image by quality, then by size tier (1K, 2K, 4K)."""
    retries: bool = True
    """False: the first failure is the answer, and 429 with Retry-After reaches the caller."""
    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
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
    limits: LimitsConfig
    pool: PoolConfig
    accounts: tuple[Account, ...]
    channels: dict[str, ChannelConfig]
    files: FilesConfig = FilesConfig()
    batches: BatchesConfig = BatchesConfig()
    vendor_batches: VendorBatchesConfig = VendorBatchesConfig()
    webhooks: WebhooksConfig = WebhooksConfig()
    queue: QueueConfig = QueueConfig()
    retention: RetentionConfig = RetentionConfig()
    watch: WatchConfig = WatchConfig()
    path: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def longest_link_s(self) -> int:
        """The longest life of any channel's links, seconds; no valid link ends later."""
        return max((channel.link_ttl_s for channel in self.channels.values()), default=1)


SECTIONS: tuple[str, ...] = (
    "server",
    "storage",
    "retention",
    "billing",
    "limits",
    "queue",
    "webhooks",
    "pool",
    "files",
    "batches",
    "vendor_batches",
    *WATCH_SECTIONS,
    "accounts",
    "channels",
)
"""The top-level keys of the file."""

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
    accounts = load_accounts(file, {n: c.enabled for n, c in channels.items()}, environ)
    server = _load_server(file)
    return Config(
        data_dir=data_dir,
        server=server,
        storage=_section(file, StorageConfig, "storage"),
        retention=_section(file, RetentionConfig, "retention"),
        billing=_load_billing(file),
        limits=_section(file, LimitsConfig, "limits"),
        queue=_section(file, QueueConfig, "queue"),
        webhooks=_load_webhooks(file),
        pool=_load_pool(file),
        files=_section(file, FilesConfig, "files"),
        batches=load_batches(file),
        vendor_batches=_section(file, VendorBatchesConfig, "vendor_batches"),
        watch=load_watch(file, environ, public_url=server.public_url),
        accounts=accounts,
        channels=live,
        path=path,
        warnings=(
            *_unserved(live, accounts),
            *without_batch_api({n: c.vendor_batches for n, c in live.items()}, accounts),
            *keys_in_clear(accounts),
        ),
    )


def _section(file: ConfigFile, kind: type[_StructT], name: str) -> _StructT:
    return file.struct(kind, file.tables.get(name, {}), (name,))


def _load_server(file: ConfigFile) -> ServerConfig:
    server = _section(file, ServerConfig, "server")
    for key in ("max_file_bytes", "max_json_bytes"):
        if getattr(server, key) > server.max_request_bytes:
            problem = f"may not exceed max_request_bytes ({server.max_request_bytes})"
            raise file.error(("server", key), problem)
    if server.max_buffered_bytes < server.max_request_bytes:
        problem = f"may not be below max_request_bytes ({server.max_request_bytes})"
        raise file.error(("server", "max_buffered_bytes"), problem)
    _check_networks(file, server.trusted_proxies, ("server", "trusted_proxies"))
    if not server.public_url:
        return server
    public_url = file.http_url(server.public_url, ("server", "public_url"))
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


def _load_webhooks(file: ConfigFile) -> WebhooksConfig:
    webhooks = _section(file, WebhooksConfig, "webhooks")
    _check_networks(file, webhooks.allow_networks, ("webhooks", "allow_networks"))
    return webhooks


def _check_networks(file: ConfigFile, texts: tuple[str, ...], path: tuple[str, ...]) -> None:
    for at, text in enumerate(texts):
        try:
            ip_network(text)
        except ValueError:
            problem = 'expected a network such as "10.20.0.0/16" or "127.0.0.1/32"'
            raise file.error((*path, at), problem) from None


def _load_pool(file: ConfigFile) -> PoolConfig:
    pool = _section(file, PoolConfig, "pool")
    for low, high in (
        ("ejection_s", "ejection_max_s"),
        ("soft_timeout_min_s", "soft_timeout_max_s"),
        ("max_waiting_per_customer", "max_waiting"),
    ):
        if getattr(pool, low) > getattr(pool, high):
            raise file.error(("pool", low), f"may not exceed {high} ({getattr(pool, high):g})")
    return pool


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


def _unserved(channels: Mapping[str, ChannelConfig], accounts: tuple[Account, ...]) -> list[str]:
    served = {name for account in accounts for name in account.channels}
    return [
        f"no account serves channel {name!r}: requests for it are answered with 503"
        for name in channels
        if name not in served
    ]


__all__ = [
    "AccountConfig",
    "BatchesConfig",
    "BillingConfig",
    "ChannelConfig",
    "Config",
    "ConfigError",
    "FilesConfig",
    "LimitsConfig",
    "PoolConfig",
    "QueueConfig",
    "RetentionConfig",
    "ServerConfig",
    "StorageConfig",
    "VendorBatchesConfig",
    "WebhooksConfig",
    "load_config",
]
