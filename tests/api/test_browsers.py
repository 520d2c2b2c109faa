"""Where a call comes from: the peer, or whom trusted proxies name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.types import Message

from safelight.api.browsers import address_of
from safelight.api.budget import ByteBudget
from safelight.api.context import Services
from safelight.api.exchange import Exchange
from safelight.config import load_config
from safelight.errors import ConfigError

INSIDE = ("10.0.0.0/8", "2001:db8:aaaa::/48")


async def _nothing() -> Message:
    raise AssertionError("nothing is read")


async def _nowhere(message: Message) -> None:
    raise AssertionError("nothing is answered")


def call(
    services: Services, peer: str | None, *lines: str, trusted: tuple[str, ...] = INSIDE
) -> str:
    """Return where a call of `peer` with these X-Forwarded-For lines comes from."""
    server = msgspec.structs.replace(services.config.server, trusted_proxies=trusted)
    config = msgspec.structs.replace(services.config, server=server)
    scope: dict[str, Any] = {
        "headers": [(b"x-forwarded-for", line.encode()) for line in lines],
        "client": None if peer is None else (peer, 1),
    }
    found = Services(
        **{
            name: getattr(services, name)
            for name in Services.__dataclass_fields__
            if name != "config"
        },
        config=config,
    )
    return address_of(Exchange(scope, _nothing, _nowhere, found, ByteBudget(1, patience_s=1)))


@pytest.mark.parametrize(
    ("peer", "lines", "found"),
    [
        ("198.51.100.1", (), "198.51.100.1"),
        ("198.51.100.1", ("203.0.113.7",), "198.51.100.1"),
        ("10.0.0.1", ("203.0.113.7",), "203.0.113.7"),
        ("10.0.0.1", ("192.0.2.66, 203.0.113.7",), "203.0.113.7"),
        ("10.0.0.1", ("192.0.2.66", "203.0.113.7"), "203.0.113.7"),
        ("10.0.0.1", ("192.0.2.66, 203.0.113.7, 10.0.0.2",), "203.0.113.7"),
        ("10.0.0.1", ("10.0.0.3, 10.0.0.2",), "10.0.0.3"),
        ("10.0.0.1", ("2001:db8::7",), "2001:db8::7"),
        ("10.0.0.1", ("203.0.113.7:4711, 10.0.0.2:80",), "203.0.113.7"),
        ("10.0.0.1", ("[2001:db8::7]:4711",), "2001:db8::7"),
        ("2001:db8:aaaa::1", ("203.0.113.7",), "203.0.113.7"),
        ("10.0.0.1", ("203.0.113.7, unknown",), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", ("203.0.113.7, " * 500 + "10.0.0.2",), "203.0.113.7"),
        (None, ("203.0.113.7",), ""),
        ("not an address", ("203.0.113.7",), "not an address"),
    ],
)
def test_the_last_address_that_is_no_proxy_of_ours_calls(
    services: Services, peer: str | None, lines: tuple[str, ...], found: str
) -> None:
    """What stands before it the caller may have written; a peer that is no proxy names nobody."""
    assert call(services, peer, *lines) == found


def test_without_trusted_proxies_nobody_is_believed(services: Services) -> None:
    assert call(services, "127.0.0.1", "203.0.113.7", trusted=()) == "127.0.0.1"


def test_a_proxy_that_is_no_network_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "safelight.toml"
    path.write_text('[server]\ntrusted_proxies = ["10.0.0.0/8", "nginx"]\n')
    with pytest.raises(ConfigError, match=r"trusted_proxies\[1\].*expected a network"):
        load_config(path, tmp_path, environ={})
