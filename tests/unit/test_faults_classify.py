"""What error bodies mean, how long to wait, and what is taken out of their text."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from safelight.errors import FaultClass, UpstreamError
from safelight.notices import LimitNotice
from safelight.upstreams.faults import Setting, classify, read_error
from safelight.upstreams.limits import duration_s, limit_notices, retry_after_s, spent_unit
from safelight.upstreams.scrub import MESSAGE_MAX, scrub, scrub_tree

NOW_MS = 1_800_000_000_000


def of(
    status: int, document: Any = None, setting: Setting | None = None, **headers: str
) -> UpstreamError:
    """Classify an answer."""
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return classify(
        status,
        named,
        document,
        now_ms=NOW_MS,
        known=("secret-host",),
        setting=setting or Setting(),
    )


def error(message: str = "", **more: Any) -> dict[str, Any]:
    """Return an OpenAI error body."""
    return {"error": {"message": message, "type": None, "param": None, "code": None, **more}}


@pytest.mark.parametrize(
    ("status", "document", "fault"),
    [
        # The code decides, whatever the status says.
        (500, error(code="moderation_blocked"), FaultClass.CLIENT),
        (400, error(code="content_policy_violation"), FaultClass.CLIENT),
        (400, error(code="content_filter"), FaultClass.CLIENT),
        (400, error(code="ContentFilter"), FaultClass.CLIENT),
        (
            400,
            {"error": {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            None,
        ),
        (429, error(code="insufficient_quota"), FaultClass.QUOTA),
        (429, error(type="insufficient_quota"), FaultClass.QUOTA),
        (429, error(code="credit_balance_exhausted"), FaultClass.QUOTA),
        (429, error(code="organization_spend_limit_exceeded"), FaultClass.QUOTA),
        (429, error(code="project_spend_limit_exceeded"), FaultClass.QUOTA),
        (429, error(code="organization_usage_limit_exceeded"), FaultClass.QUOTA),
        (400, error(code="billing_hard_limit_reached"), FaultClass.QUOTA),
        (403, error(code="insufficient_user_quota"), FaultClass.QUOTA),
        (400, error(code="invalid_api_key"), FaultClass.AUTH),
        (404, {"error": {"code": "DeploymentNotFound", "message": ""}}, FaultClass.CAPABILITY),
        (400, error(code="model_not_found"), FaultClass.CAPABILITY),
        (400, error(code="invalid_value", param="model"), FaultClass.CAPABILITY),
        (503, error(code="rate_limit_exceeded"), FaultClass.THROTTLED),
        (429, error(code="slow_down"), FaultClass.THROTTLED),
        (400, error(code="image_generation_failed"), FaultClass.FAST),
        (500, error(code="invalid_input_fidelity_model"), FaultClass.CLIENT),
        # Then the text.
        (500, error("Rejected by our safety system."), FaultClass.CLIENT),
        (502, {"error": "content policy violation"}, FaultClass.CLIENT),
        (400, error("You exceeded your current quota"), FaultClass.QUOTA),
        (400, error("The usage limit has been reached"), FaultClass.QUOTA),
        (400, error("The model 'x' does not exist."), FaultClass.CAPABILITY),
        (400, error("Your organization must be verified to use it"), FaultClass.CAPABILITY),
        (500, error("Too Many Requests"), FaultClass.THROTTLED),
        # Then the status.
        (400, error("No."), FaultClass.CLIENT),
        (413, error("Too big."), FaultClass.CLIENT),
        (413, None, FaultClass.CLIENT),
        (422, {"detail": [{"loc": ["body", "size"], "msg": "bad size"}]}, FaultClass.CLIENT),
        (400, None, FaultClass.FAST),
        (403, None, FaultClass.FAST),
        (404, None, FaultClass.FAST),  # a proxy's page says nothing about the account
        (404, error(), FaultClass.CAPABILITY),
        (401, None, FaultClass.AUTH),
        (402, None, FaultClass.QUOTA),
        (429, None, FaultClass.THROTTLED),
        (451, error("Unavailable."), FaultClass.CLIENT),
        (408, error(), FaultClass.FAST),
        (409, error(), FaultClass.FAST),
        (418, error(), FaultClass.FAST),
        (500, error(type="invalid_request_error"), FaultClass.FAST),
        (503, {"message": "no healthy upstream"}, FaultClass.FAST),
        (521, None, FaultClass.FAST),
        (524, None, FaultClass.SLOW),
        (529, error(), FaultClass.FAST),
        # Inside a 200 or a stream the error's type stands in for the status.
        (200, error("Bad.", type="invalid_request_error"), FaultClass.CLIENT),
        (200, error("Slower.", type="input-images"), FaultClass.THROTTLED),
        (200, {"type": "error", "code": "moderation_blocked", "message": "No."}, FaultClass.CLIENT),
        (200, error("Odd.", code=500), FaultClass.FAST),
    ],
)
def test_classes(status: int, document: Any, fault: FaultClass | None) -> None:
    """Code first, then text, and the status last."""
    assert of(status, document).fault is (fault or FaultClass.CLIENT)


EDIT = Setting(edit=True)
ANY_SIZE = Setting(any_size=True)
OWN_EDIT = Setting(edit=True, any_size=True)
AZURE = Setting(closes_accounts=True)


@pytest.mark.parametrize(
    ("status", "document", "setting", "lacks"),
    [
        # A route that is not there, in every server's words.
        (404, {"detail": "Not Found"}, EDIT, "edits"),
        (404, None, EDIT, "edits"),
        (405, {"detail": "Method Not Allowed"}, EDIT, "edits"),
        (501, error("Not implemented."), EDIT, "edits"),
        (400, error("This model does not support image editing."), OWN_EDIT, "edits"),
        (400, error("Edits are not supported by this server."), OWN_EDIT, "edits"),
        # What names the model is about the model.
        (404, error("The model 'x' does not exist."), EDIT, "model"),
        (404, {"error": {"code": "DeploymentNotFound", "message": "Gone."}}, EDIT, "model"),
        (403, error("No."), EDIT, "model"),
        # A size that a server of any size refuses is its own cap.
        (400, error("No.", param="size"), ANY_SIZE, "size"),
        (422, {"detail": [{"msg": "width must be at most 2048"}]}, ANY_SIZE, "size"),
        (400, {"error": "resolution too high"}, ANY_SIZE, "size"),
    ],
)
def test_what_an_account_lacks(status: int, document: Any, setting: Setting, lacks: str) -> None:
    """CAPABILITY says whether the model, its edits or one size is not to be had."""
    refused = of(status, document, setting)
    assert (refused.fault, refused.lacks) == (FaultClass.CAPABILITY, lacks)
    assert refused.final_status == 503


@pytest.mark.parametrize(
    ("status", "document", "setting", "fault"),
    [
        (400, error("No.", param="size"), EDIT, FaultClass.CLIENT),
        (400, error("The size is wrong.", code="moderation_blocked"), ANY_SIZE, FaultClass.CLIENT),
        (400, error("Bad prompt."), ANY_SIZE, FaultClass.CLIENT),
        (401, error("No."), EDIT, FaultClass.AUTH),
        (404, error(code="insufficient_quota"), EDIT, FaultClass.QUOTA),
        (429, None, EDIT, FaultClass.THROTTLED),
        (500, error("Edits are not available now."), OWN_EDIT, FaultClass.FAST),
        (400, error("Edits with x are not supported."), EDIT, FaultClass.CLIENT),
        (400, error("The mask has another size."), OWN_EDIT, FaultClass.CLIENT),
        (
            403,
            {"error": {"code": "Forbidden", "message": "Content policy."}},
            AZURE,
            FaultClass.AUTH,
        ),
        (403, {"error": {"code": "contentFilter", "message": "No."}}, AZURE, FaultClass.CLIENT),
        (403, error("You exceeded your current quota"), AZURE, FaultClass.QUOTA),
        (404, error("Resource not found"), AZURE, FaultClass.CAPABILITY),
    ],
)
def test_what_a_setting_changes_and_what_not(
    status: int, document: Any, setting: Setting, fault: FaultClass
) -> None:
    """Who was asked for what is weighed only where the answer alone says too little."""
    assert of(status, document, setting).fault is fault


def test_a_web_page_is_no_missing_route() -> None:
    """A proxy's page says nothing about the account, for edits too."""
    assert of(404, None, EDIT, content_type="text/html").fault is FaultClass.FAST


