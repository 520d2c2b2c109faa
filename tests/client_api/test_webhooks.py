"""Webhooks as a receiver verifies them; the official package is the other opinion."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from typing import Any

import msgspec
import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from safelight import webhooks as gateway_side
from safelight.client import (
    BadSignature,
    Misconfigured,
    StaleMessage,
    WebhookRefused,
    verify,
)

NOW = 1_795_000_000
JOB = {"id": "job_1", "status": "completed", "created_at": NOW, "model": "gpt-image-2-vip"}


def fresh() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def message(**more: Any) -> bytes:
    return msgspec.json.encode({"type": "job.completed", "timestamp": "t", "data": JOB, **more})


def signed(body: bytes, *keys: str, id_: str = "msg_1", at: int = NOW) -> dict[str, str]:
    """Return the headers of a message, signed by the official package."""
    moment = dt.datetime.fromtimestamp(at, dt.UTC)
    tags = [standardwebhooks.Webhook(key).sign(id_, moment, body.decode()) for key in keys]
    return {
        "Webhook-Id": id_,
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": " ".join(tags),
    }


def test_a_genuine_message_is_believed() -> None:
    key, body = fresh(), message()
    found = verify(signed(body, key), body, key, now=NOW)
    assert (found.id, found.sent_at, found.type) == ("msg_1", NOW, "job.completed")
    assert found.job().id == "job_1"
    assert verify(signed(body, key), body.decode(), key, now=NOW) == found


def test_what_the_gateway_signs_is_verified() -> None:
    """With both secrets during a change, as the gateway sends it."""
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    body = message()
    tags = gateway_side.signatures([new, old], message_id="msg_2", timestamp_s=NOW, body=body)
    headers = {"webhook-id": "msg_2", "webhook-timestamp": str(NOW), "webhook-signature": tags}
    for known in (old, new):
        assert verify(headers, body, gateway_side.shown_secret(known), now=NOW).id == "msg_2"


def test_a_secret_may_be_changed_without_a_gap() -> None:
    """The receiver knows old and new; the message has either signature, or both."""
    old, new, body = fresh(), fresh(), message()
    for headers in (signed(body, old), signed(body, new), signed(body, new, old)):
        assert verify(headers, body, [new, old], now=NOW).type == "job.completed"
    with pytest.raises(BadSignature):
        verify(signed(body, old), body, [new], now=NOW)


def test_a_changed_body_or_id_or_time_is_refused() -> None:
    key, body = fresh(), message()
    headers = signed(body, key)
    for changed in ({"Webhook-Id": "msg_9"}, {"Webhook-Timestamp": str(NOW + 1)}):
        with pytest.raises(BadSignature):
            verify({**headers, **changed}, body, key, now=NOW)
    with pytest.raises(BadSignature):
        verify(headers, body.replace(b"completed", b"cancelled"), key, now=NOW)


@pytest.mark.parametrize("late_s", [301, -301])
def test_a_replay_and_a_message_from_the_future_are_refused(late_s: int) -> None:
    key, body = fresh(), message()
    headers = signed(body, key)
    with pytest.raises(StaleMessage):
        verify(headers, body, key, now=NOW + late_s)
    assert verify(headers, body, key, now=NOW + late_s, tolerance_s=400).id == "msg_1"


@pytest.mark.parametrize("gone", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_a_missing_header_is_refused(gone: str) -> None:
    key, body = fresh(), message()
    headers = signed(body, key)
    del headers[gone]
    with pytest.raises(BadSignature, match="is missing"):
        verify(headers, body, key, now=NOW)


@pytest.mark.parametrize(
    "signature", ["v1,", "v1", "v2,AAAA", "v1a,AAAA", ",", "v1,ä", "garbage v1,garbage"]
)
def test_signatures_that_are_none_are_refused(signature: str) -> None:
    key, body = fresh(), message()
    headers = {**signed(body, key), "Webhook-Signature": signature}
    with pytest.raises(BadSignature):
        verify(headers, body, key, now=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!"])
def test_a_secret_that_is_none_is_the_receivers_mistake(secret: str) -> None:
    body = message()
    with pytest.raises(Misconfigured, match="begins with whsec_"):
        verify(signed(body, fresh()), body, secret, now=NOW)


def test_a_signed_text_that_is_no_message_is_refused() -> None:
    key = fresh()
    with pytest.raises(BadSignature, match="no type or no data"):
        verify(signed(b"[]", key), b"[]", key, now=NOW)


def test_a_message_about_a_batch_has_no_job() -> None:
    key, body = fresh(), message(type="batch.completed", data={"id": "batch_1"})
    found = verify(signed(body, key), body, key, now=NOW)
    assert found.data == {"id": "batch_1"}
    with pytest.raises(ValueError, match="has no job"):
        found.job()


@given(st.binary(max_size=200), st.text(max_size=80), st.text(max_size=20))
def test_whatever_comes_is_believed_or_refused_and_nothing_else(
    body: bytes, signature: str, time_: str
) -> None:
    headers = {"webhook-id": "m", "webhook-timestamp": time_, "webhook-signature": signature}
    with pytest.raises(WebhookRefused):
        verify(headers, body, fresh(), now=NOW)
