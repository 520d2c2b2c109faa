"""What the doctor says of a folder, a configuration, books and accounts, well and ill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import s3
from safelight.cli import main
from safelight.clock import ManualClock, SystemClock
from safelight.config import load_config
from safelight.db.address import VARIABLE
from safelight.db.postgres_opening import prepare
from safelight.doctor import Check, State, books, folder, machine, outside, pictures, vendors
from safelight.doctor.examining import Patient, examine
from safelight.keyring import Keyring
from safelight.opening import open_database


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def states(checks: list[Check]) -> set[State]:
    return {check.state for check in checks}


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data folder as a server leaves it."""
    made = tmp_path / "data"
    Keyring.load_or_create(made)
    db = open_database(made, SystemClock(), environ={})
    await db.close()
    return made


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["doctor", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


async def examined(config: Path | None, data: Path, environ: dict[str, str]) -> list[Check]:
    return [check async for check in examine(Patient(config, data, environ), SystemClock())]


# --- all of it ---


async def test_a_folder_that_is_well_is_found_well(data: Path) -> None:
    found = await examined(None, data, {})
    assert [check for check in found if check.state in (State.FAILED, State.UNCHECKED)] == []
    groups = list(dict.fromkeys(check.group for check in found))
    assert groups == [
        *("configuration", "data folder", "database", "storage", "machine", "accounts", "outside"),
    ]
    # Whoever only looks leaves nothing behind.
    assert {path.name for path in data.iterdir()} <= {
        *("secrets.json", "safelight.db", "safelight.db-wal", "safelight.db-shm", "blobs"),
    }
    assert [path for path in (data / "blobs").rglob("*") if path.is_file()] == []


async def test_every_advice_is_one_line_and_every_ill_check_has_one(tmp_path: Path) -> None:
    found = await examined(None, tmp_path / "none", {"SAFELIGHT_DATABAES_URL": "x"})
    for check in found:
        assert "\n" not in check.found + check.advice
        assert check.advice or check.state in (State.OK, State.UNCHECKED)


def test_the_exit_code_says_how_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 where something could not be looked at; 1 where something failed, which counts more."""
    code, found = run(capsys, "--data", str(tmp_path / "none"))
    assert (code, found["state"]) == (2, "unchecked")
    broken = tmp_path / "broken.toml"
    broken.write_text("[server]\nprot = 1\n")
    code, found = run(capsys, "--data", str(tmp_path / "none"), "--config", str(broken))
    assert (code, found["state"]) == (1, "failed")
    (ill,) = [check for check in found["checks"] if check["state"] == "failed"]
    assert "prot" in ill["found"]
    assert f"{broken}:2" in ill["found"]


def test_people_get_groups_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", "--data", str(tmp_path / "none")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "configuration"
    at = next(n for n, line in enumerate(lines) if "there is no folder" in line)
    assert lines[at].split()[0] == "warning"
    assert lines[at + 1].strip().startswith("do: ")


@pytest.mark.parametrize(
    "arguments",
    [("--through",), ("--direct", "http://127.0.0.1:1"), ("--url", "ftp://x", "--key", "k")],
)
def test_options_that_lack_another_are_refused(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json", *arguments]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["hint"]


# --- configuration ---


async def test_every_account_without_its_key_is_named_and_the_rest_is_looked_at(
    tmp_path: Path, data: Path
) -> None:
    config = tmp_path / "safelight.toml"
    config.write_text(
        '[[accounts]]\nname = "a"\nupstream = "openai"\napi_key_env = "KEY_A"\n'
        '[[accounts]]\nname = "b"\nupstream = "openai"\napi_key_env = "KEY_B"\n'
    )
    found = await examined(config, data, {"KEY_B": " "})
    missing = [check.found for check in found if check.name == "account keys"]
    assert [("KEY_A" in said, "KEY_B" in said) for said in missing] == [
        *((True, False), (False, True)),
    ]
    accounts = [check for check in found if check.group == "accounts"]
    assert {check.name: check.state for check in accounts} == {
        "a": State.UNCHECKED,
        "b": State.UNCHECKED,
    }


async def test_variables_that_nothing_reads_or_that_overrule_are_named(
    tmp_path: Path, data: Path
) -> None:
    config = tmp_path / "safelight.toml"
    config.write_text('[storage]\nurl = "s3://bucket/a"\n')
    environ = {
        "SAFELIGHT_STORAGE_URL": "file:",
        "SAFELIGHT_DATABSE_URL": "postgresql://u:sesame@h/n",
    }
    found = await examined(config, data, environ)
    said = " ".join(check.found for check in found if check.name == "environment")
    assert "SAFELIGHT_DATABSE_URL" in said
    assert "SAFELIGHT_STORAGE_URL overrules" in said
    assert "sesame" not in str(found)


# --- folder ---


def test_a_folder_open_to_others_and_readable_secrets_are_told(data: Path) -> None:
    data.chmod(0o755)
    (data / "secrets.json").chmod(0o644)
    found = by_name(list(folder.check(data, 0)))
    assert (found["owner"].state, found["secrets"].state) == (State.WARNING, State.FAILED)
    assert f"chmod 600 {data}" in found["secrets"].advice


def test_too_little_room_is_told_before_work_is_refused(data: Path) -> None:
    free = os.statvfs(data).f_bavail * os.statvfs(data).f_frsize
    assert by_name(list(folder.check(data, free * 2)))["space"].state is State.FAILED
    assert by_name(list(folder.check(data, free // 2)))["space"].state is State.WARNING


def test_a_folder_on_a_local_disk_can_do_all_that_is_needed(data: Path) -> None:
    found = by_name(list(folder.check(data, 0)))
    assert {found[name].state for name in ("links", "locks", "direct reads")} == {State.OK}
    assert found["fsync"].facts["p50_ms"] > 0
    assert not list(data.glob(".doctor-*"))


# --- database ---


def test_a_damaged_file_and_a_newer_schema_are_told(data: Path) -> None:
    path = data / "safelight.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO migration VALUES (999, 'later', 0)")
        connection.commit()
    assert by_name(list(books.check(data, {})))["schema"].state is State.FAILED
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    found = by_name(list(books.check(data, {})))["whole"]
    assert found.state is State.FAILED
    assert "restore" in found.advice


def test_a_commit_is_timed_and_leaves_no_file(data: Path) -> None:
    found = by_name(list(books.check(data, {})))
    assert {check.state for check in found.values()} == {State.OK}
    assert found["commit"].facts["p50_ms"] > 0
    assert not list(data.glob(".doctor*"))


def test_a_postgres_is_asked_for_what_money_needs(
    postgres_server_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """The tests' own server runs with fsync off, which the doctor must not let pass."""
    prepare(postgres_url)
    found = by_name(list(books.check(tmp_path, {VARIABLE: postgres_url})))
    assert (found["server"].state, found["schema"].state) == (State.OK, State.OK)
    assert found["settings"].state is State.FAILED
    assert "fsync is off" in found["settings"].found
    assert found["commit"].facts["p50_ms"] > 0


def test_a_postgres_that_is_away_is_told_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://u:sesame@127.0.0.1:1/books"
    found = list(books.check(tmp_path, {VARIABLE: url}))
    assert states(found) == {State.FAILED}
    assert "sesame" not in str(found)


# --- storage ---


async def test_a_bucket_is_tried_and_nothing_stays_in_it(
    s3_server: s3.S3Server, tmp_path: Path
) -> None:
    bucket = s3_server.bucket()
    url = s3_server.url_of(bucket)
    tmp_path.joinpath("data").mkdir()
    config = load_config(None, tmp_path / "data", environ={})
    environ = {"SAFELIGHT_STORAGE_URL": url}
    found = by_name(
        [check async for check in pictures.check(config, tmp_path / "data", environ, SystemClock())]
    )
    assert {name: check.state for name, check in found.items()} == {
        "round trip": State.OK,
        "signed addresses": State.OK,
        "clock": State.OK,
    }
    assert s3_server.keys_in(bucket) == []


# --- accounts ---


@contextlib.asynccontextmanager
async def vendor(status: int, date: str = "") -> AsyncIterator[str]:
    """A vendor that answers every call with one status."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"object": "list", "data": [], "error": {"code": "invalid_api_key"}}'
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{date}"
        writer.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode())
        writer.write(body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


async def asked(tmp_path: Path, base_url: str, now_ms: int) -> dict[str, Check]:
    config = tmp_path / "safelight.toml"
    config.write_text(
        f'[[accounts]]\nname = "a"\nupstream = "openai"\nbase_url = "{base_url}"\n'
        'api_key_env = "KEY_A"\n'
    )
    settings = load_config(config, tmp_path, environ={"KEY_A": "sk-secret-0000"})
    found = [check async for check in vendors.check(settings, (), ManualClock(now_ms))]
    assert "sk-secret" not in str(found)
    return by_name(found)


async def test_a_refused_credential_is_told_with_what_to_do(tmp_path: Path) -> None:
    async with vendor(401) as url:
        found = await asked(tmp_path, url, 0)
    assert found["a"].state is State.FAILED
    assert "key" in found["a"].advice
    async with vendor(200) as url:
        found = await asked(tmp_path, url, 0)
    assert found["a"].state is State.OK


async def test_a_clock_that_is_off_is_seen_by_the_vendors_date(tmp_path: Path) -> None:
    date = "date: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
    real_ms = 1_795_435_200_000
    async with vendor(200, date) as url:
        assert (await asked(tmp_path, url, real_ms))["clock"].state is State.OK
        found = await asked(tmp_path, url, real_ms + 60_000)
    assert found["clock"].state is State.WARNING
    assert "+60 s" in found["clock"].found or "+59 s" in found["clock"].found


# --- machine and outside ---


def test_a_clock_before_any_release_is_told(tmp_path: Path) -> None:
    config = load_config(None, tmp_path, environ={})
    assert by_name(list(machine.check(config, ManualClock(0))))["clock"].state is State.FAILED
    assert by_name(list(machine.check(config, SystemClock())))["clock"].state is State.OK


async def test_a_guard_that_lets_customers_inside_is_told(tmp_path: Path) -> None:
    path = tmp_path / "safelight.toml"
    path.write_text('[server]\nhost = "0.0.0.0"\n[webhooks]\nallow_networks = ["169.254.0.0/16"]\n')
    config = load_config(path, tmp_path, environ={})
    found = by_name([check async for check in outside.check(config)])
    assert "metadata" in found["webhooks"].found
    assert (found["webhooks"].state, found["links"].state) == (State.WARNING, State.WARNING)


def test_probe_files_are_the_owners_alone(data: Path) -> None:
    list(books.check(data, {}))
    assert stat.S_IMODE(data.stat().st_mode) & 0o077 == 0
