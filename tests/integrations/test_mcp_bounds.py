"""What bounds the MCP server: folders, purse, previews, and the words of errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st

from safelight.cli.picture import Measured, measure
from safelight.client import errors
from safelight.client.mcp.faults import ToolFault, explained
from safelight.client.mcp.folders import Folders
from safelight.client.mcp.previews import preview
from safelight.client.mcp.purse import Purse, dollars
from safelight.client.mcp.run_folders import run_report
from safelight.client.runs.journal import Journal

# --- folders ---


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    for name in ("pictures", "inputs", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(name.encode())
    return Folders(tmp_path / "pictures", (tmp_path / "inputs",))


def test_a_relative_name_is_looked_for_in_each_folder(folders: Folders, tmp_path: Path) -> None:
    """The folder of pictures comes first, then the further ones."""
    assert folders.readable_file("a.png").read_bytes() == b"pictures"
    (tmp_path / "pictures" / "a.png").unlink()
    assert folders.readable_file("a.png").read_bytes() == b"inputs"


@pytest.mark.parametrize(
    "name",
    ["../elsewhere/a.png", "inputs/../../elsewhere/a.png", "/etc/hostname", "~/a", "", " ", "a\0"],
)
def test_a_name_outside_is_refused_with_the_folders(folders: Folders, name: str) -> None:
    """No way of writing a path leads out, and the message says what is allowed."""
    with pytest.raises(ToolFault, match=r"Pictures are read from: .*inputs"):
        folders.readable_file(name)


def test_a_link_is_where_it_leads(folders: Folders, tmp_path: Path) -> None:
    """A link out of the folders is refused; one from folder to folder is not."""
    (tmp_path / "inputs" / "out.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "inputs" / "across.png").symlink_to(tmp_path / "pictures" / "a.png")
    with pytest.raises(ToolFault, match="Pictures are read from"):
        folders.readable_file("out.png")
    assert folders.readable_file("across.png").read_bytes() == b"pictures"


def test_only_ordinary_files_are_read(folders: Folders, tmp_path: Path) -> None:
    """Neither a folder, nor a file that is missing or too large for a picture."""
    with pytest.raises(ToolFault, match="is no file"):
        folders.readable_file(".")
    with pytest.raises(ToolFault, match="No such file"):
        folders.readable_file("none.png")
    with (tmp_path / "inputs" / "huge.png").open("wb") as huge:
        huge.truncate(65 << 20)
    with pytest.raises(ToolFault, match="larger than 64 MiB"):
        folders.readable_file("huge.png")


@given(name=st.text(max_size=200))
def test_any_name_makes_a_file_in_the_folder(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a model calls a picture, its file is new and lies directly in the folder."""
    folder = tmp_path_factory.mktemp("any")
    folders = Folders(folder)
    first, second = (folders.place(name, "job_1", ".png") for _ in range(2))
    assert first != second
    assert {first.parent, second.parent} == {folder.resolve()}
    assert not first.name.startswith(".")
    assert first.suffix == ".png"


# --- money ---


@given(
    prices=st.lists(st.integers(0, 60), max_size=30),
    limit=st.integers(0, 300),
    ends=st.lists(st.sampled_from(["picture", "free", "open"]), min_size=30, max_size=30),
)
def test_spent_and_held_never_pass_the_limit(
    prices: list[int], limit: int, ends: list[str]
) -> None:
    """Whatever ends how, what is spent and held together stays within the limit."""
    purse = Purse(limit)
    for number, (price, end) in enumerate(zip(prices, ends, strict=False)):
        before = purse.spent_micros + purse.held_micros
        try:
            purse.hold(f"key-{number}", price)
        except ToolFault:
            assert before + price > limit
            continue
        if end == "picture":
            purse.settle(f"key-{number}", f"job-{number}", price)
        elif end == "free":
            purse.release(f"key-{number}")
        assert purse.spent_micros + purse.held_micros <= limit


def test_an_order_holds_once_and_a_job_counts_once() -> None:
    """The same key holds one price; the same job, collected twice, is one charge."""
    purse = Purse(100)
    assert purse.hold("key", 30)
    assert not purse.hold("key", 30)
    assert purse.held_micros == 30
    purse.settle("key", "job", 30)
    purse.settle("other key", "job", 30)
    assert (purse.spent_micros, purse.held_micros) == (30, 0)


