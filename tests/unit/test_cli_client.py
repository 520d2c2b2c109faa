"""The client commands against a gateway that plays scripted answers: output, files, exit codes."""

from __future__ import annotations

import base64
import csv
import io
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import pyvips

from safelight.cli import main
from safelight.cli.http import Patience
from safelight.cli.services import Services
from safelight.clock import ManualClock
from stub_gateway import (
    Answer,
    Asked,
    StubGateway,
    error_answer,
    json_answer,
    stream_answer,
    stub_gateway,
)

FACTS = {
    "x-safelight-job-id": "job_1",
    "x-safelight-size-plan": "native",
    "x-safelight-price-micros": "30000",
    "x-request-id": "req_1",
}


def picture(suffix: str = ".png", width: int = 64, height: int = 48) -> bytes:
    data = pyvips.Image.black(width, height, bands=3).write_to_buffer(suffix)
    assert isinstance(data, bytes)
    return data


PNG = picture()


def event(kind: str, data: bytes = PNG, **more: Any) -> dict[str, Any]:
    return {"type": kind, "b64_json": base64.b64encode(data).decode(), **more}


DRAWN = stream_answer(
    event("image_generation.partial_image", partial_image_index=0),
    event("image_generation.completed"),
    headers=FACTS,
)


def run(stub: StubGateway, *arguments: str | Path, timeless: bool = True) -> int:
    """Run a command against the stub; pauses move a clock instead of passing."""
    clock = ManualClock()
    patient = Services(patience=lambda timeout_s: Patience(timeout_s, clock, clock.advance))
    argv = [*map(str, arguments), "--url", stub.url, "--api-key", "sk-test"]
    return main(argv, patient if timeless else None)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SAFELIGHT_URL", "SAFELIGHT_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


# --- generate ---


def test_generate_writes_the_picture_and_says_what_it_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file holds the delivered bytes; path, size, plan, price and job are printed."""
    with stub_gateway(DRAWN) as stub:
        assert run(stub, "generate", "a lamp", "--size", "64x48", "-o", "lamp.png") == 0
    assert Path("lamp.png").read_bytes() == PNG
    assert list(Path().iterdir()) == [Path("lamp.png")]
    shown = capsys.readouterr()
    for fact in ("lamp.png", "64x48", "native", "$0.030000", "job_1"):
        assert fact in shown.out
    assert shown.err == ""


def test_generate_orders_a_stream_with_partials_and_a_key_of_its_own() -> None:
    """The request is OpenAI's, with progress asked for and a fresh Idempotency-Key each time."""
    with stub_gateway(DRAWN) as stub:
        assert run(stub, "generate", "a lamp", "--size", "16:9@2K", "-f", "webp") == 0
        assert run(stub, "generate", "a lamp", "--partials", "0", "-o", "x.jpg") == 0
    first, second = stub.asked
    assert (first.method, first.target) == ("POST", "/v1/images/generations")
    assert first.headers["authorization"] == "Bearer sk-test"
    assert first.json() == {
        "prompt": "a lamp",
        "model": "gpt-image-2-vip",
        "size": "16:9@2K",
        "output_format": "webp",
        "stream": True,
        "partial_images": 2,
    }
    assert second.json()["output_format"] == "jpeg"
    assert "partial_images" not in second.json()
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_generate_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the facts are machine-readable and nothing else is printed."""
    with stub_gateway(DRAWN) as stub:
        assert run(stub, "generate", "a lamp", "--json", "--idempotency-key", "k1") == 0
    shown = capsys.readouterr()
    report = msgspec.json.decode(shown.out)
    assert shown.err == ""
    assert report["images"][0]["path"] == "job_1.png"
    assert report["images"][0]["size"] == "64x48"
    assert (report["price_micros"], report["price"]) == (30000, "0.030000")
    assert (report["job_id"], report["size_plan"]) == ("job_1", "native")
    assert report["idempotency_key"] == "k1" == stub.asked[0].headers["idempotency-key"]
    assert Path("job_1.png").read_bytes() == PNG


def test_generate_several_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    """More than one picture comes as one JSON body and is numbered."""
    items = [{"b64_json": base64.b64encode(picture(width=w)).decode()} for w in (10, 20)]
    with stub_gateway(json_answer({"created": 1, "data": items}, headers=FACTS)) as stub:
        assert run(stub, "generate", "a lamp", "-n", "2", "-o", "lamp.png", "--json") == 0
    assert stub.asked[0].json()["n"] == 2
    assert "stream" not in stub.asked[0].json()
    report = msgspec.json.decode(capsys.readouterr().out)
    assert [image["size"] for image in report["images"]] == ["10x48", "20x48"]
    assert sorted(map(str, Path().iterdir())) == ["lamp-1.png", "lamp-2.png"]


def test_generate_repeats_safely_until_the_picture_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After a 500, a 429 and a stream that broke off, the same key brings the picture."""
    broken = Answer(
        body=DRAWN.body, headers=DRAWN.headers, content_type="text/event-stream", cut=200
    )
    busy = error_answer(429, "rate_limit_exceeded", headers={"retry-after": "3"})
    script = (error_answer(500, "internal_error"), busy, broken, DRAWN)
    with stub_gateway(*script) as stub:
        assert run(stub, "generate", "a lamp", "-o", "lamp.png") == 0
    assert len({asked.headers["idempotency-key"] for asked in stub.asked}) == 1
    assert len(stub.asked) == 4
    assert Path("lamp.png").read_bytes() == PNG
    assert "trying again in 3.0 s" in capsys.readouterr().err


