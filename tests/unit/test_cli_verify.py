"""`safelight verify`, `freeze` and `unfreeze` on a real data folder: exit codes, words and JSON."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safelight.cli import main
from safelight.office import open_office

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with two customers who have paid."""

    async def begin() -> None:
        async with open_office(tmp_path / "data") as office:
            await office.create_customer_key("acme", 5_000_000)
            await office.create_customer_key("other", 5_000_000)

    asyncio.run(begin())
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line on the folder; return exit code and standard output."""

    def once(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--data", str(data)])
        return code, capsys.readouterr().out

    return once


def spoil(data: Path) -> None:
    """Give acme a dollar, as somebody with the file could."""
    connection = sqlite3.connect(data / "safelight.db")
    connection.execute(
        "UPDATE balance SET posted_micros = posted_micros + 1000000 WHERE customer_id = "
        "(SELECT id FROM customer WHERE name = 'acme')"
    )
    connection.commit()
    connection.close()


def test_sound_books_end_with_0_and_say_what_was_looked_at(run: Run) -> None:
    code, text = run("verify", "--blobs", "all")
    assert code == 0
    assert "Everything agrees." in text
    assert text.split()[:4] == ["customers", "2", "transfers", "2"]
    code, text = run("verify", "--json")
    report = json.loads(text)
    assert (code, report["ok"], report["findings"], report["left_out"]) == (0, True, [], 0)
    assert (report["customers"], report["transfers"], report["jobs"]) == (2, 2, 0)


def test_a_finding_ends_with_7_and_says_what_to_do_but_changes_nothing(
    run: Run, data: Path
) -> None:
    spoil(data)
    code, text = run("verify")
    assert code == 7
    assert "invariant 1 customer acme: balance: the posted balance is not the sum" in text
    assert "stored: 6000000; should be: 5000000" in text
    assert "safelight credit" in text
    assert "safelight unfreeze" in text
    code, text = run("verify", "--json")
    report = json.loads(text)
    assert (code, report["ok"]) == (7, False)
    assert {(one["customer"], one["invariant"]) for one in report["findings"]} == {("acme", 1)}
    assert run("freeze", "acme", "--reason", "x")[1] == "acme cannot order any more.\n"


def test_one_customer_can_be_looked_at_alone(run: Run, data: Path) -> None:
    spoil(data)
    assert run("verify", "--customer", "other")[0] == 0
    assert run("verify", "--customer", "acme")[0] == 7
    assert run("verify", "--customer", "nobody")[0] == 1


def test_freezing_what_is_found_and_accepting_it(run: Run, data: Path) -> None:
    spoil(data)
    assert run("verify", "--freeze")[0] == 7
    assert "was frozen already" in run("freeze", "acme", "--reason", "x")[1]
    assert "cannot order any more" in run("freeze", "other", "--reason", "x")[1]
    code, text = run("unfreeze", "acme", "--reason", "a gift")
    assert code == 0
    assert text.count("accepted: customer acme") == 2
    assert "acme can order again." in text
    code, text = run("verify")
    assert code == 0
    assert text.count("accepted: ") == 2
    assert run("unfreeze", "acme", "--reason", "again")[1] == "acme was not frozen.\n"


def test_freeze_and_unfreeze_in_json(run: Run) -> None:
    def facts(*arguments: str) -> Any:
        code, text = run(*arguments, "--reason", "x", "--json")
        assert code == 0
        return json.loads(text)

    assert facts("freeze", "acme") == {"customer": "acme", "frozen": True, "was_frozen": False}
    assert facts("unfreeze", "acme") == {
        "customer": "acme",
        "frozen": False,
        "was_frozen": True,
        "accepted": [],
    }


@pytest.mark.parametrize("share", ["half", "2", "-1", "nan"])
def test_a_share_that_is_none_is_a_wrong_usage(run: Run, share: str) -> None:
    assert run("verify", "--blobs", share)[0] == 2


@pytest.mark.parametrize("command", ["freeze", "unfreeze"])
def test_unknown_customers_and_missing_reasons_are_refused(run: Run, command: str) -> None:
    assert run(command, "nobody", "--reason", "x")[0] == 1
    assert run(command, "acme")[0] == 2


def test_a_folder_without_books_is_refused(tmp_path: Path) -> None:
    assert main(["verify", "--data", str(tmp_path / "none")]) == 2