def test_a_relay_s_note_stands_for_the_status_of_a_good_answer() -> None:
    """`status_code`, or an integer code, says what the relay itself was told."""
    assert of(200, error("Busy.", status_code=429)).fault is FaultClass.THROTTLED
    assert of(200, error("Bad.", code=422)).fault is FaultClass.CLIENT
    assert of(500, error("Bad.", code=422)).fault is FaultClass.FAST


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Bad size. (request id: 20261122001122abc)", "Bad size."),
        ("litellm.BadRequestError: AzureException - Bad size.", "Bad size."),
        ("OpenAIException - Bad size.", "Bad size."),
        ("Bad size: 1x1 - 2x2.", "Bad size: 1x1 - 2x2."),
    ],
)
def test_what_relays_put_around_a_text(text: str, shown: str) -> None:
    """A caller reads the vendor's words, not whose they passed through."""
    assert of(400, error(text)).message == shown


def test_azure_s_filter_results_become_moderation_details() -> None:
    """The categories that were filtered, in OpenAI's form."""
    results = {"hate": {"filtered": False}, "sexual": {"filtered": True}, "odd": 1}
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_results": results}
    refused = of(400, {"error": {"code": "x", "message": "No.", "innererror": inner}})
    assert refused.moderation_details == {"moderation_stage": "unknown", "categories": ["sexual"]}


