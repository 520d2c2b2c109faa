"""What a run will cost and when it will end, told before anything is spent.

Owns the quotes of a plan, one for each shape of order, and what they come to. How long the pool
takes is played by `pace`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from safelight.client.answers import Balance, Quote
from safelight.client.client import AsyncClient
from safelight.client.errors import NotSupported, Refused
from safelight.client.orders import Order
from safelight.client.runs.faults import ItemFault, ItemsFaulty
from safelight.client.runs.items import Item
from safelight.client.runs.pace import (
    GUESS_S,
    MINUTE_S,
    Pace,
    Piece,
    concurrency_for,
    limit_of,
    play,
)
from safelight.client.runs.survey import Survey

OTHERS_CONCURRENCY = 4
"""Orders under way at an address that tells nothing of its limits."""


@dataclass(frozen=True)
class Shape:
    """Orders that cost the same: how many, of what, and what one costs (None: nobody says)."""

    count: int
    model: str
    size: str
    size_plan: str
    price_micros: int | None


@dataclass(frozen=True)
class Forecast:
    """What the next start of a run will do. Money in micro-dollars, durations in seconds.

    Args:
        pictures: to be ordered.
        done: there already.
        open: ordered by earlier starts, to be collected.
        review: rejected as often as may be.
        shapes: of what is to be ordered.
        cost_micros: exactly what the pictures to be ordered cost, rejected ones aside; None: the
            address tells no prices.
        open_micros: what orders under way may still cost.
        rerolls_micros: what all re-rolls would cost on top, if every picture were rejected.
        spent_micros: by earlier starts.
        seconds: until the last picture is there; None: nothing to do.
        generation_s: the time that a picture takes, on which that rests.
        measured: whether somebody has measured it.
        limit: what the run waits for most, in words.
        concurrency: orders under way at one time.
        available_micros: what the customer may spend; None: the address tells no balance.
        prices: of an order of each item, by id.
        serves: False while no account makes such pictures.
    """

    pictures: int
    done: int
    open: int
    review: int
    shapes: tuple[Shape, ...]
    cost_micros: int | None
    open_micros: int
    rerolls_micros: int | None
    spent_micros: int
    seconds: float | None
    generation_s: float
    measured: bool
    limit: str
    concurrency: int
    available_micros: int | None
    prices: dict[str, int | None] = field(default_factory=dict)
    serves: bool = True

    @property
    def short_micros(self) -> int:
        """By how much the balance is too small for what is to be ordered; 0: it is enough."""
        if self.available_micros is None or self.cost_micros is None:
            return 0
        return max(0, self.cost_micros - self.available_micros)

    @property
    def affordable(self) -> int | None:
        """How many of the pictures the balance covers, in the order of the plan; None: unknown."""
        if self.available_micros is None or self.cost_micros is None:
            return None
        return _covered(self.prices.values(), self.available_micros)


def _covered(prices: Any, available_micros: int) -> int:
    count, left = 0, available_micros
    for price in prices:
        left -= price or 0
        if left < 0:
            break
        count += 1
    return count


async def forecast(
    client: AsyncClient,
    found: Survey,
    *,
    concurrency: int | None,
    rerolls: int,
    open_micros: int = 0,
    price_micros: int | None = None,
) -> Forecast:
    """Ask for quotes and play the run through.

    Args:
        client: whom to order from.
        found: what is to be done.
        concurrency: orders under way at one time; None: what the pool's limits need.
        rerolls: how often a rejected picture may be rolled again.
        open_micros: what orders under way may still cost.
        price_micros: of one picture, at an address that tells no prices.

    Raises:
        ItemsFaulty: orders would be refused; it says which, and what is wrong with each.
        ClientError: the address does not answer.
    """
    quotes = await _quotes(client, found.left)
    quoted = {item.id: quotes.get(shape_of(item)) for item in found.left}
    prices = {
        item.id: price_micros if (quote := quoted[item.id]) is None else quote.price_micros
        for item in found.fresh
    }
    known = [price for price in prices.values() if price is not None]
    cost = sum(known) if len(known) == len(prices) else None
    gated = [item for item in found.fresh if item.gates]
    pace = _Pacing(found, {key: quote for key, quote in quotes.items() if quote is not None})
    width = min(concurrency or pace.concurrency, max(1, len(found.left)))
    every = {item.id: price_micros for item in found.left} | {
        item.id: quote.price_micros for item in found.left if (quote := quoted[item.id])
    }
    return Forecast(
        pictures=len(found.fresh),
        done=len(found.done),
        open=len(found.open),
        review=len(found.review),
        shapes=_shapes(found.fresh, quoted, price_micros),
        cost_micros=cost,
        open_micros=open_micros,
        rerolls_micros=None if cost is None else rerolls * sum(prices[i.id] or 0 for i in gated),
        spent_micros=found.cost_micros,
        seconds=pace.seconds(width) if found.left else None,
        generation_s=pace.generation_s,
        measured=pace.measured,
        limit=pace.limit(width),
        concurrency=width,
        available_micros=await _available(client),
        prices=every,
        serves=pace.serves,
    )


def _quotable(item: Item) -> Order:
    """Return an item's order with as many inputs as it will have: a reference is one of them."""
    if item.reference is None:
        return item.order
    return replace(item.order, inputs=(b"the reference", *item.order.inputs))


