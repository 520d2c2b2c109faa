"""Who may read /metrics: nobody by accident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from safelight.api.scrapes import Scrapes, make_scrape_asgi
from safelight.config import load_config
from safelight.config_watch import MetricsConfig, WatchConfig
from safelight.errors import AuthenticationFailed, ConfigError, Conflict, NotFound
from safelight.types import Secret

HERE, ELSEWHERE = "127.0.0.1", "203.0.113.9"
TOKEN = {"authorization": "Bearer right"}


async def text(accept: str) -> tuple[str, bytes]:
    return "text/plain", f"counts {accept}".encode()


def scrapes(access: Any, *, has_token: bool = True, alone: bool = True) -> Scrapes:
    secret = Secret("right") if has_token else None
    watch = WatchConfig(metrics=MetricsConfig(access=access), metrics_token=secret)
    return Scrapes(watch, text, alone=alone)


async def may(
    made: Scrapes, client: str | None, headers: dict[str, str], *, shared_port: bool = True
) -> bool:
    try:
        await made.read(headers, client, shared_port=shared_port)
    except AuthenticationFailed:
        return False
    return True


@pytest.mark.parametrize(
    ("access", "client", "headers", "allowed"),
    [
        ("open", ELSEWHERE, {}, True),
        ("local", HERE, {}, True),
        ("local", "::1", {}, True),
        ("local", ELSEWHERE, {}, False),
        ("local", None, {}, False),
        ("local", ELSEWHERE, TOKEN, True),
        ("local", ELSEWHERE, {"authorization": "Bearer wrong"}, False),
        ("local", HERE, {"x-forwarded-for": ELSEWHERE}, False),
        ("local", HERE, {"forwarded": "for=x"}, False),
        ("local", HERE, {"via": "1.1 proxy"}, False),
        ("local", HERE, {"x-real-ip": ELSEWHERE, **TOKEN}, True),
        ("token", HERE, {}, False),
        ("token", HERE, TOKEN, True),
        ("token", HERE, {"authorization": "Basic right"}, False),
        ("token", HERE, {"authorization": "Bearer rïght"}, False),
    ],
)
async def test_who_may_read(
    access: str, client: str | None, headers: dict[str, str], allowed: bool
) -> None:
    assert await may(scrapes(access), client, headers) is allowed


async def test_without_a_token_no_token_is_right() -> None:
    for sent in ("", "None", "right"):
        headers = {"authorization": f"Bearer {sent}"}
        assert not await may(scrapes("local", has_token=False), ELSEWHERE, headers)


async def test_switched_off_there_is_nothing() -> None:
    with pytest.raises(NotFound):
        await scrapes("off").read(TOKEN, HERE, shared_port=True)


async def test_a_port_that_several_processes_share_gives_no_counts() -> None:
    """Which of them would answer is chance; the message names the key that helps."""
    made = scrapes("open", alone=False)
    with pytest.raises(Conflict, match=r"\[metrics\] port"):
        await made.read({}, HERE, shared_port=True)
    assert (await made.read({"accept": "x"}, HERE, shared_port=False))[1] == b"counts x"


async def ask(made: Scrapes, method: str, path: str, client: str) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": method, "path": path, "headers": [], "client": (client, 1)}
    await make_scrape_asgi(made)(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_a_port_of_its_own_answers_metrics_alone() -> None:
    made = scrapes("local", alone=False)
    assert await ask(made, "GET", "/metrics", HERE) == (200, b"counts ")
    assert await ask(made, "HEAD", "/metrics", HERE) == (200, b"")
    status, body = await ask(made, "GET", "/v1/jobs", HERE)
    assert (status, msgspec.json.decode(body)["error"]["code"]) == (404, "not_found")
    assert (await ask(made, "GET", "/metrics", ELSEWHERE))[0] == 401


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[metrics]\naccess = "token"', "lets nobody else in"),
        ('[metrics]\ntoken_env = "NOT_SET"', "NOT_SET is not set"),
        ('[alerts]\nwebhook_url = "https://ops.example.com"', "name the variable with the secret"),
        ('[alerts]\nwebhook_url = "ops"\nwebhook_secret_env = "S"', "expected an address"),
        ("[prober]\nenabled = true", "public_url is empty"),
        ('[traces]\nendpoint = "collector"', "expected an address"),
        ("[logs]\nprompt = true", "did you mean 'prompts'"),
    ],
)
def test_a_configuration_that_could_not_work_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "safelight.toml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=said):
        load_config(path, tmp_path, environ={"S": "x"})
