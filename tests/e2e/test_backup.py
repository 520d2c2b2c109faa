"""Backup beside a server at work, and restore: the moment is kept, nothing is bought or charged."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from e2e import in_process
from e2e.books import check_sums, get, statement, witness
from e2e.process import GatewayProcess, accounts
from safelight.archive import back_up, restore
from safelight.backups import MANIFEST_FILE, newest_backup, read_manifest
from safelight.bench.faults.server import FaultUpstream, Seen
from safelight.errors import ConfigError, StorageError
from safelight.gateway.restored import REASON
from safelight.office import open_office
from safelight.types import StatementLine

ORDER = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}


async def buy(gateway: in_process.InProcess, prompt: str) -> str:
    """Order a picture and return the path of its link."""
    body = {**ORDER, "prompt": prompt, "response_format": "url"}
    answer = await gateway.ask("POST", "/v1/images/generations", body)
    assert answer.status == 200, answer.body
    url: str = answer.json()["data"][0]["url"]
    return url.removeprefix("http://gateway.test")


async def lines(data: Path) -> tuple[StatementLine, ...]:
    async with open_office(data) as office:
        return await office.statement("team")


def command(*arguments: str) -> Any:
    """Run a command of ours and return what it printed as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "safelight", *arguments, "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_backup_under_load_is_one_moment_and_what_was_open_ends_free(tmp_path: Path) -> None:
    """The restored statement is the live one up to a line; open jobs are not bought again."""
    backup, restored = tmp_path / "backup", tmp_path / "restored"
    stop, stuck = threading.Event(), threading.Event()

    def script(seen: Seen) -> dict[str, object]:
        if "stuck" in seen.prompt:
            stuck.set()
            return {"kind": "ok", "latency_s": 60}
        return {"kind": "ok", "latency_s": 0.02}

    with FaultUpstream.in_thread(script) as upstream, ThreadPoolExecutor(5) as pool:
        gateway = GatewayProcess(tmp_path / "live", accounts(upstream.base_url))
        key = gateway.key()
        with gateway:
            waiting = pool.submit(order, gateway, key, "stuck")
            assert stuck.wait(30)
            buyers = [pool.submit(buy_until, gateway, key, stop, n) for n in range(4)]
            before = len(statement(gateway.url, key))
            made = [command("backup", str(backup), "--data", str(gateway.data)) for _ in range(2)]
            after = len(statement(gateway.url, key))
            stop.set()
            bought = sum(buyer.result(60) for buyer in buyers)
            live = asyncio.run(lines(gateway.data))
            gateway.kill()
        assert waiting.exception(60) is not None
        assert bought > 0
        told = command("restore", str(backup), "--data", str(restored))
        kept = asyncio.run(lines(restored))
        assert before <= len(kept) <= after
        assert kept == live[: len(kept)]
        assert told["open_jobs"] >= 1
        assert made[1]["copied"] < made[1]["pictures"]
        assert command("verify", "--blobs", "all", "--data", str(restored))["findings"] == []
        sold = len(upstream.sales)
        gateway.data = restored
        with gateway:
            balance = check_sums(gateway.url, key)
            assert balance["held_micros"] == 0
            freed = statement(gateway.url, key)[len(kept) :]
            assert [line["reason"] for line in freed] == [REASON] * told["open_jobs"]
            assert {line["amount_micros"] for line in freed} == {"0"}
            job = get(f"{gateway.url}/v1/jobs/{freed[0]['job_id']}", key)
            assert (job["status"], job["error"]["code"]) == ("failed", REASON)
            settled = next(line for line in kept if line.kind == "settle")
            delivered = get(f"{gateway.url}/v1/jobs/{settled.job_id}", key)
            assert delivered["status"] == "completed"
            assert gateway.stop() == 0
        assert len(upstream.sales) == sold
        assert witness(restored).faults == []


