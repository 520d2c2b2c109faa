"""The `responses` upstream over recorded faults: each has its class, however it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from contracts.responses_bench import Bench, body_of, ignore, opened_bench, recordings
from safelight.errors import FaultClass, UpstreamError

GOOD = recordings("good")
HTTP_ERRORS = recordings("http_errors")
FAILED = recordings("failed")
FAILED_STREAMS = recordings("failed_streams")

MODERATED = (FaultClass.CLIENT, "moderation_blocked", 400, False)
FAST = (FaultClass.FAST, "upstream_error", 503, False)
NO_IMAGE = (FaultClass.BAD_OUTPUT, "upstream_no_image", 503, False)
UNABLE = (FaultClass.CAPABILITY, "model_unavailable", 503, False)
QUOTA = (FaultClass.QUOTA, "upstream_quota_exhausted", 503, False)
THROTTLED = (FaultClass.THROTTLED, "rate_limit_exceeded", 429, False)
NOT_JSON = (FaultClass.FAST, "upstream_not_json", 503, False)
BROKEN = (FaultClass.BAD_OUTPUT, "upstream_bad_image", 503, True)


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(tmp_path) as bench:
        bench.server.play(GOOD["generation"])
        yield bench


def seen_as(error: UpstreamError) -> tuple[FaultClass, str, int, bool | None]:
    return error.fault, error.code, error.final_status, error.sold


# Each recording with what it is taken for; one that is missing here fails its test.
AS_HTTP_ERROR = {
    "bad_size": ((FaultClass.CLIENT, "invalid_value", 400, False), "size"),
    "bad_quality": ((FaultClass.CLIENT, "invalid_value", 400, False), "quality"),
    "bad_picture": ((FaultClass.CLIENT, "invalid_image_format", 400, False), "image"),
    "bad_mask": ((FaultClass.CLIENT, "invalid_value", 400, False), "mask"),
    "prompt_too_long": ((FaultClass.CLIENT, "string_above_max_length", 400, False), "prompt"),
    "fidelity_of_the_wrong_model": (
        (FaultClass.CLIENT, "invalid_input_fidelity_model", 400, False),
        "input_fidelity",
    ),
    "field_of_ours_unknown": (UNABLE, None),
    "image_model_unknown": (UNABLE, None),
    "moderation": (MODERATED, None),
    "moderation_of_the_dalle_era": (MODERATED, None),
    "moderation_as_500": (MODERATED, None),
    "spend_cap": (QUOTA, None),
    "key_refused": ((FaultClass.AUTH, "upstream_auth_failed", 503, False), None),
    "not_verified": (UNABLE, None),
    "mainline_model_unknown": (UNABLE, None),
    "too_large_by_the_edge": ((FaultClass.CLIENT, "request_too_large", 400, False), None),
    "validation": ((FaultClass.CLIENT, "invalid_request", 400, False), None),
    "input_images_a_minute": (THROTTLED, None),
    "no_quota": (QUOTA, None),
    "spend_limit": (QUOTA, None),
    "slow_down": (THROTTLED, None),
    "generation_failed": (FAST, None),
    "server_error": (FAST, None),
    "overloaded": ((FaultClass.FAST, "upstream_error", 503, False), None),
    "gateway_timeout_page": ((FaultClass.FAST, "upstream_error", 503, False), None),
    "cut_by_the_cdn": ((FaultClass.SLOW, "upstream_timeout", 503, True), None),
    "web_page": (NOT_JSON, None),
    "not_json_at_all": (NOT_JSON, None),
    "redirect": ((FaultClass.FAST, "upstream_redirect", 503, False), None),
}
AS_ANSWER = {
    "server_error": FAST,
    "rate_limit": THROTTLED,
    "flagged_prompt": (FaultClass.CLIENT, "invalid_prompt", 400, False),
    "image_content_policy": MODERATED,
    "bio_policy": MODERATED,
    "bad_input_picture": (FaultClass.CLIENT, "invalid_image_format", 400, False),
    "residency": UNABLE,
    "failed_without_a_word": FAST,
    "cancelled": FAST,
    "error_as_text": FAST,
    "error_in_a_good_answer": MODERATED,
    "content_filter": MODERATED,
    "out_of_tokens": NO_IMAGE,
    "refusal": MODERATED,
    "only_text": NO_IMAGE,
    "nothing": NO_IMAGE,
    "call_blocked": MODERATED,
    "call_blocked_and_response_failed": MODERATED,
    "call_failed_without_a_word": FAST,
    "call_without_result": NO_IMAGE,
    "call_with_empty_result": NO_IMAGE,
    "result_of_something_else": NO_IMAGE,
    "broken_base64": BROKEN,
    "still_queued": NO_IMAGE,
}
AS_STREAM = {
    "flat_error": FAST,
    "nested_error": MODERATED,
    "flat_rate_limit": THROTTLED,
    "failed": FAST,
    "error_and_failed": MODERATED,
    "filtered": MODERATED,
    "out_of_tokens": NO_IMAGE,
    "call_blocked": MODERATED,
    "call_failed_without_a_word": FAST,
    "refusal": MODERATED,
    "only_text": NO_IMAGE,
    "no_image_after_partials": NO_IMAGE,
    "ends_before_its_end": (FaultClass.SLOW, "upstream_truncated", 503, True),
    "broken_base64": BROKEN,
}


@pytest.mark.parametrize("name", HTTP_ERRORS)
async def test_http_errors(bench: Bench, name: str) -> None:
    """Each has its class, and a parameter is called as the caller called it."""
    error = await bench.fail(HTTP_ERRORS[name])
    assert (seen_as(error), error.param) == AS_HTTP_ERROR[name]
    assert error.status == HTTP_ERRORS[name]["status"]
    assert error.upstream_request_id == "req_7f3a9c0d1e2b4a5f"


@pytest.mark.parametrize("name", FAILED)
async def test_answers_without_a_picture(bench: Bench, name: str) -> None:
    """A good status is no picture: what the response says decides, and talk is no refusal."""
    assert seen_as(await bench.fail(FAILED[name])) == AS_ANSWER[name]


@pytest.mark.parametrize("name", FAILED_STREAMS)
@pytest.mark.parametrize("bare", [False, True])
async def test_streams_without_a_picture(bench: Bench, name: str, bare: bool) -> None:
    """Errors inside a stream mean what they mean outside it, whether or not events are named."""
    recording = {**FAILED_STREAMS[name], "bare": bare}
    error = await bench.fail(recording, partial_images=1, on_partial=ignore)
    assert seen_as(error) == AS_STREAM[name]


async def test_a_refusal_in_the_model_s_own_words(bench: Bench) -> None:
    """The caller reads the refusal, and the categories where they are told."""
    error = await bench.fail(FAILED["refusal"])
    assert error.message == "I can't help with making that image."
    error = await bench.fail(FAILED["call_blocked"])
    assert error.message == "Your request was rejected by the safety system."
    assert error.moderation_details == {"moderation_stage": "output", "categories": ["violence"]}


@pytest.mark.parametrize(
    ("table", "name", "wait"),
    [
        (HTTP_ERRORS, "input_images_a_minute", 12.0),
        (HTTP_ERRORS, "overloaded", 3.0),
        (HTTP_ERRORS, "slow_down", None),
        (FAILED, "rate_limit", 20.0),
        (FAILED_STREAMS, "flat_rate_limit", 7.0),
    ],
)
async def test_waits_are_read(bench: Bench, table: Any, name: str, wait: float | None) -> None:
    """Headers and texts say how long a limit lasts, also inside a good answer."""
    assert (await bench.fail(table[name])).retry_after_s == wait


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("held", [False, True])
async def test_a_body_that_breaks_off(bench: Bench, share: float, held: bool) -> None:
    """Cut or stalled inside the document, the picture was made and is billed."""
    body = body_of(GOOD["generation"])
    bench.server.held, bench.server.cut_at = held, int(len(body) * share)
    error = await bench.fail(GOOD["generation"], account=bench.account(idle_timeout_s=0.15))
    code = "upstream_stalled" if held else "upstream_truncated"
    assert seen_as(error) == (FaultClass.SLOW, code, 503, True)


async def test_silence_is_cut_by_the_deadline(bench: Bench) -> None:
    """No byte is waited for beyond it."""
    bench.server.held, bench.server.cut_at = True, 0
    error = await bench.fail(GOOD["generation"], within_s=0.15)
    assert seen_as(error) == (FaultClass.SLOW, "upstream_timeout", 503, None)


async def test_a_full_disk_is_our_own_fault(bench: Bench) -> None:
    """If the picture cannot be kept the error says so, and that it was paid for."""
    with pytest.raises(UpstreamError) as caught:
        await bench.adapter.generate(
            bench.account(), bench.call(), spool=bench.folder / "gone" / "job", deadline=1e12
        )
    assert seen_as(caught.value) == (FaultClass.LOCAL, "storage_failed", 503, True)
