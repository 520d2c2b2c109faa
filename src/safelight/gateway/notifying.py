"""Telling customers' webhooks that jobs have ended: when, again and again, and when no more.

Owns the way of a message from the outbox to its receiver. The rows are the truth: a message is
inserted in the transaction that it tells about, `sweep` gives the engine a reminder for each one
that is due, and `deliver` makes one attempt. Whatever gets lost in between (a reminder, a process
between the call and the note of it) is done again, with the same `webhook-id`: at least once.

The body is made at each attempt. Of a job that has ended nothing changes any more but the link to
its picture, which is made anew: a message that comes after ten hours has a link that works, which
none fixed at the first attempt could have in a channel whose links live for an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import msgspec

from safelight import deliveries, webhooks
from safelight.config import WebhooksConfig
from safelight.db import Transaction
from safelight.deliveries import Delivery, Turn
from safelight.engine import Engine, Work
from safelight.errors import InvalidValue, Unavailable
from safelight.gateway.parts import Parts
from safelight.gateway.processes import Processes
from safelight.strangers import CallFailed, Refused, Rules
from safelight.types import Job
from safelight.webhooks import DeriveSecret, SecretNumber

if TYPE_CHECKING:  # the operator's commands notify nobody and load no HTTP client
    from safelight.guarded import GuardedClient

log = logging.getLogger("safelight.webhooks")

RETRY_AFTER_S: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400)
"""Pauses between attempts: eight of them in 31.6 hours. They are those of the Standard Webhooks
specification, "Deliverability and reliability", up to the first that passes a day."""
JITTER = 0.1
TOLD_PAUSE_MAX_S = 3600.0
"""A receiver's own Retry-After (with 429 and 503) makes a pause as long as this at most, unless the
pause is longer anyway."""
PER_RECEIVER = 4
"""Most messages on their way to one receiver, over all processes."""
IN_A_ROW = 50
"""Most messages that one work of the queue sends, as long as they are taken."""
PAGE = 200
"""Most reminders that are given at one time."""
REMINDER_S = 120.0
"""A reminder that has led to no attempt after so long counts as lost. The next one is waited for
twice as long, and so on: the queue may just be long."""
REMINDER_MAX_S = 3600.0
HOLD_S = 30.0
"""How much longer than the receiver's time an attempt may take before it counts as lost."""
SWEEP_S = 60.0
"""How often the outbox is looked at, were there nothing new."""
COALESCE_S = 0.1
"""Pause between two looks: what comes in between is found together."""
FORGET_S = 3600.0
NOTE_TRIES = 10
USER_AGENT = "safelight-webhooks/1"

