"""What a browser brings along: a session's cookie, proof that a call is our page's, an address.

Owns cookies and the checks that make them safe to believe. What a session opens is the doors'
business (`administration.doors`), who may do what the routes'.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from safelight.administration.doors import Doors
from safelight.api.exchange import Exchange
from safelight.api.problems import Headers
from safelight.browser_sessions import LONGEST_MS, Session
from safelight.errors import NotFound, PermissionDenied

Door = Literal["safelight_operator", "safelight_customer"]
"""The cookie's name says what it opens: one browser may hold both."""
OPERATOR: Door = "safelight_operator"
CUSTOMER: Door = "safelight_customer"

CSRF_HEADER = "x-safelight-csrf"
AGENT_HEADER = "user-agent"
_SAFE_METHODS = ("GET", "HEAD")
_OUR_SITES = ("same-origin", "none")
_HOPS_MAX = 20


def doors_of(exchange: Exchange) -> Doors:
    """Return the doors of this gateway.

    Raises:
        NotFound: it has none.
    """
    house = exchange.services.administration
    if house is None:
        raise NotFound("Nobody can sign in here; send a key with each call.")
    return house.doors


def secret_of(exchange: Exchange, door: Door) -> str | None:
    """Return what the cookie of a door holds, or None where there is no such cookie.

    Only the name that is set on this connection counts: behind https nothing but a cookie with the
    `__Host-` prefix, which no other host of the domain and no plain connection can have planted.
    """
    header = exchange.header("cookie")
    if header is None:
        return None
    wanted = _name(exchange, door)
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == wanted:
            return value
    return None


def cookie_header(exchange: Exchange, door: Door, secret: str | None) -> tuple[bytes, bytes]:
    """Return the header that gives a browser a session's cookie, or with None takes it away.

    HttpOnly, SameSite=Strict, and behind https Secure with the `__Host-` prefix, which demands
    `Path=/` and no Domain (RFC 6265bis, sections 4.1.2 and 4.1.3; OWASP, Session Management Cheat
    Sheet). Its Max-Age is the longest life of a session; when one is over the server decides.
    """
    age_s = 0 if secret is None else LONGEST_MS // 1000
    secure = "; Secure" if _is_https(exchange) else ""
    value = f"{_name(exchange, door)}={secret or ''}; Path=/; Max-Age={age_s}"
    return b"set-cookie", f"{value}; HttpOnly; SameSite=Strict{secure}".encode()


async def session_of(exchange: Exchange, doors: Doors, secret: str) -> Session:
    """Return the session of a cookie, for a call that may go on.

    Raises:
        AuthenticationFailed: it is over, or never was.
        PermissionDenied: the call changes something and does not prove that our page sends it.
    """
    found = await doors.session(secret)
    check_proof(exchange, doors, secret)
    return found


def check_proof(exchange: Exchange, doors: Doors, secret: str) -> None:
    """Refuse a state-changing call that another site may have had the browser send.

    Three guards, each enough where the others fail (OWASP, Cross-Site Request Forgery Prevention
    Cheat Sheet): the cookie is SameSite=Strict; the call carries an HMAC token of its session in a
    header that no form can send and no other site can read; and what the browser itself says of the
    call's origin must be ours (`check_site`). GET and HEAD change nothing here and need no proof:
    EventSource cannot send headers.

    Raises:
        PermissionDenied: the token is not this session's, or the call comes from elsewhere.
    """
    if exchange.scope["method"] in _SAFE_METHODS:
        return
    check_site(exchange)
    doors.check_csrf(secret, exchange.header(CSRF_HEADER))


def check_site(exchange: Exchange) -> None:
    """Refuse a call of which the browser says that another site's page sends it.

    `Sec-Fetch-Site` decides where it is sent (W3C Fetch Metadata, section 2.3), else `Origin`
    (RFC 6454, section 7) must name this host or `server.public_url`: the order that OWASP's cheat
    sheet has, with the fallback that it demands for older browsers and for plain http, where there
    is no metadata. A call with neither comes from no browser of today.

    Raises:
        PermissionDenied: the page is another site's.
    """
    site = exchange.header("sec-fetch-site")
    if site is not None:
        ours = site in _OUR_SITES
    else:
        origin = exchange.header("origin")
        ours = origin is None or _is_own(exchange, origin)
    if not ours:
        raise PermissionDenied(
            "A page of another site sent this call. Open the gateway's own address; behind a proxy "
            "the operator sets [server] public_url to it.",
            code="csrf_failed",
        )


def address_of(exchange: Exchange) -> str:
    """Return where a call comes from, as far as it can be believed; empty where nobody knows.

    The peer, unless it is in `server.trusted_proxies`: then the last address of X-Forwarded-For
    that is none of these. What stands before that one the client may have written itself.
    """
    client = exchange.scope.get("client")
    address = "" if client is None else str(client[0])
    trusted = _networks(exchange.services.config.server.trusted_proxies)
    if not trusted:
        return address
    lines = [
        value.decode("latin-1")
        for name, value in exchange.scope["headers"]
        if name == b"x-forwarded-for"
    ]
    hops = ",".join(lines).split(",")[-_HOPS_MAX:]
    while hops and _is_in(address, trusted):
        hop = _without_port(hops.pop().strip())
        if not _is_address(hop):
            break
        address = hop
    return address


def agent_of(exchange: Exchange) -> str:
    """Return the browser's word for itself, for people."""
    said = exchange.header(AGENT_HEADER) or ""
    return "".join(letter for letter in said if letter.isprintable())


def bearer_of(exchange: Exchange) -> str | None:
    """Return the key in the Authorization header, or None where there is none.

    Other schemes are not ours: a proxy may keep its own password there.
    """
    scheme, _, key = (exchange.header("authorization") or "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def no_store(*more: tuple[bytes, bytes]) -> Headers:
    """Return the headers of answers that nobody may keep."""
    return [(b"cache-control", b"no-store"), *more]


def _name(exchange: Exchange, door: Door) -> str:
    return f"__Host-{door}" if _is_https(exchange) else door


def _is_https(exchange: Exchange) -> bool:
    """Return whether browsers reach this gateway by https, as far as it knows.

    Anybody may claim it: whoever lies gets a cookie that is kept more strictly.
    """
    public_url = exchange.services.config.server.public_url
    return (
        public_url.startswith("https:")
        or exchange.scope.get("scheme") == "https"
        or (exchange.header("x-forwarded-proto") or "").lower() == "https"
    )


def _is_own(exchange: Exchange, origin: str) -> bool:
    public_url = exchange.services.config.server.public_url
    found = _authority(origin)
    own = {(exchange.header("host") or "").lower(), _authority(public_url)}
    return found is not None and found in own


def _authority(url: str) -> str | None:
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:
        return None


@lru_cache(maxsize=8)
def _networks(
    texts: tuple[str, ...],
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _is_in(
    address: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
) -> bool:
    return _is_address(address) and any(ipaddress.ip_address(address) in one for one in networks)


def _without_port(hop: str) -> str:
    """Return an address of a list; some proxies write `192.0.2.1:4711` and `[2001:db8::1]:4711`."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
