"""`safelight accounts`: what an operator sees, beside a running server and without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from attempt_books import PRICE, VIP, AttemptBooks
from safelight.cli import main
from safelight.clock import SystemClock
from safelight.keyring import Keyring

CONFIG = """
[pool]
margin_alarm = 0.2

[[accounts]]
name = "project-a"
upstream = "openai"
api_key_env = "A_KEY_THAT_IS_NOT_SET"
group = "org-1"
images_per_minute = 60
tier = 2

[[accounts]]
name = "idle"
upstream = "openai"
api_key_env = "ANOTHER_KEY_THAT_IS_NOT_SET"
"""


class LateClock(SystemClock):
    """The machine's clock, behind by as much as a test says."""

    behind_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() - self.behind_ms

    def advance(self, seconds: float) -> None:
        self.behind_ms -= round(seconds * 1000)


@pytest.fixture
async def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AttemptBooks]:
    for name in ("SAFELIGHT_DATA", "SAFELIGHT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("safelight.toml").write_text(CONFIG, encoding="utf-8")
    Keyring.load_or_create(Path("data"))  # a gateway's data folder is known by its keys
    made = await AttemptBooks(tmp_path / "data", LateClock()).open()
    yield made
    await made.db.close()


async def run(*argv: str) -> int:
    return await asyncio.to_thread(main, ["accounts", *argv])


async def listed(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    capsys.readouterr()
    assert await run("--json", *argv) == 0
    found: dict[str, Any] = msgspec.json.decode(capsys.readouterr().out)
    return found


async def test_json_carries_everything(
    books: AttemptBooks, capsys: pytest.CaptureFixture[str]
) -> None:
    """State, limit and figures of each account, by channel too; the server is running."""
    books.clock.advance(-40)
    await books.deliver("project-a", cost_micros=12_000, took_s=20, group="org-1")
    job = await books.job()
    await books.send(job, "project-a", group="org-1")
    await books.end(job, "throttled")
    books.clock.advance(20)
    await books.say("project-a", "ready", in_flight=4)
    await books.limit("org-1", 48.5, configured=60)
    page = await listed(capsys)
    assert (page["object"], page["server_runs"], page["margin_alarm"]) == ("list", True, 0.2)
    row = page["data"][0]
    figures = {
        "attempts": 2,
        "open": 0,
        "answered": 1,
        "delivered": 1,
        "faults": {"throttled": 1},
        "success_share": 0.5,
        "throttled_share": 0.5,
        "waste_sold": 0,
        "waste_unknown": 0,
        "waste_estimate_micros": 0,
        "cost_micros": 12_000,
        "cost_complete": True,
        "cost_per_image_micros": 12_000,
        "uncosted_delivered": 0,
        "uncosted_waste": 0,
        "revenue_micros": PRICE,
        "margin_micros": 18_000,
        "margin_share": 0.6,
        "below_alarm": False,
    }
    assert {name: row[name] for name in figures} == figures
    assert row["p50_s"] == row["p95_s"] == pytest.approx(20, abs=0.5)
    assert row["limit"] == {"images_per_minute": 48.5, "learnt": True, "configured": 60}
    assert (row["account"], row["upstream"], row["group"], row["tier"], row["configured"]) == (
        *("project-a", "openai", "org-1", 2, True),
    )
    assert (row["state"], row["in_flight"]) == ("ready", 4)
    assert [channel["channel"] for channel in row["channels"]] == [VIP]
    assert page["total"]["delivered"] == page["channels"][0]["delivered"] == 1


async def test_the_table_names_every_account_and_marks_a_loss(
    books: AttemptBooks, capsys: pytest.CaptureFixture[str]
) -> None:
    """Configured accounts that did nothing, old ones that are only in the books, and the sum."""
    now = books.clock.now_ms()
    await books.deliver("project-a", cost_micros=5_000, group="org-1")
    await books.deliver("old", cost_micros=45_000, group="org-9")
    await books.say("project-a", "cooling", until=now + 630_000)
    await books.limit("org-1", 48.5, configured=60)
    capsys.readouterr()
    assert await run() == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    for fact in ("org-1", "cooling 10 min", "48.5 learnt, 60 set", "0.025000", "83.3 %"):
        assert fact in lines["project-a"]
    assert "unknown" in lines["idle"]
    assert "not configured" in lines["old"]
    assert "-50.0 % !" in lines["old"]
    assert "16.7 % !" in lines["(all)"]
    assert f"channel {VIP}: the margin is 16.7 % of the revenue, below the alarm of 20.0 %" in shown
    assert "! account old: the margin is -50.0 %" in shown
    assert "! account project-a" not in shown


async def test_without_a_server_the_books_still_speak(
    books: AttemptBooks, capsys: pytest.CaptureFixture[str]
) -> None:
    """States older than a minute are not shown; unknown costs are marked as such."""
    books.clock.advance(-600)
    await books.say("project-a", "ready")
    await books.deliver("project-a", group="org-1")
    await books.deliver("project-a", cost_micros=1_000, group="org-1")
    assert await run() == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("project-a"))
    assert "no server" in row
    assert "ready" not in row
    assert "≥0.001000" in row
    assert "≤0.059000" in row
    assert "no server runs on this folder" in shown
    assert "some costs are not known" in shown


async def test_since_chooses_the_attempts(
    books: AttemptBooks, capsys: pytest.CaptureFixture[str]
) -> None:
    """A day by default; minutes, hours, days or everything on demand."""
    books.clock.advance(-3 * 86_400)
    await books.deliver("idle", cost_micros=1)
    books.clock.advance(3 * 86_400 - 2 * 3600)
    await books.deliver("idle", cost_micros=1)
    counts = {
        since: (await listed(capsys, "--since", since))["total"]["attempts"]
        for since in ("90m", "3h", "24h", "4d", "all")
    }
    assert counts == {"90m": 0, "3h": 1, "24h": 1, "4d": 2, "all": 2}
    assert (await listed(capsys))["total"]["attempts"] == 1


@pytest.mark.parametrize("since", ["", "24", "0h", "-1h", "1w", "yesterday"])
async def test_a_wrong_span_is_refused(
    books: AttemptBooks, capsys: pytest.CaptureFixture[str], since: str
) -> None:
    assert await run(f"--since={since}", "--json") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "--since" in msgspec.json.decode(shown.err)["error"]["message"]


async def test_folder_and_configuration_are_checked(
    books: AttemptBooks, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip in --data makes no folder; a wrong file is named with its line."""
    assert await run("--data", "elsewhere") == 2
    assert not Path("elsewhere").exists()
    Path("wrong.toml").write_text("[pool]\nmargin_alarm = 2\n", encoding="utf-8")
    assert await run("--config", "wrong.toml") == 2
    assert "wrong.toml:2" in capsys.readouterr().err


async def test_a_new_folder_has_accounts_and_nothing_else(
    books: AttemptBooks, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first order every figure is zero or empty, and nothing fails."""
    assert await run() == 0
    shown = capsys.readouterr().out
    assert "project-a" in shown
    assert VIP not in shown
    page = await listed(capsys)
    assert [row["account"] for row in page["data"]] == ["project-a", "idle"]
    assert page["total"]["success_share"] is None
