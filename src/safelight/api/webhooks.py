"""/v1/webhooks: a customer's webhooks, their secrets and what they were told.

Owns the shapes and their bounds. Who may see which is the gateway's business, as is what may be
called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from safelight.api.body import json_body
from safelight.api.callers import authenticate
from safelight.api.context import GatewayPort
from safelight.api.exchange import Exchange
from safelight.api.job_views import JobView, job_view, seconds
from safelight.api.origin import own_origin
from safelight.api.wire import parse_fields, present
from safelight.config import ServerConfig
from safelight.deliveries import Delivery
from safelight.errors import InvalidValue, NotFound, UnknownParameter
from safelight.gateway.orders import Standing
from safelight.gateway.registering import Signing
from safelight.links import Links
from safelight.strangers import URL_MAX
from safelight.webhooks import ALL_EVENTS, EVENTS, Webhook

LIMIT, LIMIT_MAX = 20, 100
QUERY = ("after", "limit")
OVERLAP_S = 86_400
OVERLAP_MAX_S = 7 * 86_400

Url = Annotated[str, Meta(min_length=1, max_length=URL_MAX, description="Where to post to.")]
Events = Annotated[
    list[Annotated[str, Meta(max_length=64)]],
    Meta(min_length=1, max_length=32, description=f"Of {', '.join(EVENTS)}; or * alone."),
]
Description = Annotated[str, Meta(max_length=200)]


class WebhookBody(msgspec.Struct, kw_only=True):
    """POST /v1/webhooks; without `events` all, with `key_id` only jobs of the key that asks."""

    url: Url
    events: Events | None = None
    description: Description = ""
    key_id: Annotated[str, Meta(max_length=64)] | None = None


class WebhookChange(msgspec.Struct, kw_only=True):
    """PATCH /v1/webhooks/{id}; what is not named stays."""

    url: Url | msgspec.UnsetType = msgspec.UNSET
    events: Events | msgspec.UnsetType = msgspec.UNSET
    description: Description | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | None = None


class RotateBody(msgspec.Struct, kw_only=True):
    """How long the secret until now signs beside the new one, seconds; a day if not named."""

    overlap_s: Annotated[int, Meta(ge=0, le=OVERLAP_MAX_S)] | None = None

    @property
    def seconds(self) -> int:
        """The time that counts."""
        return OVERLAP_S if self.overlap_s is None else self.overlap_s


class NoBody(msgspec.Struct, kw_only=True):
    """Nothing is to be said; a body is refused for every name in it."""


class WebhookView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A webhook; times in unix seconds. `secret` is there when it was made or rotated just now."""

    id: str
    object: Literal["webhook"]
    url: str
    events: tuple[str, ...]
    description: str
    key_id: str | None
    enabled: bool
    disabled_reason: str | None
    disabled_at: int | None
    failing_since: int | None
    created_at: int
    previous_secret_until: int | None
    secret: str | msgspec.UnsetType = msgspec.UNSET


