"""Signed links: addresses of pictures that work without a key, for a while.

    /i/{image_id}.{ext}?e={unix seconds}&k={key id}&s={base64url of HMAC-SHA256}

Owns the form of a link, its signature and its verification. Knows neither images nor customers: the
caller looks the image up and gives the link epoch of its customer, which is part of what is signed;
raising the epoch ends all of a customer's links.

A link has exactly one spelling. Whatever differs from it in one byte (another order, a repeated or
an unknown parameter, a percent-encoding, the spare bits of the last base64 digit) is refused, so
that no cache and no log sees two addresses for one picture.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from safelight.clock import Clock
from safelight.errors import NotFound
from safelight.types import IMAGE_FORMATS

MAX_TTL_S = 24 * 3600
DISPOSITION = ""
"""The only way a picture is handed out; signed, so that others can be added without new keys."""

_FORMATS = "|".join(IMAGE_FORMATS)
_PATH = re.compile(rf"/i/(?P<image_id>[0-9a-f]{{32}})\.(?P<ext>{_FORMATS})")
_PATH_END = re.compile(rf"(?P<before>.*)(?P<path>{_PATH.pattern})")
_URL_MAX = 4096
_QUERY = re.compile(r"e=(?P<e>[1-9][0-9]{0,11})&k=(?P<k>k[1-9][0-9]{0,5})&s=[A-Za-z0-9_-]{43}")


class LinkInvalid(NotFound):
    """The link is none of ours, was changed, or its time is over.

    The message never tells which check failed. `expired` is True only for a link whose signature is
    right.
    """

    def __init__(self, *, expired: bool = False) -> None:
        super().__init__(
            "This link has expired. Fetch the job or the image again for a fresh one."
            if expired
            else "There is no picture at this address. Check that the link is complete."
        )
        self.expired = expired


class LinkKeys(Protocol):
    """Where the keys come from: `keyring.Keyring`, which this module need not know."""

    @property
    def current_kid(self) -> str:
        """The id of the key that signs."""
        ...

    @property
    def live_kids(self) -> tuple[str, ...]:
        """The ids of the keys whose signatures are taken; two while one replaces the other."""
        ...

    def link_key(self, kid: str) -> bytes:
        """Return the 32-byte key of a live id."""
        ...


class Links:
    """Signs and verifies links.

    Args:
        keyring: gives the current and the live keys.
        clock: wall-clock time.
        max_ttl_s: the longest life of a link in seconds; a signature for longer is not taken.
    """

    def __init__(self, keyring: LinkKeys, clock: Clock, *, max_ttl_s: int = MAX_TTL_S) -> None:
        self._keyring = keyring
        self._clock = clock
        self._max_ttl_s = max_ttl_s

    def end_s(self, *, ttl_s: int, until_ms: int | None) -> int:
        """Return when a link that is made now ends, unix seconds: see `sign`."""
        now_s = self._clock.now_ms() // 1000
        if until_ms is None:
            return now_s + ttl_s
        return max(min(now_s + ttl_s, until_ms // 1000), now_s + 1)

    def sign(
        self, image_id: str, ext: str, *, ttl_s: int, link_epoch: int, until_ms: int | None = None
    ) -> str:
        """Return path and query of a link that works for `ttl_s` seconds from now.

        Args:
            image_id: 32 lower-case hex digits.
            ext: the picture's format: png, jpeg or webp.
            ttl_s: 1 to the longest life.
            link_epoch: of the customer that owns the picture.
            until_ms: when the picture itself may go, milliseconds since 1970: no link promises
                more. None: not by itself.

        Raises:
            ValueError: an argument is out of its range.
        """
        path = f"/i/{image_id}.{ext}"
        if not _PATH.fullmatch(path):
            raise ValueError(f"no image has the path {path!r}")
        if not 0 < ttl_s <= self._max_ttl_s:
            raise ValueError(f"a link lives 1 to {self._max_ttl_s} seconds, not {ttl_s}")
        expires_at = self.end_s(ttl_s=ttl_s, until_ms=until_ms)
        return f"{path}?{self._query(path, expires_at, self._keyring.current_kid, link_epoch)}"

    def verify(self, path: str, query: str, *, link_epoch: int) -> None:
        """Return if the link is ours, unchanged, of this epoch and in time.

        Args:
            path: as it came on the wire, not percent-decoded.
            query: as it came on the wire, without the question mark.
            link_epoch: of the customer that owns the picture, now.

        Raises:
            LinkInvalid: it is not; `expired` when only its time is over.
        """
        parts = _QUERY.fullmatch(query)
        if not _PATH.fullmatch(path) or not parts or parts["k"] not in self._keyring.live_kids:
            raise LinkInvalid
        expires_at = int(parts["e"])
        # Comparing the one right spelling, not decoded bits, leaves no second spelling.
        right = self._query(path, expires_at, parts["k"], link_epoch)
        if not hmac.compare_digest(query, right):
            raise LinkInvalid
        now_ms = self._clock.now_ms()
        if expires_at > now_ms // 1000 + self._max_ttl_s:
            raise LinkInvalid
        if now_ms >= expires_at * 1000:
            raise LinkInvalid(expired=True)

    def _query(self, path: str, expires_at: int, kid: str, link_epoch: int) -> str:
        signed = f"v1|GET|{path}|{expires_at}|{kid}|{link_epoch}|{DISPOSITION}"
        tag = hmac.digest(self._keyring.link_key(kid), signed.encode(), "sha256")
        text = base64.urlsafe_b64encode(tag).rstrip(b"=").decode()
        return f"e={expires_at}&k={kid}&s={text}"


def parse_path(path: str) -> tuple[str, str]:
    """Return image id and extension of a link's path.

    Raises:
        LinkInvalid: it is no path of a link.
    """
    match = _PATH.fullmatch(path)
    if not match:
        raise LinkInvalid
    return match["image_id"], match["ext"]


@dataclass(frozen=True, slots=True)
class FoundLink:
    """An address that has the form of a link; whether it is ours is not known yet.

    `base` is what stands before the link's own path: scheme, host and folder, or nothing.
    """

    image_id: str
    path: str
    query: str
    base: str

    def is_at(self, base: str) -> bool:
        """Return whether it names no host, or stands at `base` (`https://images.example.com`)."""
        return not self.base or self.base.lower() == base.rstrip("/").lower()


def find_link(url: str) -> FoundLink | None:
    """Return the link in an address whose path ends like one of ours, else None.

    Any host and folder are taken: one gateway is known under several names, and a proxy may put it
    below a path. So the caller must check the signature, or that the address `is_at` this gateway
    and the picture belongs to who sends it. Nothing may be fetched from the address.
    """
    if len(url) > _URL_MAX:
        return None
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return None
    match = _PATH_END.fullmatch(parts.path)
    if not match:
        return None
    if parts.scheme in ("http", "https") and parts.netloc:
        base = f"{parts.scheme}://{parts.netloc}{match['before']}"
    elif parts.scheme or parts.netloc or match["before"]:
        return None
    else:
        base = ""
    return FoundLink(match["image_id"], match["path"], parts.query, base)
