"""Addresses that strangers give: which of them may be called.

Owns the rules about such addresses: their form, their names, and the IP addresses a name leads to,
all of which are judged. Calls nothing: `guarded` does, and loads an HTTP client for it.

What is refused: everything but global unicast, and what the table below adds (IANA's registries of
special purposes, RFC 6890; IPv6 forms with an IPv4 address inside, RFC 4291 and 6052; the cloud's
metadata services). The operator's `[webhooks]` lets internal receivers through by name or network.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from yarl import URL

from safelight.config import WebhooksConfig

URL_MAX = 2048
"""Characters of an address."""
RESOLVE_S = 2.0
PRIVILEGED_PORTS = frozenset({80, 443})
"""The ports below 1024 that are taken: a mail server must not be reached by HTTP."""

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

DENIED: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by a carrier's customers (CGNAT)
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's platform service, on an address that looks public
        "169.254.0.0/16",  # link-local, with the metadata services of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays from 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "::/96",  # unspecified, loopback, IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # IPv4 through NAT64
        "64:ff9b:1::/48",  # IPv4 through a local NAT64
        "100::/64",  # discard
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # IPv4 through 6to4
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local, with a cloud's metadata service
        "fe80::/10",  # link-local
        "fec0::/10",  # site-local
        "ff00::/8",  # multicast
    )
)
_DENIED_NAMES = re.compile(r"localhost|.*\.(localhost|local|internal|lan|home\.arpa)|metadata.*")
_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)

NOWHERE = "The address's name leads to no public address."
"""Said of a name that does not exist and of one that leads inside alike: whoever could tell them
apart would learn the names that exist in here, one question each."""


class Refused(Exception):
    """An address that is not called; `reason` is a sentence for whoever gave it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CallFailed(Exception):
    """A call without an answer; `reason` is a few neutral words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Rules:
    """What may be called, as the operator's configuration has it."""

    def __init__(self, config: WebhooksConfig) -> None:
        self._allow_http = config.allow_http
        self._hosts = frozenset(host.lower().rstrip(".") for host in config.allow_hosts)
        self._networks = tuple(ip_network(text) for text in config.allow_networks)

    def check_url(self, url: str) -> URL:
        """Return an address in parsed form, if its form alone does not forbid it.

        A literal address is judged here, a name when it is resolved.

        Raises:
            Refused: it is no address that may be called.
        """
        parsed = _parse(url)
        if parsed.scheme != "https" and not self._allow_http:
            raise Refused("The address must begin with https://.")
        host = host_of(parsed)
        literal = literal_of(host)
        if literal is not None:
            self.check_address(literal)
            allowed = self._inside(literal)
        else:
            allowed = host in self._hosts
            if not allowed and (not _NAME.fullmatch(host) or _DENIED_NAMES.fullmatch(host)):
                raise Refused("The address has no public host name.")
        port = parsed.port or 0
        if port < 1024 and port not in PRIVILEGED_PORTS and not allowed:
            raise Refused("Ports below 1024 are not called, other than 80 and 443.")
        return parsed

    def allows_name(self, host: str) -> bool:
        """Return whether the operator trusts a name, wherever it leads."""
        return host.lower().rstrip(".") in self._hosts

    def check_address(self, address: Address) -> None:
        """Judge one IP address.

        Raises:
            Refused: it is not public, and the operator does not allow it.
        """
        if self._inside(address):
            return
        denied = any(address in network for network in DENIED if network.version == address.version)
        # Not by our own table alone: a registry grows.
        if denied or not address.is_global or address.is_multicast:
            raise Refused("The address is not a public one.")

    def _inside(self, address: Address) -> bool:
        return any(address in one for one in self._networks if one.version == address.version)


def _parse(url: str) -> URL:
    """Parse with the one parser that the call is made with, too.

    Raises:
        Refused: the form is not the plain one.
    """
    if not 0 < len(url) <= URL_MAX:
        raise Refused(f"The address must have 1 to {URL_MAX} characters.")
    if not url.isascii() or not url.isprintable() or set(url) & set(" \\<>\"'`{}|^"):
        raise Refused("The address may hold visible ASCII characters only; escape all others.")
    try:
        parsed = URL(url, encoded=True)
        # Each of them is read here: a host that starts as IDNA and is none fails when it is asked.
        host, port = parsed.host, parsed.port
    except ValueError:
        raise Refused("The address cannot be read.") from None
    if parsed.scheme not in ("http", "https") or not host or not port:
        raise Refused("The address must be a whole one, such as https://example.com/hook.")
    if "@" in re.split("[/?#]", url.partition("//")[2], maxsplit=1)[0]:
        raise Refused("The address may hold no user name and no password.")
    if parsed.raw_fragment:
        raise Refused("The address may have no part after '#'.")
    return parsed


def host_of(url: URL) -> str:
    """Return the host as the connection takes it (in ASCII), in its one spelling."""
    return (url.raw_host or "").lower().rstrip(".")


def literal_of(host: str) -> Address | None:
    """Return the IP address that a host is in its one usual spelling, or None.

    Other spellings (decimal, octal, hexadecimal, short) are no names either: those end in a letter.
    """
    try:
        return ip_address(host)
    except ValueError:
        return None


# ---- names --------------------------------------------------------------------------------------


class Resolve(Protocol):
    """What resolves a name to the texts of its addresses."""

    async def __call__(self, host: str, port: int) -> Iterable[str]:
        """Return the addresses.

        Raises:
            OSError: there are none.
        """
        ...


async def resolve(host: str, port: int) -> list[str]:
    """Resolve a name as the system does."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def judged(rules: Rules, find: Resolve, host: str, port: int) -> list[Address]:
    """Return the addresses of a name, every one of which may be called.

    Raises:
        Refused: one of them may not.
        CallFailed: there are none.
    """
    try:
        async with asyncio.timeout(RESOLVE_S):
            texts = await find(host, port)
        # A scope (fe80::1%eth0) belongs to an address that is refused anyway.
        found = [ip_address(text.partition("%")[0]) for text in dict.fromkeys(texts)]
    except (OSError, UnicodeError, ValueError):
        raise CallFailed(NOWHERE) from None
    if not found:
        raise CallFailed(NOWHERE)
    if not rules.allows_name(host):
        try:
            for address in found:
                rules.check_address(address)
        except Refused:
            raise Refused(NOWHERE) from None
    return found
