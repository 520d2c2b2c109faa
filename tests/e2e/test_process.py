"""The process as an operator meets it: start, stop, no balance, a wrong file."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from e2e.books import check_sums, witness
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream, Seen


def serve(folder: Path, config: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `safelight serve` where it is expected to end by itself."""
    path = folder / "safelight.toml"
    path.write_text(config)
    return subprocess.run(
        [
            *(sys.executable, "-m", "safelight", "serve", "--config", str(path)),
            *("--data", str(folder / "data"), "--port", "0", *more),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_sigterm_lets_running_jobs_answer_their_callers(tmp_path: Path) -> None:
    started = threading.Event()

    def slow(_seen: object) -> dict[str, object]:
        started.set()
        return {"kind": "ok", "latency_s": 1.5}

    with (
        FaultUpstream.in_thread(slow) as upstream,
        GatewayProcess(tmp_path, accounts(upstream.base_url)) as gateway,
        ThreadPoolExecutor(2) as pool,
    ):
        key = gateway.key()
        client = openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0)
        answer = pool.submit(
            client.images.generate, model="gpt-image-2-vip", prompt="a lamp", size="1024x1024"
        )
        assert started.wait(10)
        assert gateway.stop() == 0
        data = answer.result(10).data
        assert data is not None
        assert base64.b64decode(data[0].b64_json or "").startswith(b"\x89PNG")
        client.close()
    assert witness(gateway.data).faults == []


def test_a_second_ctrl_c_leaves_at_once_and_the_next_start_goes_on(tmp_path: Path) -> None:
    started = threading.Event()

    def first_stalls(seen: Seen) -> dict[str, object]:
        started.set()
        return {"kind": "stall"} if seen.number == 1 else {"kind": "ok"}

    with (
        FaultUpstream.in_thread(first_stalls) as upstream,
        GatewayProcess(tmp_path, accounts(upstream.base_url)) as gateway,
        ThreadPoolExecutor(2) as pool,
    ):
        key = gateway.key()
        # Repeats by itself, as the SDK does: the answer comes from the second process.
        client = openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=20)
        answer = pool.submit(
            client.images.generate, model="gpt-image-2-vip", prompt="a lamp", size="1024x1024"
        )
        assert started.wait(10)
        process = gateway.process
        assert process is not None
        process.send_signal(signal.SIGINT)
        while "draining" not in gateway.log.read_text():
            assert process.poll() is None
        assert gateway._end(signal.SIGINT) == 0
        gateway.start()
        data = answer.result(60).data
        assert data is not None
        assert base64.b64decode(data[0].b64_json or "").startswith(b"\x89PNG")
        client.close()
        assert check_sums(gateway.url, key)["posted_micros"] == 100_000_000 - 30_000
        gateway.stop()
    assert len(upstream.sales) == 1
    assert witness(gateway.data).faults == []


def test_the_first_start_prints_a_key_with_credit_and_later_ones_do_not(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path)
    with gateway:
        key = gateway.first_key
        assert key is not None
        assert check_sums(gateway.url, key)["posted_micros"] == 10_000_000
        gateway.stop()
    gateway.first_key = None
    with gateway:
        assert gateway.first_key is None
        assert check_sums(gateway.url, key)["posted_micros"] == 10_000_000


def test_a_taken_port_is_refused_in_words(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "one") as first:
        second = serve(tmp_path, "", "--port", str(first.port))
    assert second.returncode == 2
    assert "cannot listen on" in second.stderr


def test_the_first_key_is_not_lost_when_the_first_start_cannot_listen(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "one") as first:
        assert serve(tmp_path, "", "--port", str(first.port)).returncode == 2
    second = GatewayProcess(tmp_path)
    with second:
        assert second.first_key is not None
        assert check_sums(second.url, second.first_key)["posted_micros"] == 10_000_000


def test_a_data_folder_that_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    done = serve(tmp_path, "", "--data", str(tmp_path / "file" / "data"))
    assert done.returncode == 2
    assert "data folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "safelight.db").write_bytes(b"this is no database" * 1000)
    done = serve(tmp_path, "")
    assert done.returncode == 2
    assert "safelight.db is damaged" in done.stderr
    assert "no backup of it is known" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[server]\nprot = 1\n", ["safelight.toml:2", "server.prot", "port"]),
        ('[[accounts]]\nname = "a"\nupstream = "opnai"\n', ["safelight.toml:3", "openai"]),
        ('[channels.gpt-image-2-vip]\nprice_micros = "x"\n', ["safelight.toml:2", "price_micros"]),
        ("[server\n", ["safelight.toml:1"]),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(
    tmp_path: Path, config: str, words: list[str]
) -> None:
    done = serve(tmp_path, config)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_no_balance_is_402_and_the_sdk_does_not_repeat_it(tmp_path: Path) -> None:
    with FaultUpstream.in_thread() as upstream:
        with GatewayProcess(tmp_path, accounts(upstream.base_url)) as gateway:
            key = gateway.key(credit="0.05")
            with openai.OpenAI(base_url=gateway.base_url, api_key=key) as client:
                order = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}
                client.images.generate(**order)  # type: ignore[call-overload]
                with pytest.raises(openai.APIStatusError) as refused:
                    client.images.generate(**order)  # type: ignore[call-overload]
            assert refused.value.status_code == 402
            assert refused.value.code == "insufficient_balance"
            assert refused.value.response.headers["x-should-retry"] == "false"
            assert check_sums(gateway.url, key)["posted_micros"] == 20_000
        assert len(upstream.requests) == 1


def test_a_revoked_key_is_refused_within_a_second_or_so(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path) as gateway:
        key = gateway.key()
        with openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) as client:
            assert [model.id for model in client.models.list()] == [
                "gpt-image-2",
                "gpt-image-2-all",
                "gpt-image-2-vip",
            ]
            subprocess.run(
                [
                    *(sys.executable, "-m", "safelight", "keys", "revoke", key[8:16]),
                    *("--data", str(gateway.data)),
                ],
                check=True,
                capture_output=True,
            )
            begin = time.monotonic()
            while _is_accepted(client):
                assert time.monotonic() < begin + 3


def _is_accepted(client: openai.OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return False
    return True
