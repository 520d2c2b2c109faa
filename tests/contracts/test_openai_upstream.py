"""The `openai` upstream against the fault upstream: good answers and refusals, row by row."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from contracts.openai_bench import KEY, Bench, blob
from safelight.bench.faults.errors import DETAILS, throttled
from safelight.bench.faults.pictures import encoded, unique
from safelight.bench.faults.script import SHAPES, Behaviour, Kind
from safelight.clock import SystemClock
from safelight.errors import FaultClass, UpstreamError
from safelight.types import Operation, Usage

# ---- good answers -------------------------------------------------------------------------------


async def test_a_generation_arrives_as_it_was_sold(bench: Bench) -> None:
    """The spool holds the very bytes that were sold, and the request says only what was asked."""
    received = await bench.generate()
    [sale], [seen] = bench.upstream.sales, bench.upstream.requests
    assert received.digest == sale.sha256 == hashlib.sha256(bench.spool.read_bytes()).hexdigest()
    assert received.bytes == sale.bytes == bench.spool.stat().st_size
    assert received.path == bench.spool
    assert received.usage == Usage(
        input_tokens=21,
        output_tokens=196,
        total_tokens=217,
        input_text_tokens=13,
        input_image_tokens=8,
        output_text_tokens=4,
        output_image_tokens=192,
    )
    assert (received.upstream_request_id or "").startswith("req_")
    assert seen.fields == {
        "model": "gpt-image-2",
        "prompt": "a lamp",
        "n": 1,
        "size": "1024x1024",
        "output_format": "png",
    }
    assert seen.headers["accept-encoding"] == "identity"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert list(bench.folder.iterdir()) == [bench.spool]


async def test_all_parameters_travel_under_the_account_s_model(bench: Bench) -> None:
    """Given parameters are sent, the model is the account's, lossy formats take compression."""
    bench.upstream.models = ("gpt-image-2-2026-04-21",)
    await bench.generate(
        account=bench.account(model="gpt-image-2-2026-04-21"),
        size="auto",
        output_format="webp",
        output_compression=70,
        quality="high",
        background="opaque",
        moderation="low",
        user="u",
    )
    assert bench.upstream.requests[0].fields == {
        "model": "gpt-image-2-2026-04-21",
        "prompt": "a lamp",
        "n": 1,
        "output_format": "webp",
        "output_compression": 70,
        "quality": "high",
        "background": "opaque",
        "moderation": "low",
        "user": "u",
    }


async def test_compression_is_not_sent_for_png(bench: Bench) -> None:
    """OpenAI refuses output_compression with png."""
    await bench.generate(output_compression=100)
    assert "output_compression" not in bench.upstream.requests[0].fields


@pytest.mark.parametrize(
    "kind",
    [
        Kind.DATA_PREFIX,
        Kind.ESCAPED,
        Kind.KEEP_ALIVE,
        Kind.TWO_IMAGES,
        Kind.GZIP,
        Kind.URL,
        Kind.WRONG_SIZE,
        Kind.WRONG_FORMAT,
        Kind.CORRUPT,
    ],
)
async def test_odd_but_usable_answers(bench: Bench, kind: Kind) -> None:
    """The bytes sold arrive in every form; whether they are the right ones is judged elsewhere."""
    bench.upstream.play(kind)
    received = await bench.generate()
    assert received.digest == bench.upstream.sales[0].sha256
    assert received.usage is not None
    assert received.usage.total_tokens == 217


@pytest.mark.parametrize("count", [1, 3])
async def test_edits_upload_files_with_names_and_types(bench: Bench, count: int) -> None:
    """One input is `image`, several are `image[]`, each of its own type; the mask is `mask`."""
    forms = ["png", "jpeg", "webp"][:count]
    files = [encoded(64, 48, form) for form in forms]
    mask = encoded(64, 48, "png", alpha=True)
    paths = [bench.folder / f"in{at}" for at in range(count)]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    (bench.folder / "mask").write_bytes(mask)
    await bench.generate(
        operation=Operation.EDIT,
        inputs=tuple(blob(data, form) for data, form in zip(files, forms, strict=True)),
        input_paths=tuple(paths),
        mask=blob(mask, "png"),
        mask_path=bench.folder / "mask",
        input_fidelity="high",
        prompt="größer, 夜",
    )
    [seen] = bench.upstream.requests
    name = "image" if count == 1 else "image[]"
    named = [(f.field, f.filename, f.content_type, f.sha256) for f in seen.files]
    wanted = [
        (name, "image-0.png", "image/png"),
        (name, "image-1.jpg", "image/jpeg"),
        (name, "image-2.webp", "image/webp"),
    ][:count]
    digests = [hashlib.sha256(data).hexdigest() for data in files]
    assert named == [
        *((*file, digest) for file, digest in zip(wanted, digests, strict=True)),
        ("mask", "mask.png", "image/png", hashlib.sha256(mask).hexdigest()),
    ]
    assert seen.fields == {
        "model": "gpt-image-2",
        "prompt": "größer, 夜",
        "n": "1",
        "size": "1024x1024",
        "output_format": "png",
        "input_fidelity": "high",
    }
    assert "content-length" in seen.headers


