"""What the HTTP skin asks of webhooks, so that it can be tested over a double.

Owns the shape; `safelight.gateway.registering.Registering` is the implementation.
"""

from __future__ import annotations

from typing import Any, Protocol

from safelight.deliveries import Delivery
from safelight.gateway.registering import DeliveryPage, Signing
from safelight.types import Identity
from safelight.webhooks import Webhook


class WebhookPort(Protocol):
    """The verbs; each raises NotFound for what is not there for the key that asks."""

    async def create(
        self,
        identity: Identity,
        *,
        url: str,
        events: tuple[str, ...],
        description: str,
        key_id: str | None,
    ) -> tuple[Webhook, Signing]:
        """Register an address, or raise InvalidRequest."""
        ...

    async def all(self, identity: Identity) -> tuple[Webhook, ...]:
        """Return those that the key may see, oldest first."""
        ...

    async def get(self, identity: Identity, webhook_id: str) -> Webhook:
        """Return one."""
        ...

    async def change(
        self, identity: Identity, webhook_id: str, *, enabled: bool | None, **values: Any
    ) -> Webhook:
        """Change one, or raise InvalidValue."""
        ...

    async def remove(self, identity: Identity, webhook_id: str) -> None:
        """Remove one."""
        ...

    async def rotate(
        self, identity: Identity, webhook_id: str, *, overlap_s: int
    ) -> tuple[Webhook, Signing]:
        """Let a new secret sign."""
        ...

    async def secret(self, identity: Identity) -> Signing:
        """Return the secret for the addresses that orders bring."""
        ...

    async def rotate_secret(self, identity: Identity, *, overlap_s: int) -> Signing:
        """Let a new one of it sign."""
        ...

    async def test(self, identity: Identity, webhook_id: str) -> Delivery:
        """Send a test message and return what came of it, or raise RateLimited."""
        ...

    async def deliveries(
        self, identity: Identity, *, webhook_id: str | None, after: str | None, limit: int
    ) -> DeliveryPage:
        """Return messages, newest first, or raise InvalidValue."""
        ...

    async def redeliver(self, identity: Identity, delivery_id: str) -> Delivery:
        """Send a message anew, or raise RateLimited."""
        ...