View = Callable[[str, str], Awaitable[object | None]]
"""Gives what a message says, to be written as JSON, by the ids of customer and job or batch; None:
it is gone."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one attempt; `error` is None where the receiver took the message."""

    status: int | None
    error: str | None
    seconds: float
    retry_after_s: float | None = None
    final: bool = False

    @property
    def gone(self) -> bool:
        """Whether the receiver wants no message any more (410)."""
        return self.status == 410


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery with what is needed to send it."""

    delivery: Delivery
    url: str
    secret: SecretNumber
    disabled: bool = False


class _Hold(TypedDict):
    """By whom an attempt is made, and for how long it may be."""

    owner: str
    hold_ms: int


class _Body(msgspec.Struct, frozen=True):
    """The payload as the Standard Webhooks specification has it."""

    type: str
    timestamp: str
    data: object


def job_ended(tx: Transaction, job: Job) -> int:
    """Put into the outbox what is to be told about a job that this transaction has just ended.

    To be called after the change of its state, once. Returns how many messages; where there are
    any, `Parts.news` is to be set after the commit, or they go with the next look a minute later.
    """
    return deliveries.insert_of_job(tx, job.id)


def check_order_url(rules: Rules, url: str | None) -> None:
    """Refuse an address in an order by its form; where a name leads is looked at when it is called.

    Raises:
        InvalidValue: it may not be called.
    """
    if url is None:
        return
    try:
        rules.check_url(url)
    except Refused as refused:
        raise InvalidValue(refused.reason, param="webhook_url") from None


def batch_ended(
    tx: Transaction, *, batch_id: str, customer_id: str, key_id: str, status: str
) -> int:
    """The same for a batch; `status` is completed, failed, expired or cancelled."""
    return deliveries.insert_of_batch(
        tx, batch_id=batch_id, customer_id=customer_id, key_id=key_id, event=f"batch.{status}"
    )


class Notifying:
    """Sends messages for one process.

    Args:
        parts: rooms below.
        processes: who lives, and this process's name.
        engine: is given the reminders, in the queue "webhooks".
        client: calls the receivers.
        derive: gives secrets.
        views: what a message says, by the first word of its event: "job", "batch".
        config: the operator's limits.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        processes: Processes,
        engine: Engine,
        client: GuardedClient,
        derive: DeriveSecret,
        views: Mapping[str, View],
        config: WebhooksConfig,
    ) -> None:
        self._parts = parts
        self._processes = processes
        self._engine = engine
        self.client = client
        self.derive = derive
        self._views = views
        self._config = config
        self._forgot_at = float("-inf")
        parts.news.set()  # there may be something from before

    # --- turns -----------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Wait for news or for the next time something is due, then give reminders; once."""
        soonest = await self._parts.db.read(deliveries.next_due_at)
        wait_s = SWEEP_S
        if soonest is not None:
            wait_s = min(wait_s, max(0.0, (soonest - self._parts.clock.now_ms()) / 1000))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._parts.news.wait()
        await self.sweep()

    async def sweep(self) -> int:
        """Give the engine reminders of what is due; return how many."""
        given = 0
        self._parts.news.clear()
        await self._bury()
        find = partial(deliveries.due, per_target=PER_RECEIVER, limit=PAGE)
        while turns := await self._parts.db.read(find):
            reminders = await self._parts.db.write(
                partial(_remind, turns=turns, owner=self._processes.owner)
            )
            await self._queue(reminders)
            given += len(reminders)
            if len(turns) < PAGE:
                break
        await self._forget()
        return given

    async def _queue(self, reminders: list[Turn]) -> None:
        works = [
            Work(queue="webhooks", item=one.id, key=one.key, partition=_short(one.target))
            for one in reminders
        ]
        try:
            await self._engine.enqueue(works)
        except Unavailable:
            # Those that are queued all the same find nothing to do, or what is due by then.
            await self._parts.db.write(partial(_take_back, reminders=reminders))
            raise

    async def _bury(self) -> None:
        """Let go of what dead processes were telling: it is told again."""

        def dead(tx: Transaction) -> set[str]:
            found = deliveries.holders(tx)
            return {one for one in found if not self._processes.alive(tx, one)}

        def bury(tx: Transaction) -> None:
            for owner in sorted(dead(tx)):
                deliveries.let_go(tx, owner)

        if await self._parts.db.read(dead):
            await self._parts.db.write(bury)

    async def _forget(self) -> None:
        now = self._parts.clock.monotonic()
        if now - self._forgot_at < FORGET_S:
            return
        self._forgot_at = now
        keep_ms = round(self._config.keep_s * 1000)
        old = await self._parts.db.read(
            lambda tx: deliveries.any_ended(tx, before_ms=tx.now_ms - keep_ms)
        )
        if old:
            await self._parts.db.write(
                lambda tx: deliveries.forget(tx, before_ms=tx.now_ms - keep_ms)
            )

    # --- attempts --------------------------------------------------------------------------------

    async def deliver(self, delivery_id: str) -> None:
        """Make one attempt, if one is due: the engine's handler of the queue "webhooks".

        As long as the receiver takes what it is sent, more of what is due there follows.
        """
        message = await self._parts.db.write(
            lambda tx: _message_of(tx, deliveries.claim(tx, delivery_id, **self._hold()))
        )
        for more in reversed(range(IN_A_ROW)):
            if message is None:
                break
            message = await self._attempt(message, follow=more > 0)
        self._parts.news.set()  # another one's turn may have come

    def _hold(self) -> _Hold:
        hold_s = self._config.timeout_s + HOLD_S
        return _Hold(owner=self._processes.owner, hold_ms=round(hold_s * 1000))

    async def _attempt(self, message: Message, *, follow: bool) -> Message | None:
        """Send a message and note what came of it; with `follow` return its receiver's next one.

        A receiver that answers well gets that without a turn of the queue.
        """
        if message.disabled:
            outcome = Outcome(status=None, error="the webhook is disabled", seconds=0.0, final=True)
        else:
            outcome = await self.send(message)
        return await self._note(message, outcome, follow=follow and outcome.error is None)

    async def send(self, message: Message) -> Outcome:
        """Call a receiver with a message, and say what came of it."""
        delivery = message.delivery
        data = await self._data(delivery)
        if data is None:
            return Outcome(status=None, error="what it was about is gone", seconds=0.0, final=True)
        now_ms = self._parts.clock.now_ms()
        body = msgspec.json.encode(_Body(delivery.event, webhooks.iso(delivery.created_at), data))
        secrets = [self.derive(name) for name in message.secret.names(now_ms)]
        headers = webhooks.message_headers(
            secrets,
            message_id=delivery.id,
            timestamp_s=now_ms // 1000,
            body=body,
            user_agent=USER_AGENT,
        )
        return await self._post(message.url, body, headers)

    async def _data(self, delivery: Delivery) -> object | None:
        if delivery.event == webhooks.TEST_EVENT:
            return {"webhook_id": delivery.webhook_id}
        view = self._views.get(delivery.event.partition(".")[0])
        return None if view is None else await view(delivery.customer_id, delivery.subject)

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            reply = await self.client.post(url, body, headers, timeout_s=self._config.timeout_s)
        except (CallFailed, Refused) as error:
            return Outcome(status=None, error=error.reason, seconds=loop.time() - began)
        if 200 <= reply.status < 300:
            return Outcome(status=reply.status, error=None, seconds=reply.seconds)
        return Outcome(
            status=reply.status,
            error=_words(reply.status),
            seconds=reply.seconds,
            retry_after_s=self._retry_after(reply.status, reply.headers.get("retry-after")),
            final=reply.status == 410,
        )

    def _retry_after(self, status: int, text: str | None) -> float | None:
        """Return how long a busy receiver asks us to wait (RFC 9110, section 10.2.3)."""
        if status not in (429, 503) or text is None:
            return None
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        return max(0.0, moment.timestamp() - self._parts.clock.now_ms() / 1000)

    # --- what came of it -------------------------------------------------------------------------

    async def _note(self, message: Message, outcome: Outcome, *, follow: bool) -> Message | None:
        pause_s = None if outcome.final else self._pause_s(message.delivery, outcome)
        disable_after_ms = round(self._config.disable_after_s * 1000)

        delivery = message.delivery

        def note(tx: Transaction) -> tuple[webhooks.Disabled | None, Message | None]:
            disabled = _note(tx, delivery, outcome, pause_s, disable_after_ms)
            if not follow:
                return disabled, None
            # In one transaction: no look in between shall give its place to yet another message.
            following = deliveries.claim_next(tx, delivery.target, **self._hold())
            return disabled, _message_of(tx, following)

        disabled, following = await self._parts.write(
            note, job_id=delivery.subject, tries=NOTE_TRIES
        )
        facts = {
            "delivery_id": delivery.id,
            "webhook_id": delivery.webhook_id,
            "customer_id": delivery.customer_id,
            "status": outcome.status,
            "error": outcome.error,
        }
        if delivery.event != webhooks.TEST_EVENT:
            self._count(outcome, pause_s, disabled)
        if disabled is not None:
            log.warning("a webhook is switched off", extra={**facts, "reason": disabled})
        elif outcome.error is not None and pause_s is None:
            log.warning("a webhook's message is given up", extra=facts)
        elif outcome.error is not None:
            log.info("a webhook's message is put off", extra={**facts, "pause_s": pause_s})
        return following

    def _count(
        self, outcome: Outcome, pause_s: float | None, disabled: webhooks.Disabled | None
    ) -> None:
        metrics = self._parts.notes.metrics
        if outcome.error is None:
            metrics.webhooks.add("delivered")
        else:
            metrics.webhooks.add("given_up" if pause_s is None else "put_off")
        if disabled is not None:
            metrics.webhooks_disabled.add(disabled)

    def _pause_s(self, delivery: Delivery, outcome: Outcome) -> float | None:
        """Return the pause before the next attempt; None: this was the last one."""
        if delivery.attempts > len(RETRY_AFTER_S):
            return None
        pause = RETRY_AFTER_S[delivery.attempts - 1]
        # Without a jitter, all that a receiver missed while it was away would come at one time.
        pause *= self._parts.rng.uniform(1 - JITTER, 1 + JITTER)
        return max(pause, min(outcome.retry_after_s or 0.0, TOLD_PAUSE_MAX_S))


