"""What is noted of a job's end: counts, the one line, what was hidden, and nothing twice."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gateway.house import VIP, House, account, until
from safelight.config_watch import LogsConfig
from safelight.errors import FaultClass, UpstreamError
from safelight.gateway.notes import Notes
from safelight.gateway.orders import Queued
from safelight.metrics import Metrics
from safelight.telemetry import JsonFormatter
from safelight.types import Job

FAST = UpstreamError(FaultClass.FAST, "upstream_error", "No.", status=500)
THROTTLED = UpstreamError(FaultClass.THROTTLED, "rate_limit_exceeded", "Later.", retry_after_s=0.1)
REFUSED = UpstreamError(FaultClass.CLIENT, "moderation_blocked", "No.", final_status=400)
SECRET_PROMPT = "the plan of the new lamp, with sk-abcdefghijklmnop in it"


@pytest.fixture
async def noted(tmp_path: Path) -> AsyncIterator[House]:
    """A house with one account, whose ends are lines."""
    accounts = account("a", "org"), account("b", "org2")
    house = House(tmp_path, accounts=accounts, logs=LogsConfig())
    yield await house.open()
    await house.close()


def metrics(house: House) -> Metrics:
    return house.parts.notes.metrics


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """Return the lines of ended jobs as they are written."""
    written = JsonFormatter()
    records = [one for one in caplog.records if one.name == "safelight.jobs"]
    return [json.loads(written.format(one)) for one in records]


async def test_a_completed_job_is_counted_and_is_one_line(
    noted: House, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "safelight.jobs"):
        (job,) = await noted.buy(SECRET_PROMPT)
    counts = metrics(noted)
    assert counts.jobs_ended.values == {(VIP, "completed"): 1}
    assert sum(counts.attempts.values.values()) == 1
    assert counts.settled.values == {(VIP,): 30_000}
    assert counts.generation.cells[VIP,].counts[0] == 1
    (line,) = lines(caplog)
    assert job.image is not None
    assert line["message"] == "job ended"
    assert {name: line[name] for name in ("job_id", "request_id", "customer_id", "key_id")} == {
        "job_id": job.id,
        "request_id": job.request_id,
        "customer_id": "cus_1",
        "key_id": "key_1",
    }
    assert (line["channel"], line["outcome"], line["attempts"]) == (VIP, "completed", 1)
    assert (line["price_micros"], line["bytes"]) == (30_000, job.image.blob.bytes)
    assert line["account"] in ("a", "b")
    for name in ("queue_s", "generation_s", "total_s", "size", "plan"):
        assert name in line


async def test_a_prompt_is_told_by_its_length_and_a_keyed_hash(
    noted: House, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "safelight.jobs"):
        await noted.buy(SECRET_PROMPT)
        await noted.buy(SECRET_PROMPT)
        await noted.buy("another")
    one, two, other = lines(caplog)
    assert one["prompt_length"] == len(SECRET_PROMPT)
    assert one["prompt_hash"] == two["prompt_hash"] != other["prompt_hash"]
    assert "lamp" not in caplog.text
    # Under another key it is another hash: who has the log alone can test no guess.
    (job,) = await noted.buy(SECRET_PROMPT)
    caplog.clear()
    with caplog.at_level(logging.INFO, "safelight.jobs"):
        Notes(logs=LogsConfig(), prompt_key=b"another").ended(job)
    (strange,) = lines(caplog)
    assert strange["prompt_hash"] != one["prompt_hash"]


async def test_a_prompt_that_is_told_loses_what_looks_like_a_credential(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = await House(tmp_path, logs=LogsConfig(prompts=True)).open()
    with caplog.at_level(logging.INFO, "safelight.jobs"):
        await house.buy(SECRET_PROMPT)
    await house.close()
    (line,) = lines(caplog)
    assert line["prompt"] == "the plan of the new lamp, with sk-*** in it"


async def test_errors_that_another_attempt_made_good_are_hidden(noted: House) -> None:
    noted.upstream.steps = [FAST, THROTTLED, "512x512", None]
    await noted.buy()
    counts = metrics(noted)
    hidden = {which[2]: count for which, count in counts.hidden_errors.values.items()}
    assert hidden == {"fast": 1, "bad_output": 1}
    assert counts.throttled_absorbed.values == {(VIP,): 1}
    outcomes: dict[str, float] = {}
    for (_, _, outcome), count in counts.attempts.values.items():
        outcomes[outcome] = outcomes.get(outcome, 0) + count
    assert outcomes == {"fast": 1, "throttled": 1, "bad_output": 1, "ok": 1}
    assert counts.recent_hidden.sums() == (2.0, 4.0)


async def test_nothing_is_hidden_of_a_job_that_failed(
    noted: House, caplog: pytest.LogCaptureFixture
) -> None:
    noted.upstream.steps = [FAST, REFUSED]
    with caplog.at_level(logging.INFO, "safelight.jobs"):
        await noted.buy()
    counts = metrics(noted)
    assert counts.jobs_ended.values == {(VIP, "failed"): 1}
    assert counts.hidden_errors.values == {}
    assert counts.settled.values == {}
    assert counts.generation.cells == {}
    (line,) = lines(caplog)
    assert (line["outcome"], line["code"], line["price_micros"]) == (
        "failed",
        "moderation_blocked",
        0,
    )
    assert "account" not in line


async def test_the_end_of_a_job_that_nobody_waits_for_is_its_answer(noted: House) -> None:
    noted.upstream.steps = [REFUSED, None]
    for _ in range(2):
        order = await noted.submit(queued=Queued())
        await noted.queueing.run(order.jobs[0].id)
        job = await noted.gateway.job("cus_1", order.jobs[0].id)
        await until(lambda: noted.gateway.running == 0)
        assert msgspec.structs.replace(job).id == order.jobs[0].id
    counts = metrics(noted)
    assert counts.answers.values == {("queued", "4xx"): 1, ("queued", "2xx"): 1}


async def test_a_cancelled_job_is_noted_once_though_two_ended_it(noted: House) -> None:
    noted.upstream.gate.clear()
    order = await noted.submit()
    await noted.upstream.called.wait()
    await noted.gateway.cancel("cus_1", order.jobs[0].id)
    noted.upstream.gate.set()
    (job,) = await noted.gateway.wait(order)
    assert job.state == "completed"  # the call was out, and its picture came
    queued = await noted.submit("later", queued=Queued())
    for _ in range(2):
        await noted.gateway.cancel("cus_1", queued.jobs[0].id)
    assert metrics(noted).jobs_ended.values == {(VIP, "completed"): 1, (VIP, "cancelled"): 1}


async def test_a_job_that_ended_elsewhere_is_not_noted_here(noted: House, tmp_path: Path) -> None:
    other = await House(tmp_path, owner="other").open()
    order = await noted.submit("elsewhere")
    (done,) = await noted.gateway.wait(order)
    assert isinstance(done, Job)
    assert await other.gateway.job("cus_1", done.id) == done
    other.gateway.ended_elsewhere(done)
    assert metrics(other).jobs_ended.values == {}
    await other.close()
