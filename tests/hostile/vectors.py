"""Addresses that lead inside, in every spelling there is: over two hundred, made by rule.

Owns the list. `PORT` stands for the port of the canary that no connection may reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from safelight.strangers import DENIED

TARGETS = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.0.1", "172.16.0.1", "0.0.0.0"]  # noqa: S104
NAMES = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost.localdomain.localhost",
    "a.localhost",
    "metadata",
    "metadata.google.internal",
    "metadata.google.internal.",
    "METADATA.azure.example",
    "db.internal",
    "printer.local",
    "nas.lan",
    "router.home.arpa",
    "intranet",
    "kubernetes",
    "xn--",
    "xn--a",
    "-",
    "a..b",
    ".example.com",
    "example.com..",
    "exam_ple",
    "example.123",
    "1.2.3",
    "%6c%6f%63%61%6c%68%6f%73%74",
    "loc%61lhost",
    "ⓛocalhost",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
]
SCHEMES = ["file", "gopher", "ftp", "dict", "ldap", "jar", "netdoc", "javascript", "data", "ws", ""]
PORTS = [0, 1, 21, 22, 23, 25, 53, 110, 143, 389, 465, 587, 993, 65_536, 99_999]
TRICKS = [
    "http://example.com@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT@example.com/",
    "http://a:b@example.com/",
    "http://@example.com/",
    "http://example.com\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\.example.com/",
    "http://example.com#@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT#.example.com/",
    "http://127.0.0.1:PORT?.example.com/",
    "http://[::1]:PORT@example.com/",
    "http://[::1%25lo]:PORT/",
    "http://[::1",
    "http://::1/",
    "http://[127.0.0.1]:PORT/",
    "http://127.0.0.1 :PORT/",
    "http:// 127.0.0.1:PORT/",
    "http://127.0.0.1:PORT /",
    "http://exa\tmple.com/",
    "http://example.com/\r\nHost: inside",
    "http://example.com/\x00",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "//127.0.0.1:PORT/",
    "127.0.0.1:PORT",
    "http://",
    "http://:PORT/",
    "http://127.0.0.1:PORT:80/",
    "http://127.0.0.1:/",
    "http://127.0.0.1:+PORT/",
    "http://example.com/" + "a" * 3000,
]


def vectors() -> list[str]:
    """Return each address once."""
    return list(dict.fromkeys([*_table(), *_spellings(), *_names(), *_schemes(), *TRICKS]))


def _url(host: str) -> str:
    return f"http://{host}:PORT/hook"


def _table() -> Iterator[str]:
    """The first and the last address of each row of the table."""
    for network in DENIED:
        for address in (network[0], network[-1]):
            yield _url(str(address) if address.version == 4 else f"[{address}]")


def _spellings() -> Iterator[str]:
    """Each target as decimal, hexadecimal, octal, short, and inside IPv6."""
    for text in TARGETS:
        value = int(IPv4Address(text))
        parts = [value >> shift & 255 for shift in (24, 16, 8, 0)]
        yield from map(
            _url, (str(value), hex(value), f"0{value:o}", f"{parts[0]}.{value & 0xFFFFFF}")
        )
        yield _url(".".join(hex(one) for one in parts))
        yield _url(".".join(f"0{one:o}" for one in parts))
        yield _url(f"{text}.")
        yield _url(f"{parts[0]}.{parts[1]}.{value & 0xFFFF}")
        for prefix in ("::ffff:", "::", "64:ff9b::", "64:ff9b:1::"):
            yield _url(f"[{prefix}{text}]")
        yield _url(f"[{IPv6Address((0x2002 << 112) | value << 80)}]")  # 6to4
        yield _url(f"[{IPv6Address((0x20010000 << 96) | (value ^ 0xFFFFFFFF))}]")  # Teredo


def _names() -> Iterator[str]:
    yield from map(_url, NAMES)


def _schemes() -> Iterator[str]:
    for scheme in SCHEMES:
        yield f"{scheme}://127.0.0.1:PORT/"
        yield f"{scheme}:127.0.0.1:PORT"
    for port in PORTS:
        yield f"http://example.com:{port}/"
