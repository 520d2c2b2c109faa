"""The bench: real pictures for sale, right arithmetic, one tiny run that is whole."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from safelight import images
from safelight.bench import meter, naive, result
from safelight.bench.errors import BenchError
from safelight.bench.load import Orders, connect, drive
from safelight.bench.picture import Replies, Weight, make_picture, weight
from safelight.bench.processes import staged
from safelight.bench.run import Plan
from safelight.types import Usage
from safelight.upstreams.receive import read_usage
from safelight.upstreams.reply import ReplyScanner

LINUX = sys.platform == "linux"


# --- replies ---


@pytest.mark.parametrize(
    ("name", "base64_bytes", "size"),
    [
        ("1kb", 1024, "1024x1024"),
        ("2mb", 2 * 2**20, "2048x1152"),
        (" 1.5MB", 3 * 2**19, "2048x1152"),
        ("12mb", 12 * 2**20, "3840x2160"),
    ],
)
def test_a_weight_is_read_from_its_name(name: str, base64_bytes: int, size: str) -> None:
    found = weight(name)
    assert (found.base64_bytes, found.size) == (base64_bytes, size)
    assert found.picture_bytes == base64_bytes // 4 * 3


@pytest.mark.parametrize("name", ["", "2", "mb", "2gb", "-1mb", "0.5kb", "49mb", "1mb2kb"])
def test_what_is_no_weight_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no size|not between"):
        weight(name)


@pytest.mark.parametrize("name", ["1kb", "2mb", "12mb"])
def test_a_reply_holds_a_valid_picture_of_the_right_weight_and_size(
    name: str, tmp_path: Path
) -> None:
    """It passes the gateway's own structure and checksum walk, and has the pixels asked for."""
    wanted = weight(name)
    document = json.loads(b"".join(Replies(wanted).pieces(7)))
    text = document["data"][0]["b64_json"]
    assert len(text) == wanted.base64_bytes
    path = tmp_path / "picture.png"
    path.write_bytes(base64.b64decode(text, validate=True))
    found = images.verify(path)
    assert (found.format, f"{found.width}x{found.height}") == ("png", wanted.size)
    assert document["size"] == wanted.size


def test_the_smallest_picture_can_be_decoded(tmp_path: Path) -> None:
    """Its pixels are real, not only its checksums: libvips reads them."""
    pyvips = pytest.importorskip("pyvips")
    path = tmp_path / "picture.png"
    path.write_bytes(make_picture(weight("1kb"), 1))
    picture = pyvips.Image.new_from_file(str(path), fail_on="warning")
    assert (picture.width, picture.height, picture.avg()) == (1024, 1024, 0.0)


def test_the_upstreams_reply_parser_takes_it() -> None:
    """The scanner that reads OpenAI's answers finds the picture and the usage in it."""
    replies = Replies(weight("2mb"))
    pieces: list[bytes] = []
    scanner = ReplyScanner(pieces.append)
    body = b"".join(replies.pieces(3))
    for at in range(0, len(body), 65_521):
        scanner.feed(body[at : at + 65_521])
    assert scanner.complete
    assert scanner.images == 1
    sold = json.loads(body)["data"][0]["b64_json"]
    assert b"".join(pieces) == base64.b64decode(sold)
    usage = read_usage(scanner.document())
    assert isinstance(usage, Usage)
    assert usage.total_tokens == 4172


def test_no_two_replies_are_the_same_picture() -> None:
    """They differ in 24 bytes and have one length, so that a store by digest keeps them all."""
    replies = Replies(weight("1kb"))
    bodies = [b"".join(replies.pieces(serial)) for serial in (1, 2, 2**64)]
    assert {len(body) for body in bodies} == {replies.length}
    pictures = [base64.b64decode(json.loads(body)["data"][0]["b64_json"]) for body in bodies]
    assert len(set(pictures)) == 3
    assert {picture[:33] + picture[57:] for picture in pictures} == {
        pictures[0][:33] + pictures[0][57:]
    }


def test_orders_are_whole_requests_with_prompts_of_their_own() -> None:
    orders = Orders(weight("2mb"), "sk-key")
    parts = [orders.next().partition(b"\r\n\r\n") for _ in range(3)]
    bodies = [json.loads(body) for _, _, body in parts]
    assert len({body["prompt"] for body in bodies}) == 3
    assert {body["size"] for body in bodies} == {"2048x1152"}
    for head, _, body in parts:
        assert f"content-length: {len(body)}".encode() in head
        assert b"authorization: Bearer sk-key" in head


# --- the naive way, and the meter ---