def test_a_failed_order_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal ends with its own exit code and leaves no file."""
    with stub_gateway(
        error_answer(400, "moderation_blocked", "not this", headers={"x-request-id": "r9"})
    ) as stub:
        assert run(stub, "generate", "x", "-o", "lamp.png") == 6
    assert list(Path().iterdir()) == []
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "not this" in shown.err
    assert "r9" in shown.err


def test_an_error_inside_the_stream_is_final(capsys: pytest.CaptureFixture[str]) -> None:
    """An `error` event ends the order; with --json it is an object on standard error."""
    error = {
        "type": "server_error",
        "code": "upstream_error",
        "message": "all failed",
        "param": None,
    }
    with stub_gateway(stream_answer({"type": "error", "error": error}, headers=FACTS)) as stub:
        assert run(stub, "generate", "x", "--json") == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    body = msgspec.json.decode(shown.err)
    assert body["exit_code"] == 1
    assert body["error"]["code"] == "upstream_error"
    assert body["error"]["request_id"] == "req_1"
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "code",
    ["deadline_exceeded", "rate_limit_exceeded", "shutting_down", "database_busy", "unavailable"],
)
def test_a_passing_failure_inside_the_stream_is_tried_again(code: str) -> None:
    """What a 429 or 503 would repeat is repeated behind a 200 too, under the same key."""
    error = {"type": "server_error", "code": code, "message": "not now", "param": None}
    failed = stream_answer({"type": "error", "error": error}, headers=FACTS)
    with stub_gateway(failed, DRAWN) as stub:
        assert run(stub, "generate", "a lamp", "-o", "lamp.png") == 0
    assert len({asked.headers["idempotency-key"] for asked in stub.asked}) == 1
    assert len(stub.asked) == 2
    assert Path("lamp.png").read_bytes() == PNG


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error_answer(402, "insufficient_balance"), 5),
        (error_answer(401, "invalid_api_key"), 1),
        (error_answer(503, "deadline_exceeded", headers={"x-should-retry": "false"}), 4),
        (Answer(status=404, body=b"<html>", content_type="text/html"), 1),
        (Answer(body=b"<html>", content_type="text/html"), 1),
        (json_answer({"data": []}), 1),
        (json_answer({"data": [{"b64_json": base64.b64encode(b"no picture").decode()}]}), 1),
        (stream_answer(), 3),
    ],
)
def test_every_end_has_its_exit_code(answer: Answer, expected: int) -> None:
    """What the gateway answers decides the exit code, and no file is written."""
    with stub_gateway(answer) as stub:
        assert run(stub, "generate", "x", "-o", "lamp.png") == expected
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "x", "-o", "nowhere/lamp.png"],
        ["generate", "x", "-o", "lamp.png", "-f", "jpeg"],
        ["generate", "x", "-f", "gif"],
        ["generate", "x", "-o", "lamp.gif"],
        ["generate", "x", "-o", "lamp.gif", "-f", "png"],
        ["generate", ""],
        ["generate", "x", "-n", "11"],
        ["generate"],
        ["edit", "x"],
        ["edit", "x", "--image", "missing.png"],
        ["statement", "--csv", "--json"],
        ["statement", "--from", "yesterday"],
        ["sizes", "--no-such-option"],
    ],
)
def test_wrong_usage_asks_nobody(arguments: Sequence[str]) -> None:
    """Mistakes that can be seen here end with 2 before anything is spent."""
    with stub_gateway(DRAWN) as stub:
        assert run(stub, *arguments) == 2
    assert stub.asked == []


def test_missing_address_and_key_are_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without address or key the error names what to set."""
    assert main(["generate", "x"]) == 2
    assert "SAFELIGHT_URL" in capsys.readouterr().err
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert main(["generate", "x"]) == 2
    assert "SAFELIGHT_API_KEY" in capsys.readouterr().err