class WebhookList(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/webhooks: all that the key may see, oldest first."""

    object: str = "list"
    data: tuple[WebhookView, ...]
    has_more: bool = False


class WebhookDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a webhook."""

    id: str
    object: str = "webhook.deleted"
    deleted: bool = True


class SecretView(msgspec.Struct, frozen=True, kw_only=True):
    """The secret for the addresses that orders bring themselves (`webhook_url`)."""

    object: str = "webhook.secret"
    secret: str
    previous_secret_until: int | None


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """A message to a receiver; times in unix seconds. `id` is its `webhook-id`.

    `state` is `pending`, `delivered` or `failed`; `webhook_id` null where the address came with the
    order.
    """

    id: str
    object: str = "webhook.delivery"
    webhook_id: str | None
    url: str | None
    event: str
    job_id: str | None
    batch_id: str | None
    state: str
    attempts: int
    next_attempt_at: int | None
    last_status: int | None
    last_error: str | None
    created_at: int
    delivered_at: int | None


class DeliveryList(msgspec.Struct, frozen=True, kw_only=True):
    """Messages, newest first; `after` with `last_id` gives the next ones."""

    object: str = "list"
    data: tuple[DeliveryView, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


# --- webhooks ------------------------------------------------------------------------------------


async def create(exchange: Exchange) -> None:
    """Answer POST /v1/webhooks."""
    identity = await authenticate(exchange)
    body = parse_fields(await _fields(exchange), WebhookBody)
    made, signing = await exchange.services.webhooks.create(
        identity,
        url=body.url,
        events=_events(body.events or [ALL_EVENTS]),
        description=body.description,
        key_id=body.key_id,
    )
    await exchange.respond_json(_view(made, signing), status=201)


async def webhooks(exchange: Exchange) -> None:
    """Answer GET /v1/webhooks."""
    identity = await authenticate(exchange)
    found = await exchange.services.webhooks.all(identity)
    await exchange.respond_json(WebhookList(data=tuple(_view(one) for one in found)))


async def webhook(exchange: Exchange) -> None:
    """Answer GET /v1/webhooks/{id}."""
    identity = await authenticate(exchange)
    found = await exchange.services.webhooks.get(identity, exchange.path_param("id"))
    await exchange.respond_json(_view(found))


async def change(exchange: Exchange) -> None:
    """Answer PATCH /v1/webhooks/{id}."""
    identity = await authenticate(exchange)
    body = parse_fields(await _fields(exchange), WebhookChange)
    values: dict[str, Any] = {
        name: getattr(body, name)
        for name in ("url", "description")
        if getattr(body, name) is not msgspec.UNSET
    }
    if body.events is not msgspec.UNSET:
        values["events"] = _events(body.events)
    changed = await exchange.services.webhooks.change(
        identity, exchange.path_param("id"), enabled=body.enabled, **values
    )
    await exchange.respond_json(_view(changed))


async def remove(exchange: Exchange) -> None:
    """Answer DELETE /v1/webhooks/{id}."""
    identity = await authenticate(exchange)
    webhook_id = exchange.path_param("id")
    await exchange.services.webhooks.remove(identity, webhook_id)
    await exchange.respond_json(WebhookDeleted(id=webhook_id))


async def rotate(exchange: Exchange) -> None:
    """Answer POST /v1/webhooks/{id}/rotate."""
    identity = await authenticate(exchange)
    body = parse_fields(await _fields(exchange), RotateBody)
    rotated, signing = await exchange.services.webhooks.rotate(
        identity, exchange.path_param("id"), overlap_s=body.seconds
    )
    await exchange.respond_json(_view(rotated, signing))


async def secret(exchange: Exchange) -> None:
    """Answer GET /v1/webhooks/secret."""
    identity = await authenticate(exchange)
    await _respond_secret(exchange, await exchange.services.webhooks.secret(identity))


async def rotate_secret(exchange: Exchange) -> None:
    """Answer POST /v1/webhooks/secret/rotate."""
    identity = await authenticate(exchange)
    body = parse_fields(await _fields(exchange), RotateBody)
    signing = await exchange.services.webhooks.rotate_secret(identity, overlap_s=body.seconds)
    await _respond_secret(exchange, signing)


async def _respond_secret(exchange: Exchange, signing: Signing) -> None:
    view = SecretView(
        secret=signing.secret.reveal(),
        previous_secret_until=seconds(signing.previous_until or None),
    )
    await exchange.respond_json(view, headers=[(b"cache-control", b"no-store")])


# --- messages ------------------------------------------------------------------------------------


async def test(exchange: Exchange) -> None:
    """Answer POST /v1/webhooks/{id}/test: what came of it, good or bad, is the answer."""
    identity = await authenticate(exchange)
    parse_fields(await _fields(exchange), NoBody)
    sent = await exchange.services.webhooks.test(identity, exchange.path_param("id"))
    await exchange.respond_json(_delivery_view(sent))


async def deliveries(exchange: Exchange) -> None:
    """Answer GET /v1/webhooks/{id}/deliveries."""
    await _respond_page(exchange, exchange.path_param("id"))


async def all_deliveries(exchange: Exchange) -> None:
    """Answer GET /v1/webhooks/deliveries: those to addresses that orders bring are there, too."""
    await _respond_page(exchange, None)


async def _respond_page(exchange: Exchange, webhook_id: str | None) -> None:
    identity = await authenticate(exchange)
    query = exchange.query()
    for name in query:
        if name not in QUERY:
            raise UnknownParameter(f"Unknown parameter: {name[:64]!r}.", param=name[:64])
    page = await exchange.services.webhooks.deliveries(
        identity,
        webhook_id=webhook_id,
        after=query.get("after") or None,
        limit=_limit(query),
    )
    views = tuple(_delivery_view(one) for one in page.deliveries)
    await exchange.respond_json(
        DeliveryList(
            data=views,
            first_id=views[0].id if views else None,
            last_id=views[-1].id if views else None,
            has_more=page.has_more,
        )
    )


async def redeliver(exchange: Exchange) -> None:
    """Answer POST /v1/webhooks/deliveries/{id}/redeliver; it goes out at once."""
    identity = await authenticate(exchange)
    parse_fields(await _fields(exchange), NoBody)
    again = await exchange.services.webhooks.redeliver(identity, exchange.path_param("id"))
    await exchange.respond_json(_delivery_view(again), status=202)


class JobMessages:
    """What a message says of a job: what GET /v1/jobs/{id} shows, with a fresh link.

    Args:
        gateway: gives the job.
        links: signs.
        server: says where pictures are fetched.
    """

    def __init__(self, gateway: GatewayPort, links: Links, server: ServerConfig) -> None:
        self._gateway = gateway
        self._links = links
        self._origin = own_origin(server)

    async def __call__(self, customer_id: str, job_id: str) -> JobView | None:
        """Return it; None: there is no such job any more."""
        try:
            found = await self._gateway.job(customer_id, job_id)
        except NotFound:
            return None
        return job_view(self._origin, self._links, found, Standing())


# --- forms ---------------------------------------------------------------------------------------


async def _fields(exchange: Exchange) -> dict[str, Any]:
    """Return the body's fields without nulls; an absent body has none."""
    if exchange.header("content-length") in (None, "0") and not exchange.header(
        "transfer-encoding"
    ):
        return {}
    limit = exchange.services.config.server.max_json_bytes
    async with json_body(exchange, limit) as sent:
        return present(sent.fields)


def _events(names: list[str]) -> tuple[str, ...]:
    """Return event names, each once, in our order."""
    unknown = [name for name in names if name not in EVENTS and name != ALL_EVENTS]
    if unknown:
        known = ", ".join((*EVENTS, ALL_EVENTS))
        raise InvalidValue(f"There is no event {unknown[0]!r}; there are {known}.", param="events")
    if ALL_EVENTS in names:
        return (ALL_EVENTS,)
    return tuple(name for name in EVENTS if name in names)


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit") or str(LIMIT)
    fine = text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= LIMIT_MAX
    if not fine:
        raise InvalidValue(f"'limit' is a number from 1 to {LIMIT_MAX}.", param="limit")
    return int(text)


def _view(found: Webhook, signing: Signing | None = None) -> WebhookView:
    return WebhookView(
        id=found.id,
        object="webhook",
        url=found.url,
        events=found.events,
        description=found.description,
        key_id=found.key_id,
        enabled=found.disabled_at is None,
        disabled_reason=found.disabled_reason,
        disabled_at=seconds(found.disabled_at),
        failing_since=seconds(found.failing_since),
        created_at=found.created_at // 1000,
        previous_secret_until=seconds(found.previous_until or None),
        secret=msgspec.UNSET if signing is None else signing.secret.reveal(),
    )


def _delivery_view(found: Delivery) -> DeliveryView:
    kind = found.event.partition(".")[0]
    return DeliveryView(
        id=found.id,
        webhook_id=found.webhook_id,
        url=found.url,
        event=found.event,
        job_id=found.subject if kind == "job" else None,
        batch_id=found.subject if kind == "batch" else None,
        state=found.state,
        attempts=found.attempts,
        next_attempt_at=seconds(found.next_at) if found.state == "pending" else None,
        last_status=found.last_status,
        last_error=found.last_error,
        created_at=found.created_at // 1000,
        delivered_at=seconds(found.delivered_at),
    )
