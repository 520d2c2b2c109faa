"""What customers do with their webhooks: register, change, try, look up what was told.

Owns who may see and change which: a key sees the customer's webhooks and its own; those of the
customer's other keys are not there for it. The messages of real events are `notifying`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from safelight import deliveries, webhooks
from safelight.db import Transaction
from safelight.deliveries import Delivery
from safelight.errors import InvalidRequest, InvalidValue, NotFound, RateLimited
from safelight.gateway.notifying import Message, Notifying
from safelight.gateway.parts import Parts
from safelight.strangers import CallFailed, Refused
from safelight.types import Identity, Secret
from safelight.webhooks import SecretNumber, Webhook

T = TypeVar("T")


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """The secret that signs now, as receivers take it, and until when (ms) the former one does."""

    secret: Secret
    previous_until: int


class DeliveryPage(msgspec.Struct, frozen=True):
    """Messages, newest first, and whether more follow."""

    deliveries: tuple[Delivery, ...]
    has_more: bool


class Registering:
    """The verbs of customers.

    Args:
        parts: rooms below.
        notifying: sends.
    """

    def __init__(self, parts: Parts, notifying: Notifying) -> None:
        self._parts = parts
        self._notifying = notifying

    # --- webhooks --------------------------------------------------------------------------------

    async def create(
        self,
        identity: Identity,
        *,
        url: str,
        events: tuple[str, ...],
        description: str,
        key_id: str | None,
    ) -> tuple[Webhook, Signing]:
        """Register an address; return it with its secret, which is shown now and at rotations only.

        Raises:
            InvalidValue: the address may not be called, or `key_id` is not the caller's own.
            InvalidRequest: the customer has as many as there may be.
        """
        await self._check(url)
        if key_id is not None and key_id != identity.key_id:
            raise InvalidValue(
                "'key_id' is the id of the key that asks, or null for all keys.", param="key_id"
            )
        webhook_id = self._parts.new_id("wh")

        def work(tx: Transaction) -> Webhook:
            made = Webhook(
                id=webhook_id,
                customer_id=identity.customer_id,
                key_id=key_id,
                url=url,
                events=events,
                description=description,
                created_at=tx.now_ms,
            )
            if not webhooks.insert(tx, made):
                raise InvalidRequest(
                    f"There are {webhooks.MAX_PER_CUSTOMER} webhooks already; delete one.",
                    code="too_many_webhooks",
                )
            return made

        made = await self._parts.db.write(work)
        return made, self._signing(webhooks.secret_of(made))

    async def all(self, identity: Identity) -> tuple[Webhook, ...]:
        """Return the webhooks that a key may see, oldest first."""
        customer, key = identity.customer_id, identity.key_id
        return tuple(await self._parts.db.read(lambda tx: webhooks.of_key(tx, customer, key)))

    async def get(self, identity: Identity, webhook_id: str) -> Webhook:
        """Return one.

        Raises:
            NotFound: there is none for this key.
        """
        return await self._parts.db.read(lambda tx: _visible(tx, identity, webhook_id))

    async def change(
        self, identity: Identity, webhook_id: str, *, enabled: bool | None, **values: Any
    ) -> Webhook:
        """Change a webhook; what is not named stays.

        Args:
            identity: who asks.
            webhook_id: which.
            enabled: False switches it off, True on again, whatever had switched it off.
            values: of `url`, `events`, `description`.

        Raises:
            NotFound: there is none for this key.
            InvalidValue: the address may not be called.
        """
        if "url" in values:
            await self._check(values["url"])

        def work(tx: Transaction, now: Webhook) -> Webhook:
            changed = msgspec.structs.replace(now, **values)
            if enabled:
                changed = msgspec.structs.replace(
                    changed, disabled_at=None, disabled_reason=None, failing_since=None
                )
            elif enabled is False and now.disabled_at is None:
                changed = msgspec.structs.replace(
                    changed, disabled_at=tx.now_ms, disabled_reason="owner"
                )
            webhooks.change(tx, changed)
            return changed

        return await self._with(identity, webhook_id, work)

    async def remove(self, identity: Identity, webhook_id: str) -> None:
        """Remove a webhook; what it has not been told yet it never will be.

        Raises:
            NotFound: there is none for this key.
        """
        await self._with(identity, webhook_id, lambda tx, now: webhooks.remove(tx, now.id))

    # --- secrets ---------------------------------------------------------------------------------

    async def rotate(
        self, identity: Identity, webhook_id: str, *, overlap_s: int
    ) -> tuple[Webhook, Signing]:
        """Let a new secret sign; the former one signs along for `overlap_s` seconds.

        Raises:
            NotFound: there is none for this key.
        """

        def work(tx: Transaction, now: Webhook) -> Webhook:
            webhooks.rotate(tx, now.id, overlap_ms=overlap_s * 1000)
            return _visible(tx, identity, now.id)

        rotated = await self._with(identity, webhook_id, work)
        return rotated, self._signing(webhooks.secret_of(rotated))

    async def secret(self, identity: Identity) -> Signing:
        """Return the secret that signs what goes to the addresses that orders bring."""
        customer = identity.customer_id
        return self._signing(
            await self._parts.db.read(lambda tx: webhooks.secret_of_customer(tx, customer))
        )

    async def rotate_secret(self, identity: Identity, *, overlap_s: int) -> Signing:
        """Let a new one sign; the former one signs along for `overlap_s` seconds."""
        customer = identity.customer_id

        def work(tx: Transaction) -> SecretNumber:
            webhooks.rotate_customer(tx, customer, overlap_ms=overlap_s * 1000)
            return webhooks.secret_of_customer(tx, customer)

        return self._signing(await self._parts.db.write(work))

    def _signing(self, number: SecretNumber) -> Signing:
        names = number.names(self._parts.clock.now_ms())
        return Signing(
            secret=Secret.passing(webhooks.shown_secret(self._notifying.derive(names[0]))),
            previous_until=number.previous_until if len(names) > 1 else 0,
        )

    # --- messages --------------------------------------------------------------------------------

    async def test(self, identity: Identity, webhook_id: str) -> Delivery:
        """Send a test message now, once, and return what came of it.

        Raises:
            NotFound: there is no such webhook for this key.
            RateLimited: the customer has sent as many in the last minute as it may.
        """

        def begin(tx: Transaction, now: Webhook) -> Webhook:
            _take_turn(tx, identity, "test")
            return now

        # Before the call: tests that take long count, too.
        webhook = await self._with(identity, webhook_id, begin)
        now_ms = self._parts.clock.now_ms()
        message = Delivery(
            id=self._parts.new_id("msg"),
            customer_id=webhook.customer_id,
            webhook_id=webhook.id,
            target=webhook.id,
            url=None,
            event=webhooks.TEST_EVENT,
            subject="",
            state="pending",
            created_at=now_ms,
            next_at=now_ms,
            attempts=1,
            last_status=None,
            last_error=None,
            delivered_at=None,
        )
        outcome = await self._notifying.send(
            Message(delivery=message, url=webhook.url, secret=webhooks.secret_of(webhook))
        )
        good = outcome.error is None
        sent = msgspec.structs.replace(
            message,
            state="delivered" if good else "failed",
            last_status=outcome.status,
            last_error=outcome.error,
            delivered_at=now_ms if good else None,
        )
        await self._with(identity, webhook_id, lambda tx, _: deliveries.insert_test(tx, sent))
        return sent

    async def deliveries(
        self, identity: Identity, *, webhook_id: str | None, after: str | None, limit: int
    ) -> DeliveryPage:
        """Return what was and will be told, newest first.

        Raises:
            NotFound: there is no such webhook for this key.
            InvalidValue: `after` is none of these messages.
        """

        def work(tx: Transaction) -> DeliveryPage:
            if webhook_id is not None:
                _visible(tx, identity, webhook_id)
            last = None
            if after is not None:
                try:
                    last = _visible_delivery(tx, identity, after)
                except NotFound:
                    raise InvalidValue("'after' is the id of a message.", param="after") from None
            found = deliveries.page(
                tx,
                identity.customer_id,
                identity.key_id,
                webhook_id=webhook_id,
                after=last,
                limit=limit + 1,
            )
            return DeliveryPage(tuple(found[:limit]), len(found) > limit)

        return await self._parts.db.read(work)

    async def redeliver(self, identity: Identity, delivery_id: str) -> Delivery:
        """Send a message anew, with all its attempts, under its old id; it goes out at once.

        Raises:
            NotFound: there is no such message for this key.
            RateLimited: the customer has sent as many in the last minute as it may.
        """

        def work(tx: Transaction) -> Delivery:
            _visible_delivery(tx, identity, delivery_id)
            _take_turn(tx, identity, "redelivery")
            deliveries.send_again(tx, delivery_id)
            return _visible_delivery(tx, identity, delivery_id)

        again = await self._parts.db.write(work)
        self._parts.news.set()
        return again

    async def _check(self, url: str) -> None:
        try:
            await self._notifying.client.check(url)
        except (Refused, CallFailed) as refused:
            raise InvalidValue(refused.reason, param="url") from None

    async def _with(
        self, identity: Identity, webhook_id: str, work: Callable[[Transaction, Webhook], T]
    ) -> T:
        return await self._parts.db.write(lambda tx: work(tx, _visible(tx, identity, webhook_id)))


def _take_turn(tx: Transaction, identity: Identity, kind: webhooks.Turn) -> None:
    wait_ms = webhooks.take_turn(tx, identity.customer_id, kind)
    if wait_ms:
        what = "test messages are sent" if kind == "test" else "messages are sent again"
        raise RateLimited(
            f"At most {webhooks.TURNS_A_MINUTE[kind]} {what} a minute; "
            f"send this request again in {math.ceil(wait_ms / 1000)} s.",
            retry_after_s=wait_ms / 1000,
        )


def _visible(tx: Transaction, identity: Identity, webhook_id: str) -> Webhook:
    found = webhooks.get(tx, webhook_id)
    if (
        found is None
        or found.customer_id != identity.customer_id
        or found.key_id not in (None, identity.key_id)
    ):
        raise NotFound(f"No webhook has the id {webhook_id[:64]!r}.", param="id")
    return found


def _visible_delivery(tx: Transaction, identity: Identity, delivery_id: str) -> Delivery:
    missing = NotFound(f"No message has the id {delivery_id[:80]!r}.", param="id")
    found = deliveries.get(tx, delivery_id)
    if found is None or found.customer_id != identity.customer_id:
        raise missing
    if found.webhook_id is not None:
        try:
            _visible(tx, identity, found.webhook_id)
        except NotFound:
            raise missing from None
    return found
