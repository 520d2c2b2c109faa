"""The mock upstream: answers every images call with a prepared reply, at once or as it is told.

A program of the bench (`python -m safelight.bench.mock WEIGHT`). Owns the little HTTP/1.1 that this
takes; `picture` makes the replies. Counts what it sells, by the first part of the path: a base URL
that ends in `/gateway/v1` has a count of its own. `GET /state` tells, `GET /play` gives orders.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections import Counter
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import httptools

from safelight.bench.loop import serve
from safelight.bench.picture import Replies, weight

TOGETHER_WAIT_S = 5.0
"""After so long without a further order, those that were held for one instant are answered."""
_HEAD = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_ROUTES = (b"/images/generations", b"/images/edits")


class Shop:
    """What is for sale, how often it was sold to whom, and when replies go out.

    With `delay_s` each reply goes out so many seconds after its order; with `together` above 1
    orders are held until so many wait, then all are answered in one turn of the loop.
    """

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self.head = _HEAD % (b"200 OK", replies.length)
        self.serials = itertools.count(1)
        self.sold: Counter[str] = Counter()
        self.delay_s = 0.0
        self.together = 1
        self.most = 0
        self.waiting = 0
        self._held: list[MockProtocol] = []
        self._timer: asyncio.TimerHandle | None = None

    def play(self, delay_s: float, together: int) -> None:
        """Answer from now on like that, and forget how many waited at most."""
        self.delay_s, self.together, self.most = delay_s, together, self.waiting

    def order(self, client: MockProtocol, url: bytes) -> None:
        """Take an order; its reply goes out when it is time."""
        self.sold[url.split(b"/", 2)[1].decode("ascii", "replace")] += 1
        if self.together <= 1 and not self.delay_s:
            client.reply()
            return
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        loop = asyncio.get_running_loop()
        if self.together <= 1:
            loop.call_later(self.delay_s, self._deliver, client)
            return
        self._held.append(client)
        if self._timer is not None:
            self._timer.cancel()
        if len(self._held) >= self.together:
            self._release()
        else:
            self._timer = loop.call_later(TOGETHER_WAIT_S, self._release)

    def state(self) -> bytes:
        """Return the counts, as JSON."""
        counts = {"sold": dict(self.sold), "waiting": self.waiting, "most": self.most}
        return json.dumps(counts).encode()

    def _release(self) -> None:
        held, self._held = self._held, []
        for client in held:
            self._deliver(client)

    def _deliver(self, client: MockProtocol) -> None:
        self.waiting -= 1
        client.reply()


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
        """Answer, or have it answered later."""
        if self._parser.get_method() == b"POST" and self._url.endswith(_ROUTES):
            self._shop.order(self, self._url)
        elif self._url == b"/state":
            self._tell(b"200 OK", self._shop.state())
        elif self._url.startswith(b"/play?"):
            told = dict(parse_qsl(urlsplit(self._url.decode()).query))
            self._shop.play(float(told["delay_s"]), int(told["together"]))
            self._tell(b"200 OK", self._shop.state())
        else:
            self._tell(b"404 Not Found", b"{}")

    def reply(self) -> None:
        """Send one picture; nobody is told where the client has gone."""
        assert self._transport is not None
        if not self._transport.is_closing():
            pieces = self._shop.replies.pieces(next(self._shop.serials))
            self._transport.writelines([self._shop.head, *pieces])

    def _tell(self, status: bytes, body: bytes) -> None:
        assert self._transport is not None
        self._transport.write(_HEAD % (status, len(body)) + body)


def main(name: str) -> None:
    """Serve replies of the weight called `name`."""
    shop = Shop(Replies(weight(name)))
    serve(lambda: MockProtocol(shop))


if __name__ == "__main__":
    main(sys.argv[1])