def test_only_a_free_end_gives_the_price_back() -> None:
    """After a cut the order may go on: its price stays held."""
    purse = Purse(100)
    with pytest.raises(ValueError, match="refused"), purse.holding("a", 30, (ValueError,)):
        raise ValueError("refused")
    assert purse.held_micros == 0
    with pytest.raises(OSError, match="cut"), purse.holding("b", 30, (ValueError,)):
        raise OSError("cut")
    assert purse.held_micros == 30


@pytest.mark.parametrize(
    ("micros", "text"),
    [(30_000, "0.03"), (5_000_000, "5.00"), (1, "0.000001"), (-1_250_000, "-1.25")],
)
def test_dollars(micros: int, text: str) -> None:
    """Two digits after the point, more only where they are needed."""
    assert dollars(micros) == text


# --- runs ---


async def test_a_run_is_told_beside_whoever_writes_it(tmp_path: Path) -> None:
    """Done, failed with its reason, rejected, not begun, and cost; a torn last line is left out."""
    journal = Journal(tmp_path / "run.jsonl")
    journal.write("run", at=1.0, run_id="run-1", name="lamps", version=1)
    journal.write("start", at=1.0, plan="", items=["a", "b", "c", "d"])
    for item in "abc":
        roll: dict[str, Any] = {"item": item, "roll": 1}
        journal.write("ordered", at=2.0, key=f"run-1.{item}.1", price_micros=30_000, **roll)
    paid: dict[str, Any] = {
        "sha256": "0",
        "bytes": 1,
        "width": 1,
        "height": 1,
        "charge_micros": 30_000,
    }
    for item, what in (("a", "accepted"), ("b", "rejected")):
        journal.write("received", at=3.0, item=item, roll=1, path=f"{item}.png", **paid)
        journal.write(what, at=4.0, item=item, roll=1, reason="" if what == "accepted" else "blank")
    journal.write("failed", at=4.0, item="c", roll=1, reason="blocked")
    journal.close()
    with (tmp_path / "run.jsonl").open("ab") as file:
        file.write(b'{"what":"orde')
    told = (await run_report(Folders(tmp_path), ".")).text()
    for fact in (
        "pictures: 1 of 4 done",
        "rejected by a gate: 1",
        "failed: 1",
        "not begun: 1",
        "cost: 0.06 dollars",
        "b: blank",
        "c: blocked",
        "safelight run",
    ):
        assert fact in told
    (tmp_path / "empty").mkdir()
    with pytest.raises(ToolFault, match="holds no run"):
        await run_report(Folders(tmp_path), "empty")


# --- words and pictures ---


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errors.OutOfMoney("No balance.", status=402), "top up the balance"),
        (errors.Refused("Bad.", status=400, param="size"), "Change 'size'"),
        (errors.Refused("No.", status=400, code="moderation_blocked"), "Change the prompt"),
        (errors.Refused("Who?", status=401), "another key"),
        (errors.RateLimited("Full.", status=429, retry_after_s=12.4), "in 12 seconds"),
        (errors.ServiceFailed("Ill.", status=503), "Try again later"),
        (errors.Unreachable("Cut."), 'idempotency_key="mcp-1"'),
        (errors.TimedOut("Late."), 'idempotency_key="mcp-1"'),
    ],
)
def test_errors_say_what_to_do_next(error: errors.ClientError, advice: str) -> None:
    """An answered error was free; one without an answer names the key that collects the picture."""
    said = str(explained(error, "mcp-1"))
    assert advice in said
    assert ("Nothing was charged" in said) == isinstance(error, errors.Answered)


def test_previews_are_small_and_keep_transparency(tmp_path: Path) -> None:
    """At most the size asked for, never enlarged; JPEG, or PNG where there is an alpha channel."""
    path = tmp_path / "a.png"
    pyvips.Image.black(640, 320, bands=3).pngsave(str(path))
    shown = preview(path, 256)
    assert shown is not None
    assert measure(shown.data) == Measured("jpeg", 256, 128)
    pyvips.Image.black(64, 32, bands=4).copy(interpretation="srgb").pngsave(str(path))
    shown = preview(path, 256)
    assert shown is not None
    assert measure(shown.data) == Measured("png", 64, 32)
    path.write_text("no picture")
    assert preview(path, 256) is None
