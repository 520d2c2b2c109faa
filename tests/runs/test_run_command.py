"""`safelight run` as a command: what it asks, what it says, and how it ends."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from runs.house import House, manifest_lines
from safelight.cli import main

PRICE = 30_000


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


@pytest.fixture
def call(house: House, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run `safelight run` in this process, which has no terminal."""

    def run(*words: str) -> Ended:
        code = main(["run", *words])
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run


def test_the_command_forecasts_asks_orders_and_goes_on(house: House, call: Call) -> None:
    """Without a terminal it orders only with --yes; --dry-run changes nothing."""
    (house.folder / "lamps.csv").write_text(
        "prompt,colour\na {colour} lamp,red\na {colour} lamp,blue\n"
    )
    dry = call("lamps.csv", "--size", "1024x1024", "--dry-run", "--json")
    told = json.loads(dry.out)
    assert (dry.code, told["cost_micros"], told["pictures"]) == (0, 2 * PRICE, 2)
    mute = call("lamps.csv", "--size", "1024x1024")
    assert (mute.code, "--yes" in mute.err) == (2, True)
    assert not (house.folder / "lamps").exists()
    words = ("lamps.csv", "--size", "1024x1024", "--gate", "size", "--gate", "not-blank", "--yes")
    done = call(*words)
    assert done.code == 0, done.err
    assert "2 of 2 accepted" in done.out
    assert "$0.06" in done.out
    assert "5xx 0 % of 2 tries" in done.out
    assert house.agree(house.folder / "lamps") == 2
    assert {row["state"] for row in manifest_lines(house.folder / "lamps")} == {"accepted"}
    again = call(*words, "--json")
    assert json.loads(again.out)["forecast"]["pictures"] == 0
    assert house.sold == 2


def test_a_wrong_plan_ends_with_2_and_all_its_faults(house: House, call: Call) -> None:
    """Those of the file, and those that the gateway's quote finds, with file and line."""
    plan = house.folder / "rows.csv"
    plan.write_text("prompt,size,inputs\na,,gone.png\n{b},,\n")
    bad = call("rows.csv", "--yes")
    assert bad.code == 2
    assert "rows.csv:2: inputs: gone.png" in bad.err
    assert "rows.csv:3: prompt: {b} is no column" in bad.err
    (house.folder / "text.png").write_text("no picture")
    plan.write_text("prompt,size,inputs\na,,text.png\nb,1x1,\n")
    bad = call("rows.csv", "--yes")
    assert (bad.code, "rows.csv:2: inputs: " in bad.err) == (2, True)
    plan.write_text("prompt,size\na,1024x1024\nb,1x1\n")
    bad = call("rows.csv", "--yes")
    assert (bad.code, "rows.csv:3: size: " in bad.err) == (2, True)
    assert house.asked == []


def test_a_balance_that_is_too_small_is_told_before(house: House, call: Call) -> None:
    """With how far it goes, and how to order that much."""
    poor = House(house.site, house.folder, house.site.gateway.key("poor", "0.05"))
    (house.folder / "rows.csv").write_text("prompt\n" + "a lamp\n" * 3)
    words = ("rows.csv", "--size", "1024x1024", "--yes", "--api-key", poor.key)
    short = call(*words)
    assert short.code == 5
    assert "covers 1 of 3 pictures" in short.err
    part = call(*words, "--max-cost", "0.05")
    assert part.code == 9, part.err
    assert "safelight run rows.csv --size 1024x1024 --yes --max-cost 0.05" in part.out
    assert poor.key not in part.out
    assert poor.agree(house.folder / "rows") == 1


def test_ctrl_c_stops_ordering_and_names_the_command_that_goes_on(house: House, call: Call) -> None:
    """What is under way is waited for and kept."""
    house.upstream.latency_s = 1.0
    (house.folder / "rows.csv").write_text("prompt\na\nb\nc\nd\n")
    words = ("rows.csv", "--size", "1024x1024", "--yes", "--concurrency", "2")
    with house.started(*words) as started:
        house.wait_for_requests(2)
        started.send_signal(signal.SIGINT)
        _, err = started.communicate()
    assert started.returncode == 130, err
    assert f"safelight run {' '.join(words)}" in err
    assert house.agree(house.folder / "rows") == 2
    house.upstream.latency_s = 0.0
    done = call(*words)
    assert done.code == 0
    assert house.agree(house.folder / "rows") == 4


def test_a_second_ctrl_c_leaves_at_once(house: House, call: Call) -> None:
    """What is under way goes on at the gateway, and the next start collects it."""
    house.upstream.latency_s = 3.0
    (house.folder / "rows.csv").write_text("prompt\na\nb\n")
    words = ("rows.csv", "--size", "1024x1024", "--yes")
    with house.started(*words) as started:
        house.wait_for_requests(2)
        began = time.monotonic()
        started.send_signal(signal.SIGINT)
        wait_for_words(started, "Ctrl-C again")
        started.send_signal(signal.SIGINT)
        _, err = started.communicate()
        assert time.monotonic() - began < 2.5
    assert started.returncode == 130, err
    assert "collected by the next start" in err
    done = call(*words)
    assert done.code == 0, done.err
    assert house.agree(house.folder / "rows") == 2
    assert house.sold == 2


def wait_for_words(started: subprocess.Popen[str], words: str) -> None:
    """Read what a command says until these words."""
    assert started.stderr is not None
    said = ""
    while words not in said:
        line = started.stderr.readline()
        assert line, said
        said += line


def test_a_full_disk_loses_nothing(house: House, call: Call) -> None:
    """The run stops in words; with room again it collects what it has paid for."""
    (house.folder / "rows.csv").write_text("prompt\na\nb\nc\n")
    words = ("rows.csv", "--size", "1024x1024", "--yes")

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    with house.started(*words, preexec_fn=small_files) as full:
        _, err = full.communicate()
    assert full.returncode == 10, err
    assert "nothing more is ordered" in err
    sold = house.sold
    assert sold >= 1
    done = call(*words)
    assert done.code == 0, done.err
    assert house.agree(house.folder / "rows") == 3
    assert house.sold == 3


@pytest.mark.parametrize("word", ["nonsense", "plan.csv"])
def test_what_is_neither_recipe_nor_file_is_said(house: House, call: Call, word: str) -> None:
    """With what there is."""
    wrong = call(word, "--yes")
    assert wrong.code == 2
    assert word in wrong.err
