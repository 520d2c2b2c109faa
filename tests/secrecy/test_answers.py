"""What every answer tells browsers and caches, for every route, with and without an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.in_process import Answer, InProcess, running
from safelight.api import ROUTES
from safelight.upstreams.scrub import scrub

TYPES = {
    "GET /metrics": "text/plain",
    "GET /healthz": "application/json",
    "GET /openapi.json": "application/json",
}
ORDER = {"model": "gpt-image-2-vip", "prompt": "a lamp", "size": "1280x544"}


def _check(answer: Answer, named: str, *, media_type: str = "application/json") -> None:
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff", named
    assert headers["cache-control"] == "no-store", named
    assert headers["cross-origin-resource-policy"] == "same-origin", named
    assert answer.status < 500, named
    if answer.body:
        assert headers["content-type"].partition(";")[0] == media_type, named
    assert "server" not in headers, named


@pytest.mark.parametrize("key", ["sl_live_nobody", None], ids=["refused", "owner"])
async def test_every_route_says_what_it_is_and_that_nobody_keeps_it(
    tmp_path: Path, key: str | None
) -> None:
    """Asked for what is not there, or with an empty body: answers and refusals alike."""
    async with running(tmp_path) as gateway:
        for method, path, _ in ROUTES:
            if path == "/v1/diagnostics/silence":
                continue  # it is silent for as long as it is told to
            target = path.replace("{file}", f"{'0' * 32}.png").replace("{id}", "0" * 32)
            answer = await gateway.ask(
                method, target, {} if method in ("POST", "PATCH") else None, key=key
            )
            named = f"{method} {path}"
            _check(answer, named, media_type=TYPES.get(named, "application/json"))


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/nowhere", None),
        ("GET", "/<script>alert(1)</script>", None),
        ("DELETE", "/v1/models", None),
        ("TRACE", "/v1/models", None),
        ("POST", "/v1/images/generations", {"prompt": "<script>alert(1)</script>", "size": "<b>"}),
        ("POST", "/v1/images/generations", {"model": "<script>", "prompt": "x"}),
        ("POST", "/v1/images/variations", {}),
        ("POST", "/v1/chat/completions", {"messages": "<script>"}),
        ("GET", "/i/%00.png?e=1", None),
        ("GET", "/v1/jobs?after=%00", None),
    ],
)
async def test_an_error_is_json_that_no_browser_takes_for_a_page(
    tmp_path: Path, method: str, target: str, body: object
) -> None:
    async with running(tmp_path) as gateway:
        answer = await gateway.ask(method, target, body)
        assert 400 <= answer.status < 500
        _check(answer, target)
        assert set(answer.json()["error"]) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
async def test_a_picture_is_nothing_but_a_picture_and_no_shared_cache_keeps_it(
    tmp_path: Path, form: str
) -> None:
    async with running(tmp_path) as gateway:
        made = await gateway.ask(
            "POST",
            "/v1/images/generations",
            {**ORDER, "response_format": "url", "output_format": form},
        )
        _check(made, "order")
        link = made.json()["data"][0]["url"].removeprefix("http://gateway.test")
        for answer in [await gateway.ask("GET", link), await gateway.ask("HEAD", link)]:
            headers = answer.headers
            assert headers["content-type"] == f"image/{form}"
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"] == "default-src 'none'; sandbox"
            assert headers["cache-control"] == "private"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cross-origin-resource-policy"] == "cross-origin"


async def test_every_key_that_is_not_valid_gets_the_same_answer(tmp_path: Path) -> None:
    """Malformed, unknown, revoked, of another kind: same status, same bytes, same headers."""
    async with running(tmp_path) as gateway:
        from safelight.office import Office

        office = Office(gateway.app.db, gateway.app.keyring)
        revoked = await office.create_customer_key("gone", 0)
        await office.revoke_key(revoked[8:16])
        unknown = revoked[:16] + "0" * 32
        answers = [
            await _refused(gateway, key)
            for key in (
                "x",
                "sl_live_",
                revoked,
                unknown,
                revoked[:-1] + "_",
                "sk-proj-123456789",
                "\u00e9",
            )
        ]
        assert {answer.status for answer in answers} == {401}
        assert len({answer.body for answer in answers}) == 1
        assert len({tuple(sorted(answer.headers)) for answer in answers}) == 1
        assert "sl_live_" not in answers[0].body.decode().replace("sl_live_...", "")


async def _refused(gateway: InProcess, key: str) -> Answer:
    return await gateway.ask("GET", "/v1/models", key=key)


def test_no_word_of_an_upstream_gets_out_unfiltered() -> None:
    """A key, its tail, hosts, ids, addresses: what an upstream echoes is scrubbed."""
    said = (
        "Incorrect API key provided: sk-proj-abc***wxyz. Bearer 0f9e8d7c6b5a from 10.0.0.7:8443 at "
        "https://user:pw@internal.example/v1?key=abc for org-12345 req_0a1b2c3d4e5f, "
        "resource my-azure.openai.azure.com, <img src=x onerror=alert(1)>"
    )
    shown = scrub(said, ["my-azure"])
    for part in ("sk-proj", "wxyz", "0f9e8d", "10.0.0.7", "internal", "pw@", "org-12345", "0a1b2c"):
        assert part not in shown
    assert "azure.com" not in shown
