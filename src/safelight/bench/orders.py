"""The orders that a bench sends: HTTP requests made of prepared pieces, and what follows on them.

Owns the shapes of orders on the wire and the reading of answers that lead on: a link that is to be
followed, a job that is to be waited for. Sends nothing.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from safelight.bench.picture import make_picture
from safelight.bench.workloads import EDIT_INPUT, EDIT_INPUTS, Workload

CHANNEL = "gpt-image-2-vip"
WAIT_S = 30
"""Seconds that one look at a job may wait for its end."""

_DIGITS = 9
_MARK = "#" * _DIGITS
_PROMPT = f"A lamp on a table, order {_MARK} of the bench"
_BOUNDARY = "safelight-bench-6f1d0c"
_REQUEST = (
    "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-type: {kind}\r\n"
    "content-length: {length}\r\n\r\n"
)


class Refused(Exception):
    """An answer is no success; the message says what it was, in a few words."""


class Orders:
    """Makes orders of one shape for one contender, each with a prompt of its own.

    Two equal orders would be one: the gateway lets the second join the first.

    Attributes:
        keep: whether the body of an answer is needed to go on.
        keep_next: whether that of a further answer is, too.
    """

    def __init__(self, workload: Workload, headers: Sequence[str]) -> None:
        self._shape = workload.shape
        self._headers = "".join(f"{header}\r\n" for header in headers)
        self._numbers = itertools.count(1)
        self.keep = workload.ours_alone
        self.keep_next = workload.shape == "job"
        if workload.shape == "edit":
            before, after = _form(workload.weight.size)
            path, kind = "/v1/images/edits", f"multipart/form-data; boundary={_BOUNDARY}"
        else:
            before, after = _document(workload)
            path, kind = "/v1/images/generations", "application/json"
        wishes = "prefer: respond-async\r\n" if workload.shape == "job" else ""
        head = _REQUEST.format(
            path=path,
            headers=self._headers + wishes,
            kind=kind,
            length=len(before) + _DIGITS + len(after),
        )
        self._before, self._after = head.encode() + before, after

    def next(self) -> tuple[bytes, ...]:
        """Return the next order as an HTTP request, in pieces."""
        number = b"%0*d" % (_DIGITS, next(self._numbers))
        if len(self._after) > 65536:  # inputs are shared by all orders, never copied
            return self._before + number, self._after
        return (self._before + number + self._after,)

    def follow(self, status: int, body: bytes) -> tuple[bytes, ...] | None:
        """Return the request that an answer leads to, or None where the order is done.

        A status of 0 stands for a connection that broke.

        Raises:
            Refused: the answer is no success.
        """
        if status not in (200, 202):
            raise Refused(str(status) if status else "broken connection")
        try:
            return self._next(body)
        except (msgspec.DecodeError, LookupError, TypeError):
            raise Refused("another answer than was asked for") from None

    def _next(self, body: bytes) -> tuple[bytes, ...] | None:
        if self._shape == "url" and body.startswith(b"{"):
            link = urlsplit(msgspec.json.decode(body)["data"][0]["url"])
            return (self._get(f"{link.path}?{link.query}"),)
        if self._shape == "job":
            job = msgspec.json.decode(body)
            if job["status"] in ("queued", "in_progress"):
                return (self._get(f"/v1/jobs/{job['id']}?wait={WAIT_S}"),)
            if job["status"] != "completed":
                raise Refused(f"job {job['status']}")
        return None

    def _get(self, target: str) -> bytes:
        return f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n{self._headers}\r\n".encode()


def _document(workload: Workload) -> tuple[bytes, bytes]:
    """Return what stands before and after the number, in JSON."""
    document = {"model": CHANNEL, "prompt": _PROMPT, "size": workload.weight.size, "n": 1}
    if workload.shape == "url":
        document["response_format"] = "url"
    before, _, after = json.dumps(document).encode().partition(_MARK.encode())
    return before, after


def _form(size: str) -> tuple[bytes, bytes]:
    """Return what stands before and after the number, as multipart/form-data (RFC 7578)."""
    start = f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="'
    fields = {"model": CHANNEL, "size": size, "n": "1", "prompt": _PROMPT}
    text = "".join(f'{start}{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    before, _, rest = text.encode().partition(_MARK.encode())
    parts = [rest]
    for number in range(EDIT_INPUTS):
        named = f'image[]"; filename="{number}.png"\r\ncontent-type: image/png\r\n\r\n'
        parts += [(start + named).encode(), make_picture(EDIT_INPUT, number), b"\r\n"]
    return before, b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode()])
