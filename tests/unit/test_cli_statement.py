"""`safelight statement` over long months: pages are printed while they come."""

from __future__ import annotations

import csv
import io
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from safelight.cli import main
from safelight.cli.statement import lines
from safelight.types import StatementLine
from stub_gateway import Answer, Asked, error_answer, json_answer, stub_gateway

PAGES = 4


def line(number: int) -> dict[str, Any]:
    empty: dict[str, Any] = dict.fromkeys(StatementLine.__struct_fields__)
    return {
        **empty,
        "id": f"tr_{number}",
        "created_at": 1_795_000_000 + number,
        "kind": "topup",
        "amount_micros": 10**number,
        "balance_micros": 0,
        "reason": "credit",
    }


def paged(asked: Asked) -> Answer:
    """Answer two lines a page."""
    after = parse_qs(urlsplit(asked.target).query).get("after", ["tr_-1"])[0]
    start = int(after.removeprefix("tr_")) + 1
    data = [line(number) for number in (start, start + 1)]
    return json_answer({"object": "list", "data": data, "has_more": start + 2 < 2 * PAGES})


def run(url: str, *argv: str) -> int:
    return main(["statement", *argv, "--url", url, "--api-key", "sk-test"])


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_a_month_is_asked_for_and_read_whole(capsys: pytest.CaptureFixture[str], form: str) -> None:
    with stub_gateway(paged) as stub:
        assert run(stub.url, "--month", "2026-11", form) == 0
    text = capsys.readouterr().out
    if form == "--csv":
        found: list[Any] = list(csv.DictReader(io.StringIO(text)))
    else:
        found = msgspec.json.decode(text)["data"]
    assert [row["id"] for row in found] == [f"tr_{number}" for number in range(2 * PAGES)]
    assert sum(int(row["amount_micros"]) for row in found) == 11_111_111
    assert len(stub.asked) == PAGES
    assert "from=1793491200" in stub.asked[0].target
    assert "to=1796083200" in stub.asked[0].target


@pytest.mark.parametrize(("form", "nothing"), [("--json", '{"object":"list","data":[]}\n')])
def test_a_month_without_lines_is_whole_too(
    capsys: pytest.CaptureFixture[str], form: str, nothing: str
) -> None:
    with stub_gateway(json_answer({"object": "list", "data": [], "has_more": False})) as stub:
        assert run(stub.url, "--month", "2026-11", form) == 0
        assert capsys.readouterr().out == nothing
        assert run(stub.url, "--month", "2026-11", "--csv") == 0
        assert capsys.readouterr().out == ",".join(StatementLine.__struct_fields__) + "\n"


@pytest.mark.parametrize("form", ["--csv", "--json"])
def test_a_refusal_prints_nothing(capsys: pytest.CaptureFixture[str], form: str) -> None:
    """Neither a heading nor half an object."""
    with stub_gateway(error_answer(401, "invalid_api_key")) as stub:
        assert run(stub.url, "--month", "2026-11", form) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "argv",
    [["2026-13"], ["9999-12"], ["2026-11", "--from", "2026-11-02"], ["2026-11", "--to", "1"]],
)
def test_what_is_no_month_is_not_asked_for(
    capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    with stub_gateway(paged) as stub:
        assert run(stub.url, "--month", *argv) == 2
    assert "month" in capsys.readouterr().err
    assert stub.asked == []


class Pages:
    """A gateway that notes which pages were asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def get(self, _route: str, _query: dict[str, Any]) -> Any:
        self.asked += 1
        return {"data": [line(2 * self.asked), line(2 * self.asked + 1)], "has_more": True}


def test_a_page_is_read_when_its_first_line_is_wanted() -> None:
    """However long the month is, one page is in memory."""
    gateway = Pages()
    found = lines(gateway)  # type: ignore[arg-type]
    for number in range(1000):
        next(found)
        assert gateway.asked == number // 2 + 1
