"""The mock upstream: answers every images call at once with a prepared reply.

A program of the bench (`python -m safelight.bench.mock WEIGHT`). Owns the little HTTP/1.1 that this
takes; `picture` makes the replies. Counts what it sells: GET /sold tells.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from typing import cast

import httptools

from safelight.bench.loop import serve
from safelight.bench.picture import Replies, weight

_HEAD = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_ROUTES = (b"/images/generations", b"/images/edits")


class Shop:
    """What is for sale, and how often it was sold."""

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self.head = _HEAD % (b"200 OK", replies.length)
        self.serials = itertools.count(1)
        self.sold = 0


class MockProtocol(asyncio.Protocol):
    """One connection; httptools calls the `on_` methods."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # Not isinstance: uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            assert self._transport is not None
            self._transport.close()

    def on_message_begin(self) -> None:
        """Begin the next request."""
        self._url = b""

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._url += url

    def on_message_complete(self) -> None:
        """Answer."""
        assert self._transport is not None
        if self._parser.get_method() == b"POST" and self._url.endswith(_ROUTES):
            self._shop.sold += 1
            pieces = self._shop.replies.pieces(next(self._shop.serials))
            self._transport.writelines([self._shop.head, *pieces])
        elif self._url == b"/sold":
            body = b'{"sold":%d}' % self._shop.sold
            self._transport.write(_HEAD % (b"200 OK", len(body)) + body)
        else:
            self._transport.write(_HEAD % (b"404 Not Found", 2) + b"{}")


def main(name: str) -> None:
    """Serve replies of the weight called `name`."""
    shop = Shop(Replies(weight(name)))
    serve(lambda: MockProtocol(shop))


if __name__ == "__main__":
    main(sys.argv[1])
