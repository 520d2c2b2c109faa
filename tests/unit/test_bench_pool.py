"""The pool's bench: true arithmetic, documents that both sides understand, one tiny play."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from safelight.bench.faults.pictures import encoded
from safelight.bench.faults.scenario import Scenario as UpstreamScenario
from safelight.bench.pool import contenders, measures, run, scaled, world
from safelight.bench.pool.caller import dimensions
from safelight.bench.pool.calls import UNFINISHED, Call, Seen, Try
from safelight.bench.pool.measures import Evidence
from safelight.bench.pool.report import Machine, Measure, Play, Report, ScenarioResult
from safelight.bench.pool.scenarios import NAMES, SICK, Group, Scenario, Stream, scenario
from safelight.bench.pool.world import Attempt, Books
from safelight.config import load_config


def attempt(
    at_s: float, key: str = "sk-0", *, kind: str = "ok", prompt: str = "lamp 1", sold: bool = True
) -> Attempt:
    sells = sold and kind == "ok"
    return Attempt(
        at_s=at_s, key=key, group="org-0", prompt=prompt, kind=kind, sold=sells, delivered=sells
    )


def call(started_s: float, ended_s: float, *, status: int = 200, **facts: str) -> Call:
    said = {"prompt": "lamp 1", "customer": "a", "size": "1024x1024", **facts}
    got = said.get("got", "1024x1024") if status == 200 else ""
    tries = [Try(started_s, ended_s, status)]
    return Call(
        started_s=started_s, ended_s=ended_s, status=status, tries=tries, **{**said, "got": got}
    )


def evidence(
    played: Scenario, calls: Sequence[Call], attempts: Sequence[Attempt], charged: int | None = None
) -> Evidence:
    seen = Seen(calls=tuple(calls), held_back=0, cpu_share=0.1, lag_p95_s=0.0, lag_max_s=0.0)
    return Evidence(played, seen, Books(tuple(attempts)), charged)


def by_name(found: Sequence[Measure]) -> dict[str, Measure]:
    return {one.name: one for one in found}


def test_percentiles_are_values_that_occurred() -> None:
    assert measures.percentile([3, 1, 2, 4], 0.5) == 2
    assert measures.percentile(range(1, 101), 0.95) == 95
    assert measures.percentile([7], 0.99) == 7
    assert measures.percentile([], 0.5) is None


def test_jain_is_one_for_equals_and_one_nth_for_a_monopoly() -> None:
    assert measures.jain([5, 5, 5, 5]) == 1
    assert measures.jain([8, 0, 0, 0]) == 0.25
    assert measures.jain([0, 0]) is None


def test_a_bar_is_kept_at_its_very_value() -> None:
    assert measures.bound("x", 1.05, most=1.05).passed is True
    assert measures.bound("x", 1.051, most=1.05).passed is False
    assert measures.bound("x", 0.949, least=0.95).passed is False
    assert measures.bound("x", None, most=1).passed is False
    assert measures.bound("x", 3).passed is None


def test_numbers_are_shown_as_people_read_them() -> None:
    assert measures.bound("x", 0.98765, least=0.95, form="share").shown == "98.77 %"
    assert measures.bound("x", 0.5, least=0.95, form="share").bar == "≥ 95 %"
    assert measures.bound("x", 1.0, most=1.2).shown == "1"
    assert measures.bound("x", 2.04, most=2, form="seconds").shown == "2.04 s"
    assert measures.bound("x", 123.4, form="seconds").shown == "123 s"
    assert measures.bound("x", 0, most=0, form="count").bar == "0"


def test_the_worst_minute_is_the_worst_of_any_sixty_seconds() -> None:
    """Five in the last minute of a limit of four is 1.25, wherever the minute begins."""
    played = Scenario(
        name="capacity",
        shows="",
        groups=(Group(name="org-0", keys=("sk-0",), limit=4),),
        streams=(),
        duration_s=200,
        speed=1,
    )
    times = [0, 50, 55, 65, 100, 109.9, 170]
    found = measures.worst_minute(played, [attempt(at) for at in times], (0, 200))
    assert found == 5 / 4
    assert measures.worst_minute(played, [attempt(0), attempt(60)], (0, 200)) == 1 / 4


def test_a_minute_over_a_change_is_held_against_the_higher_limit() -> None:
    played = Scenario(
        name="capacity",
        shows="",
        groups=(Group(name="org-0", keys=("sk-0",), limit=2, changed=1),),
        streams=(),
        duration_s=200,
        change_s=100,
        speed=1,
    )
    assert measures.worst_minute(played, [attempt(99), attempt(101)], (0, 200)) == 1
    assert measures.worst_minute(played, [attempt(161), attempt(162)], (0, 200)) == 2


def test_capacity_counts_pictures_of_the_measured_stretch_only() -> None:
    played = msgspec.structs.replace(
        scenario("capacity"),
        groups=(Group(name="org-0", keys=("sk-0",), limit=6, changed=12),),
        spans={"before": (60.0, 120.0), "after": (180.0, 240.0)},
        change_s=120.0,
    )
    inside = [60, 70, 80, 90, 100, 110]
    after = [180 + 5 * at for at in range(12)]
    calls = [call(at - 5, at) for at in (10, *inside, *after)]
    attempts = [attempt(at) for at in (1, *inside, *after)]
    attempts.append(attempt(200, kind="throttled"))
    found = by_name(measures.measure(evidence(played, calls, attempts)))
    assert found["delivered of true capacity, before the change"].value == 1
    assert found["delivered of true capacity, after the change"].value == 1
    assert found["attempts answered 429"].value == 1 / 19
    assert found["attempts per picture"].value == 19 / 18
    assert found["calls that ended in 429"].passed


def test_own_waste_is_what_was_delivered_and_reached_nobody() -> None:
    calls = [call(0, 10), call(0, 20), call(0, 30, status=504)]
    attempts = [attempt(0), attempt(1), attempt(2), attempt(3, kind="stall")]
    found = by_name(measures.measure(evidence(scenario("faults-30"), calls, attempts)))
    assert found["delivered pictures that reached nobody"].value == 1 / 3
    assert found["attempts per picture"].value == 2
    assert found["calls served"].value == 2 / 3


def test_calls_that_were_cut_off_at_the_end_are_no_failures() -> None:
    cut = call(5, 6, status=0, code=UNFINISHED)
    found = by_name(measures.measure(evidence(scenario("faults-5"), [call(0, 1), cut], [])))
    assert found["calls served"].value == 1


def test_an_outage_counts_attempts_and_refusals_by_when_they_began() -> None:
    played = scenario("outage")
    began, ended = played.spans["outage"]
    calls = [
        call(60, 80),
        *(call(began + at, began + at + 1, status=503) for at in range(70, 80)),
        call(ended + 40, ended + 60),
    ]
    attempts = [attempt(60), *(attempt(began + at, kind="status") for at in range(5))]
    found = by_name(measures.measure(evidence(played, calls, attempts)))
    assert found["upstream attempts per client call"].value == 0.5
    assert found["time to a refusal once open, p99"].value == 1
    assert found["goodput from 30 s after healing"].value == 1
    assert found["calls lost to the outage"].value == 10


def test_an_account_is_out_with_its_first_long_pause() -> None:
    assert measures.burst([1, 2, 12, 24, 25], 60) == [1, 2, 12]
    assert measures.burst([1, 2, 5], 60) == [1, 2, 5]
    assert measures.burst([], 60) == []


def test_attempts_under_way_are_not_held_against_the_pool() -> None:
    """Of five slow attempts one had failed when the last began: two failures were enough."""
    assert measures.known_failures([0, 10, 40, 55, 61], 60) == 2
    assert measures.known_failures([0, 1, 2, 3, 4], 0.5) == 5
    assert measures.known_failures([0, 0.1], 0.5) == 1
    assert measures.known_failures([], 0.5) == 0


def test_a_dead_account_is_back_with_its_first_sale() -> None:
    played = scenario("dead-account")
    sick, healed = played.spans["sick"][0], played.spans["healed"][0]
    attempts = [
        *(attempt(sick + at, SICK, kind="status") for at in (0, 3, 6)),
        attempt(healed + 12, SICK),
    ]
    found = by_name(measures.measure(evidence(played, [call(0, 1)], attempts)))
    assert found["failures until it is out"].value == 3
    assert found["time until it is out"].value == 6
    assert found["back after healing"].value == 12
    assert found["calls that failed"].value == 0


def test_refusals_are_counted_apart_from_good_calls() -> None:
    played = scenario("moderation")
    calls = [call(0, 1, status=400, prompt="refused 1"), call(9, 12)]
    attempts = [
        attempt(0, kind="moderation", prompt="refused 1"),
        *(attempt(700, key) for key in played.keys),
    ]
    found = by_name(measures.measure(evidence(played, calls, attempts, charged=1)))
    assert all(one.passed is not False for one in found.values())
    assert found["refusals charged"].value == 0


def test_a_small_customer_is_compared_with_itself_alone() -> None:
    calls = [
        *(call(at, at + 20, prompt="alone 1") for at in range(5)),
        *(call(at, at + 50, prompt="beside 2") for at in range(5)),
    ]
    found = by_name(measures.measure(evidence(scenario("fairness"), calls, [])))
    assert found["how much slower"].value == 2.5
    assert found["how much slower"].passed is False


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_can_be_played_and_measured(
    name: str, *, quick: bool, learns: bool, tmp_path: Path
) -> None:
    """The upstream takes its document, the gateway its configuration, the arithmetic no calls."""
    played = scenario(name, quick=quick, learns=learns)
    said = msgspec.convert(world.document(played, seed=1, speed=20), UpstreamScenario, strict=False)
    assert said.known_keys is not None
    assert set(said.known_keys) == set(played.keys)
    file = tmp_path / "safelight.toml"
    file.write_text(contenders.safelight_toml(played, 9))
    environ = {f"BENCH_{key.upper().replace('-', '_')}": key for key in played.keys}
    config = load_config(file, tmp_path, environ=environ)
    assert [account.name for account in config.accounts] == list(played.keys)
    deployments = contenders.litellm_config(played, 9)["model_list"]
    assert [one["litellm_params"]["api_key"] for one in deployments] == list(played.keys)
    assert measures.measure(evidence(played, [], [], charged=0))
    assert max(stream.until_s for stream in played.streams) <= played.duration_s
    assert all(span[0] < span[1] for span in played.spans.values())


def test_the_books_count_from_the_moment_the_clients_began(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    fields = {"fields": {"prompt": "lamp 1"}, "key": "sk-0", "group": "org-0", "kind": "ok"}
    entries = [
        {"event": "mark", "name": world.START, "at_s": 2.0},
        {"event": "request", "number": 1, "at_s": 3.5, **fields},
        {"event": "request", "number": 2, "at_s": 3.0, **fields},
        {"event": "sale", "id": "s", "request": 1, "at_s": 9.0},
        {"event": "delivered", "sale": "s", "at_s": 9.1},
    ]
    log.write_text("".join(json.dumps(one) + "\n" for one in entries))
    second, first = world.read(log).attempts
    assert (second.at_s, second.sold) == (1.0, False)
    assert (first.at_s, first.sold, first.delivered) == (1.5, True, True)


def test_delivered_sizes_are_read_from_the_picture_itself() -> None:
    picture = encoded(1280, 720, "png")
    assert dimensions(base64.b64encode(picture).decode()) == "1280x720"
    assert dimensions("") == ""
    assert dimensions("no base64 at all") == ""
    assert dimensions(base64.b64encode(b"GIF89a" + bytes(60)).decode()) == ""


# A program for the launcher; it waits in scaled time, 0.08 s for each of its 4 s.
_PROBE = """
import asyncio, datetime, queue, sys, threading, time
from datetime import datetime as imported_by_name
import uvloop