def test_only_callers_faults_carry_the_upstream_s_words() -> None:
    """A caller learns what to change, and nothing about the operator's accounts."""
    refused = of(
        400, error("Bad size. See https://x.example/y", code="invalid_value", param="size")
    )
    assert (refused.message, refused.code, refused.param) == (
        "Bad size. See [link]",
        "invalid_value",
        "size",
    )
    for status in (401, 402, 403, 404, 429, 500, 524):
        assert "secret" not in of(status, error("secret words")).message


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"code": "req_abc123", "param": "sk-abcdef"}, "invalid_request", None),
        ({"code": 400, "param": "size"}, "invalid_value", "size"),
        ({"code": "x y", "param": ["size"]}, "invalid_request", None),
        ({"code": "invalid_type", "param": "image[0]"}, "invalid_type", "image[0]"),
    ],
)
def test_codes_and_parameters_are_names_or_nothing(
    given: dict[str, Any], code: str, param: str | None
) -> None:
    """What does not look like a code or a parameter, or looks like an id, is not passed on."""
    refused = of(400, error("No.", **given))
    assert (refused.code, refused.param) == (code, param)


def test_moderation_details_are_passed_on_scrubbed() -> None:
    """Stage and categories reach the caller; ids inside them do not."""
    details = {"moderation_stage": "output", "categories": ["sexual"], "trace": "req_12345678"}
    refused = of(400, error("No.", code="moderation_blocked", moderation_details=details))
    assert refused.moderation_details == {**details, "trace": "[id]"}


CONTACT = (
    "If you believe this is an error, contact us at help.openai.com and include the request ID"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            f"No. {CONTACT} req_0a1b2c. safety_violations=[sexual].",
            "No. safety_violations=[sexual].",
        ),
        (f"No. {CONTACT} 0f8fad5b-d9cb-469f-a165-70867728950e", "No."),
        (f"{CONTACT} req_1.", "The request was rejected by the safety system."),
        ("No: contact us poster, request ID", "No: contact us poster, request ID"),
    ],
)
def test_a_refusal_does_not_send_callers_to_the_vendor(text: str, shown: str) -> None:
    """The sentence about whom to write to is left out; the violations stay."""
    assert of(400, error(text, code="moderation_blocked")).message == shown


