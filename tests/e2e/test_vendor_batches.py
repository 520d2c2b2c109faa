"""The stock SDK in front, the vendor's Batch API behind, and a kill in between."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from e2e.batch_client import BatchClient, line, with_bad_ones
from e2e.books import witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.batch_api import BatchPlan
from safelight.bench.faults.server import FaultUpstream

PRICE = 18_000
CONFIG = f"""
[channels.gpt-image-2-vip]
vendor_batches = "always"
vendor_batch_price_micros = {PRICE}

[vendor_batches]
collect_s = 1
poll_min_s = 0.2
poll_max_s = 0.5
"""


def check(client: BatchClient, upstream: FaultUpstream, done: Any, good: int, bad: int) -> None:
    """Files, counts, charges and the vendor's own books say the same."""
    counts = done.request_counts
    assert (done.status, counts.completed, counts.failed) == ("completed", good, bad)
    output = client.lines_of(done.output_file_id)
    assert len({one["custom_id"] for one in output}) == len(output) == good
    assert client.charges() == [PRICE] * good
    assert Counter(sale.kind for sale in upstream.sales) == {"batch": good}
    assert len(upstream.desk.batches) == 1
    url = output[0]["response"]["body"]["data"][0]["url"]
    assert client.sdk._client.get(url).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("kill", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_the_sdk_s_flow_through_the_vendor_s_batches(tmp_path: Path, kill: bool) -> None:
    """The gateway may be killed while the vendor works; the next one takes what it made."""
    plan = BatchPlan(process_s=0.5)
    with (
        FaultUpstream.in_thread("ok", batches=plan) as upstream,
        GatewayProcess(
            tmp_path, accounts(upstream.base_url, vendor_batches=True) + CONFIG
        ) as process,
    ):
        client = BatchClient(process.base_url, process.key())
        made = client.submit(tmp_path, with_bad_ones(20, 0.05))
        if kill:
            client.wait(made.id, lambda _: bool(upstream.desk.batches))
            process.kill()
            process.start()
        done = client.wait(made.id)
        check(client, upstream, done, 19, 1)
        client.close()
    assert witness(process.data).faults == []


@pytest.mark.campaign
def test_kills_again_and_again_buy_nothing_twice(tmp_path: Path) -> None:
    """A thousand lines, the process killed at every turn of the vendor's books."""
    plan = BatchPlan(process_s=2.0)
    with (
        FaultUpstream.in_thread("ok", batches=plan) as upstream,
        GatewayProcess(
            tmp_path, accounts(upstream.base_url, vendor_batches=True) + CONFIG
        ) as process,
    ):
        client = BatchClient(process.base_url, process.key())
        made = client.submit(tmp_path, [line(f"i{n}") for n in range(1000)])
        for routes in ("upload", "create", "look", "content"):
            client.wait(made.id, lambda _, name=routes: name in upstream.desk.seen)  # type: ignore[misc]
            process.kill()
            process.start()
        done = client.wait(made.id, seconds=600)
        check(client, upstream, done, 1000, 0)
        client.close()
    assert witness(process.data).faults == []