def passed(clock, act):
    began = clock()
    act()
    return clock() - began

def get():
    try:
        queue.Queue().get(timeout=4)
    except queue.Empty:
        pass

def now():
    return imported_by_name.now(datetime.UTC).timestamp()

runs, rest, pause = asyncio.run, asyncio.sleep, time.sleep
took = {
    "sleep": passed(time.monotonic, lambda: pause(4)),
    "wall": passed(time.time, lambda: pause(4)),
    "datetime": passed(now, lambda: pause(4)),
    "asyncio": passed(time.perf_counter, lambda: runs(rest(4))),
    "event": passed(time.monotonic, lambda: threading.Event().wait(4)),
    "queue": passed(time.monotonic, get),
}
print(sys.argv[1:], isinstance(datetime.datetime.min, imported_by_name))
print({name: round(seconds) for name, seconds in took.items()})
"""


def test_a_scaled_program_lives_faster_and_does_not_notice(tmp_path: Path) -> None:
    """Twenty-four seconds of waiting take half a real one, by every clock the program has."""
    program = tmp_path / "probe.py"
    program.write_text(_PROBE)
    before = os.times().elapsed
    done = subprocess.run(
        [sys.executable, scaled.__file__, "--speed", "50", "--", str(program), "--flag", "x"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    real_s = os.times().elapsed - before
    arguments, took = done.stdout.splitlines()
    assert arguments == "['--flag', 'x'] True"
    assert took == str(dict.fromkeys(("sleep", "wall", "datetime", "asyncio", "event", "queue"), 4))
    assert real_s < 20


async def test_a_tiny_play_is_whole(tmp_path: Path) -> None:
    """A dozen calls through a real gateway: both witnesses agree, and no process is left."""
    tiny = Scenario(
        name="faults-5",
        shows="a few calls",
        groups=(Group(name="org-0", keys=("sk-0", "sk-1"), configured=60, limit=60),),
        streams=(
            Stream(crowd=3, count=9, until_s=60, sizes=("1024x1024", "848x1280")),
            Stream(customer="b", per_minute=12, even=True, until_s=20),
        ),
        duration_s=60,
        drain_s=10,
        latency_s=(5.0, 8.0),
        speed=20,
    )
    played = await run.play(run.Plan(seed=3), tiny, contenders.SAFELIGHT)
    assert played.error == ""
    assert played.outcomes == {"ok": 12}
    assert played.calls == played.served == 12
    found = by_name(played.measures)
    assert found["calls served"].passed
    assert found["attempts per picture"].value == 1
    assert [one.process for one in played.load] == ["clients", "upstream", "safelight-0"]


async def test_what_does_not_start_is_said() -> None:
    """A contender that cannot run is a play with an error, not the end of the bench."""
    plan = run.Plan(litellm=Path(sys.executable).with_name("no-such-program"))
    played = await run.play(plan, scenario("moderation", quick=True), contenders.LITELLM)
    assert "litellm-0 did not start" in played.error
    assert not played.valid


def bench_pool(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "safelight", "bench", "pool", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scenario", "nonesuch"), "known: capacity"),
        (("--contender", "nobody"), "known: safelight, litellm"),
        (("--contender", "litellm"), "make bench-pool"),
        (("--out", "/nonexistent/folder/x.json"), "there is no folder"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(
    options: tuple[str, ...], words: str
) -> None:
    done = bench_pool(*options)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


def test_a_missed_bar_of_safelight_is_named() -> None:
    kept, missed = (Measure(name=n, value=1, shown="1", passed=n == "a") for n in "ab")
    plays = tuple(
        Play(contender=name, speed=1, took_s=1, measures=(kept, missed))
        for name in (contenders.SAFELIGHT, contenders.LITELLM)
    )
    report = Report(
        version="0",
        litellm_version="0",
        machine=Machine(system="", processor="", cpus=1, python=""),
        seed=1,
        quick=True,
        took_s=1,
        scenarios=(ScenarioResult(name="outage", shows="", plays=plays),),
    )
    assert report.failed == ("outage: b",)
