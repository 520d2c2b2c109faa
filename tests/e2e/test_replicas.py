"""Two `safelight serve` with data folders of their own on one Postgres, as on two machines."""

from __future__ import annotations

import base64
import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from e2e.books import check_sums, rows, statement, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream, Seen

PRICE = 30_000
LEASE_S = 2
CONFIG = f"[server]\nlease_s = {LEASE_S}\n"


def replica_of(first: GatewayProcess, folder: Path) -> GatewayProcess:
    """Another machine: a folder of its own with the same secrets, and pictures in one place."""
    other = GatewayProcess(folder, first.config.read_text(), environ=first.environ)
    other.data.mkdir(mode=0o700)
    shutil.copy(first.data / "secrets.json", other.data)
    (first.data / "blobs").mkdir(exist_ok=True)
    (other.data / "blobs").symlink_to(first.data / "blobs")
    return other


def order(gateway: GatewayProcess, key: str) -> tuple[str, str]:
    """Order with an Idempotency-Key and wait; return the job and the digest of the picture."""
    with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, timeout=60) as client:
        answer = client.images.with_raw_response.generate(
            model="gpt-image-2-vip",
            prompt="a lamp",
            size="1280x720",
            extra_headers={"Idempotency-Key": "order-of-a-lamp"},
        )
    data = answer.parse().data
    assert data is not None
    picture = base64.b64decode(data[0].b64_json or "")
    return answer.headers["x-safelight-job-id"], hashlib.sha256(picture).hexdigest()


def test_a_killed_replicas_job_ends_at_another_after_its_lease_with_one_charge(
    tmp_path: Path, postgres_url: str
) -> None:
    under_way, killed = threading.Event(), threading.Event()

    def slow(seen: Seen) -> dict[str, object]:
        # The first call is still under way when its process is killed.
        under_way.set()
        return {"kind": "ok", "latency_s": 0.2 if killed.is_set() else 20.0}

    with FaultUpstream.in_thread(slow) as upstream:
        config = CONFIG + accounts(upstream.base_url, 2)
        first = GatewayProcess(
            tmp_path / "one", config, environ={"SAFELIGHT_DATABASE_URL": postgres_url}
        )
        with first, ThreadPoolExecutor(1) as pool:
            key = first.key()
            second = replica_of(first, tmp_path / "two")
            with second:
                lost = pool.submit(order, first, key)
                assert under_way.wait(30)
                assert len(rows(second, "SELECT owner FROM process")) == 2
                killed.set()
                first.kill()
                assert isinstance(lost.exception(30), openai.APIConnectionError)
                job_id, digest = order(second, key)
                balance = check_sums(second.url, key)
                (line,) = [one for one in statement(second.url, key) if one["kind"] == "settle"]
                (job,) = rows(second, "SELECT id, epoch, attempts FROM job")
                left = rows(second, "SELECT owner FROM process")
                assert second.stop() == 0
    assert (job["id"], job["epoch"], job["attempts"]) == (job_id, 2, 2)
    assert (line["job_id"], line["image_sha256"]) == (job_id, digest)
    assert balance["posted_micros"] == 100_000_000 - PRICE
    assert balance["held_micros"] == 0
    assert digest in {sale.sha256 for sale in upstream.sales}
    # The dead one's row went with its last job; a stopped one takes its own along.
    assert len(left) == 1
    assert rows(second, "SELECT owner FROM process") == []
    books = witness(second.data, second.environ)
    assert (books.faults, books.waste, books.unknown) == ([], 0, 1)


@pytest.mark.campaign  # in one process tests/gateway/test_replicas.py plays the same
def test_a_replica_frozen_beyond_its_lease_comes_back_and_nothing_is_charged_twice(
    tmp_path: Path, postgres_url: str
) -> None:
    under_way, second_call = threading.Event(), threading.Event()

    def slow(seen: Seen) -> dict[str, object]:
        (second_call if under_way.is_set() else under_way).set()
        return {"kind": "ok", "latency_s": 1.0}

    with FaultUpstream.in_thread(slow) as upstream:
        config = CONFIG + accounts(upstream.base_url, 2)
        first = GatewayProcess(
            tmp_path / "one", config, environ={"SAFELIGHT_DATABASE_URL": postgres_url}
        )
        with first, ThreadPoolExecutor(1) as pool:
            key = first.key()
            second = replica_of(first, tmp_path / "two")
            with second:
                waiting = pool.submit(order, first, key)
                assert under_way.wait(30)
                first.freeze()
                try:
                    # Another takes its job, which it will know nothing of.
                    assert second_call.wait(60)
                    taken = order(second, key)
                finally:
                    first.thaw()
                assert waiting.result(60) == taken
                balance = check_sums(second.url, key)
                assert (first.stop(), second.stop()) == (0, 0)
                assert "Traceback" not in first.log.read_text()
    assert balance["posted_micros"] == 100_000_000 - PRICE
    assert balance["held_micros"] == 0
    books = witness(second.data, second.environ)
    assert books.faults == []
    assert books.waste + books.unknown == 1
