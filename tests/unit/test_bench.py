"""The bench: real pictures for sale, right arithmetic, one tiny run that is whole."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from safelight import images
from safelight.bench import meter, naive
from safelight.bench.contenders import GATEWAY, RELAY, Places, staged
from safelight.bench.load import connect, drive
from safelight.bench.orders import Orders
from safelight.bench.picture import Replies, make_picture, weight
from safelight.bench.processes import Cores
from safelight.bench.result import Standing, WorkloadResult
from safelight.bench.workloads import workload
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


# --- the whole ---


async def use_and_break(folder: Path, pids: list[int]) -> None:
    wanted = workload("1kb")
    async with staged(wanted, (GATEWAY, RELAY), folder, Places(), Cores()) as stage:
        relay, gateway = stage.contenders[RELAY], stage.contenders[GATEWAY]
        pids += [one.pid for one in (stage.upstream, relay.running, gateway.running)]
        connections = await connect(relay.running.port, 2)
        phase = await drive(connections, Orders(wanted, relay.headers), 4, 60)
        assert phase.answered == 4
        assert (await stage.state())["sold"] == {"v1": 4}
        refused = await connect(gateway.running.port, 1)
        stranger = Orders(wanted, ("authorization: Bearer sk-wrong",))
        assert (await drive(refused, stranger, 1, 60)).failures == {"401": 1}
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
    """Four orders, one round: all fields are there, the books are right.

    And the gate of every test run: a heavy picture takes the gateway, with sockets, store and
    books, clearly less CPU than the naive way takes for its bytes alone. It is about 0.4.
    """
    options = ("--requests", "4", "--rounds", "1", "--clients", "2", "--workload", "12mb")
    chosen = ("--contender", "gateway", "--contender", "relay", "--contender", "naive")
    done = run_bench(
        tmp_path, *options, *chosen, "--json", "--out", "report.json", "--plots", "plots"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["took_s"] > 0
    assert report["machine"]["cpus"] >= 1
    assert report["skipped"] == {}
    (played,) = report["workloads"]
    assert set(played) == set(WorkloadResult.__struct_fields__)
    assert (played["name"], played["base64_bytes"], played["clients"]) == ("12mb", 12 * 2**20, 2)
    by_name = {one["contender"]: one for one in played["contenders"]}
    assert list(by_name) == ["gateway", "relay", "naive"]
    gateway = by_name["gateway"]
    assert set(gateway) == set(Standing.__struct_fields__)
    assert (gateway["error"], gateway["failures"], gateway["answered"]) == (None, {}, 4)
    assert gateway["latency_ms"]["samples"] == 4
    assert gateway["per_s"] > 0
    if LINUX:
        assert gateway["cpu_ms"] > by_name["relay"]["cpu_ms"] > 0
        assert by_name["relay"]["gateway_to_it"] > 1
        assert by_name["naive"]["gateway_to_it"] < 0.8
        assert gateway["idle_mb"] > 1
    # One look, the warm-up, the load, and the orders of the one client.
    ordered = 1 + 4 + 4 + 4
    assert played["included"] == {
        "answered": ordered,
        "sold_by_upstream": ordered,
        "settled": ordered,
        "distinct_pictures": ordered,
        "charged_micros": ordered * 30_000,
        "stored_bytes": ordered * 9 * 2**20,
    }
    assert list((tmp_path / "temporary").iterdir()) == []
    for picture in ("cpu.png", "throughput.png"):
        assert (tmp_path / "plots" / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--workload", "large"), "large"),
        (("--contender", "somebody"), "somebody"),
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