# --- transactions --------------------------------------------------------------------------------


def _remind(tx: Transaction, turns: list[Turn], owner: str) -> list[Turn]:
    given = []
    # In one order everywhere: two processes that lock the same rows shall not lock each other.
    for turn in sorted(turns, key=lambda one: one.id):
        wait_s = min(REMINDER_S * 2 ** min(turn.reminders, 10), REMINDER_MAX_S)
        reminder = deliveries.remind(tx, turn, owner=owner, wait_ms=round(wait_s * 1000))
        if reminder is not None:
            given.append(reminder)
    return given


def _take_back(tx: Transaction, reminders: list[Turn]) -> None:
    for one in sorted(reminders, key=lambda one: one.id):
        deliveries.take_back(tx, one)


def _message_of(tx: Transaction, delivery: Delivery | None) -> Message | None:
    """Return a delivery with its receiver; None when the receiver was removed a moment ago."""
    if delivery is None:
        return None
    if delivery.url is not None:
        secret = webhooks.secret_of_customer(tx, delivery.customer_id)
        return Message(delivery=delivery, url=delivery.url, secret=secret)
    webhook = webhooks.get(tx, delivery.webhook_id or "")
    if webhook is None:
        return None
    return Message(
        delivery=delivery,
        url=webhook.url,
        secret=webhooks.secret_of(webhook),
        disabled=webhook.disabled_at is not None,
    )


def _note(
    tx: Transaction,
    delivery: Delivery,
    outcome: Outcome,
    pause_s: float | None,
    disable_after_ms: int,
) -> webhooks.Disabled | None:
    if outcome.error is None:
        deliveries.succeed(tx, delivery.id, status=outcome.status or 200)
        if delivery.webhook_id is not None:
            webhooks.note_success(tx, delivery.webhook_id)
        return None
    next_at = None if pause_s is None else tx.now_ms + round(pause_s * 1000)
    counts = deliveries.fail(
        tx, delivery, status=outcome.status, error=outcome.error, next_at=next_at
    )
    called = not outcome.final or outcome.gone
    if not counts or not called or delivery.webhook_id is None:
        return None
    return webhooks.note_failure(
        tx, delivery.webhook_id, gone=outcome.gone, disable_after_ms=disable_after_ms
    )


def _short(target: str) -> str:
    """Return a name for a queue's partition: addresses are long."""
    return hashlib.sha256(target.encode()).hexdigest()[:32]


def _words(status: int) -> str:
    if 300 <= status < 400:
        return f"it answered {status}, a redirect, which is not followed"
    return f"it answered {status}"