def shape_of(item: Item) -> str:
    """Return what decides an order's price and plan, as a key."""
    order = _quotable(item)
    parameters = {name: value for name, value in order.parameters.items() if name != "metadata"}
    facts = [order.model, order.size, len(order.inputs), order.mask is not None, parameters]
    return json.dumps(facts, sort_keys=True, default=str)


async def _quotes(client: AsyncClient, items: Sequence[Item]) -> dict[str, Quote | None]:
    """Return a quote for each shape of order; None where the address gives none."""
    found: dict[str, Quote | None] = {}
    refused: dict[str, Refused] = {}
    for item in items:
        shape = shape_of(item)
        if shape in found or shape in refused:
            continue
        try:
            found[shape] = await client.quote(_quotable(item))
        except NotSupported:
            found[shape] = None
        except Refused as error:
            if error.status in (401, 403):
                raise
            refused[shape] = error
    if refused:
        raise ItemsFaulty(list(_faults(items, refused)))
    return found


def _faults(items: Sequence[Item], refused: Mapping[str, Refused]) -> Iterator[ItemFault]:
    for item in items:
        error = refused.get(shape_of(item))
        if error is not None:
            yield ItemFault(item.id, item.out, error.param or "", error.message)


async def _available(client: AsyncClient) -> int | None:
    try:
        balance: Balance = await client.balance()
    except NotSupported:
        return None
    return balance.spendable_micros


def _shapes(
    items: Sequence[Item], quoted: dict[str, Quote | None], price_micros: int | None
) -> tuple[Shape, ...]:
    counts: dict[tuple[str, str, str, int | None], int] = {}
    for item in items:
        quote = quoted[item.id]
        if quote is None:
            key = (item.order.model, item.order.size or "auto", "", price_micros)
        else:
            key = (quote.model, quote.size, quote.size_plan, quote.price_micros)
        counts[key] = counts.get(key, 0) + 1
    return tuple(Shape(count, *key) for key, count in counts.items())


class _Pacing:
    """How fast the pool makes what is left of a plan."""

    def __init__(self, found: Survey, quotes: dict[str, Quote]) -> None:
        self._places = {item.id: at for at, item in enumerate(found.left)}
        self._paces: dict[str, Pace] = {}
        self._known = bool(quotes)
        self.measured = bool(quotes)
        self.serves = True
        times: dict[str, float] = {}
        for shape, quote in quotes.items():
            times[shape] = quote.generation_s or GUESS_S
            self.measured &= quote.generation_s is not None
            self.serves &= quote.serves is not False
            self._paces[quote.model] = Pace(
                images_per_minute=quote.images_per_minute,
                burst=quote.burst,
                window_s=quote.window_s or MINUTE_S,
                at_once=quote.at_once,
                waiting=quote.waiting or 0,
            )
        self._pieces = [self._piece(item, times) for item in found.left]
        total = sum(piece.generation_s for piece in self._pieces)
        self.generation_s = total / len(self._pieces) if self._pieces else GUESS_S

    def _piece(self, item: Item, times: dict[str, float]) -> Piece:
        after = None if item.reference is None else self._places.get(item.reference)
        self._paces.setdefault(item.order.model, Pace())
        return Piece(item.order.model, times.get(shape_of(item), GUESS_S), after)

    @property
    def concurrency(self) -> int:
        if not self._known:
            return OTHERS_CONCURRENCY
        return concurrency_for(self._paces.values(), self.generation_s)

    def seconds(self, concurrency: int) -> float:
        return play(self._pieces, self._paces, concurrency=concurrency)

    def limit(self, concurrency: int) -> str:
        if not self._pieces:
            return "nothing is left to do"
        rates = [pace.images_per_minute or 0.0 for pace in self._paces.values()]
        at_once = sum(pace.at_once or 0 for pace in self._paces.values())
        words = {
            "pool": f"the pool: {sum(rates):g} images a minute",
            "at_once": f"the pool: {at_once} pictures at one time",
            "concurrency": f"--concurrency: {concurrency} orders at one time",
            "picture": "how long one picture takes",
        }
        return words[limit_of(self._pieces, self._paces, concurrency=concurrency)]
