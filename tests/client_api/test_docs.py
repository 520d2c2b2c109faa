"""docs/client.md: every example runs, from top to bottom, against a real gateway."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from e2e.process import GatewayProcess
from safelight import client as public

PAGE = Path(__file__).resolve().parents[2] / "docs" / "client.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_example_runs(
    gateway: GatewayProcess, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one has its address and key written in it; the others have the environment's."""
    monkeypatch.setenv("SAFELIGHT_URL", gateway.base_url)
    monkeypatch.setenv("SAFELIGHT_API_KEY", key)
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) >= 10
    names: dict[str, object] = {"__name__": "example"}
    for block in BLOCKS:
        text = block.replace("http://127.0.0.1:8080/v1", gateway.base_url)
        exec(compile(text.replace("sl_live_…", key), str(PAGE), "exec"), names)  # noqa: S102
    client = names["client"]
    assert isinstance(client, public.Client)
    client.close()
    made = {path.name for path in tmp_path.iterdir()}
    assert {"lamp.png", "lamp-0.png", "lamp-on.png", "lighthouse.png", "statement.csv"} <= made


def test_every_error_is_in_the_table() -> None:
    text = PAGE.read_text()
    errors = [
        name
        for name in public.__all__
        if isinstance(found := getattr(public, name), type) and issubclass(found, Exception)
    ]
    assert [name for name in errors if f"`{name}`" not in text and name != "Answered"] == [
        "ClientError"
    ]
