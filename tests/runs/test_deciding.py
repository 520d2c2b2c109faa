"""A person overrules the gates: accepted and rejected by hand, once, with nothing bought for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runs.house import QUICK, Choosy, House, manifest, manifest_lines, plan_of
from safelight.cli import main
from safelight.client import AsyncClient
from safelight.client.runs import FolderBusy, Undecidable, accept, reject, run
from safelight.client.runs.folder import RunFolder
from safelight.client.runs.settings import Settings

ONE_ROLL = Settings(pause_s=0.01, least_free_bytes=0, rerolls=1)


async def test_a_picture_of_the_review_folder_is_accepted_by_hand(
    house: House, client: AsyncClient
) -> None:
    """With who and when in the manifest; the next start has nothing to do, and buys nothing."""
    out, to = house.folder / "out", house.folder / "kept"
    gate = Choosy(99)
    plan = plan_of("a lamp", gates=[gate])
    await run(plan, out, client, ONE_ROLL)
    assert manifest(out)["counts"]["review"] == 1
    done = await accept(out, "a", by="Ada", roll=1, to=str(to))
    assert (done.changed, done.roll, done.path, done.by) == (True, 1, out / "a.png", "Ada")
    assert sorted(path.name for path in to.iterdir()) == ["a.png", "manifest.csv", "manifest.json"]
    assert not (out / "review" / "a-1.png").exists()
    told = manifest(out)
    (item,) = told["items"]
    assert (told["counts"]["accepted"], told["counts"]["review"]) == (1, 0)
    assert (item["state"], item["path"], item["sha256"]) == ("accepted", "a.png", item["sha256"])
    first = item["rolls"][0]
    assert (first["by"], first["by_at"], first["state"]) == ("Ada", done.at, "accepted")
    assert "accepted by hand, by Ada; before: choosy: number 1" in first["reason"]
    assert [line["state"] for line in manifest_lines(out)] == ["accepted", "rejected"]
    again = await accept(out, "a", by="Bob")
    assert (again.changed, again.by, again.at) == (False, "Ada", done.at)
    sold, asked = house.sold, gate.asked
    result = await run(plan, out, client, ONE_ROLL)
    assert result is not None
    assert result.preview.forecast.pictures == 0
    assert len(result.finished.accepted) == 1
    assert (house.sold, gate.asked) == (sold, asked)
    assert manifest(out)["items"][0]["rolls"] == item["rolls"]


async def test_a_lost_file_of_an_accepted_picture_is_fetched_and_not_judged_again(
    house: House, client: AsyncClient
) -> None:
    """What a person has accepted stays accepted, also where an earlier roll was chosen."""
    out = house.folder / "out"
    plan = plan_of("a lamp", gates=[Choosy(99)])
    await run(plan, out, client, ONE_ROLL)
    await accept(out, str(out / "review" / "a-1.png"), by="Ada")
    before = (out / "a.png").read_bytes()
    (out / "a.png").unlink()
    sold = house.sold
    result = await run(plan, out, client, ONE_ROLL)
    assert result is not None
    assert ((out / "a.png").read_bytes(), house.sold) == (before, sold)
    assert len(result.finished.accepted) == 1


async def test_a_rejected_picture_is_bought_anew_by_the_next_start(
    house: House, client: AsyncClient
) -> None:
    """Within its re-rolls; the one that was accepted is in the review folder."""
    out = house.folder / "out"
    plan = plan_of("a lamp", "a chair")
    await run(plan, out, client, QUICK)
    done = await reject(out, "b", by="Ada")
    assert (done.changed, done.path) == (True, out / "review" / "b-1.png")
    assert done.path.exists()
    item = manifest(out)["items"][1]
    assert (item["state"], item["reason"]) == ("review", "rejected by hand, by Ada")
    assert not (await reject(out, "b", by="Bob")).changed
    result = await run(plan, out, client, QUICK)
    assert result is not None
    assert result.preview.forecast.pictures == 1
    assert house.agree(out) == 3
    item = manifest(out)["items"][1]
    assert [roll["state"] for roll in item["rolls"]] == ["rejected", "accepted"]
    assert item["rolls"][0]["by"] == "Ada"


async def test_what_cannot_be_decided_is_said_and_changes_nothing(
    house: House, client: AsyncClient
) -> None:
    """An item that is not there, a roll without a picture, a second picture, a run that goes on."""
    out = house.folder / "out"
    await run(plan_of("a lamp", "a chair", gates=[Choosy(2)]), out, client, ONE_ROLL)
    journal = (out / "run.jsonl").read_bytes()
    with pytest.raises(Undecidable, match="'zebra' is no item of this run"):
        await accept(out, "zebra", by="Ada")
    with pytest.raises(Undecidable, match="no picture of roll 7"):
        await accept(out, "a", by="Ada", roll=7)
    with pytest.raises(Undecidable, match=r"roll 2 is accepted: reject that one first"):
        await accept(out, "a", by="Ada", roll=1)
    with pytest.raises(Undecidable, match="no run has worked here"):
        await accept(house.folder, "a", by="Ada")
    with RunFolder(out), pytest.raises(FolderBusy, match="another run works"):
        await accept(out, "a", by="Ada")
    assert (out / "run.jsonl").read_bytes() == journal


async def test_an_item_whose_order_is_under_way_is_refused(
    house: House, client: AsyncClient
) -> None:
    out = house.folder / "out"
    await run(plan_of("a lamp", gates=[Choosy(9)]), out, client, QUICK)
    item = manifest(out)["items"][0]["id"]
    with (out / "run.jsonl").open("a") as file:
        line = {"what": "ordered", "item": item, "roll": 4, "key": "k", "at": 1, "price_micros": 1}
        file.write(json.dumps(line) + "\n")
    with pytest.raises(Undecidable, match="may be under way"):
        await accept(out, "a", by="Ada")


def test_the_commands_say_what_they_did(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """By the picture's file; with --json the facts; who decides is the user unless named."""
    (house.folder / "rows.csv").write_text("prompt,out\na lamp,lamp\n")
    words = ["run", "rows.csv", "--size", "1024x1024", "--gate", "size=9x9", "--rerolls", "0"]
    assert main([*words, "--yes"]) == 8
    capsys.readouterr()
    picture = str(Path("rows") / "review" / "lamp-1.png")
    assert main(["run", "accept", "rows", picture, "--by", "Ada", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["decision"], told["out"], told["by"]) == ("accepted", "lamp", "Ada")
    assert main(["run", "accept", "rows", "lamp"]) == 0
    assert "accepted already" in capsys.readouterr().out
    assert main([*words, "--yes"]) == 0
    assert main(["run", "accept", "rows", "nothing"]) == 2
    assert "'nothing' is no item" in capsys.readouterr().err
    assert main(["run", "reject", "rows", "lamp", "--by", "Ada"]) == 0
    assert (house.folder / picture).exists()
