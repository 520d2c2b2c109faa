"""The fault upstream by scenario: conditions, limits on the wire, mixes, books and the summary."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pyvips

from safelight.bench.faults.books import Seen
from safelight.bench.faults.pictures import encoded
from safelight.bench.faults.scenario import Scenario, read
from safelight.bench.faults.script import FIVE_SHAPES, behaviour
from safelight.bench.faults.server import FaultUpstream
from safelight.clock import ManualClock


@dataclass
class Answer:
    """What came back; status 0: the connection broke."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Bench:
    """A fault upstream of a scenario, a client for it, and the clock of its limits and windows."""

    def __init__(
        self, upstream: FaultUpstream, session: aiohttp.ClientSession, clock: ManualClock
    ) -> None:
        self.upstream = upstream
        self.session = session
        self.clock = clock

    async def ask(self, prompt: str = "p", *, key: str = "a", **fields: Any) -> Answer:
        """Order one picture."""
        body = {"model": "gpt-image-2", "prompt": prompt, **fields}
        return await self.send("POST", "/v1/images/generations", key=key, json=body)

    async def statuses(self, count: int, *, key: str = "a") -> list[int]:
        """Order pictures one after the other."""
        return [(await self.ask(key=key)).status for _ in range(count)]

    async def send(self, method: str, path: str, *, key: str = "a", **more: Any) -> Answer:
        """Send any request."""
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self.upstream.origin}{path}"
        try:
            async with self.session.request(method, url, headers=headers, **more) as answer:
                told = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status, told, await answer.text())
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            return Answer(0, {}, "")


@asynccontextmanager
async def started(*, log: Path | None = None, **plan: Any) -> AsyncIterator[Bench]:
    """Serve the scenario, as read from its JSON document."""
    clock = ManualClock()
    scenario = read(json.dumps({"failure_s": 0, **plan}))
    upstream = FaultUpstream.from_scenario(scenario, log=log, monotonic=clock.monotonic)
    async with upstream, aiohttp.ClientSession() as session:
        yield Bench(upstream, session, clock)


# --- limits on the wire ---


async def test_the_keys_of_a_group_share_its_limit() -> None:
    """Two keys of one group have one allowance; another group is not touched."""
    groups = {"a": "one", "b": "one", "c": "two"}
    limits = {"one": {"images_per_minute": 2}, "two": {"images_per_minute": 1}}
    async with started(groups=groups, limits=limits) as bench:
        answered = [(await bench.ask(key=key)).status for key in "abbc"]
        assert answered == [200, 200, 429, 200]
        assert (await bench.ask(key="d")).status == 401
        bench.clock.advance(60)
        assert await bench.statuses(3) == [200, 200, 429]


async def test_a_429_says_what_was_missing_and_when_to_come_again() -> None:
    """The headers, type and text are the vendor's (OpenAI images API); times are vendor seconds."""
    async with started(speed=50, keys={"a": 1}) as bench:
        assert (await bench.ask()).headers["x-ratelimit-remaining-images"] == "0"
        bench.clock.advance(0.5)
        refused = await bench.ask()
    assert (refused.status, refused.headers["retry-after"]) == (429, "35")
    assert refused.headers["x-ratelimit-reset-images"] == "35s"
    error = refused.json["error"]
    assert (error["type"], error["code"]) == ("images", "rate_limit_exceeded")
    assert (
        "on images per min: Limit 1, Used 1, Requested 1. Please try again in 35s."
        in error["message"]
    )


async def test_hidden_limits_tell_nothing() -> None:
    """A 429 may come without any header or hint."""
    limit = {"images_per_minute": 1, "tell_headers": False, "tell_retry_after": False}
    async with started(keys={"a": None}, limits={"a": limit}) as bench:
        await bench.ask()
        refused = await bench.ask()
    assert refused.status == 429
    assert "try again in" not in refused.text
    assert not [name for name in refused.headers if "ratelimit" in name or "retry" in name]


async def test_the_pictures_of_an_edit_count_as_input_images() -> None:
    """A third reference image in a minute is refused by name."""
    async with started(keys={"a": None}, limits={"a": {"input_images_per_minute": 2}}) as bench:
        answers = []
        for _ in range(2):
            form = aiohttp.FormData({"model": "gpt-image-2", "prompt": "p"})
            for _ in range(2):
                data = encoded(64, 64, "png")
                form.add_field("image[]", data, filename="a.png", content_type="image/png")
            answers.append(await bench.send("POST", "/v1/images/edits", data=form))
    assert [answer.status for answer in answers] == [200, 429]
    assert answers[1].json["error"]["type"] == "input-images"
    assert answers[1].headers["x-ratelimit-limit-input-images"] == "2"


async def test_several_pictures_are_sold_and_counted() -> None:
    """n=3 takes three from the limit and brings three different pictures."""
    async with started(keys={"a": 4}) as bench:
        three = await bench.ask(n=3)
        assert len({one["b64_json"] for one in three.json["data"]}) == 3
        assert [sale.delivered for sale in bench.upstream.sales] == [True] * 3
        assert (await bench.ask(n=2)).status == 429
        assert (await bench.ask(n=11)).json["error"]["param"] == "n"


