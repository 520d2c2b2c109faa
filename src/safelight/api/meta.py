"""What can be asked and what it would cost: models, sizes, quotes; and whether the server is well.

Owns the shapes; the facts come from the channels and the gateway.
"""

from __future__ import annotations

import msgspec

from safelight.api.body import json_body
from safelight.api.callers import authenticate
from safelight.api.exchange import Exchange
from safelight.api.images import STAND_IN
from safelight.api.wire import QuoteBody, image_request, parse_fields, present
from safelight.channels import Channels, SizeEntry
from safelight.errors import Unavailable
from safelight.money import micros_to_dollars
from safelight.types import Operation


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as OpenAI lists a model."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "safelight"
    shutdown_date: str | None = None


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/models."""

    object: str = "list"
    data: list[ModelView]


class ChannelSizes(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of one channel that have a name; `allowed` says in words what else it takes."""

    model: str
    sizes: list[SizeEntry]
    allowed: str


class SizeList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/sizes."""

    object: str = "list"
    data: list[ChannelSizes]


class QuoteView(msgspec.Struct, frozen=True, kw_only=True):
    """POST /v1/quote: prices per picture and in total; the plan in words and in pixels.

    `batch_price_micros`: a picture of a batch, `vendor_batch_price_micros`: of one that goes to the
    vendor's own Batch API; null where none does.

    The last fields say how fast many such orders would be filled now; null is not bounded, or not
    known. `images_per_minute` may begin, `burst` of them at once, no more than a minute's in
    `window_s`; `at_once` may be in the making; `generation_s` is the median; `waiting` come first.
    """

    object: str = "quote"
    model: str
    size: str
    size_plan: str
    method: str
    canvas: str
    n: int
    price_micros: int
    price: str
    total_micros: int
    total: str
    batch_price_micros: int
    vendor_batch_price_micros: int | None
    serves: bool
    images_per_minute: float | None
    burst: int | None
    window_s: float
    at_once: int | None
    generation_s: float | None
    waiting: int


async def models(exchange: Exchange) -> None:
    """Answer GET /v1/models."""
    await authenticate(exchange)
    names = exchange.services.channels.ids()
    await exchange.respond_json(ModelList(data=[_model(exchange, name) for name in names]))


async def model(exchange: Exchange) -> None:
    """Answer GET /v1/models/{id}."""
    await authenticate(exchange)
    await exchange.respond_json(_model(exchange, exchange.path_param("id")))


def _model(exchange: Exchange, name: str) -> ModelView:
    channel = exchange.services.channels.get(name, status=404)
    return ModelView(id=name, created=channel.created, shutdown_date=channel.shutdown_date)


async def sizes(exchange: Exchange) -> None:
    """Answer GET /v1/sizes: of one channel with `?model=`, else of all."""
    await authenticate(exchange)
    await exchange.respond_json(
        size_list(exchange.services.channels, exchange.query().get("model"))
    )


def size_list(channels: Channels, asked: str | None) -> SizeList:
    """Return the sizes of a channel, or with None of all; raises UnknownModel."""
    if asked is not None:
        channels.get(asked, status=404)
    names = channels.ids() if asked is None else (asked,)
    listed = [
        ChannelSizes(model=name, sizes=channels.sizes(name), allowed=channels.allowed_sizes(name))
        for name in names
    ]
    return SizeList(data=listed)


async def quote(exchange: Exchange) -> None:
    """Answer POST /v1/quote; nothing is reserved."""
    await authenticate(exchange)
    services = exchange.services
    async with json_body(exchange, services.config.server.max_json_bytes) as sent:
        fields = present(sent.fields)
    body = parse_fields(fields, QuoteBody)
    inputs = (STAND_IN,) * (body.inputs or 0)
    size = services.channels.resolve_size(body.model, body.size or "auto")
    request = image_request(
        body,
        Operation.EDIT if inputs else Operation.GENERATION,
        size=size,
        inputs=inputs,
    )
    services.gateway.check(request, given=frozenset(fields), stream=bool(body.stream))
    found = services.gateway.quote(request)
    plan = found.size_plan
    outlook = await services.gateway.outlook(request)
    await exchange.respond_json(
        QuoteView(
            model=found.channel,
            size=plan.size,
            size_plan=plan.describe(),
            method=plan.method,
            canvas=plan.canvas,
            n=found.n,
            price_micros=found.price_micros,
            price=micros_to_dollars(found.price_micros),
            total_micros=found.total_micros,
            total=micros_to_dollars(found.total_micros),
            batch_price_micros=services.channels.quote(request, batch=True).price_micros,
            vendor_batch_price_micros=services.channels.vendor_batch_price(request),
            **msgspec.structs.asdict(outlook),
        )
    )


async def healthz(exchange: Exchange) -> None:
    """Answer GET /healthz: the process runs."""
    await exchange.respond_json({"status": "ok"})


async def readyz(exchange: Exchange) -> None:
    """Answer GET /readyz: new orders are taken; 503 while starting or leaving."""
    gateway = exchange.services.gateway
    if gateway.leaving or not gateway.accepting:
        raise Unavailable("The gateway takes no new orders now.", code="not_ready", retry_after_s=2)
    await exchange.respond_json({"status": "ready"})
