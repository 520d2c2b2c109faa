"""The operator's configuration: one TOML file, every key known, checked at start.

Owns the shape, the defaults and the loading; `defaults.toml` beside this file holds the channels that
ship with safelight. Nothing here is changed after start.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from safelight.types import Account, Micros


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[server]: where to listen and what a request may be."""

    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str = ""
    """Origin for links in answers, e.g. https://images.example.com; empty: from the Host header."""
    max_request_bytes: int = 64 * 1024 * 1024
    max_file_bytes: int = 25 * 1024 * 1024
    max_json_bytes: int = 1024 * 1024
    """Limit of a JSON body on routes that carry no pictures."""
    header_timeout_s: float = 10.0
    body_timeout_s: float = 120.0
    body_min_bytes_per_s: int = 8 * 1024
    drain_s: float = 240.0
    max_in_flight: int = 10_000


class StorageConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[storage]: blobs."""

    min_free_bytes: int = 1024 * 1024 * 1024
    """Below this much free space no new work is accepted (503 `storage_full`)."""


class BillingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[billing]: the customer that the first start makes."""

    first_customer: str = "default"
    first_credit: str = "10.00"
    """Dollars credited to the first customer, as a decimal string."""


class ChannelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[channels.NAME]: one model id that customers may ask for, with its policy."""

    kind: Literal["direct", "aggregated", "pooled"]
    sizes: Literal["legal", "hint", "table"]
    """legal: any size the vendor makes; hint: told to the model in the prompt; table: `size_names`."""
    size_names: tuple[str, ...] = ()
    quality: tuple[str, ...] = ()
    """Allowed values of `quality`; empty: the parameter is refused."""
    n_max: int = 1
    price_micros: Micros | None = None
    """Flat price per image; or None and `prices`."""
    prices: dict[str, dict[str, Micros]] = {}
    """Price per image by quality, then by size tier (1K, 2K, 4K)."""
    retries: bool = True
    """False: the first failure is the answer, and 429 with Retry-After reaches the caller."""
    max_attempts: int = 8
    deadline_s: float = 300.0
    link_ttl_s: int = 86_400
    created: int = 1_776_729_600
    shutdown_date: str | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, defaults filled in. `path` is the file it came from, or None."""

    data_dir: Path
    server: ServerConfig
    storage: StorageConfig
    billing: BillingConfig
    accounts: tuple[Account, ...]
    channels: dict[str, ChannelConfig]
    path: Path | None = None