# --- conditions and mixes ---


async def test_an_outage_begins_and_ends_when_it_is_planned() -> None:
    """During an outage of everything each key fails, and no allowance is used."""
    windows = [{"from_s": 10, "to_s": 20, "act": 503}]
    async with started(keys={"a": 1, "b": None}, windows=windows) as bench:
        bench.clock.advance(10)
        assert await bench.statuses(2) == [503, 503]
        assert await bench.statuses(1, key="b") == [503]
        bench.clock.advance(10)
        assert await bench.statuses(2) == [200, 429]


async def test_one_account_can_fail_or_be_revoked() -> None:
    """Conditions may hold for some keys alone: a reset for one, 401 for ever for another."""
    windows = [
        {"to_s": 5, "keys": ["a"], "act": "reset"},
        {"from_s": 5, "keys": ["b"], "act": "401"},
    ]
    async with started(keys={"a": None, "b": None}, windows=windows) as bench:
        assert (await bench.statuses(1), await bench.statuses(1, key="b")) == ([0], [200])
        bench.clock.advance(5)
        assert (await bench.statuses(1), await bench.statuses(1, key="b")) == ([200], [401])


async def test_a_condition_may_sell_within_the_limits() -> None:
    """A time of wrong sizes does not lift the limit."""
    async with started(keys={"a": 1}, windows=[{"act": "wrong_size"}]) as bench:
        wrong = await bench.ask(size="1024x1024")
        assert (wrong.json["size"], bench.upstream.sales[0].size) == ("1024x1536", "1024x1536")
        assert (await bench.ask()).status == 429


async def test_a_share_of_wrong_sizes_comes_by_seed() -> None:
    """Of 200 answers about a fifth have another size, and the file has what the answer says."""
    mix = {"mix": [{"act": "wrong_size", "share": 0.2}]}
    async with started(script=mix, seed=3) as bench:
        answers = [await bench.ask(size="816x816", output_format="webp") for _ in range(200)]
        sizes = [answer.json["size"] for answer in answers]
        assert sizes == [sale.size for sale in bench.upstream.sales]
    assert 25 < sizes.count("1024x1536") < 55
    data = base64.b64decode(answers[0].json["data"][0]["b64_json"])
    picture = pyvips.Image.new_from_buffer(data, "")
    assert f"{picture.width}x{picture.height}" == sizes[0]


async def test_moderation_refuses_a_prompt_in_one_of_five_shapes() -> None:
    """The shape belongs to the prompt, whoever asks and how often; other prompts are served."""
    script = {"prompts": {"gore": "moderation:any"}}
    async with started(script=script) as bench:
        seen = set()
        for number in range(40):
            one, again = [await bench.ask(f"gore {number}", key=key) for key in ("a", "b")]
            assert (one.status, one.text) == (again.status, again.text)
            error = one.json["error"]
            seen.add((one.status, error.get("type"), error.get("code")))
        assert (await bench.ask("a meadow")).status == 200
        assert len(bench.upstream.sales) == 1
    assert seen == {
        (400, "image_generation_user_error", "moderation_blocked"),
        (400, "image_generation_user_error", None),
        (200, "image_generation_user_error", "moderation_blocked"),
        (500, "shell_api_error", None),
        (400, None, "content_filter"),
    }
    assert len(FIVE_SHAPES) == len(seen)


async def test_a_refused_stream_is_an_error_event() -> None:
    """The shape with status 200 answers a stream in the stream."""
    async with started(script="moderation:ok_200") as bench:
        refused = await bench.ask(stream=True)
    assert refused.headers["content-type"].startswith("text/event-stream")
    assert refused.text.startswith("event: error\n")
    assert "moderation_blocked" in refused.text


async def test_stalls_last_as_long_as_planned() -> None:
    """A stall with no byte and one in mid-body end with the connection, in vendor time."""
    script = [{"kind": "stall", "seconds": 30}, {"kind": "stall_body", "seconds": 30}, "ok"]
    async with started(script=script, speed=1000) as bench:
        assert await bench.statuses(3) == [0, 0, 200]
        assert [(sale.kind, sale.delivered) for sale in bench.upstream.sales] == [
            ("stall_body", False),
            ("ok", True),
        ]


def test_slow_keys_and_failures_take_their_time() -> None:
    """A slow account takes its factor longer; a server failure takes its time, a refusal none."""
    upstream = FaultUpstream.from_scenario(Scenario(latency_s=10, slow={"b": 4}, failure_s=2))
    seen = Seen(1, 0.0, "/v1/images/generations", "a", {})
    assert upstream.picture_s(seen) == 10
    seen.key = "b"
    assert upstream.picture_s(seen) == 40
    assert 2 <= upstream.failure_s(seen) <= 3
    assert [behaviour(act).is_server_fault for act in (500, "reset", 429, "moderation")] == [
        *(True, True, False, False)
    ]


