"""docs/integrations.md keeps its word: what those programs send is answered as the page says.

The bodies are what the programs' sources build, field by field; configuration is the page's own.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from typer.main import get_command

from e2e.process import GatewayProcess
from integrations.conftest import PAGE, blocks
from safelight.cli import build, main
from safelight.cli.errors import ExitCode
from safelight.cli.picture import measure


@pytest.fixture
def http(gateway: GatewayProcess) -> Iterator[Any]:
    headers = {"Authorization": f"Bearer {gateway.first_key}"}
    with openai.DefaultHttpxClient(
        base_url=gateway.base_url, headers=headers, trust_env=False, timeout=60
    ) as client:
        yield client


def drawn(answer: Any) -> bytes:
    assert answer.status_code == 200, answer.text
    [item] = answer.json()["data"]
    return base64.b64decode(item["b64_json"])


def test_open_webui_generates(http: Any) -> None:
    """For models named gpt-image it sends no response_format and reads base64."""
    body = {"model": "gpt-image-2-vip", "prompt": "a lamp", "n": 1, "size": "2048x1152"}
    assert measure(drawn(http.post("/images/generations", json=body))).size == "2048x1152"


@pytest.mark.parametrize(("field", "count"), [("image", 1), ("image[]", 2)])
def test_open_webui_edits(http: Any, field: str, count: int) -> None:
    """One picture comes as `image`, several as `image[]`; numbers come as text."""
    size = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1024x1024"}
    picture = drawn(http.post("/images/generations", json=size))
    form = {"model": "gpt-image-2-vip", "prompt": "at night", "n": "1", "size": "1024x1024"}
    files = [(field, (f"{number}.png", picture, "image/png")) for number in range(count)]
    assert measure(drawn(http.post("/images/edits", data=form, files=files))).size == "1024x1024"


def test_a_node_of_comfyui_that_takes_the_sdks_variables(gateway: GatewayProcess) -> None:
    """With the page's channel its fixed model and quality are answered."""
    with openai.OpenAI(base_url=gateway.base_url, api_key=gateway.first_key) as client:
        made = client.images.generate(
            model="gpt-image-1", prompt="a lamp", size="1536x1024", quality="low"
        )
    assert made.data
    assert measure(base64.b64decode(made.data[0].b64_json or "")).size == "1536x1024"


def test_a_node_of_comfyui_that_sends_a_seed_is_refused(http: Any) -> None:
    """The page says that it does not work, and the refusal names the parameter."""
    body = {"model": "gpt-image-2", "prompt": "a lamp", "quality": "low", "n": 1, "seed": 0}
    answer = http.post("/images/generations", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "seed")


def test_the_settings_of_assistants_are_the_commands_own() -> None:
    """The page's JSON starts `safelight mcp` with options that there are."""
    [text] = blocks("json")
    [server] = json.loads(text)["mcpServers"].values()
    assert server["command"] == "safelight"
    command, *options = server["args"]
    program: Any = get_command(build())
    known = {name for one in program.commands[command].params for name in one.opts}
    assert {option for option in options if option.startswith("--")} <= known
    assert set(server["env"]) == {"SAFELIGHT_URL", "SAFELIGHT_API_KEY"}


def test_every_tool_is_on_the_page() -> None:
    """The page's table names each tool."""
    from safelight.client.mcp.server import Tools

    text = PAGE.read_text(encoding="utf-8")
    tools = [name for name in vars(Tools) if not name.startswith("_")]
    assert [name for name in tools if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "", "--api-key", "sk-x"], "no gateway address"),
        (["--url", "http://127.0.0.1:9", "--api-key", ""], "no API key"),
        (["--url", "http://127.0.0.1:9", "--api-key", "k", "--max-cost", "much"], "'much'"),
        (["--url", "http://127.0.0.1:9", "--api-key", "k", "--price", "-1"], "--price -1"),
        (["--url", "http://127.0.0.1:9", "--api-key", "k", "--inputs", "none"], "--inputs none"),
        (
            ["--url", "http://127.0.0.1:9", "--api-key", "k", "--folder", "/dev/null/x"],
            "--folder /dev/null/x: Not a directory",
        ),
    ],
)
def test_options_that_cannot_be_meant_end_before_anything_is_served(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and a sentence; standard output stays the protocol's."""
    assert main(["mcp", *arguments]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