@pytest.mark.parametrize("edit", [False, True])
async def test_partial_images_are_spooled_as_they_come(bench: Bench, edit: bool) -> None:
    """Each partial is a whole picture in a file of its own; the completed one ends at the spool."""
    source = bench.folder / "in"
    source.write_bytes(encoded(64, 48, "png"))
    changes: dict[str, Any] = {}
    if edit:
        changes = {
            "operation": Operation.EDIT,
            "inputs": (blob(source.read_bytes(), "png"),),
            "input_paths": (source,),
        }
    seen: list[tuple[int, str, bytes]] = []

    def on_partial(index: int, path: Path) -> None:
        seen.append((index, path.name, path.read_bytes()))

    received = await bench.adapter.generate(
        bench.account(),
        bench.call(partial_images=2, output_format="webp", **changes),
        spool=bench.spool,
        deadline=SystemClock().monotonic() + 20,
        on_partial=on_partial,
    )
    # So small that they would wait in a file buffer if nobody wrote them out.
    partials = [unique(encoded(1024, 1024, "webp"), "webp", f"partial {at}") for at in (0, 1)]
    assert seen == [(0, "job.partial0", partials[0]), (1, "job.partial1", partials[1])]
    assert received.digest == bench.upstream.sales[0].sha256
    assert received.digest == hashlib.sha256(bench.spool.read_bytes()).hexdigest()
    assert received.usage is not None
    assert not (bench.folder / "job.part").exists()
    assert str(bench.upstream.requests[0].fields["stream"]).lower() == "true"


async def test_large_partial_images_do_not_use_up_the_pictures_bytes(bench: Bench) -> None:
    """Each event may be as large as an answer: four of 24 MB are no 64 MB too many."""
    bench.upstream.play(Behaviour(padding=18 * 1024 * 1024))
    seen: list[int] = []
    received = await bench.adapter.generate(
        bench.account(),
        bench.call(partial_images=3),
        spool=bench.spool,
        deadline=SystemClock().monotonic() + 60,
        on_partial=lambda _index, path: seen.append(path.stat().st_size),
    )
    assert len(seen) == 3
    assert sum(seen) + received.bytes > 64 * 1024 * 1024


async def test_no_stream_is_asked_for_when_nobody_looks(bench: Bench) -> None:
    """Partial images cost tokens; without a sink they are not asked for."""
    await bench.generate(partial_images=2)
    assert "stream" not in bench.upstream.requests[0].fields


async def test_a_large_picture_arrives_whole(bench: Bench) -> None:
    """A 30 MB picture goes to disk as it comes."""
    bench.upstream.play(Behaviour(padding=30 * 1024 * 1024))
    received = await bench.generate()
    assert received.bytes > 30 * 1024 * 1024
    assert received.digest == bench.upstream.sales[0].sha256