@pytest.mark.parametrize(
    "document",
    [None, [], "text", {}, {"error": None}, {"error": {}}, {"data": []}, {"type": "x.completed"}],
)
def test_what_states_no_error(document: object) -> None:
    """A document without an error is not one."""
    assert read_error(document) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "type", "param", "detail", "inner_error"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(status=st.integers(200, 599), document=json_values)
def test_any_body_is_classified(status: int, document: Any) -> None:
    """No JSON that a server may send makes the classification fail."""
    refused = of(status, document)
    assert 400 <= refused.final_status < 600
    assert refused.code


# ---- waiting times ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "message", "wait"),
    [
        ({}, "", None),
        ({"Retry-After": "12"}, "", 12.0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-5"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "999999999"}, "", 86_400.0),
        ({"retry-after-ms": "534"}, "", 0.534),
        ({"retry-after": "1", "retry-after-ms": "1500"}, "", 1.5),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, "", 360.0),
        ({"X-RateLimit-Reset-Images": "534ms", "X-RateLimit-Remaining-Images": "0"}, "", 0.534),
        ({"x-ratelimit-reset-tokens": "1h", "x-ratelimit-remaining-tokens": "10"}, "", None),
        ({}, "Please try again in 12s.", 12.0),
        ({}, "Please try again in 1m30s. Visit", 90.0),
        ({}, "Please retry after 26 seconds.", 26.0),
        ({}, "try again in 2 minutes", 120.0),
        ({}, "try again in 534ms", 0.534),
        ({}, "try again later", None),
        ({"retry-after": "3"}, "try again in 12s", 12.0),
    ],
)
def test_waiting_times(headers: dict[str, str], message: str, wait: float | None) -> None:
    """The longest of all that an answer says, bounded by a day."""
    assert retry_after_s(CIMultiDict(headers), message, now_ms=NOW_MS) == wait


@pytest.mark.parametrize(("ahead", "wait"), [(30, 30.0), (-30, 0.0)])
def test_a_date_to_retry_after(ahead: int, wait: float) -> None:
    """An HTTP date counts from the given clock; a past one means now."""
    date = format_datetime(datetime.fromtimestamp(NOW_MS / 1000 + ahead, UTC), usegmt=True)
    assert retry_after_s({"retry-after": date}, now_ms=NOW_MS) == wait


@pytest.mark.parametrize("text", ["", "x", "1x", "s", "1s2", "--1s", "1s " * 3])
def test_no_duration(text: str) -> None:
    """What is no duration is None."""
    assert duration_s(text) is None


# ---- limits -------------------------------------------------------------------------------------


def test_limits_are_read_from_any_answer() -> None:
    """Each unit that the headers speak of, and nothing of those they are silent about."""
    headers = {
        "X-RateLimit-Limit-Images": "5",
        "x-ratelimit-remaining-images": "0",
        "x-ratelimit-reset-images": "12s",
        "x-ratelimit-remaining-requests": "many",
        "x-ratelimit-reset-input-images": "999h",
        "x-ratelimit-limit-tokens": "100",
    }
    notices = limit_notices(CIMultiDict(headers))
    assert notices == (
        LimitNotice(unit="images", limit=5.0, remaining=0.0, reset_s=12.0),
        LimitNotice(unit="input-images", reset_s=86_400.0),
    )
    assert of(500, error(), x_ratelimit_limit_requests="9").limits == (
        LimitNotice(unit="requests", limit=9.0),
    )
    assert limit_notices({}) == ()


