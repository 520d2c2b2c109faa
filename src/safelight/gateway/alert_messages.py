"""The operator's webhook: alerts told, again and again until they are taken.

Owns the way of a message from the outbox to the address of `[alerts] webhook_url`, in the form of
the Standard Webhooks specification, with the pauses that customers' webhooks have. The address is
the operator's own, so it may lead inside; redirects are not followed all the same.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
from functools import partial

import msgspec
from yarl import URL

from safelight import alerts, webhooks
from safelight.alerts import Alert, Message
from safelight.config import WebhooksConfig
from safelight.errors import ConfigError
from safelight.gateway.notifying import JITTER, RETRY_AFTER_S
from safelight.gateway.parts import Parts
from safelight.guarded import GuardedClient
from safelight.strangers import CallFailed, Refused, Rules
from safelight.types import Secret

log = logging.getLogger("safelight.alerts")

SEND_S = 2.0
"""How often the outbox is looked at."""
TIMEOUT_S = 15.0
PAGE = 20
USER_AGENT = "safelight-alerts/1"


class _Body(msgspec.Struct, frozen=True):
    type: str
    timestamp: str
    data: Alert


class AlertMessages:
    """Sends messages for one process.

    Args:
        parts: rooms below.
        url: the operator's address.
        secret: `whsec_` and the base64 of 24 to 64 bytes.
        client: calls; None: one that calls this address wherever it leads.

    Raises:
        ConfigError: the secret has another form.
    """

    def __init__(
        self, parts: Parts, url: str, secret: Secret, *, client: GuardedClient | None = None
    ) -> None:
        self._parts = parts
        self._url = url
        self._secret = _bytes_of(secret)
        self._client = client or GuardedClient(rules_for(url))

    async def send_due(self) -> int:
        """Send what is due; return how many messages were taken."""
        taken = 0
        for message in await self._parts.db.read(partial(alerts.due, limit=PAGE)):
            taken += await self._attempt(message)
        return taken

    async def _attempt(self, message: Message) -> bool:
        last = message.attempts >= len(RETRY_AFTER_S)
        pause_s = RETRY_AFTER_S[min(message.attempts, len(RETRY_AFTER_S) - 1)]
        pause_s *= self._parts.rng.uniform(1 - JITTER, 1 + JITTER)
        # Longer than a call: the time is written before it, so that a crash repeats the message.
        next_at = self._parts.clock.now_ms() + round((pause_s + TIMEOUT_S) * 1000)
        if not await self._parts.db.write(partial(alerts.claim, message=message, next_at=next_at)):
            return False
        error = await self._post(message)
        await self._parts.db.write(
            lambda tx: alerts.end_message(tx, message.id, error=error, final=error is None or last)
        )
        if error is not None:
            log.warning("the alerts' webhook did not take a message", extra={"fault": error})
        return error is None

    async def _post(self, message: Message) -> str | None:
        """Call the address; return why it did not take the message, in neutral words."""
        timestamp = self._parts.clock.now_ms() // 1000
        body = msgspec.json.encode(
            _Body(message.event, webhooks.iso(message.created_at), message.alert)
        )
        headers = webhooks.message_headers(
            [self._secret],
            message_id=message.id,
            timestamp_s=timestamp,
            body=body,
            user_agent=USER_AGENT,
        )
        try:
            reply = await self._client.post(self._url, body, headers, timeout_s=TIMEOUT_S)
        except (CallFailed, Refused) as error:
            return error.reason
        return None if 200 <= reply.status < 300 else f"it answered {reply.status}"


def rules_for(url: str) -> Rules:
    """Return rules that let one address of the operator's through, wherever it leads."""
    parsed = URL(url)
    host = parsed.raw_host or ""
    try:
        Rules(WebhooksConfig(allow_networks=(host,)))
        networks: tuple[str, ...] = (host,)
    except ValueError:  # a name
        networks = ()
    return Rules(
        WebhooksConfig(
            allow_http=parsed.scheme == "http", allow_hosts=(host,), allow_networks=networks
        )
    )


def _bytes_of(secret: Secret) -> bytes:
    text = secret.reveal()
    found = b""
    if text.startswith(webhooks.SECRET_PREFIX):
        with contextlib.suppress(binascii.Error):
            found = base64.b64decode(text.removeprefix(webhooks.SECRET_PREFIX), validate=True)
    if not 24 <= len(found) <= 64:
        raise ConfigError(
            "the secret of [alerts] webhook_url is not whsec_ and the base64 of 24 to 64 bytes; "
            "make one with: python3 -c 'import base64, os; "
            'print("whsec_" + base64.b64encode(os.urandom(32)).decode())\''
        )
    return found
