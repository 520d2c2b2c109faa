"""Carrying pictures to their customers' own buckets.

Owns the tries: when, where to, and when to give up. What is to be carried stands in rows
(`destinations`) since the picture was settled; the engine's reminders say only where to look, and
`sweep` reminds again. A picture lies there when it was written and read back with its digest.

A destination's address is set by the operator alone, so no guard against internal networks stands
before it: a bucket inside is a good place. What it must be is https, or loopback, or allowed
(`http=allow`), which `storage.address` checks.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from string import Formatter

from safelight import destinations, jobs
from safelight.db import Transaction
from safelight.destinations import Destination
from safelight.engine import Engine, Work
from safelight.errors import ConfigError, StorageError
from safelight.gateway.parts import Parts
from safelight.storage import address
from safelight.storage.bucket import Bucket, Credentials, Patience
from safelight.types import MEDIA_TYPES, ImageRecord, Secret

log = logging.getLogger("safelight.storage")

SWEEP_S = 10.0
PAGE = 500
PAUSE_FIRST_MS, PAUSE_MAX_MS = 60_000, 2 * 3600 * 1000
GIVE_UP_MS = 24 * 3600 * 1000
"""A picture that could not be carried for so long is not tried again by itself."""
FIELDS = ("date", "year", "month", "day", "job_id", "image_id", "sha256", "ext")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_KEY = re.compile(r"[A-Za-z0-9!_.*'()/=-]{1,512}")
_EXAMPLE = dict.fromkeys(FIELDS, "x")


class Persisting:
    """Carries for one process.

    Args:
        parts: rooms below.
        engine: reminds.
        environ: holds the credentials that destinations name.
        patience: how long a call to a bucket may take.
    """

    def __init__(
        self,
        parts: Parts,
        engine: Engine,
        *,
        environ: Mapping[str, str] = os.environ,
        patience: Patience | None = None,
    ) -> None:
        self._parts = parts
        self._engine = engine
        self._environ = environ
        self._patience = patience

    async def sweep(self) -> int:
        """Have all looked at that is due; return how many."""
        found = await self._parts.db.read(lambda tx: destinations.due(tx, limit=PAGE))
        await self._engine.enqueue(
            Work(
                queue="storage",
                item=one.image_id,
                key=f"persist-{one.image_id}-{one.begun_at}-{one.tries}",
                partition=one.customer_id,
            )
            for one in found
        )
        return len(found)

    async def run(self, image_id: str) -> None:
        """Try to carry one picture, if it still is to be."""
        db = self._parts.db
        found = await db.read(lambda tx: self._look(tx, image_id))
        if found is None:
            return
        one, record, destination = found
        again_at = self._parts.clock.now_ms() + _pause_ms(one.tries)
        if not await db.write(lambda tx: destinations.take(tx, one, again_at=again_at)):
            return
        last_at = one.begun_at + GIVE_UP_MS
        if record is None or record.deleted_at is not None or destination is None:
            words = "the picture was deleted" if destination else "no bucket any more"
            await db.write(lambda tx: destinations.failed(tx, image_id, words, again_at=None))
            return
        try:
            url = await self._carry(record, destination)
        except (StorageError, ConfigError) as error:
            message = str(error)
            log.warning("picture not carried", extra={"image_id": image_id, "reason": message})
            next_at = again_at if again_at < last_at else None
            await db.write(lambda tx: destinations.failed(tx, image_id, message, again_at=next_at))
            return
        await db.write(lambda tx: destinations.done(tx, image_id, url))

    def _look(
        self, tx: Transaction, image_id: str
    ) -> tuple[destinations.Persisting, ImageRecord | None, Destination | None] | None:
        one = destinations.waiting(tx, image_id)
        if one is None or one.due_at > tx.now_ms:
            return None
        record = jobs.get_image(tx, image_id)
        return one, record, destinations.of_customer(tx, one.customer_id)

    async def _carry(self, record: ImageRecord, destination: Destination) -> str:
        """Write a picture into a bucket, read it back, and return where it lies.

        Raises:
            StorageError: one of the two stores refuses, or other bytes came back.
            ConfigError: the address or its credentials cannot be used.
        """
        bucket = Bucket(
            address.parse(destination.url, named="the destination"),
            credentials=credentials_in(self._environ, destination.credentials_env),
            patience=self._patience,
        )
        key = key_of(destination.key_template, record)
        if await bucket.digest_of(key) != record.blob.digest:
            source = await self._parts.storage.local_path(record.blob.digest)
            media_type = MEDIA_TYPES[record.blob.format]
            await bucket.upload(key, source, media_type=media_type, create=False)
            found = await bucket.digest_of(key)
            if found != record.blob.digest:
                raise StorageError(f"The bytes read back as {found}, not as {record.blob.digest}.")
        return bucket.url_of(key)


def key_of(template: str, record: ImageRecord) -> str:
    """Return the name that a picture gets in its customer's bucket."""
    made = datetime.fromtimestamp(record.created_at / 1000, tz=UTC)
    return template.format(
        date=made.strftime("%Y-%m-%d"),
        year=made.strftime("%Y"),
        month=made.strftime("%m"),
        day=made.strftime("%d"),
        job_id=record.job_id,
        image_id=record.id,
        sha256=record.blob.digest,
        ext=record.blob.format,
    )


def check_template(template: str) -> None:
    """Refuse a template that does not make a name of its own for every picture.

    Raises:
        ConfigError: it has unknown fields, or no id of the job, the image or the bytes in it.
    """
    known = ", ".join(f"{{{name}}}" for name in FIELDS)
    try:
        pieces = list(Formatter().parse(template))
    except ValueError:
        raise ConfigError(f"the key template cannot be read; its fields are {known}") from None
    fields = {name for _, name, _, _ in pieces if name is not None}
    plain = all(not spec and not conversion for _, _, spec, conversion in pieces)
    if fields - set(FIELDS) or not plain:
        raise ConfigError(f"the key template has a field that is not known; known are {known}")
    if not fields & {"job_id", "image_id", "sha256"}:
        raise ConfigError(
            "the key template gives several pictures one name; put {job_id}, {image_id} or "
            "{sha256} into it"
        )
    key = template.format(**_EXAMPLE)
    if not _KEY.fullmatch(key) or any(part in ("", ".", "..") for part in key.split("/")):
        raise ConfigError("the key template makes no plain path of letters, digits and !_.*'()/=-")


def check_variable(name: str) -> None:
    """Refuse what is no name of an environment variable, such as a credential itself.

    Raises:
        ConfigError: it is none.
    """
    if not _VARIABLE.fullmatch(name):
        raise ConfigError(
            "the credentials are named by an environment variable of capitals, digits and '_'"
        )


def credentials_in(environ: Mapping[str, str], name: str) -> Credentials:
    """Return the credentials that a variable holds: `id:secret`, or `id:secret:session token`.

    Raises:
        ConfigError: it is not set, or holds something else.
    """
    check_variable(name)
    value = environ.get(name, "")
    if not value:
        raise ConfigError(f"the environment variable {name} is not set where the gateway runs")
    key_id, _, rest = value.partition(":")
    secret, _, token = rest.partition(":")
    if not key_id or not secret:
        raise ConfigError(f"the environment variable {name} does not hold id:secret")
    return Credentials(key_id, Secret(secret), Secret(token) if token else None)


def _pause_ms(tries: int) -> int:
    """Return how long after a try the next one comes: a minute, doubled up to two hours."""
    return min(PAUSE_FIRST_MS << min(tries, 10), PAUSE_MAX_MS)