def test_address_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """SAFELIGHT_* stand above OPENAI_*."""
    with stub_gateway(json_answer({"object": "list", "data": []})) as stub:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        monkeypatch.setenv("SAFELIGHT_URL", f"{stub.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
        assert main(["sizes"]) == 0
    assert stub.asked[0].target == "/v1/sizes"
    assert stub.asked[0].headers["authorization"] == "Bearer sk-environment"


def test_an_interrupted_order_says_how_to_collect_it(tmp_path: Path) -> None:
    """Ctrl-C ends with 130 and names the key under which the order can be collected."""
    held = Answer(body=DRAWN.body, headers=DRAWN.headers, content_type="text/event-stream")
    with stub_gateway(held) as stub:
        held.hold = threading.Event()
        argv = ["generate", "x", "--url", stub.url, "--api-key", "k", "--idempotency-key", "mine"]
        process = subprocess.Popen(
            [sys.executable, "-m", "safelight", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
        )
        assert stub.arrived.wait(30)
        process.send_signal(signal.SIGINT)
        printed, remarks = process.communicate(timeout=30)
        held.hold.set()
    assert process.returncode == 130
    assert printed == b""
    assert b"--idempotency-key mine" in remarks


# --- edit ---


def test_edit_sends_pictures_and_mask_as_the_sdk_does(tmp_path: Path) -> None:
    """Several inputs go as `image[]`, one as `image`, each with the type of its bytes."""
    jpeg = picture(".jpg")
    (tmp_path / "a.bin").write_bytes(PNG)
    (tmp_path / "b.png").write_bytes(jpeg)
    done = stream_answer(event("image_edit.completed"), headers=FACTS)
    with stub_gateway(done) as stub:
        two = ("edit", "merge", "-i", "a.bin", "-i", "b.png", "--mask", "a.bin", "-o", "out.png")
        assert run(stub, *two) == 0
        assert run(stub, "edit", "merge", "-i", "a.bin", "-o", "out.png") == 0
    assert Path("out.png").read_bytes() == PNG
    first, second = (asked.body for asked in stub.asked)
    assert stub.asked[0].target == "/v1/images/edits"
    assert b'name="image[]"; filename="a.bin"\r\nContent-Type: image/png\r\n\r\n' + PNG in first
    assert b'name="image[]"; filename="b.png"\r\nContent-Type: image/jpeg\r\n\r\n' + jpeg in first
    assert b'name="mask"; filename="a.bin"' in first
    assert b'name="stream"\r\n\r\ntrue\r\n' in first
    assert b'name="image"; filename="a.bin"' in second


# --- sizes and statement ---

SIZES = {
    "object": "list",
    "data": [
        {
            "model": "gpt-image-2-vip",
            "allowed": "these, or auto",
            "sizes": [
                {
                    "name": "1820x1024",
                    "width": 1820,
                    "height": 1024,
                    "ratio": "16:9",
                    "tier": "1K",
                    "plan": "crop from 1824x1024",
                    "canvas": "1824x1024",
                    "price_micros": 30000,
                }
            ],
        },
        {"model": "gpt-image-2-all", "allowed": "any", "sizes": []},
    ],
}


def test_sizes_shows_a_table_or_the_raw_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """The model is passed on; --json is the gateway's own answer."""
    with stub_gateway(json_answer(SIZES)) as stub:
        assert run(stub, "sizes", "--model", "gpt-image-2-vip") == 0
        table = capsys.readouterr().out
        assert run(stub, "sizes", "--json") == 0
    for fact in ("crop from 1824x1024", "$0.030000", "these, or auto", "gpt-image-2-all"):
        assert fact in table
    assert stub.asked[0].target == "/v1/sizes?model=gpt-image-2-vip"
    assert msgspec.json.decode(capsys.readouterr().out) == SIZES


def line(number: int, amount: int, balance: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"tr_{number}",
        "created_at": 1_800_000_000 + number,
        "kind": "settle" if amount < 0 else "topup",
        "job_id": None,
        "request_id": None,
        "channel": None,
        "size": None,
        "size_plan": None,
        "amount_micros": amount,
        "balance_micros": balance,
        "reason": "",
        "image_sha256": None,
        "attempts": None,
        **more,
    }


LINES = [
    line(0, 10_000_000, 10_000_000, reason="first, credit"),
    line(1, -30_000, 9_970_000, job_id="job_1", size="2048x1152"),
    line(2, 0, 9_970_000, kind="release", job_id="job_2", reason="moderation_blocked"),
]


def paged(asked: Asked) -> Answer:
    after = parse_qs(urlsplit(asked.target).query).get("after", [""])[0]
    start = next((n + 1 for n, found in enumerate(LINES) if found["id"] == after), 0)
    page = LINES[start : start + 2]
    return json_answer({"object": "list", "data": page, "has_more": start + 2 < len(LINES)})


def test_statement_reads_all_pages(capsys: pytest.CaptureFixture[str]) -> None:
    """The table has every line, failures at 0 with their reason."""
    with stub_gateway(paged) as stub:
        assert run(stub, "statement", "--from", "2026-11-22", "--to", "1900000000") == 0
    shown = capsys.readouterr().out
    for fact in ("job_1", "-0.030000", "9.970000", "moderation_blocked", "2027-01-15 08:00:02"):
        assert fact in shown
    assert "from=1795305600" in stub.asked[0].target
    assert "to=1900000000" in stub.asked[0].target
    assert "after=tr_1" in stub.asked[1].target


def test_statement_as_csv_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    """The amounts of the CSV sum to the last balance."""
    with stub_gateway(paged) as stub:
        assert run(stub, "statement", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert sum(int(row["amount_micros"]) for row in rows) == 9_970_000
    assert rows[0]["reason"] == "first, credit"
    assert list(rows[0]) == list(LINES[0])


def test_statement_limit_reads_no_more_than_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """--limit stops the reading of pages."""
    with stub_gateway(paged) as stub:
        assert run(stub, "statement", "--limit", "2", "--json") == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {"object": "list", "data": LINES[:2]}
    assert len(stub.asked) == 1
