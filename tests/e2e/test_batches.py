"""The stock SDK's batches against a real process, killed in the middle too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from e2e.batch_client import BatchClient, line, with_bad_ones
from e2e.books import witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream

QUICK: dict[str, Any] = {"kind": "ok"}
CHEAP = "[channels.gpt-image-2-vip]\nbatch_price_micros = 15000\n"


@contextmanager
def gateway(
    folder: Path, config: str = "", answer: dict[str, Any] | None = None
) -> Iterator[tuple[FaultUpstream, GatewayProcess, BatchClient]]:
    with (
        FaultUpstream.in_thread(lambda _seen: answer or QUICK) as upstream,
        GatewayProcess(folder, accounts(upstream.base_url) + config) as process,
    ):
        client = BatchClient(process.base_url, process.key())
        yield upstream, process, client
        client.close()


def begun(batch: Batch, lines: int = 1) -> bool:
    """Whether so many lines have their pictures."""
    return batch.request_counts is not None and batch.request_counts.completed >= lines


def check_files(client: BatchClient, batch: Any, good: int, bad: int) -> None:
    """Counts, files and charges of a batch that ended say the same."""
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (good + bad, good, bad)
    output, errors = (client.lines_of(name) for name in (batch.output_file_id, batch.error_file_id))
    assert len({one["custom_id"] for one in output}) == len(output) == good
    assert len({one["custom_id"] for one in errors}) == len(errors) == bad
    assert len(client.charges()) == good
    for one in errors:
        assert one["response"]["status_code"] == 400
        assert one["response"]["body"]["error"]["type"] == "invalid_request_error"
    for one in output:
        assert set(one) == {"id", "custom_id", "response", "error"}
        assert one["response"]["body"]["data"][0]["url"].startswith("http://127.0.0.1")


def test_the_sdk_s_flow_with_bad_lines_and_a_kill_in_the_middle(tmp_path: Path) -> None:
    """Upload, create, retrieve, list, content: counts, files, errors and charges are right."""
    slow = {"kind": "ok", "latency_s": 0.05}
    few = "[batches]\nlines_under_way = 12\n"
    with gateway(tmp_path, CHEAP + few, slow) as (upstream, process, client):
        made = client.submit(tmp_path, with_bad_ones(20, 0.05))
        assert (made.status, made.object) == ("validating", "batch")
        client.wait(made.id, begun)
        process.kill()
        process.start()
        done = client.wait(made.id)
        assert (done.status, done.metadata) == ("completed", {"run": tmp_path.name})
        check_files(client, done, 19, 1)
        assert client.charges() == [15_000] * 19
        assert len(upstream.sales) - 19 in range(13)  # calls that the kill cut off
        assert [one.id for one in client.sdk.batches.list(limit=5)] == [made.id]
        purposes = {one.purpose for one in client.sdk.files.list()}
        assert purposes == {"batch", "batch_output"}
        output = client.lines_of(done.output_file_id)
        url = output[0]["response"]["body"]["data"][0]["url"]
        assert client.sdk._client.get(url).content.startswith(b"\x89PNG")
        stranger = BatchClient(process.base_url, process.key("stranger"))
        is_hidden_from(stranger, made.id, done.input_file_id)
        stranger.close()
        deleted = client.sdk.files.delete(done.output_file_id or "")
        with pytest.raises(openai.NotFoundError):
            client.sdk.files.retrieve(deleted.id)
    assert witness(process.data).faults == []


def is_hidden_from(stranger: BatchClient, batch_id: str, file_id: str) -> None:
    """Another customer's batches and files are not there."""
    for ask in (stranger.sdk.batches.retrieve, stranger.sdk.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(batch_id)
    for look in (stranger.sdk.files.content, stranger.sdk.files.retrieve):
        with pytest.raises(openai.NotFoundError):
            look(file_id)
    assert list(stranger.sdk.batches.list()) == []


@pytest.mark.campaign
def test_a_batch_is_cancelled_by_the_sdk(tmp_path: Path) -> None:
    slow = {"kind": "ok", "latency_s": 0.5}
    with gateway(tmp_path, "[batches]\nlines_under_way = 4\n", slow) as (_, process, client):
        made = client.submit(tmp_path, [line(f"i{n}") for n in range(200)])
        client.wait(made.id, begun)
        assert client.sdk.batches.cancel(made.id).status == "cancelling"
        done = client.wait(made.id)
        assert done.status == "cancelled"
        output = client.lines_of(done.output_file_id)
        errors = client.lines_of(done.error_file_id)
        assert len(output) == len(client.charges()) > 0
        assert len(output) + len(errors) == 200
        assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
    assert witness(process.data).faults == []


@pytest.mark.campaign
def test_a_thousand_lines_through_three_kills(tmp_path: Path) -> None:
    """1,000 lines with 5 % bad ones: each good one is delivered and charged once."""
    with gateway(tmp_path) as (_, process, client):
        made = client.submit(tmp_path, with_bad_ones(1000, 0.05))
        for part in (50, 300, 700):
            client.wait(made.id, partial(begun, lines=part), seconds=300)
            process.kill()
            process.start()
        done = client.wait(made.id, seconds=600)
        assert done.status == "completed"
        check_files(client, done, 950, 50)
        assert sum(client.charges()) == 950 * 30_000
    assert witness(process.data).faults == []
