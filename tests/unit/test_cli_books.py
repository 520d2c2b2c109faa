"""The commands that read the books for people: what they print, and how they refuse."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from attempt_books import AttemptBooks
from safelight import attempts
from safelight.cli import main
from safelight.clock import ManualClock
from safelight.keyring import Keyring
from safelight.types import Received


async def _make(folder: Path) -> None:
    books = await AttemptBooks(folder, ManualClock()).open()
    for number in range(3):
        job = await books.job()
        await books.send(job, "project-a", group="org-1")
        books.clock.advance(20)
        if number == 2:
            await books.end(job, "slow", sold=None)
            continue
        received = Received(
            path=Path("x"), digest="0" * 64, bytes=9, upstream_request_id=f"req_{number}"
        )
        await books.write(
            lambda tx, job=job, received=received: attempts.receive(  # type: ignore[misc]
                tx, job.id, job.epoch, 1, received, cost_micros=9_000
            )
        )
        await books.settle(job)
    await books.db.close()
    Keyring.load_or_create(folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    asyncio.run(_make(folder))
    return folder


def write(folder: Path, *ids: str, cost: str = "0.009") -> str:
    path = folder / "usage.csv"
    path.write_text("request_id,cost\n" + "".join(f"{one},{cost}\n" for one in ids))
    return str(path)


def test_a_receipt_reads_like_one(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Order, picture, money with the balance after each transfer, and the call that made it."""
    assert main(["receipt", "job_1", "--data", str(data)]) == 0
    shown = capsys.readouterr().out
    for fact in (
        *("job_1 (completed)", "req_1", "gpt-image-2-vip", "16x16 png, 9 bytes", "0" * 64),
        *("reserve", "settle", "tr_1_settle", "-0.030000", "image delivered"),
        *("project-a", "org-1", "req_0", "delivered", "20.0", "0.009000", "0.021000"),
    ):
        assert fact in shown


def test_a_receipt_of_a_running_job_says_what_is_not_known(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receipt", "job_3", "--data", str(data), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert (found["status"], found["image"], found["charged_micros"]) == ("in_progress", None, 0)
    assert found["attempts"][0]["sold"] is None
    assert found["attempts"][0]["alias"] != found["attempts"][0]["account"] == "project-a"
    assert (found["vendor_cost_micros"], found["vendor_cost_complete"]) == (0, False)


def test_a_job_that_is_not_there_is_an_error(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["receipt", "job_none", "--data", str(data)]) == 1
    assert "job_none" in capsys.readouterr().err
    assert main(["receipt", "job_1", "--data", str(data / "none")]) == 2


def test_books_that_agree_are_said_to(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(data, "req_0", "req_1")
    for whose in (["--account", "project-a"], ["--group", "org-1"]):
        assert main(["reconcile", file, *whose, "--data", str(data)]) == 0
        shown = capsys.readouterr().out
        assert "2 by id, 0 by time" in shown
        assert "0.018000" in shown
        assert "unknown to us, not sold in the export: 1" in " ".join(shown.split())


def test_books_that_differ_end_with_7_and_say_where(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(data, "req_0", "req_x", cost="0.010")
    assert main(["reconcile", file, "--account", "project-a", "--data", str(data)]) == 7
    shown = capsys.readouterr().out
    for fact in (
        *("sold by the vendor, unknown to us", "req_x", "counted by us as sold, not sold"),
        *("req_1", "job_2", "another cost in the export", "0.010000", "0.009000", "NO"),
    ):
        assert fact in shown


def test_sums_that_do_not_fit_are_shown(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the bounds that the books allow."""
    at = ManualClock().now_ms() // 1000
    result = {"object": "organization.usage.images.result", "images": 9}
    bucket = {"object": "bucket", "start_time": at - 3600, "end_time": at + 86_400}
    path = data / "usage.json"
    path.write_text(json.dumps({"object": "page", "data": [{**bucket, "results": [result]}]}))
    assert main(["reconcile", str(path), "--group", "org-1", "--data", str(data)]) == 7
    shown = capsys.readouterr().out
    assert "too many" in shown
    assert "sums that our books do not allow" in shown


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "one of --account and --group"),
        (["--account", "a", "--group", "b"], "one of --account and --group"),
        (["--account", "nobody"], "project-a"),
        (["--group", "nobody"], "org-1"),
        (["--account", "project-a", "--from", "someday"], "someday"),
    ],
)
def test_a_wrong_question_is_answered_with_what_is_right(
    data: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    assert main(["reconcile", write(data, "req_0"), *argv, "--data", str(data)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"model\ngpt-image-2\n", b"{"])
def test_a_file_that_is_no_export_is_named(
    data: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = data / "odd.bin"
    path.write_bytes(content)
    assert main(["reconcile", str(path), "--account", "project-a", "--data", str(data)]) == 2
    assert "odd.bin" in capsys.readouterr().err