def order(gateway: GatewayProcess, key: str, prompt: str) -> None:
    request = urllib.request.Request(
        f"{gateway.url}/v1/images/generations",
        json.dumps({**ORDER, "prompt": prompt}).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        picture = json.loads(answer.read())["data"][0]["b64_json"]
        assert base64.b64decode(picture)


def buy_until(gateway: GatewayProcess, key: str, stop: threading.Event, number: int) -> int:
    """Buy one picture after another; return how many."""
    bought = 0
    until = time.monotonic() + 60
    while not stop.is_set() and time.monotonic() < until:
        order(gateway, key, f"buyer {number}, order {bought}")
        bought += 1
    return bought


async def test_pictures_are_readable_through_their_links_after_a_restore(tmp_path: Path) -> None:
    async with in_process.running(tmp_path / "data") as gateway:
        link = await buy(gateway, "a lamp")
        picture = (await gateway.ask("GET", link)).body
        await back_up(tmp_path / "data", tmp_path / "backup")
        key = gateway.key
    assert str(tmp_path / "backup") in newest_backup(tmp_path / "data")
    await restore(tmp_path / "backup", tmp_path / "new")
    async with in_process.running(tmp_path / "new") as gateway:  # which adds its usual credit
        answer = await gateway.ask("GET", link)
        assert (answer.status, answer.body) == (200, picture)
        balance = await gateway.ask("GET", "/v1/billing/balance", key=key)
        assert balance.json()["posted_micros"] == 2 * 10_000_000 - 30_000


async def test_a_second_backup_brings_only_what_is_new(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with in_process.running(data) as gateway:
        await buy(gateway, "one")
        first = await back_up(data, folder)
        await buy(gateway, "two")
        second = await back_up(data, folder)
        third = await back_up(data, folder)
    assert (first.pictures, first.copied) == (1, 1)
    assert (second.pictures, second.copied) == (2, 1)
    assert (third.pictures, third.copied) == (2, 0)
    names = sorted(path.name for path in folder.iterdir())
    manifest = read_manifest(folder)
    assert names == sorted(["blobs", MANIFEST_FILE, manifest.database.name, manifest.secrets.name])
    for path in (folder / "blobs").glob("*/*/*"):
        assert path.samefile(data / path.relative_to(folder))
    copied = await back_up(data, tmp_path / "other", link=False)
    assert copied.copied == 2
    for path in (tmp_path / "other" / "blobs").glob("*/*/*"):
        assert not path.samefile(data / path.relative_to(tmp_path / "other"))


async def test_an_interrupted_backup_is_none_and_leaves_the_one_before(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with in_process.running(data) as gateway:
        await buy(gateway, "one")
        await back_up(data, folder)
        kept = await lines(data)
        (folder / "safelight-1.db").write_bytes(b"half")
        (folder / "manifest.json.0123").write_bytes(b"{")
        await restore(folder, tmp_path / "new")
        assert await lines(tmp_path / "new") == kept
        await back_up(data, folder)
    assert not (folder / "safelight-1.db").exists()
    (folder / MANIFEST_FILE).unlink()
    with pytest.raises(ConfigError, match="holds no backup"):
        await restore(folder, tmp_path / "newer")


async def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with in_process.running(data) as gateway:
        await buy(gateway, "one")
        await back_up(data, folder, link=False)
    picture = next((folder / "blobs").glob("*/*/*"))
    good = picture.read_bytes()
    picture.write_bytes(good[:-1] + b"\0")
    with pytest.raises(StorageError):
        await restore(folder, tmp_path / "one")
    # What an interrupted restore left is nobody's data folder.
    with pytest.raises(ConfigError, match="was not finished"):
        async with open_office(tmp_path / "one"):
            pytest.fail("half a data folder was opened")
    picture.write_bytes(good)
    database = folder / read_manifest(folder).database.name
    database.write_bytes(database.read_bytes()[:-1] + b"\1")
    with pytest.raises(ConfigError, match="is damaged"):
        await restore(folder, tmp_path / "two")
    assert not (tmp_path / "two").exists()


async def test_folders_with_other_things_are_left_alone(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with in_process.running(data):
        await back_up(data, folder)
        with pytest.raises(ConfigError, match="inside the data folder"):
            await back_up(data, data / "backup")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "letters").write_text("dear")
        with pytest.raises(ConfigError, match="letters"):
            await back_up(data, tmp_path / "mine")
        with pytest.raises(ConfigError, match="not empty"):
            await restore(folder, data)
        with pytest.raises(ConfigError, match="not empty"):
            await restore(folder, tmp_path / "mine")


async def test_pictures_newer_than_the_backup_are_listed_and_not_charged(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with in_process.running(data) as gateway:
        await buy(gateway, "one")
        await back_up(data, folder)
        kept = await lines(data)
        await buy(gateway, "two")
    done = await restore(folder, tmp_path / "new", old_data=data)
    known = {line.image_sha256 for line in kept}
    everything = {path.name for path in (data / "blobs").glob("*/*/*")}
    assert {one.digest for one in done.newer} == everything - known
    assert len(done.newer) == 1
    assert await lines(tmp_path / "new") == kept


async def test_a_lost_picture_does_not_prevent_a_backup_but_is_named(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with in_process.running(data) as gateway:
        await buy(gateway, "one")
        lost = next((data / "blobs").glob("*/*/*"))
        lost.unlink()
        await buy(gateway, "two")
        kept = await back_up(data, folder)
    assert kept.missing == (lost.name,)
    done = await restore(folder, tmp_path / "new")
    assert (done.missing, done.pictures) == ((lost.name,), 1)


async def test_the_books_of_a_postgres_are_kept_as_a_file(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup of either database is the same thing: it restores to an embedded installation."""
    data, folder = tmp_path / "data", tmp_path / "backup"
    monkeypatch.setenv("SAFELIGHT_DATABASE_URL", postgres_url)
    async with in_process.running(data) as gateway:
        await buy(gateway, "one")
        kept = await lines(data)
        told = await back_up(data, folder)
    assert told.pictures == 1
    monkeypatch.delenv("SAFELIGHT_DATABASE_URL")
    await restore(folder, tmp_path / "new")
    assert await lines(tmp_path / "new") == kept
    assert (await asyncio.to_thread(witness, tmp_path / "new")).faults == []