# ---- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "fault", "code", "final", "sold"),
    [
        ("500", FaultClass.FAST, "upstream_error", 503, False),
        ("502", FaultClass.FAST, "upstream_error", 503, False),
        ("503", FaultClass.FAST, "upstream_error", 503, False),
        ("504", FaultClass.FAST, "upstream_error", 503, False),
        ("520", FaultClass.FAST, "upstream_error", 503, False),
        ("523", FaultClass.FAST, "upstream_error", 503, False),
        ("524", FaultClass.SLOW, "upstream_timeout", 503, True),
        ("429", FaultClass.THROTTLED, "rate_limit_exceeded", 429, False),
        (Kind.QUOTA, FaultClass.QUOTA, "upstream_quota_exhausted", 503, False),
        (Kind.BILLING_LIMIT, FaultClass.QUOTA, "upstream_quota_exhausted", 503, False),
        (Kind.PAYMENT, FaultClass.QUOTA, "upstream_quota_exhausted", 503, False),
        ("401", FaultClass.AUTH, "upstream_auth_failed", 503, False),
        ("403", FaultClass.CAPABILITY, "model_unavailable", 503, False),
        (Kind.MODEL_MISSING, FaultClass.CAPABILITY, "model_unavailable", 503, False),
        (Kind.MODEL_GONE, FaultClass.CAPABILITY, "model_unavailable", 503, False),
        (Kind.ERROR_200, FaultClass.FAST, "upstream_error", 503, False),
        (Kind.EMPTY, FaultClass.BAD_OUTPUT, "upstream_no_image", 503, False),
        (Kind.HTML, FaultClass.FAST, "upstream_not_json", 503, False),
        (Kind.TEXT, FaultClass.FAST, "upstream_not_json", 503, False),
        (Kind.REDIRECT, FaultClass.FAST, "upstream_redirect", 503, False),
        (Kind.RESET, FaultClass.FAST, "upstream_disconnected", 503, None),
        (Kind.SHORT, FaultClass.SLOW, "upstream_truncated", 503, True),
        (Kind.CUT_JSON, FaultClass.SLOW, "upstream_truncated", 503, True),
        (Kind.BAD_BASE64, FaultClass.BAD_OUTPUT, "upstream_bad_image", 503, True),
        (Kind.HUGE, FaultClass.BAD_OUTPUT, "upstream_too_large", 503, True),
        (Kind.GZIP_BOMB, FaultClass.BAD_OUTPUT, "upstream_too_large", 503, True),
        (Kind.STREAM_ERROR, FaultClass.FAST, "upstream_error", 503, False),
    ],
)
async def test_faults_are_classified(
    bench: Bench, act: Any, fault: FaultClass, code: str, final: int, sold: bool | None
) -> None:
    """Each fault has its class, code and final status; `sold` agrees with the vendor's books."""
    error = await bench.fail(act)
    assert (error.fault, error.code, error.final_status, error.sold) == (fault, code, final, sold)
    assert len(bench.upstream.sales) == bool(sold)


@pytest.mark.parametrize("shape", SHAPES)
async def test_moderation_in_every_shape_is_the_caller_s(bench: Bench, shape: str) -> None:
    """A refusal is final and free, whether it comes as 400, 451, 500, 200 or an event."""
    error = await bench.fail(Behaviour(kind=Kind.MODERATION, shape=shape))
    assert (error.fault, error.code) == (FaultClass.CLIENT, "moderation_blocked")
    assert (error.final_status, error.sold) == (400, False)
    if shape in ("openai", "ok_200", "stream"):
        assert error.moderation_details == DETAILS


async def test_a_wrong_parameter_is_named(bench: Bench) -> None:
    """The caller reads which parameter was wrong and why, without the operator's ids."""
    error = await bench.fail("400")
    assert (error.fault, error.code, error.param) == (FaultClass.CLIENT, "invalid_value", "quality")
    assert error.final_status == 400
    assert error.message.startswith("Invalid value: 'purple'. Supported values are: 'low'")


async def test_the_upstream_s_request_id_is_kept_aside(bench: Bench) -> None:
    """It is for the operator's log, in its own field only."""
    error = await bench.fail("500")
    assert (error.upstream_request_id or "").startswith("req_")
    assert error.status == 500


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 12.0),
        ({"retry-after": "70"}, 70.0),
        ({"retry-after-ms": "15500"}, 15.5),
        ({"x-ratelimit-reset-images": "6m0s"}, 360.0),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "9"}, 12.0),
    ],
)
async def test_the_longest_wait_counts(bench: Bench, headers: dict[str, str], wait: float) -> None:
    """Headers and the text (12 s) are compared; the longest is obeyed."""
    body = throttled("12")
    error = await bench.fail(Behaviour(kind=Kind.STATUS, status=429, headers=headers, body=body))
    assert error.retry_after_s == wait


async def test_a_429_without_a_word_about_time(bench: Bench) -> None:
    """No wait is made up: the pool chooses its own."""
    error = await bench.fail("429")
    assert error.retry_after_s is None


async def test_a_limit_of_the_vendor_s_own(bench: Bench) -> None:
    """Above its images per minute a key is told to wait about a minute."""
    bench.upstream.keys = {KEY: 2}
    await bench.generate()
    await bench.generate()
    bench.spool.unlink()
    error = await bench.fail()
    assert error.fault is FaultClass.THROTTLED
    assert 50 < (error.retry_after_s or 0) <= 61


async def test_an_error_after_partials(bench: Bench) -> None:
    """An error event ends the call; the partials that were shown stay for their watchers."""
    bench.upstream.play(Behaviour(kind=Kind.STREAM_ERROR, partials=1))
    shown: list[int] = []
    with pytest.raises(UpstreamError) as caught:
        await bench.adapter.generate(
            bench.account(),
            bench.call(partial_images=1),
            spool=bench.spool,
            deadline=SystemClock().monotonic() + 20,
            on_partial=lambda index, _path: shown.append(index),
        )
    assert caught.value.code == "upstream_error"
    assert shown == [0]
    assert [path.name for path in bench.folder.iterdir()] == ["job.partial0"]
