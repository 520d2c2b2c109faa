"""A job's history as its rows tell it: every state, in order, however late somebody looks."""

from __future__ import annotations

import msgspec

from safelight.attempts import Attempt
from safelight.errors import FaultClass
from safelight.gateway.orders import Step
from safelight.gateway.progress import history
from safelight.types import (
    ImageRequest,
    Job,
    JobState,
    Operation,
    PlanMethod,
    SizePlan,
    Stage,
)

JOB = Job(
    id="job_1",
    request_id="req_1",
    customer_id="cus_1",
    key_id="key_1",
    n=0,
    state=JobState.QUEUED,
    stage=None,
    request=ImageRequest(operation=Operation.GENERATION, channel="any", prompt="a lamp"),
    size_plan=SizePlan(PlanMethod.AUTO),
    price_micros=30_000,
    reserve_id="tr_1",
    epoch=1,
    deadline_at=300_000,
    created_at=1_000,
)
ATTEMPT = Attempt(
    job_id="job_1",
    epoch=1,
    k=1,
    account="project-a",
    group="org-1",
    sent_at=2_000,
    ended_at=None,
    outcome=None,
    code=None,
    sold=None,
    settled=False,
    upstream_request_id=None,
    cost_micros=None,
)


def job(**changes: object) -> Job:
    return msgspec.structs.replace(JOB, **changes)


def attempt(**changes: object) -> Attempt:
    return msgspec.structs.replace(ATTEMPT, **changes)


def told(found: tuple[Step, ...]) -> list[tuple[str, str | None, int]]:
    return [(str(step.state), step.stage and str(step.stage), step.at) for step in found]


def test_a_job_that_waits_has_one_step() -> None:
    assert told(history(JOB, [], now_ms=9_000)) == [("queued", None, 1_000)]


def test_a_job_that_ended_between_two_looks_has_had_every_state_and_stage() -> None:
    done = job(state=JobState.COMPLETED, stage=Stage.SETTLED, started_at=2_000, completed_at=5_000)
    bought = attempt(ended_at=4_000, outcome="ok", sold=True, settled=True)
    assert told(history(done, [bought], now_ms=9_000)) == [
        ("queued", None, 1_000),
        ("in_progress", "sent", 2_000),
        ("in_progress", "received", 4_000),
        ("in_progress", "verified", 5_000),
        ("in_progress", "stored", 5_000),
        ("completed", None, 5_000),
    ]


def test_failed_attempts_are_told_in_words_that_name_no_account() -> None:
    made = [
        attempt(ended_at=3_000, outcome=str(FaultClass.AUTH), code="upstream_auth_failed"),
        attempt(k=2, sent_at=3_000),
    ]
    steps = history(
        job(state=JobState.IN_PROGRESS, stage=Stage.SENT, started_at=2_000), made, now_ms=9
    )
    assert [(step.name, step.attempt, step.reason) for step in steps] == [
        ("queued", None, None),
        ("1.1.sent", 1, None),
        ("1.1.failed", 1, "unavailable"),
        ("1.2.sent", 2, None),
    ]
    assert "project-a" not in repr(steps)


def test_an_attempt_that_another_overtook_has_not_failed() -> None:
    made = [
        attempt(ended_at=4_500, outcome="superseded"),
        attempt(k=2, sent_at=3_000, ended_at=4_000, outcome="ok", sold=True),
    ]
    steps = history(
        job(state=JobState.IN_PROGRESS, stage=Stage.RECEIVED, started_at=2_000), made, now_ms=9
    )
    assert [step.name for step in steps] == ["queued", "1.1.sent", "1.2.sent", "1.2.received"]


def test_a_picture_that_was_rejected_after_its_check_gives_way_to_the_next_attempt() -> None:
    made = [
        attempt(ended_at=3_000, outcome=str(FaultClass.BAD_OUTPUT), sold=True),
        attempt(k=2, sent_at=3_500, ended_at=4_000, outcome="ok", sold=True),
    ]
    steps = history(
        job(state=JobState.IN_PROGRESS, stage=Stage.STORED, started_at=2_000), made, now_ms=9_000
    )
    assert [step.name for step in steps][-4:] == [
        "1.2.sent",
        "1.2.received",
        "1.2.verified",
        "1.2.stored",
    ]
    assert steps[-1].at == 9_000


def test_a_job_that_was_cancelled_in_the_queue_never_ran() -> None:
    gone = job(state=JobState.CANCELLED, cancel_requested_at=3_000, completed_at=3_000)
    steps = history(gone, [], now_ms=9_000)
    assert [(step.state, step.cancelling) for step in steps] == [
        (JobState.QUEUED, False),
        (JobState.QUEUED, True),
        (JobState.CANCELLED, False),
    ]


def test_steps_have_names_of_their_own_over_epochs() -> None:
    made = [
        attempt(ended_at=5_000, outcome="lost"),
        attempt(epoch=2, k=1, sent_at=6_000, ended_at=7_000, outcome="ok", settled=True),
    ]
    done = job(state=JobState.COMPLETED, stage=Stage.SETTLED, started_at=2_000, completed_at=8_000)
    names = [step.name for step in history(done, made, now_ms=9_000)]
    assert len(names) == len(set(names))
    assert names[1:5] == ["1.1.sent", "1.1.failed", "2.1.sent", "2.1.received"]
