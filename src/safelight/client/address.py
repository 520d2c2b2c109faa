"""Which server is asked, and as whom: an address with its `/v1`, and a key.

Owns the environment variables (the command line's own) and the checks of both values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from safelight.client.errors import Misconfigured

URL_VARIABLES = ("SAFELIGHT_URL", "OPENAI_BASE_URL")
KEY_VARIABLES = ("SAFELIGHT_API_KEY", "OPENAI_API_KEY")
_VERSION = re.compile(r"/v[0-9][0-9a-z]*$")


@dataclass(frozen=True)
class Address:
    """Where requests go; `url` ends with the API's version, `key` is never shown."""

    url: str
    key: str = field(repr=False)

    @classmethod
    def of(
        cls, url: str | None, key: str | None, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Return the address of the arguments, else of the environment.

        Raises:
            Misconfigured: one of them is missing or malformed.
        """
        known = os.environ if environment is None else environment
        url = url or _first(known, URL_VARIABLES)
        key = key or _first(known, KEY_VARIABLES)
        if not url:
            raise Misconfigured(
                "no address: give base_url, or set SAFELIGHT_URL to something like "
                "http://127.0.0.1:8080/v1"
            )
        if not key:
            raise Misconfigured("no key: give api_key, or set SAFELIGHT_API_KEY")
        key = key.strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise Misconfigured("the API key holds characters that no key has")
        return cls(_normal(url), key)


def _first(known: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((known[name] for name in names if known.get(name)), None)


def _normal(url: str) -> str:
    """Return the address with its version at the end; `/v1` where none is given."""
    try:
        parts = urlsplit(url.strip())
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or parts.query or parts.fragment or parts.username is not None:
        raise Misconfigured(f"{url!r} is no address: write it like http://127.0.0.1:8080/v1")
    path = parts.path.rstrip("/")
    if not _VERSION.search(path):
        path = f"{path}/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"
