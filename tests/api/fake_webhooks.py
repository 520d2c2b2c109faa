# ruff: noqa: ARG002  (a double takes what the real one takes, and needs less of it)
"""Webhooks in memory for the HTTP skin's tests: one customer's, and nothing is sent."""

from __future__ import annotations

from typing import Any

import msgspec

from safelight.deliveries import Delivery
from safelight.errors import InvalidValue, NotFound, RateLimited
from safelight.gateway.registering import DeliveryPage, Signing
from safelight.types import Identity, Secret
from safelight.webhooks import Webhook

MESSAGE = Delivery(
    id="msg_1",
    customer_id="cus_1",
    webhook_id="wh_1",
    target="wh_1",
    url=None,
    event="job.completed",
    subject="job_1",
    state="pending",
    created_at=5000,
    next_at=9000,
    attempts=2,
    last_status=503,
    last_error="it answered 503",
    delivered_at=None,
)


class FakeWebhooks:
    """Keeps what it was asked; knows the customer `cus_1`."""

    def __init__(self) -> None:
        self.rows: dict[str, Webhook] = {}
        self.overlaps: list[int] = []
        self.pages: list[tuple[str | None, str | None, int]] = []
        self.refusal: RateLimited | None = None
        """Of what is sent by hand."""

    async def create(
        self,
        identity: Identity,
        *,
        url: str,
        events: tuple[str, ...],
        description: str,
        key_id: str | None,
    ) -> tuple[Webhook, Signing]:
        if "10.0.0.1" in url:
            raise InvalidValue("The address is not a public one.", param="url")
        made = Webhook(
            id=f"wh_{len(self.rows) + 1}",
            customer_id=identity.customer_id,
            key_id=key_id,
            url=url,
            events=events,
            description=description,
            created_at=1000,
        )
        self.rows[made.id] = made
        return made, Signing(secret=Secret("whsec_first"), previous_until=0)

    async def all(self, identity: Identity) -> tuple[Webhook, ...]:
        found = self.rows.values()
        return tuple(one for one in found if one.customer_id == identity.customer_id)

    async def get(self, identity: Identity, webhook_id: str) -> Webhook:
        found = self.rows.get(webhook_id)
        if found is None or found.customer_id != identity.customer_id:
            raise NotFound("No such webhook.")
        return found

    async def change(
        self, identity: Identity, webhook_id: str, *, enabled: bool | None, **values: Any
    ) -> Webhook:
        changed = msgspec.structs.replace(await self.get(identity, webhook_id), **values)
        if enabled is False:
            changed = msgspec.structs.replace(changed, disabled_at=2000, disabled_reason="owner")
        self.rows[webhook_id] = changed
        return changed

    async def remove(self, identity: Identity, webhook_id: str) -> None:
        await self.get(identity, webhook_id)
        del self.rows[webhook_id]

    async def rotate(
        self, identity: Identity, webhook_id: str, *, overlap_s: int
    ) -> tuple[Webhook, Signing]:
        self.overlaps.append(overlap_s)
        found = msgspec.structs.replace(
            await self.get(identity, webhook_id), secret_number=2, previous_until=7000
        )
        return found, Signing(secret=Secret("whsec_second"), previous_until=7000)

    async def secret(self, identity: Identity) -> Signing:
        return Signing(secret=Secret("whsec_customer"), previous_until=0)

    async def rotate_secret(self, identity: Identity, *, overlap_s: int) -> Signing:
        self.overlaps.append(overlap_s)
        return Signing(secret=Secret("whsec_next"), previous_until=8000)

    async def test(self, identity: Identity, webhook_id: str) -> Delivery:
        await self.get(identity, webhook_id)
        if self.refusal is not None:
            raise self.refusal
        return msgspec.structs.replace(MESSAGE, event="webhook.test", subject="", state="failed")

    async def deliveries(
        self, identity: Identity, *, webhook_id: str | None, after: str | None, limit: int
    ) -> DeliveryPage:
        if webhook_id is not None:
            await self.get(identity, webhook_id)
        self.pages.append((webhook_id, after, limit))
        return DeliveryPage((MESSAGE,), has_more=True)

    async def redeliver(self, identity: Identity, delivery_id: str) -> Delivery:
        if delivery_id != MESSAGE.id:
            raise NotFound("No such message.")
        if self.refusal is not None:
            raise self.refusal
        return MESSAGE
