"""The prober: live links downloaded as an outsider would, over the public address.

Owns the sample, the download and its judgement. It has an HTTP client of its own and no way into
the gateway but the network: names, TLS (verified), proxies and redirects are part of what is
measured, and the bytes must have the digest that was delivered. What it fetches is bounded by
`[prober]`; it asks with no key.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from functools import partial

import aiohttp

from safelight import alerts, jobs, link_checks
from safelight.config_watch import ProberConfig
from safelight.gateway.parts import Parts
from safelight.links import Links
from safelight.types import ImageRecord

log = logging.getLogger("safelight.prober")

KEPT = 1000
"""Of so many of the newest pictures of this process some are chosen."""
MARGIN_S = 60.0
"""A link that ends sooner is left alone: it could end during the download."""
DOWN_AFTER = 3
"""Rounds in a row in which nothing answered at all, after which the prober counts as down."""
REDIRECTS_MAX = 3
CAUSES = (
    *("ok", "name", "connection", "tls", "timeout", "broken"),
    *("not_found", "status_4xx", "status_5xx", "status_other", "wrong_bytes"),
)
"""How a download can end; docs/metrics.md says what each means."""
_NO_ANSWER = frozenset({"name", "connection", "tls", "timeout"})


class Prober:
    """Probes for one process, taking turns with the others.

    Args:
        parts: rooms below.
        links: signs.
        base_url: where customers download from: `[server] public_url`.
        config: how much and how often.
    """

    def __init__(self, parts: Parts, links: Links, base_url: str, config: ProberConfig) -> None:
        self._parts = parts
        self._links = links
        self._base_url = base_url
        self._config = config
        self._newest: deque[str] = deque(maxlen=KEPT)
        self._silent_rounds = 0

    def note(self, image: ImageRecord) -> None:
        """Remember a picture that was delivered."""
        self._newest.append(image.id)

    @property
    def down(self) -> bool:
        """Whether nothing has answered for a while: nobody outside can download either."""
        return self._silent_rounds >= DOWN_AFTER

    async def round(self) -> list[str]:
        """Download a sample, unless another process has just done so; return the causes."""
        not_within_ms = round(0.9 * self._config.every_s * 1000)
        if not self._newest:
            return []
        turn = partial(alerts.take_turn, name="prober", not_within_ms=not_within_ms)
        if not await self._parts.db.write(turn):
            return []
        causes = []
        for image in await self._sample():
            began = time.perf_counter()
            cause = await self._download(image)
            seconds = time.perf_counter() - began
            self._parts.notes.metrics.probed(cause, seconds)
            causes.append(cause)
            if cause != "ok":
                log.warning(
                    "a link cannot be downloaded", extra={"fault": cause, "subject": image.id}
                )
        if causes:
            good = causes.count("ok")
            await self._parts.db.write(partial(link_checks.note, tried=len(causes), good=good))
            silent = all(cause in _NO_ANSWER for cause in causes)
            self._silent_rounds = self._silent_rounds + 1 if silent else 0
        return causes

    async def _sample(self) -> list[ImageRecord]:
        """Return some pictures whose links work for a while yet."""
        count = min(self._config.links, len(self._newest))
        chosen = self._parts.rng.sample(list(self._newest), count)
        found = []
        for image_id in chosen:
            image = await self._parts.db.read(partial(jobs.get_image, image_id=image_id))
            if image is not None and self._lives(image):
                found.append(image)
            else:
                self._newest.remove(image_id)
        return found

    def _lives(self, image: ImageRecord) -> bool:
        if image.deleted_at is not None:
            return False
        ends_at = None if image.pinned else image.expires_at
        return ends_at is None or ends_at > self._parts.clock.now_ms() + MARGIN_S * 1000

    async def _download(self, image: ImageRecord) -> str:
        """Download one picture by a fresh link, and return the cause of how it ended."""
        path = self._links.sign(
            image.id,
            image.blob.format,
            ttl_s=image.link_ttl_s,
            link_epoch=image.link_epoch,
            until_ms=None if image.pinned else image.expires_at,
        )
        timeout = aiohttp.ClientTimeout(total=self._config.timeout_s)
        try:
            async with (
                # A session for each: an outsider comes with no open connection.
                aiohttp.ClientSession(
                    timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
                ) as session,
                session.get(self._base_url + path, max_redirects=REDIRECTS_MAX) as answer,
            ):
                return await _judged(answer, image)
        except (aiohttp.ClientError, OSError) as error:
            return _cause_of(error)


async def _judged(answer: aiohttp.ClientResponse, image: ImageRecord) -> str:
    """Read the bytes and compare their digest; what is longer than the picture is wrong."""
    if answer.status != 200:
        return _of_status(answer.status)
    digest, length = hashlib.sha256(), 0
    async for chunk in answer.content.iter_any():
        digest.update(chunk)
        length += len(chunk)
        if length > image.blob.bytes:
            return "wrong_bytes"
    return "ok" if digest.hexdigest() == image.blob.digest else "wrong_bytes"


def _cause_of(error: Exception) -> str:
    """Return the word for a download without a whole answer; the first that fits."""
    causes: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
        ((TimeoutError,), "timeout"),
        ((aiohttp.ClientSSLError,), "tls"),
        ((aiohttp.ClientConnectorDNSError,), "name"),
        ((aiohttp.ClientConnectorError,), "connection"),
    )
    return next((word for kinds, word in causes if isinstance(error, kinds)), "broken")


def _of_status(status: int) -> str:
    if status == 404:
        return "not_found"
    return {4: "status_4xx", 5: "status_5xx"}.get(status // 100, "status_other")
