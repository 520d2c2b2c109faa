"""`safelight batch` against a gateway that plays scripted answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safelight.cli import main
from safelight.cli.http import Patience
from safelight.cli.services import Services
from safelight.clock import ManualClock
from stub_gateway import Answer, StubGateway, error_answer, json_answer, stub_gateway

LINE = '{"custom_id": "a", "method": "POST", "url": "/v1/images/edits", "body": {}}\n'


def batch(status: str, **more: Any) -> Answer:
    counts = {"total": 3, "completed": 2, "failed": 1}
    return json_answer(
        {
            "id": "batch_1",
            "status": status,
            "created_at": 1_795_000_000,
            "expires_at": 1_795_086_400,
            "request_counts": counts,
            "output_file_id": None,
            "error_file_id": None,
            **more,
        }
    )


FILES = {"output_file_id": "file-1", "error_file_id": "file-2"}


def run(stub: StubGateway, *arguments: str) -> int:
    clock = ManualClock()
    patient = Services(patience=lambda timeout_s: Patience(timeout_s, clock, clock.advance))
    return main([*arguments, "--url", stub.url, "--api-key", "sk-test"], patient)


@pytest.fixture(autouse=True)
def in_a_folder_with_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("\n" + LINE)


def test_submit_uploads_the_lines_and_names_their_route(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with stub_gateway(json_answer({"id": "file-0"}), batch("validating")) as stub:
        assert run(stub, "batch", "submit", "in.jsonl") == 0
    upload, made = stub.asked
    assert LINE.encode() in upload.body
    assert b'name="purpose"\r\n\r\nbatch' in upload.body
    assert made.json() == {
        "input_file_id": "file-0",
        "endpoint": "/v1/images/edits",
        "completion_window": "24h",
    }
    assert "validating" in capsys.readouterr().out


def test_submit_waits_and_fetches_both_files() -> None:
    script = [
        json_answer({"id": "file-0"}),
        batch("validating"),
        batch("in_progress"),
        batch("completed", **FILES),
        Answer(body=b"output\n"),
        Answer(body=b"errors\n"),
    ]
    with stub_gateway(*script) as stub:
        assert run(stub, "batch", "submit", "in.jsonl", "--wait", "-o", "out.jsonl") == 0
    assert Path("out.jsonl").read_text() == "output\n"
    assert Path("out-errors.jsonl").read_text() == "errors\n"
    assert stub.asked[-1].target == "/v1/files/file-2/content"


def test_a_batch_that_failed_ends_with_one_and_tells_the_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fault = {"code": "invalid_json_line", "message": "No JSON.", "param": None, "line": 7}
    failed = batch("failed", errors={"object": "list", "data": [fault]})
    with stub_gateway(json_answer({"id": "file-0"}), batch("validating"), failed) as stub:
        assert run(stub, "batch", "submit", "in.jsonl", "--wait") == 1
    assert "line 7: invalid_json_line" in capsys.readouterr().out


def test_a_file_without_a_route_is_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.jsonl").write_text("a,b,c\n")
    with stub_gateway(batch("validating")) as stub:
        assert run(stub, "batch", "submit", "in.jsonl") == 2
    assert stub.asked == []
    assert "names no route" in capsys.readouterr().err


def test_status_list_and_cancel_show_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json_answer({"object": "list", "data": [{"id": "batch_1", "status": "cancelled"}]})
    with stub_gateway(batch("in_progress"), listed, batch("cancelling")) as stub:
        assert run(stub, "batch", "status", "batch_1") == 0
        assert run(stub, "batch", "list") == 0
        assert run(stub, "batch", "cancel", "batch_1", "--json") == 0
    assert [one.target for one in stub.asked] == [
        "/v1/batches/batch_1",
        "/v1/batches?limit=20",
        "/v1/batches/batch_1/cancel",
    ]
    shown = capsys.readouterr().out
    assert "in_progress" in shown
    assert '"status":"cancelling"' in shown


def test_download_fetches_what_there_is() -> None:
    done = batch("completed", output_file_id="file-1")
    with stub_gateway(batch("in_progress"), done, Answer(body=b"output\n")) as stub:
        assert run(stub, "batch", "download", "batch_1") == 1
        assert run(stub, "batch", "download", "batch_1") == 0
    assert Path("batch_1.jsonl").read_text() == "output\n"
    assert sorted(path.name for path in Path().iterdir()) == ["batch_1.jsonl", "in.jsonl"]


def test_a_refusal_is_told_as_every_other(capsys: pytest.CaptureFixture[str]) -> None:
    with stub_gateway(error_answer(404, "not_found", "No batch has the id.")) as stub:
        assert run(stub, "batch", "status", "batch_2") == 1
    assert "No batch has the id." in capsys.readouterr().err