@pytest.mark.parametrize(
    ("headers", "message", "kind", "unit"),
    [
        ({}, "", "input-images", "input-images"),
        ({}, "Rate limit reached for x on input-images per min: Limit 5", "", "input-images"),
        ({}, "Rate limit reached on images per min", "", "images"),
        ({}, "on requests per min (RPM): Limit 3", "", "requests"),
        ({}, "on tokens per min (TPM): Limit 30000", "requests", "requests"),
        ({}, "on tokens per min (TPM): Limit 30000", "", "tokens"),
        ({"x-ratelimit-remaining-images": "0"}, "Slow down.", "", "images"),
        (
            {"x-ratelimit-remaining-images": "3", "x-ratelimit-remaining-requests": "0"},
            "",
            "",
            "requests",
        ),
        ({"x-ratelimit-remaining-images": "3"}, "Slow down.", "rate_limit_error", None),
        ({}, "", "", None),
    ],
)
def test_which_limit_ran_out(
    headers: dict[str, str], message: str, kind: str, unit: str | None
) -> None:
    """The error's type, its text, or the header with nothing left names it."""
    assert spent_unit(headers, message, kind) == unit
    refused = of(
        429,
        error(message, type=kind or None),
        None,
        **{name.replace("-", "_"): value for name, value in headers.items()},
    )
    assert refused.unit == unit


# ---- the scrubber -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("in organization org-AbC123 on requests", "in [id] on requests"),
        ("organization: org-AbC123xyz, project proj_9dF", "[id], [id]"),
        ("Incorrect API key provided: sk-proj-****WxYz.", "Incorrect API key provided: [key]"),
        ("key sk-abcdefghijkl was used", "key [key] was used"),
        ("Authorization: Bearer abc.def-ghi failed", "Authorization: [key] failed"),
        ("request req_0a1b2c3d4e failed", "request [id] failed"),
        ("(request id: 2026112200112233abc)", "(request id [id])"),
        ("trace 0f8fad5b-d9cb-469f-a165-70867728950e", "trace [id]"),
        ("see https://platform.openai.com/docs?x=1", "see [link]"),
        ("write to support@vendor.example.com", "write to [address]"),
        ("help.openai.com has more", "[host] has more"),
        ("dial tcp 10.1.2.3:443: refused", "dial tcp [host]: refused"),
        ("dial [2001:db8:0:1::7]:443", "dial [host]"),
        ("http error from localhost:8000", "http error from [host]"),
        ("at secret-host:9000 and SECRET-HOST", "at [removed] and [removed]"),
        ("user-Kd83jdk2kdDk39dk", "[id]"),
        ("token eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "token [id]"),
        ("a\x00b\n c\u202ed", "a b c d"),
        ("image data:image/png;base64,AAAA== is bad", "image [data] is bad"),
    ],
)
def test_what_is_taken_out(text: str, clean: str) -> None:
    """Keys, ids, addresses, hosts and control characters do not pass."""
    assert scrub(text, ("secret-host",)) == clean


@pytest.mark.parametrize(
    "text",
    [
        "Invalid size '1792x936'. Width and height must both be divisible by 16.",
        "Unknown parameter: 'tools[0].n'.",
        "Invalid value: 'x'. Supported values are: 'low', 'medium' and 'auto'.",
        "The 'output_compression' of gpt-image-1.5 must be 0-100, see input_fidelity.",
        "Invalid image file or mode for image 1 (image-0.png), expected image/png at 12:30:45.",
        "image_generation_user_error: organization_usage_limit_exceeded, unsupported_file_mimetype",
    ],
)
def test_what_stays(text: str) -> None:
    """The words that help a caller are left alone."""
    assert scrub(text) == text


def test_text_is_bounded() -> None:
    """Nobody is told more than a few lines."""
    assert len(scrub("word " * 10_000)) == MESSAGE_MAX
    deep: Any = {"a": [{"b": {"c": {"d": "e"}}}] * 100}
    assert scrub_tree(deep) == {"a": [{"b": {"c": None}}] * 32}


@given(
    key=st.from_regex(r"sk-(proj-)?[A-Za-z0-9]{16,48}", fullmatch=True),
    before=st.text(max_size=20),
    after=st.text(alphabet=" .,;:'\")\n", max_size=5),
)
def test_a_key_never_passes(key: str, before: str, after: str) -> None:
    """Wherever the account's own key stands in a text, it is gone afterwards."""
    assert key not in scrub(f"{before} {key}{after}", (key,))
    assert key not in scrub(f"{before} {key}{after}")