def test_the_naive_way_keeps_the_picture_and_passes_it_on(tmp_path: Path) -> None:
    body = b"".join(Replies(weight("1kb")).pieces(1))
    answer = json.loads(naive.pass_on(body, tmp_path))
    assert answer == json.loads(body)
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == base64.b64decode(answer["data"][0]["b64_json"])
    assert kept.name == hashlib.sha256(kept.read_bytes()).hexdigest()


def test_the_naive_way_is_measured_and_leaves_nothing(tmp_path: Path) -> None:
    done, cpu_s = naive.measure(Replies(weight("1kb")), tmp_path / "kept", 3, 60)
    assert done == 3
    assert cpu_s > 0
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_stretch_without_time_still_does_one(tmp_path: Path) -> None:
    done, _ = naive.measure(Replies(weight("1kb")), tmp_path / "kept", 3, 0)
    assert done == 1


@pytest.mark.skipif(not LINUX, reason="CPU is read from Linux's /proc")
def test_the_meter_sees_the_work_of_a_process_and_of_its_children() -> None:
    """The CPU of a child counts while it runs and after it has ended."""
    work = "sum(range(3_000_000))"
    script = f"""
import subprocess, sys
{work}
print("own", flush=True); sys.stdin.readline()
child = subprocess.Popen(
    [sys.executable, "-c", "{work}; print('child', flush=True); input()"],
    stdin=subprocess.PIPE,
)
sys.stdin.readline()
child.communicate(b"go")
print("ended", flush=True); sys.stdin.readline()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    spent = []
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("own", "child", "ended"):
            assert process.stdout.readline().strip() == word
            spent.append(meter.cpu_seconds(process.pid) or 0.0)
            used = meter.memory(process.pid)
            assert used is not None
            assert 0 < used.now <= used.peak
            process.stdin.write("go\n")
            process.stdin.flush()
    own, with_child, after = spent
    assert own > 0
    assert with_child > own * 1.5
    # What has ended is known in ticks of 10 ms only.
    assert after > with_child - 0.05


def test_a_process_that_is_not_there_is_not_measured() -> None:
    gone = 2**22 + 1
    assert meter.cpu_seconds(gone) is None
    assert meter.memory(gone) is None


# --- arithmetic ---


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 99, 4.0),
        ([float(n) for n in range(1, 201)], 99, 198.0),
        ([1.0, 2.0], 0, 1.0),
    ],
)
def test_percentiles_are_nearest_rank(
    values: Sequence[float], percent: float, expected: float
) -> None:
    assert result.percentile(values, percent) == expected


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no value"):
        result.percentile([], 50)


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [(6.0, 2.0, 3.0), (None, 2.0, None), (6.0, None, None), (6.0, 0.0, None)],
)
def test_a_ratio_of_what_is_not_measured_is_none(
    above: float | None, below: float | None, expected: float | None
) -> None:
    assert result.ratio(above, below) == expected


def test_a_median_needs_all_values() -> None:
    """One round that was not measured makes the median of all of them unknown."""
    assert result.median([3.0, 1.0, 2.0]) == 2.0
    assert result.median([3.0, None, 2.0]) is None
    assert result.median([]) is None


def turns(*cpu_s: float | None, answered: int = 10, seconds: float = 2.0) -> tuple[Any, ...]:
    return tuple(result.Turn(answered=answered, cpu_s=spent, seconds=seconds) for spent in cpu_s)


def summary(wanted: Weight, rounds: result.Rounds) -> result.SizeResult:
    one = result.latency([1.0, 2.0, 9.0])
    books = result.Books(
        ordered=1,
        sold_by_upstream=1,
        settled=1,
        distinct_pictures=1,
        charged_micros=30_000,
        stored_bytes=768,
    )
    latencies = result.latencies(one, one, result.latency([4.0, 6.0, 10.0]))
    return result.size_result(wanted, rounds, latencies, None, books)


def test_a_summary_relates_medians_of_rounds() -> None:
    """CPU is per picture, ratios are of medians, the spread is that of the single rounds."""
    found = summary(
        weight("1kb"),
        result.Rounds(
            relay=turns(0.010, 0.020, 0.040),
            gateway=turns(0.100, 0.800, 0.200),
            naive=turns(0.400, 0.400, 0.500),
        ),
    )
    assert found.cpu_ms == result.CpuMs(relay=2.0, gateway=20.0, naive=40.0)
    assert (found.ratios.gateway_to_relay, found.ratios.gateway_to_naive) == (10.0, 0.5)
    spread = [found.ratios.relay_lowest, found.ratios.relay_highest]
    assert spread == pytest.approx([5.0, 40.0])
    assert found.per_s == result.PerSecond(relay=5.0, gateway=5.0)
    assert found.latency_ms.gateway_added == result.Added(p50=4.0, p99=1.0)
    assert found.latency_ms.relay_added == result.Added(p50=0.0, p99=0.0)


def test_where_cpu_cannot_be_measured_no_ratio_is_claimed() -> None:
    rounds = result.Rounds(relay=turns(None), gateway=turns(None), naive=turns(0.1))
    found = summary(weight("1kb"), rounds)
    assert found.cpu_ms.gateway is None
    assert found.ratios == result.Ratios(
        gateway_to_relay=None, gateway_to_naive=None, relay_lowest=None, relay_highest=None
    )


def test_the_plan_suits_the_weight_unless_it_is_told() -> None:
    """Heavy pictures are ordered less often; a number that was asked for is kept, without limit."""
    plan = Plan(weights=())
    assert plan.load(weight("1kb")) > plan.load(weight("2mb")) > plan.load(weight("12mb")) > 0
    assert plan.limit_s < 60
    told = Plan(weights=(), requests=5)
    assert (told.load(weight("12mb")), told.alone(weight("12mb"))) == (5, 5)
    assert told.limit_s == float("inf")


# --- the whole ---


async def use_and_break(folder: Path, pids: list[int]) -> None:
    wanted = weight("1kb")
    async with staged(wanted, folder) as stage:
        pids += [one.pid for one in (stage.upstream, stage.relay, stage.gateway)]
        connections = await connect(stage.relay.port, 2)
        phase = await drive(connections, Orders(wanted, "none"), 4, 60)
        assert phase.answered == await stage.sold() == 4
        refused = await connect(stage.gateway.port, 1)
        with pytest.raises(BenchError, match="answered 401"):
            await drive(refused, Orders(wanted, "sk-wrong"), 1, 60)
        for connection in (*connections, *refused):
            connection.close()
        raise RuntimeError("on purpose")


async def test_processes_end_whatever_happens(tmp_path: Path) -> None:
    """After an error inside, none of the three is left; before it, the relay relayed."""
    pids: list[int] = []
    with pytest.raises(RuntimeError, match="on purpose"):
        await use_and_break(tmp_path, pids)
    assert len(pids) == 3
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def run_bench(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    temporary = folder / "temporary"
    temporary.mkdir()
    return subprocess.run(
        [sys.executable, "-m", "safelight", "bench", *options],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_tiny_run_reports_everything_and_leaves_nothing(tmp_path: Path) -> None:
    """Two orders, one round: all fields are there, ratios are positive, the books are right."""
    options = ("--requests", "2", "--rounds", "1", "--concurrency", "2", "--sizes", "1kb")
    done = run_bench(tmp_path, *options, "--json", "--out", "report.json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["concurrency"] == 2
    assert report["took_s"] > 0
    assert report["machine"]["cpus"] >= 1
    (size,) = report["sizes"]
    assert set(size) == set(result.SizeResult.__struct_fields__)
    assert (size["name"], size["base64_bytes"]) == ("1kb", 1024)
    assert (size["picture_bytes"], size["picture_size"]) == (768, "1024x1024")
    assert [len(size["rounds"][name]) for name in ("relay", "gateway", "naive")] == [1, 1, 1]
    assert size["rounds"]["gateway"][0]["answered"] == 2
    assert min(size["per_s"].values()) > 0
    assert size["latency_ms"]["gateway"]["samples"] == 2
    assert size["latency_ms"]["gateway_added"]["p50"] > 0
    if LINUX:
        assert min(size["cpu_ms"].values()) > 0
        assert min(size["ratios"].values()) > 0
        assert size["memory_mb"]["peak"] >= size["memory_mb"]["idle"] > 0
    # One look, the warm-up of two connections, the load, and the orders of the one client.
    ordered = 1 + 2 + 2 + 2
    assert size["included"] == {
        "ordered": ordered,
        "sold_by_upstream": ordered,
        "settled": ordered,
        "distinct_pictures": ordered,
        "charged_micros": ordered * 30_000,
        "stored_bytes": ordered * 768,
    }
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--sizes", "1kb,large"), "large"),
        (("--out", "nowhere/report.json"), "nowhere"),
        (("--rounds", "0"), "rounds"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(
    options: tuple[str, ...], word: str, tmp_path: Path
) -> None:
    done = run_bench(tmp_path, *options)
    assert done.returncode == 2
    assert word in done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []
