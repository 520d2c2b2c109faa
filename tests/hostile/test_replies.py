"""A vendor that answers with anything at all sells nothing, says nothing and breaks nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from e2e.books import check_sums, statement, witness
from e2e.process import GatewayProcess, accounts
from hostile.corpus import KEY, request
from hostile.replies import COUNT, MARK, HostileVendor, replies
from hostile.wire import Told, ask, memory_kb

PATIENT = """
[pool]
eject_after_fast = 100000
eject_after_slow = 100000
retry_tokens = 100000
canary_s = 0.01
probe_s = 0.05
exhausted_s = 0.01
cooling_max_s = 0.01
"""
"""An account that fails is asked again at once: every answer is to be met."""
ACCOUNTS = 60
"""A refused credential takes its account out for minutes; there are always others."""
PATIENCE_S = 10.0
QUICK = {"first_byte_timeout_s": 2.0, "idle_timeout_s": 1.0}
GROWTH_KB = 150 * 1024
NEVER = (
    b"<script",
    b"\r\nSet-Cookie",
    b"\x1b",
    b"\\u001b",
    "\u202e".encode(),
    b"sk-proj",
    b"10.0.0.7",
)
"""Markup, headers, terminal codes, turned text, keys, hosts: in no sentence of a vendor."""


def test_there_are_three_hundred_hostile_answers() -> None:
    assert len(replies()) == COUNT


def echo_in(told: Told) -> bytes | None:
    """Return what of a vendor's text came through that may not.

    A refusal of the request itself (400) is told in the vendor's sentence, scrubbed: else nobody
    would know what to change. Everything else is told in words of our own.
    """
    head, _, body = told.data.partition(b"\r\n\r\n")
    if MARK.encode() in head or (told.statuses[0] != 400 and MARK.encode() in body):
        return told.data[:600]
    return next((piece for piece in NEVER if piece in told.data), None)


def met(gateway: GatewayProcess, vendor: HostileVendor, order: bytes, reply: bytes) -> Told:
    """Order until the vendor is asked: meanwhile the pool may hold all of its accounts for ill."""
    vendor.next = reply
    before = vendor.asked
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        told = ask(gateway.port, order, limit_s=20)
        if vendor.asked > before:
            return told
    raise AssertionError(f"the vendor was not asked: {told.body[:300]!r}")


@pytest.mark.parametrize("share", [3, pytest.param(1, marks=pytest.mark.campaign)])
def test_no_hostile_answer_is_settled_or_told_to_a_caller(tmp_path: Path, share: int) -> None:
    """Each order ends free, in an error of our own words; the books agree in the end."""
    chosen = list(replies().items())[::share]
    body = {"model": "gpt-image-2", "prompt": "a lamp", "size": "1024x1024"}
    problems = []
    with HostileVendor() as vendor:
        config = accounts(vendor.base_url, ACCOUNTS, **QUICK) + PATIENT
        with GatewayProcess(tmp_path, config) as gateway:
            key = gateway.key("buyer", "100.00")
            order = request("POST", "/v1/images/generations", json.dumps(body).encode())
            order = order.replace(KEY, key.encode())
            memory = memory_kb(gateway)
            for name, reply in chosen:
                told = met(gateway, vendor, order, reply)
                if not told.statuses or told.statuses[0] < 400 or told.statuses[0] == 500:
                    problems.append(f"{name}: {told.statuses} {told.body[:200]!r}")
                elif echoed := echo_in(told):
                    problems.append(f"{name}: echoed {echoed!r}")
            assert vendor.asked >= len(chosen)
            assert memory_kb(gateway) - memory < GROWTH_KB
            assert "failed inside the gateway" not in gateway.log.read_text()
            lines = statement(gateway.url, key)
            assert not [line for line in lines if line["kind"] == "settle"]
            check_sums(gateway.url, key)
        assert not problems, "\n".join(problems)
    assert witness(gateway.data).faults == []
