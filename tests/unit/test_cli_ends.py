"""How commands end: refusals and interrupts as JSON, closed pipes, wrong names and folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from safelight.cli import main
from stub_gateway import Answer, json_answer, stub_gateway


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SAFELIGHT_URL", "SAFELIGHT_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


# --- errors as JSON ---


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["generate"], "prompt"),
        (["generate", "x", "--timeout", "0"], "--timeout"),
        (["generate", "x", "--n", "many"], "--n"),
        (["edit", "x", "--image", "missing.png"], "missing.png"),
        (["sizes", "--no-such-option"], "--no-such-option"),
        (["keys", "paint"], "paint"),
        (["generate", "x"], "gateway address"),
    ],
)
def test_wrong_usage_is_json_where_json_is_asked_for(
    argv: Sequence[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the options' parser refuses has the same shape as every other error."""
    assert main([*argv, "--json"]) == 2
    shown = capsys.readouterr()
    body = msgspec.json.decode(shown.err)
    assert (shown.out, body["exit_code"]) == ("", 2)
    assert named in body["error"]["message"]
    assert body["error"]["hint"]


def test_wrong_usage_names_the_help_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json the same error is text and says where to read on."""
    assert main(["keys", "revoke"]) == 2
    shown = capsys.readouterr().err
    assert "Missing argument 'ID'" in shown
    assert "safelight keys revoke --help" in shown


def test_a_command_group_alone_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """`safelight keys` lists what it can do and adds no error."""
    assert main(["keys"]) == 2
    shown = capsys.readouterr()
    assert "revoke" in shown.out
    assert "error" not in shown.err


@pytest.mark.parametrize("command", [["generate", "x", "--idempotency-key", "mine"], ["sizes"]])
def test_an_interrupt_is_json_where_json_is_asked_for(command: list[str]) -> None:
    """Ctrl-C prints one object with exit code 130; an order's hint names its key."""
    held = Answer(hold=threading.Event())
    assert held.hold is not None
    with stub_gateway(held) as stub:
        argv = [*command, "--json", "--url", stub.url, "--api-key", "k"]
        process = subprocess.Popen(
            [sys.executable, "-m", "safelight", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert stub.arrived.wait(30)
        process.send_signal(signal.SIGINT)
        printed, remarks = process.communicate(timeout=30)
        held.hold.set()
    body = msgspec.json.decode(remarks)
    assert (process.returncode, printed, body["exit_code"]) == (130, b"", 130)
    assert body["error"]["message"] == "interrupted"
    assert ("--idempotency-key mine" in (body["error"]["hint"] or "")) == ("generate" in command)


def test_a_full_disk_is_an_error() -> None:
    """A result that cannot be written ends with 1 and the reason, not with a traceback."""
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has /dev/full")
    empty = json_answer({"object": "list", "data": []})
    with stub_gateway(empty) as stub, Path("/dev/full").open("wb") as full:
        ended = _run(["sizes", "--json", "--url", stub.url, "--api-key", "k"], full.fileno())
    assert ended.returncode == 1
    assert "No space left" in msgspec.json.decode(ended.stderr)["error"]["message"]


# --- a reader that leaves ---

LINE = {
    "id": "tr_1",
    "created_at": 1_800_000_000,
    "kind": "topup",
    "amount_micros": 1,
    "balance_micros": 1,
}
STATEMENT = json_answer({"object": "list", "data": [LINE] * 2000, "has_more": False})


def _run(argv: Sequence[str], stdout: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "safelight", *argv],
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("form", [["--csv"], ["--json"], [], ["--limit", "1", "--csv"]])
def test_a_closed_pipe_ends_quietly(form: list[str]) -> None:
    """`safelight statement | head -1` ends with 0 and says nothing, however much was left."""
    reading, writing = os.pipe()
    os.close(reading)
    with stub_gateway(STATEMENT) as stub:
        ended = _run(["statement", *form, "--url", stub.url, "--api-key", "k"], writing)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_closed_pipe_hides_no_failure() -> None:
    """An error keeps its exit code when nobody reads the output."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = _run(["sizes", "--url", "nowhere", "--api-key", "k"], writing)
    os.close(writing)
    assert ended.returncode == 2


# --- names and folders ---


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\tb", "\x1b[31mred", " acme", "a\u200bb"])
def test_a_customer_has_a_name_one_can_read(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Empty names and those with control characters or blanks around them make no key."""
    assert main(["keys", "create", name, "--json"]) == 2
    assert "name" in msgspec.json.decode(capsys.readouterr().err)["error"]["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv", [["keys", "list"], ["keys", "revoke", "key_1"], ["credit", "acme", "1"]]
)
def test_a_folder_without_books_is_left_alone(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """--data on a folder that is no gateway's ends with 2 and leaves nothing in it."""
    other = Path("other")
    other.mkdir()
    assert main([*argv, "--data", "other"]) == 2
    assert "holds no gateway's data" in capsys.readouterr().err
    assert list(other.iterdir()) == []
