"""Tables in terminals of any width: ids and amounts stay in one piece, a pipe gets everything."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from safelight.cli.table import Column, Layout, lay_out
from stub_gateway import StubGateway, json_answer, stub_gateway

COLUMNS = (
    Column("when"),
    Column("kind", rank=2),
    Column("job"),
    Column("plan", rank=3),
    Column("amount", right=True),
    Column("balance", right=True, rank=1),
    Column("reason", words=True),
)
JOB = "job_73e59317c4d3661d96dbeaca"
ROW = (
    "2026-11-22 19:01:23",
    "settle",
    JOB,
    "native",
    "-0.030000",
    "123456.910000",
    "refused by a safety system",
)


def rendered(layout: Layout) -> list[str]:
    page = StringIO()
    Console(file=page, width=layout.width).print(layout.table)
    return page.getvalue().splitlines()


@pytest.mark.parametrize("width", range(70, 160))
def test_no_id_and_no_amount_is_ever_broken(width: int) -> None:
    """At every width the table fits, job and amount are whole, and all words of the reason show."""
    layout = lay_out(COLUMNS, [ROW], width)
    page = rendered(layout)
    assert max(map(len, page)) <= width
    assert any(JOB in line and "-0.030000" in line for line in page)
    shown = " ".join(page)
    assert set(ROW[-1].split()) <= set(shown.split())
    assert [name for name in ("balance", "kind", "plan") if name not in shown.split()] == sorted(
        layout.left_out
    )


def test_the_least_important_columns_go_first() -> None:
    """The narrower the terminal the fewer columns, by rank; never one that has none."""
    losses = [lay_out(COLUMNS, [ROW], width).left_out for width in (200, 112, 100, 72, 20)]
    assert losses == [
        (),
        ("plan",),
        ("kind", "plan"),
        ("kind", "plan", "balance"),
        ("kind", "plan", "balance"),
    ]


def test_what_cannot_fit_is_not_cut() -> None:
    """In a window too small for the rest the terminal breaks lines, no cell is shortened."""
    layout = lay_out(COLUMNS, [ROW], 20)
    assert layout.width > 20
    assert any(JOB in line and "-0.030000" in line for line in rendered(layout))


def test_a_pipe_gets_every_column_in_one_line() -> None:
    """Without a width nothing is left out and nothing wraps, however long it is."""
    row = (*ROW[:-1], "word " * 60 + "end")
    layout = lay_out(COLUMNS, [row], None)
    assert layout.left_out == ()
    assert len(rendered(layout)) == 3


def test_a_name_without_blanks_may_be_broken() -> None:
    """One long name in a column of words does not push the ids out of the window."""
    columns = (Column("id"), Column("customer", words=True), Column("available", right=True))
    page = rendered(lay_out(columns, [("a1b2c3d4", "x" * 200, "5.000000")], 80))
    assert max(map(len, page)) <= 80
    assert sum(line.count("x") for line in page) == 200


# --- in a terminal ---

LINE = {
    "id": "tr_1",
    "created_at": 1_800_000_000,
    "kind": "settle",
    "job_id": JOB,
    "channel": "gpt-image-2-vip",
    "size": "2048x1152",
    "size_plan": "native",
    "amount_micros": -30_000,
    "balance_micros": 9_970_000,
    "reason": "image delivered",
}
SIZES = {
    "object": "list",
    "data": [
        {
            "model": "gpt-image-2",
            "allowed": "many " * 40,
            "sizes": [
                {
                    "name": "2048x1360",
                    "ratio": "3:2",
                    "tier": "2K",
                    "plan": "native",
                    "prices_micros": {
                        "low": 12_200,
                        "medium": 107_700,
                        "high": 428_160,
                        "auto": 428_160,
                    },
                }
            ],
        }
    ],
}


def shown_in_terminal(stub: StubGateway, command: str, columns: int) -> list[str]:
    """Run a command in a terminal of so many columns and return its lines, without colours."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    argv = [sys.executable, "-m", "safelight", command, "--url", stub.url, "--api-key", "k"]
    with subprocess.Popen(
        argv,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environ, "TERM": "xterm"},
    ) as process:
        os.close(slave)
        raw = b""
        while chunk := _read(master):
            raw += chunk
        assert process.wait(30) == 0
    os.close(master)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", raw.decode()).splitlines()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux says EIO when the last process has closed the terminal
        return b""


@pytest.mark.parametrize(
    ("columns", "absent"),
    [(80, {"kind", "channel", "size", "plan"}), (100, {"channel", "size", "plan"}), (200, set())],
)
def test_a_statement_fits_the_terminal(columns: int, absent: set[str]) -> None:
    """With 80 columns job, amount and balance are whole; what is left out is named."""
    page: Any = {"object": "list", "data": [LINE], "has_more": False}
    with stub_gateway(json_answer(page)) as stub:
        lines = shown_in_terminal(stub, "statement", columns)
    assert max(map(len, lines)) <= columns
    row = next(line.split() for line in lines if "2027-01-15" in line)
    assert {JOB, "-0.030000", "9.970000"} <= set(row)
    remarks = [line for line in lines if line.startswith("no room for: ")]
    named = {name for line in remarks for name in re.findall(r"kind|channel|size|plan", line)}
    assert named == absent
    assert ("gpt-image-2-vip" in row) == (not absent)


def test_prices_by_quality_are_columns_of_their_own() -> None:
    """In 80 columns a size has all its prices in one line; the text below wraps at blanks."""
    with stub_gateway(json_answer(SIZES)) as stub:
        lines = shown_in_terminal(stub, "sizes", 80)
    assert max(map(len, lines)) <= 80
    row = next(line.split() for line in lines if "2048x1360" in line)
    prices = ["$0.012200", "$0.107700", "$0.428160", "$0.428160"]
    assert row == ["2048x1360", "3:2", "2K", "native", *prices]
    assert " ".join(lines).count("many") == 40
