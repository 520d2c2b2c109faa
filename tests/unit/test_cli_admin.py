"""`safelight admin keys` over a real data folder: what goes to which output, and the audit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from safelight import admin_acts, admin_keys
from safelight.cli import main
from safelight.clock import SystemClock
from safelight.db import Transaction
from safelight.keyring import Keyring
from safelight.opening import open_database


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SAFELIGHT_DATA", "SAFELIGHT_CONFIG", "SAFELIGHT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def listed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main(["admin", "keys", "list", "--json"]) == 0
    found: list[dict[str, object]] = msgspec.json.decode(capsys.readouterr().out)["data"]
    return found


async def test_a_key_that_a_command_made_is_known_and_noted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Standard output is the key alone; the act stands in the audit, by the command line."""
    assert await in_thread(["admin", "keys", "create", "Ada", "--role", "owner"]) == 0
    shown = capsys.readouterr()
    key = shown.out.strip()
    assert "Ada, owner" in shown.err
    data = Path("data")
    db = open_database(data, SystemClock())
    pepper = Keyring.load_or_create(data).pepper()

    def look(tx: Transaction) -> tuple[admin_keys.AdminKey | None, list[admin_acts.Act]]:
        return admin_keys.find(tx, key, pepper), admin_acts.page(tx, limit=5)

    found, acts = await db.read(look)
    await db.close()
    assert found is not None
    assert (found.name, found.role) == ("Ada", admin_keys.Role.OWNER)
    assert [(act.act, act.subject, act.actor_name) for act in acts] == [
        ("admin_key.create", found.id, "command line")
    ]


def test_admin_keys_are_listed_and_revoked_the_last_owners_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["admin", "keys", "create", "Ada", "--role", "owner", "--json"]) == 0
    made = msgspec.json.decode(capsys.readouterr().out)
    assert made.pop("key").startswith("sl_admin_")
    assert listed(capsys) == [made]
    assert main(["admin", "keys", "list"]) == 0
    assert f"…{made['last4']}" in capsys.readouterr().out
    assert main(["admin", "keys", "revoke", made["id"]]) == 0
    assert f"{made['id']} (Ada) is revoked." in capsys.readouterr().out
    assert listed(capsys)[0]["revoked_at"] is not None
    assert main(["admin", "keys", "revoke", made["id"]]) == 1
    assert f"no admin key in use has the id '{made['id']}'" in capsys.readouterr().err


def test_a_key_goes_no_further_than_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --role it is an operator's: nobody becomes an owner by leaving something out."""
    assert main(["admin", "keys", "create", "Bob"]) == 0
    assert main(["admin", "keys", "create", "Eve", "--role", "viewer"]) == 0
    assert [one["role"] for one in listed(capsys)] == ["operator", "viewer"]


def test_an_admin_keys_name_can_be_read_and_its_role_is_known() -> None:
    """Exit code 2 for what nobody could tell apart on a list; and no folder is made."""
    for argv in (["  "], [" Ada"], ["A\nB"], ["x" * 101], ["Ada", "--role", "king"]):
        assert main(["admin", "keys", "create", *argv]) == 2
    assert main(["admin", "keys", "list"]) == 2
    assert not Path("data").exists()


async def in_thread(argv: list[str]) -> int:
    """Run a command beside this test's loop, as it has one of its own."""
    return await asyncio.to_thread(main, argv)