# --- books ---


async def test_the_summary_counts_what_happened() -> None:
    """Requests, sales and peaks by key and group, and how often a prompt came."""
    groups = {"a": "one", "b": "one", "c": "two"}
    limits = {"one": {"images_per_minute": 2}}
    async with started(script=["500"], groups=groups, limits=limits) as bench:
        for key in "aabbc":
            await bench.ask(f"for {key}", key=key)
        summary = (await bench.send("GET", "/summary")).json
    assert summary["by_kind"] == {"ok": 2, "status_500": 1, "throttled": 2}
    assert (summary["requests"], summary["throttled"]) == (5, 2)
    assert (summary["sales"], summary["sales_delivered"]) == (2, 2)
    assert summary["by_key"]["b"]["throttled"] == 2
    one = summary["by_group"]["one"]
    assert (one["limit"], one["peak_images"], one["peak_accepted_images"]) == (2, 4, 2)
    assert (one["peak_ratio"], one["peak_accepted_ratio"]) == (2.0, 1.0)
    assert summary["by_group"]["two"]["peak_ratio"] is None
    assert summary["prompts"] == {
        "distinct": 3,
        "requests_per_prompt": round(5 / 3, 4),
        "most_requests": 2,
        "delivered": 2,
    }


async def test_peaks_slide_and_respect_changes() -> None:
    """Requests a minute apart do not add up, and a lowered limit is not held against the past."""
    limits = {"a": {"images_per_minute": 4, "changes": [[50, 2]]}}
    async with started(keys={"a": None}, limits=limits) as bench:
        for pause in (0, 30, 30, 30, 30):
            bench.clock.advance(pause)
            await bench.statuses(2)
        group = bench.upstream.summary()["by_group"]["a"]
    assert (group["peak_images"], group["limit"]) == (4, 2)
    assert (group["peak_ratio"], group["throttled"]) == (2.0, 4)
    assert group["peak_accepted_ratio"] == 1.0


async def test_marks_bound_the_summary() -> None:
    """Between two marks only what happened between them counts."""
    async with started() as bench:
        await bench.ask("before")
        bench.clock.advance(5)
        mark = await bench.send("POST", "/mark?name=warm")
        assert mark.json["at_s"] == 5
        await bench.statuses(2)
        bench.clock.advance(5)
        bench.upstream.mark("end")
        await bench.ask("after")
        between = (await bench.send("GET", "/summary?since=warm&until=end")).json
        assert (between["requests"], between["sales"]) == (2, 2)
        assert (await bench.send("GET", "/summary?since=9.5")).json["requests"] == 1
        assert (await bench.send("GET", "/summary?since=never")).status == 404
        assert (await bench.send("GET", "/summary?window_s=x")).status == 400
        assert (await bench.send("POST", "/mark")).status == 400


async def test_the_log_is_complete_and_brief(tmp_path: Path) -> None:
    """Each line says its vendor time; prompts are cut in the log and whole in memory."""
    log = tmp_path / "log.jsonl"
    async with started(log=log, speed=2, keep_headers=False) as bench:
        bench.clock.advance(3)
        await bench.ask("x" * 500)
        bench.upstream.mark("end")
        [seen] = bench.upstream.requests
        assert (len(seen.prompt), seen.headers, seen.at_s) == (500, {}, 6)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["request", "sale", "delivered", "mark"]
    assert {event["at_s"] for event in events} == {6}
    assert [len(events[0]["fields"]["prompt"]), len(events[1]["prompt"])] == [100, 100]
    assert events[2]["sale"] == events[1]["id"]


# --- the document ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 0},
        {"speeed": 1},
        {"latency_s": -1},
        {"latency": {"p50_s": 10, "p99_s": 5}},
        {"windows": [{"from_s": 5, "to_s": 5, "act": 500}]},
        {"windows": [{"act": "nonsense"}]},
        {"windows": [{"act": 500, "keys": ["b"]}], "keys": {"a": None}},
        {"limits": {"b": {"images_per_minute": 5}}, "keys": {"a": None}},
        {"script": {"mix": {"500": 1.5}}},
        {"script": "moderation:nonsense"},
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """Each mistake is found when the document is read."""
    with pytest.raises(msgspec.ValidationError):
        read(json.dumps(wrong))


def test_a_process_is_started_with_one_document(tmp_path: Path) -> None:
    """The command takes the document as text or file, and refuses a wrong one."""
    command = [sys.executable, "-m", "safelight.bench.faults", "--scenario"]
    file = tmp_path / "scenario.json"
    file.write_text('{"script": "500", "speed": 50, "failure_s": 0}')
    assert read(str(file)) == Scenario(script="500", speed=50, failure_s=0)
    with subprocess.Popen([*command, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.terminate()
    assert process.returncode == 0
    wrong = subprocess.run([*command, '{"speed": 0}'], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "speed is above 0" in wrong.stderr
