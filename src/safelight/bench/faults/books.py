"""The books of the fault upstream: every request, sale and mark, in memory and as JSON lines.

Owns the records and their log; `summary.py` counts them. Times named `at` are unix seconds, `at_s`
vendor seconds since the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from safelight.bench.faults.pictures import Picture

LOGGED_CHARACTERS = 100
"""What the log keeps of a long prompt or field."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file of an edit request."""

    field: str
    filename: str
    content_type: str
    bytes: int
    sha256: str


@dataclass(slots=True)
class Seen:
    """One request as it arrived. `number` counts from 1; `kind` is how it was answered.

    `status` is set for plain statuses alone, whose kind does not say it.
    """

    number: int
    at: float
    path: str
    key: str
    headers: dict[str, str]
    fields: dict[str, Any] = field(default_factory=dict)
    files: list[SeenFile] = field(default_factory=list)
    kind: str = ""
    at_s: float = 0.0
    group: str = ""
    status: int | None = None

    @property
    def operation(self) -> str:
        """`edits` or `generations`."""
        return self.path.rpartition("/")[2]

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.fields.get("model", ""))

    @property
    def prompt(self) -> str:
        """The prompt, whole."""
        return str(self.fields.get("prompt", ""))

    @property
    def size(self) -> str:
        """The size asked for, or `auto`."""
        return str(self.fields.get("size", "auto"))

    @property
    def form(self) -> str:
        """The file format asked for, or `png`."""
        return str(self.fields.get("output_format", "png"))

    @property
    def streams(self) -> bool:
        """Whether server-sent events were asked for."""
        return str(self.fields.get("stream", "")).lower() == "true"

    @property
    def images(self) -> int:
        """How many pictures were asked for (`n`); what is no such number is one."""
        text = str(self.fields.get("n"))
        return max(1, int(text)) if text.isdecimal() else 1


@dataclass(slots=True)
class Sale:
    """One picture that was made and billed. `delivered`: its last byte was written.

    `request_id` is the `x-request-id` of the answer that it was made for.
    """

    id: str
    request: int
    at: float
    key: str
    model: str
    size: str
    prompt: str
    kind: str
    format: str
    bytes: int
    sha256: str
    delivered: bool = False
    at_s: float = 0.0
    group: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """A named moment, set from outside."""

    name: str
    at: float
    at_s: float


class Books:
    """The record of all that happened.

    Args:
        now_s: vendor seconds since the start.
        log: a file that gets one JSON line for each request, sale, delivery and mark, at once.
    """

    def __init__(self, now_s: Callable[[], float], log: Path | None = None) -> None:
        self.requests: list[Seen] = []
        self.sales: list[Sale] = []
        self.marks: list[Mark] = []
        self._now_s = now_s
        self._path = log
        self._file: BinaryIO | None = None

    def open(self) -> None:
        """Open the log."""
        if self._path is not None:
            self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        """Close the log."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def answering(self, seen: Seen) -> None:
        """Log a request, once it is known how it will be answered."""
        if self._file is not None:
            entry = msgspec.to_builtins(seen)
            entry["fields"] = {name: _brief(value) for name, value in seen.fields.items()}
            self._note("request", entry)

    def sold(self, seen: Seen, picture: Picture, sale_id: str, request_id: str) -> Sale:
        """Book a sale."""
        sale = Sale(
            id=sale_id,
            request=seen.number,
            at=time.time(),
            key=seen.key,
            model=seen.model,
            size=picture.size,
            prompt=seen.prompt,
            kind=seen.kind,
            format=picture.form,
            bytes=picture.bytes,
            sha256=picture.sha256,
            at_s=self._now_s(),
            group=seen.group,
            request_id=request_id,
        )
        self.sales.append(sale)
        if self._file is not None:
            self._note("sale", {**msgspec.to_builtins(sale), "prompt": _brief(sale.prompt)})
        return sale

    def delivered(self, sale: Sale) -> None:
        """Note that the last byte of a sale was written."""
        sale.delivered = True
        if self._file is not None:
            self._note("delivered", {"sale": sale.id, "at": time.time(), "at_s": self._now_s()})

    def mark(self, name: str) -> Mark:
        """Note a moment by name; a later mark of the same name takes its place."""
        mark = Mark(name, time.time(), self._now_s())
        self.marks.append(mark)
        if self._file is not None:
            self._note("mark", msgspec.to_builtins(mark))
        return mark

    def moment(self, text: str) -> float:
        """Return the vendor seconds of a mark, or of a number written as text.

        Raises:
            KeyError: there is no such mark, and it is no number.
        """
        for mark in reversed(self.marks):
            if mark.name == text:
                return mark.at_s
        try:
            return float(text)
        except ValueError:
            raise KeyError(text) from None

    def _note(self, event: str, entry: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(msgspec.json.encode({"event": event, **entry}) + b"\n")


def _brief(value: Any) -> Any:
    return value[:LOGGED_CHARACTERS] if isinstance(value, str) else value
