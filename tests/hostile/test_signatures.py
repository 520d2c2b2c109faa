"""Ten thousand changed links and ten thousand changed webhook messages: none is taken."""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from safelight import webhooks
from safelight.client.errors import ClientError
from safelight.client.webhooks import verify
from safelight.clock import ManualClock
from safelight.errors import NotFound
from safelight.keyring import Keyring
from safelight.links import Links

COUNT = 10_000
IMAGES = ["0123456789abcdef0123456789abcdef", "f" * 32]
LETTERS = string.printable + "\0\u0661\ud800ÿ"
SECRET = bytes(range(32))
BODY = b'{"type":"job.completed","timestamp":"2026-01-01T00:00:00Z","data":{"id":"job_1"}}'
NOW = 1_800_000_000


def changed(text: str, others: list[str], chance: random.Random) -> str:
    """Return a text that is not the given one: letters changed, moved, dropped or borrowed."""
    while True:
        made = CHANGES[chance.randrange(len(CHANGES))](text, others, chance)
        if made != text:
            return made


def _replaced(text: str, _others: list[str], chance: random.Random) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice(LETTERS) + text[at + 1 :]


def _inserted(text: str, _others: list[str], chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(LETTERS) * chance.randint(1, 3) + text[at:]


def _dropped(text: str, _others: list[str], chance: random.Random) -> str:
    at = chance.randrange(len(text))
    return text[:at] + text[at + chance.randint(1, 8) :]


def _swapped(text: str, _others: list[str], chance: random.Random) -> str:
    at = chance.randrange(len(text) - 1)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _cased(text: str, _others: list[str], chance: random.Random) -> str:
    at = chance.randrange(len(text))
    return text[:at] + text[at].swapcase() + text[at + 1 :]


def _crossed(text: str, others: list[str], chance: random.Random) -> str:
    """The beginning of one, the end of another: each half is right by itself."""
    other, at = chance.choice(others), chance.randrange(len(text))
    return text[:at] + other[at:]


Change = Callable[[str, list[str], random.Random], str]
CHANGES: list[Change] = [_replaced, _inserted, _dropped, _swapped, _cased, _crossed]


def test_no_changed_link_opens_a_picture(tmp_path: Path) -> None:
    """Not one of another picture, format, time or customer's epoch either, in whatever parts."""
    clock = ManualClock()
    links = Links(Keyring.load_or_create(tmp_path), clock)
    signed = [
        links.sign(image, ext, ttl_s=ttl_s, link_epoch=epoch)
        for image in IMAGES
        for ext in ("png", "webp")
        for ttl_s in (60, 3600)
        for epoch in (0, 1)
    ]
    good = links.sign(IMAGES[0], "png", ttl_s=900, link_epoch=0)
    path, _, query = good.partition("?")
    links.verify(path, query, link_epoch=0)
    # What is right is no mutation: those that were signed for this epoch are good by themselves.
    right = {good, *(one for one in signed if _opens(links, one))}
    chance = random.Random(10)
    taken = []
    for _ in range(COUNT):
        link = changed(good, signed, chance)
        if link not in right and _opens(links, link):
            taken.append(link)
    assert taken == []


def _opens(links: Links, link: str) -> bool:
    path, _, query = link.partition("?")
    try:
        links.verify(path, query, link_epoch=0)
    except NotFound:
        return False
    return True


def test_no_changed_webhook_message_is_believed() -> None:
    """Id, time, signature and body are all under the signature, and it has one spelling."""
    tag = webhooks.signatures([SECRET], message_id="msg_1", timestamp_s=NOW, body=BODY)
    other = webhooks.signatures([SECRET], message_id="msg_2", timestamp_s=NOW + 1, body=BODY)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": tag}
    assert _believed(headers, BODY)
    chance = random.Random(11)
    taken = []
    for number in range(COUNT):
        sent, body = dict(headers), BODY
        field = [*headers, "body"][number % 4]
        if field == "body":
            made = changed(BODY.decode(), [BODY.decode()[::-1]], chance)
            body = made.encode("utf-8", "surrogatepass")
        else:
            sent[field] = changed(headers[field], [other, "msg_2"], chance)
        # Blanks between signatures, and signatures beside a good one, are the protocol's own.
        if tag in sent["webhook-signature"].split() and field == "webhook-signature":
            continue
        if _believed(sent, body):
            taken.append((sent, body))
    assert taken == []


def _believed(headers: dict[str, str], body: bytes) -> bool:
    try:
        verify(headers, body, "whsec_" + base64.b64encode(SECRET).decode(), now=NOW)
    except ClientError:
        return False
    return True


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "x"])
def test_a_message_is_not_believed_by_a_secret_that_is_none(secret: str) -> None:
    tag = webhooks.signatures([b""], message_id="msg_1", timestamp_s=NOW, body=BODY)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": tag}
    with pytest.raises(ClientError):
        verify(headers, BODY, secret, now=NOW)
