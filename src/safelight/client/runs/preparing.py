"""Inputs of a run, made right for upload once, before anything is spent.

Owns which of them are made right, and the copies that are kept in the run's folder: an order that
is asked for again must send the same bytes under the same key. How a picture is made right is
`inputs`' business.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

from safelight.client.errors import UnreadableInput
from safelight.client.inputs import Prepared, prepare
from safelight.client.orders import Order, Source
from safelight.client.pictures import ENDINGS
from safelight.client.runs.faults import ItemFault
from safelight.client.runs.folder import RunFolder
from safelight.client.runs.items import Item

_Wish = tuple[Source, bool]
"""A picture, and whether it goes up as it is."""


class Inputs:
    """The inputs of a run's orders.

    Args:
        folder: keeps what was made right; None: nobody does, nothing will be sent.
        executor: where pictures are decoded.
        untouched: whether all go up as they are.
    """

    def __init__(
        self, folder: RunFolder | None, executor: Executor, *, untouched: bool = False
    ) -> None:
        self._folder = folder
        self._executor = executor
        self._untouched = untouched
        self._made: dict[_Wish, Source] = {}
        self.prepared: list[Prepared] = []
        """What was made right in this start, for people: pixels and bytes before and after."""

    async def prepare(self, items: Sequence[Item]) -> list[ItemFault]:
        """Make the inputs of all items right; return what is wrong with those that cannot be."""
        wishes: dict[_Wish, list[Item]] = {}
        for item in items:
            for wish in self._wishes(item.order):
                wishes.setdefault(wish, []).append(item)
        found = await asyncio.gather(
            *(self._fault(source, untouched=untouched) for source, untouched in wishes)
        )
        return [
            ItemFault(item.id, item.out, "inputs", fault)
            for fault, needing in zip(found, wishes.values(), strict=True)
            for item in needing
            if fault is not None
        ]

    async def _fault(self, source: Source, *, untouched: bool) -> str | None:
        """Make one input right; return in words why it cannot be, or None."""
        try:
            await self._right(source, untouched=untouched)
        except UnreadableInput as error:
            return f"{source if isinstance(source, Path) else error.name}: {error.why}"
        return None

    async def order(self, order: Order, reference: Path | None) -> Order:
        """Return an order as it is sent: its inputs made right, a reference before them.

        Raises:
            UnreadableInput: one cannot be read any more.
        """
        untouched = self._as_they_are(order)
        sources = list(order.inputs)
        if reference is not None:
            sources.insert(0, reference)
        inputs = [await self._right(source, untouched=untouched) for source in sources]
        mask = None if order.mask is None else await self._right(order.mask, untouched=True)
        return replace(order, inputs=tuple(inputs), mask=mask)

    def _as_they_are(self, order: Order) -> bool:
        # A mask fits the pixels of its picture, so these must stay what they are.
        return self._untouched or order.mask is not None

    def _wishes(self, order: Order) -> Iterable[_Wish]:
        untouched = self._as_they_are(order)
        yield from ((source, untouched) for source in order.inputs)
        if order.mask is not None:
            yield order.mask, True

    async def _right(self, source: Source, *, untouched: bool) -> Source:
        wish = (source, untouched)
        if wish not in self._made:
            loop = asyncio.get_running_loop()
            self._made[wish] = await loop.run_in_executor(
                self._executor, self._make_right, source, untouched
            )
        return self._made[wish]

    def _make_right(self, source: Source, untouched: bool) -> Source:
        """Return what is sent: what an earlier start made of the same bytes, or a fresh copy."""
        try:
            digest = _digest(source)
        except OSError as error:
            raise UnreadableInput(str(source), (error.strerror or str(error)).lower()) from error
        stem = f"{digest[:32]}{'-as-is' if untouched else ''}"
        if self._folder is None:
            made = prepare(source, untouched=untouched)
            self.prepared.append(made)
            return source
        for ending in ENDINGS.values():
            kept = self._folder.inputs / (stem + ending)
            if kept.exists():
                return kept
        made = prepare(source, untouched=untouched)
        self.prepared.append(made)
        data = made.source if isinstance(made.source, bytes) else made.source.read_bytes()
        name = self._folder.relative(self._folder.inputs / (stem + ENDINGS[made.mime]))
        return self._folder.write(name, data)


def saved_by(prepared: Iterable[Prepared]) -> Mapping[str, int]:
    """Return how many pictures were made right, and their bytes before and after."""
    changed = [one for one in prepared if one.before != one.after]
    return {
        "pictures": len(changed),
        "before_bytes": sum(one.before.bytes for one in changed),
        "after_bytes": sum(one.after.bytes for one in changed),
    }


def _digest(source: Source) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
