"""What the operator allows customers' files and batches: [files], [batches] and [vendor_batches].

Owns the shapes, defaults and warnings of these sections; config.py loads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

import msgspec

from safelight.config_file import Bytes, ConfigFile, Count, Seconds
from safelight.types import Account

KEEP_MIN_S, KEEP_MAX_S = 3600, 30 * 86_400
"""How short and how long a file may be kept that has an end (OpenAI Files API, expires_after)."""
_KEEP = Annotated[int, msgspec.Meta(ge=KEEP_MIN_S, le=KEEP_MAX_S)]
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hm])")
_UNIT_S = {"h": 3600, "m": 60}


class FilesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[files]: what customers upload to /v1/files."""

    max_bytes: Bytes = 200 * 1024 * 1024
    """Largest file."""
    customer_bytes: Bytes = 10 * 1024 * 1024 * 1024
    """Most bytes of all files of one customer together."""
    upload_timeout_s: Seconds = 3600.0
    keep_s: _KEEP = KEEP_MAX_S
    """How long a batch's input is kept that was sent without `expires_after`."""


class BatchesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[batches]: how batches are taken and fed."""

    completion_windows: tuple[str, ...] = ("24h",)
    """Windows that a batch may ask for, in hours or minutes: "24h", "90m"."""
    max_lines: Count = 50_000
    max_line_bytes: Bytes = 40 * 1024 * 1024
    max_open: Count = 100
    """Most batches of one customer that have not ended."""
    lines_under_way: Count = 100
    """Most lines of one batch that are ordered and not finished; only their prices are held."""
    wait_for_money_s: Annotated[float, msgspec.Meta(ge=0, le=7 * 86_400)] = 3600.0
    """How long a batch waits for a balance that does not cover its next line."""
    inline_bytes: Bytes = 1024 * 1024 * 1024
    """Most bytes of base64 in one output file; pictures beyond it are given as links."""
    keep_output_s: _KEEP = KEEP_MAX_S
    """How long output and error files are kept, unless a batch asks for another time."""


class VendorBatchesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[vendor_batches]: lines that are sent on to a vendor's own Batch API."""

    live_reserve_s: Seconds = 7200.0
    """So long before a line's deadline it is to be in the live lane again, if it has no picture."""
    cancel_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 600.0
    """Before that: how long a vendor batch that is cancelled may take to give what it has done."""
    min_room_s: Annotated[float, msgspec.Meta(ge=0, le=7 * 86_400)] = 14_400.0
    """A batch that would leave the vendor less time than this stays in the live lane."""
    collect_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 300.0
    """How long lines are collected for one vendor batch, while their batch still has more."""
    max_lines: Annotated[int, msgspec.Meta(ge=1, le=50_000)] = 50_000
    max_bytes: Bytes = 190 * 1024 * 1024
    """Largest input file of one vendor batch; the vendor takes 200 MB."""
    poll_min_s: Seconds = 15.0
    poll_max_s: Seconds = 300.0
    """A vendor batch is asked for after a tenth of its age, between these two."""


def window_s(window: str) -> int | None:
    """Return the seconds of a completion window, or None where it is none."""
    match = _WINDOW.fullmatch(window)
    return None if match is None else int(match[1]) * _UNIT_S[match[2]]


def load_batches(file: ConfigFile) -> BatchesConfig:
    """Return the section [batches].

    Raises:
        ConfigError: a value is wrong.
    """
    path = ("batches",)
    batches = file.struct(BatchesConfig, file.tables.get("batches", {}), path)
    if not batches.completion_windows:
        raise file.error((*path, "completion_windows"), "name at least one window")
    for at, window in enumerate(batches.completion_windows):
        if window_s(window) is None:
            problem = 'expected hours or minutes, such as "24h" or "90m"'
            raise file.error((*path, "completion_windows", at), problem)
    return batches


def without_batch_api(policies: Mapping[str, str], accounts: tuple[Account, ...]) -> list[str]:
    """Return a warning for each channel that asks for vendors' Batch APIs and has none.

    Args:
        policies: when lines of a channel go there, by its name.
        accounts: that may serve them.
    """
    may = {name for account in accounts if account.vendor_batches for name in account.channels}
    return [
        f"channel {name!r} sends batches to vendors' Batch APIs, but no account that serves it has "
        "vendor_batches = true: they stay in the live lane"
        for name, policy in policies.items()
        if policy != "off" and name not in may
    ]
