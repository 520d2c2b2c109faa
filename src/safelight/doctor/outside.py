"""What leads outside and comes from there: links in answers, and calls to customers' addresses.

Owns the check of `public_url` and of what the guard of webhooks lets through. The proxies between
are `chain`'s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

from safelight.config import Config
from safelight.doctor import Check, ok, warning
from safelight.strangers import Refused, Rules

GROUP = "outside"
_INSIDE = {
    "127.0.0.1": "this machine",
    "169.254.169.254": "a cloud's metadata service",
    "10.0.0.1": "private networks",
}
_RESOLVE_S = 5.0


async def check(config: Config) -> AsyncIterator[Check]:
    """Yield what is to be said of both."""
    yield _links(config)
    yield _guard(config)
    for host in config.webhooks.allow_hosts:
        yield await _known(host)


def _links(config: Config) -> Check:
    server = config.server
    if server.public_url:
        return ok(GROUP, "links", f"links in answers begin with {server.public_url}")
    if server.host in ("127.0.0.1", "::1", "localhost"):
        return ok(GROUP, "links", "links take the Host that callers ask; only this machine does")
    said = "links take the Host header of each caller, and webhooks have none to take"
    return warning(GROUP, "links", said, "Set [server] public_url to the address clients use.")


def _guard(config: Config) -> Check:
    rules, name = Rules(config.webhooks), "webhooks"
    inside = []
    for address, words in _INSIDE.items():
        try:
            rules.check_address(ip_address(address))
            inside.append(words)
        except Refused:
            continue
    if inside:
        said = f"customers' webhooks may call {' and '.join(inside)}"
        return warning(GROUP, name, said, "Narrow [webhooks] allow_networks to the receivers.")
    if config.webhooks.allow_http:
        said = "webhooks may go to http:// addresses, unencrypted"
        return warning(GROUP, name, said, "Set [webhooks] allow_http = false.")
    networks = [ip_network(one) for one in config.webhooks.allow_networks]
    more = f" and to {len(networks)} networks inside" if networks else ""
    return ok(GROUP, name, f"webhooks go to public https addresses{more} alone")


async def _known(host: str) -> Check:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_RESOLVE_S):
            await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:  # TimeoutError and gaierror are two
        said = f"[webhooks] allow_hosts: {host} has no address ({error})"
        return warning(GROUP, "webhooks", said, "Mend the name, or the resolver.")
    return ok(GROUP, "webhooks", f"{host} has an address")
