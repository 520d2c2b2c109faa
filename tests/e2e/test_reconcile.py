"""Through the real process: our attempts beside the fault upstream's own log of sales."""

from __future__ import annotations

import csv
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from e2e.books import get, statement
from e2e.process import GatewayProcess, accounts
from safelight.bench.faults.server import FaultUpstream
from safelight.cli import main

COST = 9_000
QUICK = {
    "group": "org",
    "image_cost_micros": COST,
    "first_byte_timeout_s": 1.0,
    "idle_timeout_s": 0.5,
}
FAULTS: tuple[Any, ...] = (
    # Answered too late for us, made and billed all the same.
    {"kind": "ok", "latency_s": 1.5},
    *(500, "wrong_size", "short", "corrupt", "stall_body", "cut_json", "reset"),
    {"kind": "stall", "seconds": 20},
)


@dataclass
class Run:
    """What is left of a run: the data folder, the vendor's log, the customer's receipts."""

    data: Path
    export: list[dict[str, str]]
    receipts: list[dict[str, Any]]

    def write(self, folder: Path, rows: list[dict[str, str]]) -> Path:
        path = folder / "usage.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.export[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with FaultUpstream.in_thread() as upstream:
        config = accounts(upstream.base_url, 6, **QUICK)
        gateway = GatewayProcess(tmp_path_factory.mktemp("books"), config)
        key = gateway.key()
        with gateway:
            for number, fault in enumerate(FAULTS):
                upstream.play(fault)
                assert order(gateway.base_url, key, f"lamp {number}") == 200
            upstream.play({"kind": "moderation", "shape": "openai"})
            assert order(gateway.base_url, key, "a refused lamp") == 400
            jobs = [line["job_id"] for line in statement(gateway.url, key) if line["job_id"]]
            receipts = [get(f"{gateway.url}/v1/jobs/{job}/receipt", key) for job in jobs]
            assert gateway.stop() == 0
        rows = [
            {
                "request_id": sale.request_id,
                "time": str(sale.at),
                "model": sale.model,
                "images": "1",
                "cost_micros": str(COST),
            }
            for sale in upstream.sales
        ]
    return Run(gateway.data, rows, receipts)


def order(base_url: str, key: str, prompt: str) -> int:
    body = {"model": "gpt-image-2-vip", "prompt": prompt, "size": "1024x1024"}
    request = urllib.request.Request(
        f"{base_url}/images/generations",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def reconcile(run: Run, path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    capsys.readouterr()
    code = main(["reconcile", str(path), "--group", "org", "--data", str(run.data), "--json"])
    return code, msgspec.json.decode(capsys.readouterr().out)


def test_the_vendors_own_log_agrees(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever broke on the way: nothing contradicts, and every unanswered call is explained."""
    code, found = reconcile(run, run.write(tmp_path, run.export), capsys)
    assert code == 0
    assert found["adds_up"]
    assert found["settled"] == len(FAULTS)
    assert found["waste"] >= 5
    assert found["vendor"] == len(run.export)
    assert found["matched_by_id"] == found["settled"] + found["waste"]
    kinds = sorted(one["what"] for one in found["differences"])
    assert set(kinds) <= {"unknown_sold", "unknown_unsold"}
    assert kinds.count("unknown_sold") == found["difference"] >= 1
    assert len(kinds) == found["unknown"]


def test_a_removed_sale_is_named(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = delivered(run)
    rows = [row for row in run.export if row["request_id"] != gone["upstream_request_id"]]
    assert len(rows) == len(run.export) - 1
    code, found = reconcile(run, run.write(tmp_path, rows), capsys)
    assert code == 7
    (missing,) = [one for one in found["differences"] if one["what"] == "missing"]
    assert missing["attempt"]["upstream_request_id"] == gone["upstream_request_id"]
    assert missing["attempt"]["delivered"]


def test_an_added_sale_is_named(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = {**run.export[0], "request_id": "req_of_somebody_else", "time": "2026-01-01T00:00:00Z"}
    code, found = reconcile(run, run.write(tmp_path, [*run.export, extra]), capsys)
    assert code == 7
    (foreign,) = [one for one in found["differences"] if one["what"] == "foreign"]
    assert foreign["call"]["id"] == "req_of_somebody_else"


def test_a_changed_cost_is_named(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts decide about the exit code; money is told."""
    dearer = delivered(run)["upstream_request_id"]
    rows = [
        {**row, "cost_micros": str(COST + 1)} if row["request_id"] == dearer else row
        for row in run.export
    ]
    code, found = reconcile(run, run.write(tmp_path, rows), capsys)
    assert code == 0
    (cost,) = [one for one in found["differences"] if one["what"] == "cost"]
    assert cost["call"]["id"] == dearer
    assert (cost["call"]["cost_micros"], cost["attempt"]["cost_micros"]) == (COST + 1, COST)


def test_sums_over_time_agree_too(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As OpenAI's usage pages tell them; one picture less than we were given does not pass."""
    start = int(float(run.export[0]["time"])) // 3600 * 3600 - 3600
    for count, code in ((len(run.export), 0), (1, 7)):
        result = {"object": "organization.usage.images.result", "images": count}
        bucket = {"object": "bucket", "start_time": start, "end_time": start + 4 * 3600}
        page = {"object": "page", "data": [{**bucket, "results": [result]}], "has_more": False}
        path = tmp_path / f"{code}.json"
        path.write_text(json.dumps(page))
        assert reconcile(run, path, capsys)[0] == code


def test_receipts_tell_customers_what_happened_and_no_names(run: Run) -> None:
    """Each delivered picture has one delivered attempt, under an alias, with the vendor's id."""
    sold = {row["request_id"] for row in run.export}
    for receipt in run.receipts:
        text = json.dumps(receipt)
        assert '"account-0"' not in text
        assert '"org"' not in text
        given = [one for one in receipt["attempts"] if one["delivered"]]
        assert len(given) == (receipt["status"] == "completed")
        assert all(one["upstream_request_id"] in sold for one in given)
        assert receipt["charged_micros"] == 30_000 * len(given)
        assert (receipt["free_reason"] is None) == bool(given)
    assert {one["outcome"] for receipt in run.receipts for one in receipt["attempts"]} >= {
        *("ok", "slow", "fast", "bad_output", "client"),
    }


def test_the_operators_receipt_of_the_same_job(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same, with the account's name behind the alias, what it cost and what is left."""
    seen = next(one for one in run.receipts if one["status"] == "completed")
    capsys.readouterr()
    assert main(["receipt", seen["id"], "--data", str(run.data), "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found["customer"] == "team"
    assert found["charged_micros"] == seen["charged_micros"]
    for own, other in zip(seen["attempts"], found["attempts"], strict=True):
        assert other["alias"] == own["account"]
        assert other["account"].startswith("account-")
        assert other["group"] == "org"
    assert found["margin_micros"] == found["charged_micros"] - found["vendor_cost_micros"]
    assert main(["receipt", seen["id"], "--data", str(run.data)]) == 0
    shown = capsys.readouterr().out
    for fact in (seen["id"], "delivered", "vendor cost", "margin", "0.030000"):
        assert fact in shown


def delivered(run: Run) -> dict[str, Any]:
    """Return the attempt whose picture the first order got."""
    receipt = run.receipts[0]
    found: dict[str, Any] = next(one for one in receipt["attempts"] if one["delivered"])
    return found
